// Puts the facts of all tokenizer files together and checks them against each other.
#include "phiq/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "base/limits.h"
#include "base/parse_number.h"
#include "model/chat_template.h"
#include "model/encoding_rules.h"
#include "model/sentencepiece.h"
#include "model/side_file.h"
#include "model/tokenizer_json.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Every text has one id and every id one text, whichever file names them.
class TokenTable {
 public:
  explicit TokenTable(std::uint32_t vocab_size) : texts_(vocab_size) { ids_.reserve(vocab_size); }

  // `text` must outlive the table. `path`: the file that says so.
  void Add(std::uint32_t id, std::string_view text, std::string_view path) {
    if (!texts_[id].empty() && texts_[id] != text) {
      throw Error(ErrorCode::kBadData, fmt::format("token '{}' has id {}, which is also '{}'",
                                                   Escape(text), id, Escape(texts_[id])))
          .In(path);
    }
    const auto [found, is_new] = ids_.emplace(text, id);
    if (!is_new && found->second != id) {
      throw Error(ErrorCode::kBadData, fmt::format("token '{}' has id {}, but also id {}",
                                                   Escape(text), id, found->second))
          .In(path);
    }
    if (texts_[id].empty()) texts_[id] = text;
    end_ = std::max(end_, std::size_t{id} + 1);
  }

  std::optional<std::uint32_t> Find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  // Ids below the last one that no file names.
  std::vector<std::size_t> Gaps() const {
    std::vector<std::size_t> gaps;
    for (std::size_t id = 0; id < end_; ++id) {
      if (texts_[id].empty()) gaps.push_back(id);
    }
    return gaps;
  }

 private:
  std::vector<std::string_view> texts_;  // by id
  std::unordered_map<std::string_view, std::uint32_t> ids_;
  std::size_t end_ = 0;
};

class TokenizerReader {
 public:
  TokenizerReader(const CheckpointFolder& folder, std::uint32_t vocab_size, const WarningFn& warn)
      : folder_(folder), vocab_size_(vocab_size), warn_(warn), table_(vocab_size) {}

  Tokenizer Read(const std::array<std::optional<std::uint32_t>, 3>& config_ids) {
    ReadVocabularies();
    if (const std::optional<Json> config =
            ReadJsonObject(folder_, kConfigName, limits::kConfigBytes))
      config_ = *config;
    ReadAddedTokenFiles();
    CheckPiecesSuffice();
    WarnOfGaps();
    ReadSpecialIds(config_ids);
    ReadAddFlags();
    ChatTemplates templates = ReadChatTemplates(folder_, config_, warn_);
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

  std::string Path(std::string_view name) const { return SidePath(folder_, name); }

  void ReadVocabularies() {
    const std::optional<std::string> model =
        folder_.ReadFile(kModelName, limits::kTokenizerModelBytes);
    std::optional<std::string> json = folder_.ReadFile(kJsonName, limits::kTokenizerJsonBytes);
    if (!model && !json) {
      throw Error(ErrorCode::kInput, "neither tokenizer.json nor tokenizer.model is there")
          .In(folder_.path().string())
          .Hint("fetch the tokenizer files of the checkpoint too");
    }
    TokenizerJson parsed;
    if (json) parsed = ParseTokenizerJson(*json, Path(kJsonName), vocab_size_);
    json.reset();
    if (model || parsed.byte_fallback) {
      out_.kind = TokenizerKind::kSentencePiece;
    } else if (parsed.byte_level) {
      out_.kind = TokenizerKind::kByteLevelBpe;
      out_.pre_tokenizer =
          RecognizePreTokenizer(parsed.pre_tokenizer, Path(kJsonName), vocab_size_);
    } else {
      throw Error(ErrorCode::kUnsupported, "neither a byte-fallback nor a byte-level BPE tokenizer")
          .In(Path(kJsonName));
    }
    out_.vocab = std::move(parsed.vocab);
    out_.merges = std::move(parsed.merges);
    out_.added_tokens = std::move(parsed.added_tokens);
    out_.encoding = std::move(parsed.encoding);
    if (model && !out_.vocab.empty() && !parsed.byte_fallback) {
      out_.encoding.refusal = CannotEncode(
          "model.byte_fallback is not true although there is a tokenizer.model", Path(kJsonName));
    }
    first_special_ = std::move(parsed.first_special);
    last_special_ = std::move(parsed.last_special);

    const std::string path = Path(kJsonName);
    for (std::size_t id = 0; id < out_.vocab.size(); ++id) {
      if (!out_.vocab[id].empty()) table_.Add(static_cast<std::uint32_t>(id), out_.vocab[id], path);
    }
    CheckMerges();
    if (out_.kind == TokenizerKind::kSentencePiece) CheckByteTokens();
    if (model) ReadPieces(*model);
  }

  // Each merge must be of two tokens into a third, and come once.
  void CheckMerges() const {
    std::unordered_set<std::uint64_t> seen;
    seen.reserve(out_.merges.size());
    for (std::size_t i = 0; i < out_.merges.size(); ++i) {
      const auto& [left, right] = out_.merges[i];
      const auto id_of = [&](const std::string& text) -> std::uint64_t {
        const std::optional<std::uint32_t> id = table_.Find(text);
        if (id) return *id;
        throw Error(
            ErrorCode::kBadData,
            fmt::format("merge {} needs token '{}', which model.vocab lacks", i, Escape(text)))
            .In(Path(kJsonName));
      };
      const std::uint64_t pair = id_of(left) << 32 | id_of(right);
      id_of(left + right);
      if (!seen.insert(pair).second) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("merge {} '{} {}' is a duplicate", i, Escape(left), Escape(right)))
            .In(Path(kJsonName));
      }
    }
  }

  // What looks like a byte must be "<0x00>" to "<0xFF>".
  void CheckByteTokens() const {
    const std::string path = Path(kJsonName);
    for (const std::string& text : out_.vocab) CheckByteToken(text, path, false);
  }
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

  void ReadPieces(const std::string& bytes) {
    const std::string path = Path(kModelName);
    SentencePieceModel model = ParseSentencePieceModel(bytes, path);
    out_.pieces = std::move(model.pieces);
    if (out_.vocab.empty()) {  // tokenizer.json has the last word on encoding
      out_.encoding = SentencePieceRules(model.add_dummy_prefix);
      if (!model.foreign_setting.empty())
        out_.encoding.refusal = CannotEncode(model.foreign_setting, path);
    }
    if (out_.pieces.size() > vocab_size_) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("holds {} pieces but the embedding has {} rows (vocab_size)",
                              out_.pieces.size(), vocab_size_))
          .In(path);
    }
    for (std::size_t id = 0; id < out_.pieces.size(); ++id) {
      const SentencePiece& piece = out_.pieces[id];
      CheckByteToken(piece.text, path, piece.type == PieceType::kByte);
      table_.Add(static_cast<std::uint32_t>(id), piece.text, path);
    }
  }

  void ReadAddedTokenFiles() {
    for (const AddedToken& token : out_.added_tokens)
      table_.Add(token.id, token.content, Path(kJsonName));
    ReadAddedTokensDecoder();
    ReadAddedTokensFile();
  }

  void ReadAddedTokensDecoder() {
    const std::string path = Path(kConfigName);
    const Json* decoder = FindMember(config_, "added_tokens_decoder");
    if (decoder == nullptr) return;
    if (!decoder->is_object()) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("added_tokens_decoder is {}, needs an object", decoder->type_name()))
          .In(path);
    }
    for (const auto& [key, entry] : decoder->members()) {
      const auto id = ParseNumber<std::uint32_t>(key);
      if (!id) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("added_tokens_decoder has the key '{}', needs an id", Escape(key)))
            .In(path);
      }
      out_.added_tokens_decoder.push_back(ParseAddedToken(entry, *id, path, vocab_size_));
    }
    std::ranges::sort(out_.added_tokens_decoder, {}, &AddedToken::id);
    for (const AddedToken& token : out_.added_tokens_decoder)
      table_.Add(token.id, token.content, path);
  }

  void ReadAddedTokensFile() {
    const std::string path = Path(kAddedName);
    const std::optional<Json> object = ReadJsonObject(folder_, kAddedName, limits::kConfigBytes);
    if (!object) return;
    for (const auto& [text, id] : object->members()) {
      CheckTokenText(text, path);
      out_.added_tokens_file.emplace_back(ParseTokenId(id, text, path, vocab_size_), text);
    }
    std::ranges::sort(out_.added_tokens_file);
    for (const auto& [id, text] : out_.added_tokens_file) table_.Add(id, text, path);
  }

  // Writers take the tokens from tokenizer.model where it exists, so it must not lack any.
  void CheckPiecesSuffice() const {
    if (out_.pieces.empty()) return;
    std::unordered_set<std::string_view> added;
    for (const AddedToken& token : out_.added_tokens) added.insert(token.content);
    for (const AddedToken& token : out_.added_tokens_decoder) added.insert(token.content);
    for (const auto& [id, text] : out_.added_tokens_file) added.insert(text);
    for (std::size_t id = out_.pieces.size(); id < out_.vocab.size(); ++id) {
      if (out_.vocab[id].empty() || added.contains(out_.vocab[id])) continue;
      throw Error(ErrorCode::kBadData,
                  fmt::format("holds {} pieces, but {} has token '{}' with id {}",
                              out_.pieces.size(), kJsonName, Escape(out_.vocab[id]), id))
          .In(Path(kModelName));
    }
  }

  void WarnOfGaps() const {
    const std::vector<std::size_t> gaps = table_.Gaps();
    if (gaps.empty()) return;
    Warn(warn_, folder_.path().string(),
         fmt::format("{} token id{} no text and become{} padding (the first is {})", gaps.size(),
                     gaps.size() == 1 ? " has" : "s have", gaps.size() == 1 ? "s" : "",
                     gaps.front()));
  }

  // The id that `object`'s member `key` names: a string, or {"content": string}.
  std::optional<std::uint32_t> NamedId(const Json& object, const std::string& key,
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
    if (!id) {
      throw Error(
          ErrorCode::kBadData,
          fmt::format("'{}' is {}, which no tokenizer file has as a token", key, Show(*content)))
          .In(Path(file));
    }
    return id;
  }

  void ReadSpecialIds(const std::array<std::optional<std::uint32_t>, 3>& config_ids) {
    const std::optional<Json> special = ReadJsonObject(folder_, kSpecialName, limits::kConfigBytes);
    const auto read = [&](const std::string& key, std::optional<std::uint32_t> config_id) {
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

  // The post-processor's word, unless tokenizer_config.json has its own.
  void ReadAddFlags() {
    if (first_special_)
      out_.add_bos = out_.bos_id.has_value() && table_.Find(*first_special_) == out_.bos_id;
    if (last_special_)
      out_.add_eos = out_.eos_id.has_value() && table_.Find(*last_special_) == out_.eos_id;
    const std::string path = Path(kConfigName);
    if (const std::optional<bool> add = JsonBool(config_, "add_bos_token", path))
      out_.add_bos = add;
    if (const std::optional<bool> add = JsonBool(config_, "add_eos_token", path))
      out_.add_eos = add;
  }

  const CheckpointFolder& folder_;
  std::uint32_t vocab_size_;
  const WarningFn& warn_;
  TokenTable table_;
  Json config_ = Json::object();  // tokenizer_config.json
  std::optional<std::string> first_special_, last_special_;
  Tokenizer out_;
};

}  // namespace

Tokenizer ReadTokenizer(const CheckpointFolder& folder, std::uint32_t vocab_size,
                        std::optional<std::uint32_t> config_bos,
                        std::optional<std::uint32_t> config_eos,
                        std::optional<std::uint32_t> config_pad, const WarningFn& warn) {
  return TokenizerReader(folder, vocab_size, warn).Read({config_bos, config_eos, config_pad});
}

}  // namespace phiq
