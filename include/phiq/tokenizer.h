// The facts of a checkpoint's tokenizer: tokens, merges, special ids, chat template. Text is
// encoded elsewhere (src/model/token_encoder.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
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

// A token that is cut out of the text before the model sees it.
struct AddedToken {
  std::uint32_t id = 0;
  std::string content;
  bool special = false;
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space behind it
  bool single_word = false;  // only where no letter stands beside it
  bool normalized = false;   // looked for after the normalizer
};

// How text becomes tokens, besides the vocabulary and the merges. Only encoders need it.
struct EncodingRules {
  // The normalizer: `prepend` goes before a text that is not empty, then every `replaced` becomes
  // `replacement`. Empty `prepend` or `replaced`: there is no such step.
  std::string prepend, replaced, replacement;
  // The file's own; empty: the one that Tokenizer::pre_tokenizer names.
  std::string split_expression;
  bool drop_unmatched = false;  // text between two matches of the expression
  bool ignore_merges = false;   // a word that is a token stays whole
  // Says which step of the file phiq does not do. Thrown when an encoder is made: such a tokenizer
  // can still be converted.
  std::optional<Error> refusal;
};

struct Tokenizer {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  PreTokenizer pre_tokenizer = PreTokenizer::kNone;

  // Pieces of tokenizer.model; empty when there is none.
  std::vector<SentencePiece> pieces;
  // model.vocab of tokenizer.json, index = id, as stored (byte alphabet for kByteLevelBpe).
  // An empty string is an id that the vocabulary leaves out. Empty when there is no tokenizer.json.
  std::vector<std::string> vocab;
  // model.merges, in order of priority; left and right parts as stored.
  std::vector<std::pair<std::string, std::string>> merges;
  // added_tokens.json: text and id, sorted by id.
  std::vector<std::pair<std::uint32_t, std::string>> added_tokens_file;
  // added_tokens_decoder of tokenizer_config.json, then added_tokens of tokenizer.json; by id.
  std::vector<AddedToken> added_tokens_decoder;
  std::vector<AddedToken> added_tokens;
  EncodingRules encoding;

  std::optional<std::uint32_t> bos_id, eos_id, unk_id, sep_id, pad_id, cls_id, mask_id;
  std::optional<bool> add_bos, add_eos;
  std::string chat_template;                                              // empty: none
  std::vector<std::pair<std::string, std::string>> named_chat_templates;  // others than "default"
};

// Reads tokenizer.model, tokenizer.json, tokenizer_config.json, added_tokens.json,
// special_tokens_map.json, chat_template.jinja and chat_template.json, as far as they exist.
//
// `vocab_size` rows stand in the embedding: ids at or above it are refused.
// `config_*`: special ids of config.json, used where the tokenizer's own files say nothing.
// Throws   kInput: neither tokenizer.model nor tokenizer.json. kBadData: file, token, number.
//          kUnsupported: a split expression phiq does not know.
// Source   docs/formats/tokenizer.md.
Tokenizer ReadTokenizer(const CheckpointFolder& folder, std::uint32_t vocab_size,
                        std::optional<std::uint32_t> config_bos,
                        std::optional<std::uint32_t> config_eos,
                        std::optional<std::uint32_t> config_pad, const WarningFn& warn);

// True when the text is, byte for byte, the chat template of a model that phiq was tried with.
bool IsKnownChatTemplate(std::string_view chat_template);

}  // namespace phiq
