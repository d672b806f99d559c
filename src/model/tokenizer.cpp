// Puts the facts of all tokenizer files together and checks them against each other. Where files
// disagree the one wins that transformers follows; what it does not read only causes a warning.
#include "phiq/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/limits.h"
#include "model/chat_template.h"
#include "model/sentencepiece.h"
#include "model/side_file.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_steps.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Every text has one id and every id one text, whichever file names them. Merges ask for three ids
// each, 600,000 for Phi-4-mini: so the ids stand in a flat table, found by probing.
class TokenTable {
 public:
  explicit TokenTable(std::size_t n_expected) : texts_(n_expected) {
    slots_.resize(std::bit_ceil(2 * std::max<std::size_t>(n_expected, 8)));
  }

  // `text` must outlive the table. `path`: the file that says so.
  void Add(std::uint32_t id, std::string_view text, std::string_view path) {
    if (id >= texts_.size()) texts_.resize(std::size_t{id} + 1);
    if (!texts_[id].empty() && texts_[id] != text) {
      throw Error(ErrorCode::kBadData, fmt::format("token '{}' has id {}, which is also '{}'",
                                                   Escape(text), id, Escape(texts_[id])))
          .In(path);
    }
    const std::size_t at = SlotOf(text);
    if (slots_[at].is_used && slots_[at].id != id) {
      throw Error(ErrorCode::kBadData, fmt::format("token '{}' has id {}, but also id {}",
                                                   Escape(text), id, slots_[at].id))
          .In(path);
    }
    end_ = std::max(end_, std::size_t{id} + 1);
    if (slots_[at].is_used) return;
    texts_[id] = text;
    slots_[at] = {Tag(text), id, true};
    if (2 * ++n_used_ > slots_.size()) Grow();
  }

  std::optional<std::uint32_t> Find(std::string_view text) const {
    const Slot& slot = slots_[SlotOf(text)];
    return slot.is_used ? std::optional(slot.id) : std::nullopt;
  }

  // Ids below `n_ids` and below the last one that no file names.
  std::vector<std::size_t> Gaps(std::size_t n_ids) const {
    std::vector<std::size_t> gaps;
    for (std::size_t id = 0; id < std::min(end_, n_ids); ++id) {
      if (texts_[id].empty()) gaps.push_back(id);
    }
    return gaps;
  }

 private:
  struct Slot {
    std::uint32_t tag = 0, id = 0;  // tag: of the hash
    bool is_used = false;
  };
  static std::uint32_t Tag(std::string_view text) {
    return static_cast<std::uint32_t>(std::hash<std::string_view>()(text) >> 32U);
  }
  // The slot of a text, or the free one that it would get. At least half of them are free.
  std::size_t SlotOf(std::string_view text) const {
    const std::size_t hash = std::hash<std::string_view>()(text);
    const auto tag = static_cast<std::uint32_t>(hash >> 32U);
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].is_used && !(slots_[at].tag == tag && texts_[slots_[at].id] == text))
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void Grow() {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old)
      if (slot.is_used) slots_[SlotOf(texts_[slot.id])] = slot;
  }

  std::vector<std::string_view> texts_;  // by id
  std::vector<Slot> slots_;
  std::size_t n_used_ = 0, end_ = 0;
};

class TokenizerReader {
 public:
  TokenizerReader(const SideFiles& files, std::uint32_t vocab_size, const WarningFn& warn)
      : files_(files), vocab_size_(vocab_size), warn_(warn), table_(vocab_size) {}

  Tokenizer Read(const std::array<std::optional<std::uint32_t>, 3>& config_ids) {
    ReadVocabularies();
    if (std::optional<Json> config = ReadJsonObject(files_, kConfigName, limits::kConfigBytes))
      config_ = *std::move(config);
    ReadAddedTokens();
    CheckPiecesSuffice();
    WarnOfIds();
    ReadSpecialIds(config_ids);
    ReadAddFlags();
    const Json* const length = FindMember(config_, "model_max_length");
    if (length != nullptr && length->is_number_unsigned())
      out_.max_length = length->get<std::uint64_t>();
    const Json* const clean_up = FindMember(config_, "clean_up_tokenization_spaces");
    out_.cleans_up_spaces = clean_up != nullptr && *clean_up == true;
    ChatTemplates templates = ReadChatTemplates(files_, config_, warn_);
    out_.chat_template = std::move(templates.main);
    out_.named_chat_templates = std::move(templates.named);
    return std::move(out_);
  }

 private:
  static constexpr std::string_view kModelName = "tokenizer.model";
  static constexpr std::string_view kJsonName = "tokenizer.json";
  static constexpr std::string_view kConfigName = "tokenizer_config.json";
  static constexpr std::string_view kAddedName = "added_tokens.json";
  static constexpr std::string_view kSpecialName = "special_tokens_map.json";

  static Error CannotEncode(std::string_view what, std::string_view path) {
    return Error(ErrorCode::kUnsupported, fmt::format("{}, phiq does not encode so", what))
        .In(path)
        .Hint("give the text as token ids with --ids");
  }

  std::string Path(std::string_view name) const { return SidePath(files_, name); }
  // Where the files stand, for messages.
  std::string Folder() const { return files_.PathOf(kJsonName).parent_path().string(); }

  void ReadVocabularies() {
    const std::optional<std::string> model =
        files_.ReadFile(kModelName, limits::kTokenizerModelBytes);
    const bool has_json = ReadTokenizerJson(model.has_value());
    if (model) {
      ReadPieces(*model, has_json);
    } else if (!has_json) {
      throw Error(ErrorCode::kInput, "neither tokenizer.json nor tokenizer.model is there")
          .In(Folder())
          .Hint("fetch the tokenizer files of the checkpoint too");
    }
  }

  bool ReadTokenizerJson(bool has_model) {
    const std::string path = Path(kJsonName);
    TokenizerJson parsed;
    {  // the text goes before more is kept
      const std::optional<std::string> text =
          files_.ReadFile(kJsonName, limits::kTokenizerJsonBytes);
      if (!text) {
        out_.kind = TokenizerKind::kSentencePiece;
        return false;
      }
      parsed = ParseTokenizerJson(*text, path, vocab_size_);
    }
    const auto has_byte_level = [](const std::vector<TokenizerStep>& steps) {
      return std::ranges::any_of(steps, [](const TokenizerStep& step) {
        return step.As<TokenizerStep::ByteLevel>() != nullptr;
      });
    };
    if (has_model || parsed.byte_fallback) {
      out_.kind = TokenizerKind::kSentencePiece;
    } else if (has_byte_level(parsed.decoder) || has_byte_level(parsed.pre_tokenizer)) {
      out_.kind = TokenizerKind::kByteLevelBpe;
      out_.pre_tokenizer = RecognizePreTokenizer(parsed.pre_tokenizer, path, vocab_size_);
    } else {
      throw Error(ErrorCode::kUnsupported, "neither a byte-fallback nor a byte-level BPE tokenizer")
          .In(path);
    }
    if (!parsed.dropout.empty()) {
      out_.refusal = CannotEncode(fmt::format("model.dropout {}", parsed.dropout), path);
    } else if (has_model && !parsed.byte_fallback) {
      out_.refusal =
          CannotEncode("model.byte_fallback is not true although there is a tokenizer.model", path);
    }
    out_.vocab = std::move(parsed.vocab);
    json_tokens_ = std::move(parsed.added_tokens);
    out_.normalizer = std::move(parsed.normalizer);
    out_.pre_tokenization = std::move(parsed.pre_tokenizer);
    out_.post_processor = std::move(parsed.post_processor);
    out_.decoder = std::move(parsed.decoder);
    out_.byte_fallback = parsed.byte_fallback;
    out_.fuse_unk = parsed.fuse_unk;
    out_.ignore_merges = parsed.ignore_merges;
    out_.unk_token = std::move(parsed.unk_token);
    out_.steps_path = path;
    for (std::size_t id = 0; id < out_.vocab.size(); ++id) {
      if (!out_.vocab[id].empty()) table_.Add(static_cast<std::uint32_t>(id), out_.vocab[id], path);
    }
    ResolveMerges(parsed.merges, path);
    if (out_.kind == TokenizerKind::kSentencePiece) {
      for (const std::string& text : out_.vocab) CheckByteToken(text, path, false);
    }
    return true;
  }

  // Each merge must be of two tokens into a third, and come once.
  void ResolveMerges(const MergeTexts& texts, std::string_view path) {
    out_.merges.reserve(texts.size());
    std::string both;
    texts.ForEach([&](std::string_view left, std::string_view right) {
      const auto id_of = [&](std::string_view text) {
        if (const std::optional<std::uint32_t> id = table_.Find(text)) return *id;
        throw Error(ErrorCode::kBadData,
                    fmt::format("merge {} needs token '{}', which model.vocab lacks",
                                out_.merges.size(), Escape(text)))
            .In(path);
      };
      both = left;
      both += right;
      out_.merges.push_back({id_of(left), id_of(right), id_of(both)});
    });
    struct Pair {
      std::uint64_t parts = 0;
      std::size_t merge = 0;
      auto operator<=>(const Pair&) const = default;
    };
    std::vector<Pair> pairs;
    pairs.reserve(out_.merges.size());
    for (const Merge& merge : out_.merges)
      pairs.push_back({std::uint64_t{merge.left} << 32U | merge.right, pairs.size()});
    std::ranges::sort(pairs);
    const auto twice = std::ranges::adjacent_find(pairs, {}, &Pair::parts);
    if (twice == pairs.end()) return;
    const Merge& merge = out_.merges[twice->merge];
    throw Error(ErrorCode::kBadData,
                fmt::format("merge {} '{} {}' is a duplicate", std::next(twice)->merge,
                            Escape(out_.vocab[merge.left]), Escape(out_.vocab[merge.right])))
        .In(path);
  }

  // What looks like a byte must be "<0x00>" to "<0xFF>".
  static void CheckByteToken(const std::string& text, const std::string& path, bool must_be_byte) {
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
    const bool looks_so =
        (text.starts_with("<0x") || text.starts_with("<0X")) && text.ends_with(">");
    const bool is_byte = text.size() == 6 && text.starts_with("<0x") && is_hex(text[3]) &&
                         is_hex(text[4]) && looks_so;
    if (is_byte || !(looks_so || must_be_byte)) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("token '{}' is not a byte token, <0x00> to <0xFF>", Escape(text)))
        .In(path);
  }

  void ReadPieces(const std::string& bytes, bool has_json) {
    const std::string path = Path(kModelName);
    SentencePieceModel model = ParseSentencePieceModel(bytes, path);
    out_.pieces = std::move(model.pieces);
    if (!has_json) {  // tokenizer.json has the last word on encoding
      out_.normalizer = SentencePieceNormalizer(model.add_dummy_prefix);
      out_.byte_fallback = true;
      out_.steps_path = path;
      if (!model.foreign_setting.empty()) out_.refusal = CannotEncode(model.foreign_setting, path);
    }
    if (out_.pieces.size() > vocab_size_) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("holds {} pieces but the embedding has {} rows (vocab_size)",
                              out_.pieces.size(), vocab_size_))
          .In(path)
          .Hint(kMoreRowsHint);
    }
    for (std::size_t id = 0; id < out_.pieces.size(); ++id) {
      const SentencePiece& piece = out_.pieces[id];
      CheckByteToken(piece.text, path, piece.type == PieceType::kByte);
      table_.Add(static_cast<std::uint32_t>(id), piece.text, path);
    }
  }

  // tokenizer_config.json's over tokenizer.json's, as transformers has it; it reads
  // added_tokens.json only where neither of the others lists any.
  void ReadAddedTokens() {
    config_tokens_ = ReadAddedTokensDecoder();
    for (const AddedToken& token : json_tokens_)
      table_.Add(token.id, token.content, Path(kJsonName));
    for (const AddedToken& token : config_tokens_)
      table_.Add(token.id, token.content, Path(kConfigName));
    // From here on a text has one id in both files.
    std::unordered_map<std::uint32_t, const AddedToken*> in_config;
    for (const AddedToken& token : config_tokens_) {
      if (in_config.emplace(token.id, &token).second) out_.added_tokens.push_back(token);
    }
    std::unordered_set<std::uint32_t> seen;
    for (const AddedToken& token : json_tokens_) {
      if (!seen.insert(token.id).second) continue;
      const auto found = in_config.find(token.id);
      if (found == in_config.end()) {
        out_.added_tokens.push_back(token);
      } else if (*found->second != token) {
        out_.overruled_tokens.push_back(token);
      }
    }
    std::ranges::sort(out_.added_tokens, {}, &AddedToken::id);
    ReadAddedTokensFile();
  }

  std::vector<AddedToken> ReadAddedTokensDecoder() const {
    std::vector<AddedToken> tokens;
    const std::string path = Path(kConfigName);
    const Json* decoder = FindMember(config_, "added_tokens_decoder");
    if (decoder == nullptr) return tokens;
    if (!decoder->is_object()) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("added_tokens_decoder is {}, needs an object", decoder->type_name()))
          .In(path);
    }
    for (const auto& [key, entry] : decoder->members()) {
      std::uint32_t id = 0;
      const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (status != std::errc() || end != key.data() + key.size()) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("added_tokens_decoder has the key '{}', needs an id", Escape(key)))
            .In(path);
      }
      tokens.push_back(ParseAddedToken(entry, id, path));
    }
    return tokens;
  }

  void ReadAddedTokensFile() {
    const std::string path = Path(kAddedName);
    const std::optional<Json> object = ReadJsonObject(files_, kAddedName, limits::kConfigBytes);
    if (!object) return;
    const bool counts = out_.added_tokens.empty();
    std::size_t n_others = 0;  // that the tokenizer does not have
    std::string first_other;
    for (const auto& [text, id] : object->members()) {
      CheckTokenText(text, path);
      const std::uint32_t number = ParseAddedId(id, text, path);
      if (counts) {
        file_tokens_.push_back({.id = number, .content = text});
      } else if (table_.Find(text) != number && n_others++ == 0) {
        first_other = text;
      }
    }
    if (counts) {
      std::ranges::sort(file_tokens_, {}, &AddedToken::id);
      for (const AddedToken& token : file_tokens_) table_.Add(token.id, token.content, path);
      out_.added_tokens = file_tokens_;
    }
    if (n_others > 0) {
      Warn(warn_, path,
           fmt::format("is not used: {} of its tokens ('{}' first) {} not what {} says", n_others,
                       Escape(first_other), n_others == 1 ? "is" : "are",
                       FindMember(config_, "added_tokens_decoder") ? kConfigName : kJsonName));
    }
  }

  // Writers take the tokens from tokenizer.model where it exists, so it must not lack any.
  void CheckPiecesSuffice() const {
    if (out_.pieces.empty()) return;
    std::unordered_set<std::string_view> added;
    for (const AddedToken& token : out_.added_tokens) added.insert(token.content);
    for (std::size_t id = out_.pieces.size(); id < out_.vocab.size(); ++id) {
      if (out_.vocab[id].empty() || added.contains(out_.vocab[id])) continue;
      throw Error(ErrorCode::kBadData,
                  fmt::format("holds {} pieces, but {} has token '{}' with id {}",
                              out_.pieces.size(), kJsonName, Escape(out_.vocab[id]), id))
          .In(Path(kModelName));
    }
  }

  void WarnOfIds() const {
    const auto beyond =
        std::ranges::lower_bound(out_.added_tokens, vocab_size_, {}, &AddedToken::id);
    const auto n_beyond = out_.added_tokens.end() - beyond;
    if (n_beyond > 0) {
      Warn(warn_, Folder(),
           fmt::format("added token '{}' has id {}{}, but the embedding has {} rows: the model "
                       "cannot be given it (--pad-vocab N adds rows)",
                       Escape(beyond->content), beyond->id,
                       n_beyond == 1 ? "" : fmt::format(", and {} more beyond", n_beyond - 1),
                       vocab_size_));
    }
    const std::vector<std::size_t> gaps = table_.Gaps(vocab_size_);
    if (gaps.empty()) return;
    Warn(warn_, Folder(),
         fmt::format("{} token id{} no text and become{} padding (the first is {})", gaps.size(),
                     gaps.size() == 1 ? " has" : "s have", gaps.size() == 1 ? "s" : "",
                     gaps.front()));
  }

  // The id that `object`'s member `key` names: a string, or {"content": string}.
  std::optional<std::uint32_t> NamedId(const Json& object, std::string_view key,
                                       std::string_view file) const {
    const Json* value = FindMember(object, key);
    if (value == nullptr) return std::nullopt;
    const Json* content = FindMember(*value, "content");
    if (content == nullptr) content = value;
    if (!content->is_string()) {
      throw Error(ErrorCode::kBadData, fmt::format("'{}' is {}, needs a token", key, Show(*value)))
          .In(Path(file));
    }
    const std::optional<std::uint32_t> id = table_.Find(content->text());
    if (id && *id < vocab_size_) return id;
    const std::string problem =
        id ? fmt::format("'{}' is {} with id {}, but the embedding has {} rows", key,
                         Show(*content), *id, vocab_size_)
           : fmt::format("'{}' is {}, which no tokenizer file has as a token", key, Show(*content));
    // No text needs the others.
    if (key == "bos_token" || key == "eos_token")
      throw Error(ErrorCode::kBadData, problem).In(Path(file)).Hint(id ? kMoreRowsHint : "");
    Warn(warn_, Path(file), problem + "; it is left out");
    return std::nullopt;
  }

  void ReadSpecialIds(const std::array<std::optional<std::uint32_t>, 3>& config_ids) {
    const std::optional<Json> special = ReadJsonObject(files_, kSpecialName, limits::kConfigBytes);
    const auto read = [&](std::string_view key, std::optional<std::uint32_t> config_id) {
      if (const std::optional<std::uint32_t> id = NamedId(config_, key, kConfigName)) return id;
      if (config_id) return config_id;
      return special ? NamedId(*special, key, kSpecialName) : std::nullopt;
    };
    out_.bos_id = read("bos_token", config_ids[0]);
    out_.eos_id = read("eos_token", config_ids[1]);
    out_.pad_id = read("pad_token", config_ids[2]);
    out_.unk_id = read("unk_token", std::nullopt);
    out_.sep_id = read("sep_token", std::nullopt);
    out_.cls_id = read("cls_token", std::nullopt);
    out_.mask_id = read("mask_token", std::nullopt);
  }

  // What the post-processor puts around a text, unless tokenizer_config.json has its own word.
  void ReadAddFlags() {
    if (!out_.vocab.empty()) {
      out_.add_bos = out_.add_eos = false;
      for (const TokenizerStep& step : out_.post_processor) {
        const auto* const around = step.As<TokenizerStep::Template>();
        if (around == nullptr || around->single.empty()) continue;
        const auto is = [&](const std::optional<std::string>& token,
                            std::optional<std::uint32_t> id) {
          return token && id && table_.Find(*token) == id;
        };
        if (is(around->single.front(), out_.bos_id)) out_.add_bos = true;
        if (is(around->single.back(), out_.eos_id)) out_.add_eos = true;
      }
    }
    TakeFlag("add_bos_token", out_.add_bos);
    TakeFlag("add_eos_token", out_.add_eos);
  }
  void TakeFlag(std::string_view key, std::optional<bool>& adds) const {
    const std::string path = Path(kConfigName);
    const std::optional<bool> flag = JsonBool(config_, key, path);
    if (!flag) return;
    if (adds && *adds != *flag) {
      Warn(warn_, path,
           fmt::format("'{}' is {}, but the post_processor of {} {}: the flag is followed, as "
                       "transformers 4 does; transformers 5 follows the other",
                       key, *flag, kJsonName, *adds ? "adds it" : "adds none"));
    }
    adds = flag;
  }

  const SideFiles& files_;
  std::uint32_t vocab_size_;
  const WarningFn& warn_;
  TokenTable table_;
  Json config_ = Json::object();  // tokenizer_config.json
  // As each file has them; the table points into them.
  std::vector<AddedToken> json_tokens_, config_tokens_, file_tokens_;
  Tokenizer out_;
};

}  // namespace

Tokenizer ReadTokenizer(const SideFiles& files, std::uint32_t vocab_size,
                        std::optional<std::uint32_t> config_bos,
                        std::optional<std::uint32_t> config_eos,
                        std::optional<std::uint32_t> config_pad, const WarningFn& warn) {
  return TokenizerReader(files, vocab_size, warn).Read({config_bos, config_eos, config_pad});
}

}  // namespace phiq
