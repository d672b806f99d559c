// The facts of a checkpoint's tokenizer: tokens, merges, special ids, chat template, and the steps
// by which text becomes tokens. Text is encoded elsewhere (src/model/token_encoder.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq {

enum class TokenizerKind {
  kSentencePiece,  // BPE with byte fallback; tokenizer.model, or tokenizer.json alone
  kByteLevelBpe,   // GPT-2 byte alphabet
};

// The split expression of a byte-level tokenizer, recognised by its text.
enum class PreTokenizer { kNone, kCl100k, kO200k };

// On disk in SentencePiece and GGUF: never renumber.
enum class PieceType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

// A piece of tokenizer.model; index = id.
struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::kNormal;
};

// Two tokens that become one.
struct Merge {
  std::uint32_t left = 0, right = 0, result = 0;  // ids
  bool operator==(const Merge&) const = default;
};

// A token that is cut out of the text before the model sees it.
struct AddedToken {
  std::uint32_t id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space behind it
  bool single_word = false;  // only where no letter stands beside it
  bool normalized = false;   // looked for after the normalizer
  bool operator==(const AddedToken&) const = default;
};

// A step of the normalizer, pre_tokenizer, post_processor or decoder of tokenizer.json.
struct TokenizerStep {
  struct Other {};  // one that phiq does nothing with
  struct Prepend {  // goes before a text that is not empty
    std::string text;
  };
  struct Replace {
    std::string pattern;
    bool is_expression = false;  // a regular expression; else a text
    std::string content;
  };
  struct Split {
    std::string pattern;
    bool is_expression = false;
    std::string behavior;  // of the matches: "Removed", "Isolated", ...
    bool invert = false;   // what is between the matches counts as matches
  };
  struct ByteLevel {
    bool add_prefix_space = true;
    bool use_regex = true;  // splits by GPT-2's own expression, too
  };
  // Spaces become `replacement`, and one more goes before a text that does not begin with it.
  struct Metaspace {
    enum class Prepend { kFirst, kAlways, kNever };
    std::string replacement;
    Prepend prepend = Prepend::kAlways;  // kFirst: only where the whole text begins
    bool split = true;                   // before each `replacement`
  };
  // What is put around one text: nullopt is the text, the others are special tokens.
  struct Template {
    std::vector<std::optional<std::string>> single;
  };
  struct Strip {  // characters at either end of the text
    std::string content;
    std::uint64_t start = 0, stop = 0;
  };
  struct ByteFallback {};
  struct Fuse {};

  std::variant<Other, Prepend, Replace, Split, ByteLevel, Metaspace, Template, Strip, ByteFallback,
               Fuse>
      what;
  std::string shown;  // as the file has it, for messages; escaped

  template <typename T>
  const T* As() const noexcept {
    return std::get_if<T>(&what);
  }
};

struct Tokenizer {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  PreTokenizer pre_tokenizer = PreTokenizer::kNone;

  // Pieces of tokenizer.model; empty when there is none.
  std::vector<SentencePiece> pieces;
  // model.vocab of tokenizer.json, index = id, as stored (byte alphabet for kByteLevelBpe).
  // An empty string is an id that the vocabulary leaves out. Empty when there is no tokenizer.json.
  std::vector<std::string> vocab;
  std::vector<Merge> merges;  // model.merges, in order of priority; ids of `vocab`
  // As the model's own tokenizer has them, sorted by id: those of tokenizer_config.json, whose
  // flags win, and of tokenizer.json; of added_tokens.json where neither names any.
  std::vector<AddedToken> added_tokens;
  // Those of them that tokenizer.json has with other flags, as they stand there: what programs that
  // read it alone will do.
  std::vector<AddedToken> overruled_tokens;

  // The steps of tokenizer.json; a GGUF file's and tokenizer.model's own habits in the same words.
  std::vector<TokenizerStep> normalizer, pre_tokenization, post_processor, decoder;
  bool ignore_merges = false;  // a word that is a token stays whole
  bool byte_fallback = false, fuse_unk = false;
  std::string unk_token;  // of the BPE model; empty: none
  std::string steps_path;  // of the file that says all that, for messages
  // Says which setting phiq does not encode by. Thrown when an encoder is made: such a tokenizer
  // can still be converted.
  std::optional<Error> refusal;

  std::optional<std::uint32_t> bos_id, eos_id, unk_id, sep_id, pad_id, cls_id, mask_id;
  // Whether a text begins with BOS and ends with EOS. Known wherever there is a tokenizer.json.
  std::optional<bool> add_bos, add_eos;
  // tokenizer_config.json's model_max_length, where it is a whole number.
  std::optional<std::uint64_t> max_length;
  bool cleans_up_spaces = false;  // its clean_up_tokenization_spaces

  std::string chat_template;                                              // empty: none
  std::vector<std::pair<std::string, std::string>> named_chat_templates;  // others than "default"
};

// Reads tokenizer.model, tokenizer.json, tokenizer_config.json, added_tokens.json,
// special_tokens_map.json, chat_template.jinja, additional_chat_templates and chat_template.json,
// as far as they exist.
//
// `vocab_size` rows stand in the embedding: tokens of the vocabulary with ids at or above it are
// refused. Added tokens may have such ids: they are kept, with a warning.
// `config_*`: special ids of config.json, used where the tokenizer's own files say nothing.
// Memory   a few times the size of the largest file: its text, and what is kept of it.
// Throws   kInput: neither tokenizer.model nor tokenizer.json. kBadData: file, token, number.
//          kUnsupported: a split expression phiq does not know.
// Source   docs/formats/tokenizer.md.
Tokenizer ReadTokenizer(const SideFiles& files, std::uint32_t vocab_size,
                        std::optional<std::uint32_t> config_bos,
                        std::optional<std::uint32_t> config_eos,
                        std::optional<std::uint32_t> config_pad, const WarningFn& warn);

// True when the text is, byte for byte, the chat template of a model that phiq was tried with.
bool IsKnownChatTemplate(std::string_view chat_template);

}  // namespace phiq
