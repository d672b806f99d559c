// The keys are read back into what encoding needs, so that a file is evaluated with the tokenizer
// that it carries and not with its source's.
#include "formats/gguf/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/utf8.h"
#include "formats/gguf/model_name.h"
#include "model/byte_alphabet.h"
#include "model/tokenizer_steps.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";
constexpr std::string_view kAddSpacePrefix = "tokenizer.ggml.add_space_prefix";

// llama.cpp's names for the two split expressions.
struct PreName {
  std::string_view name;
  PreTokenizer pre_tokenizer;
  bool ignore_merges;
};
constexpr std::array<PreName, 9> kPreNames = {{
    {"gpt-4o", PreTokenizer::kO200k, false},
    {"llama4", PreTokenizer::kO200k, false},
    {"kanana2", PreTokenizer::kO200k, false},
    {"talkie", PreTokenizer::kO200k, false},
    {"dbrx", PreTokenizer::kCl100k, false},
    {"smaug-bpe", PreTokenizer::kCl100k, false},
    {"llama-bpe", PreTokenizer::kCl100k, true},
    {"llama3", PreTokenizer::kCl100k, true},
    {"llama-v3", PreTokenizer::kCl100k, true},
}};

class Reader {
 public:
  Reader(const Metadata& metadata, std::string_view path) : metadata_(metadata), path_(path) {}

  Tokenizer Read() {
    out_.steps_path = path_;
    const auto& model = Need<std::string>(kModel, "a string");
    if (model != "llama" && model != "gpt2") {
      throw Unsupported(
          fmt::format("'{}' is '{}', phiq encodes with 'llama' and 'gpt2'", kModel, Escape(model)));
    }
    ReadTokens();
    if (model == "llama") {
      ReadScores();
    } else {
      ReadMerges();
    }
    AddAddedTokens();
    AddSpecialIds();
    AddChatTemplates();
    return std::move(out_);
  }

 private:
  // The value of a key; nullptr: there is none.
  template <typename T>
  const T* Get(std::string_view key, std::string_view wanted) const {
    const Value* value = Find(metadata_, key);
    if (value == nullptr) return nullptr;
    const T* content = std::get_if<T>(value);
    if (content == nullptr) {
      const std::string_view type = TypeName(TypeOf(*value));
      throw BadData(fmt::format("'{}' is {}{}, needs {}", key, type,
                                type == TypeName(ValueType::kArray)
                                    ? fmt::format(" of {}", TypeName(ElementTypeOf(*value)))
                                    : "",
                                wanted));
    }
    return content;
  }
  template <typename T>
  const T& Need(std::string_view key, std::string_view wanted) const {
    if (const T* content = Get<T>(key, wanted)) return *content;
    throw BadData(fmt::format("'{}' is missing", key));
  }
  template <typename T>
  const std::vector<T>& NeedForEachToken(std::string_view key, std::string_view wanted) const {
    const auto& array = Need<std::vector<T>>(key, wanted);
    if (array.size() != tokens_->size()) {
      throw BadData(fmt::format("'{}' has {} entries but '{}' has {}", key, array.size(), kTokens,
                                tokens_->size()));
    }
    return array;
  }

  void ReadTokens() {
    tokens_ = &Need<std::vector<std::string>>(kTokens, "an array of strings");
    if (tokens_->size() > limits::kVocab) {
      throw BadData(fmt::format("'{}' has {} entries, at most {} are allowed", kTokens,
                                tokens_->size(), limits::kVocab));
    }
    types_ = &NeedForEachToken<std::int32_t>(kTypes, "an array of i32");
    std::unordered_map<std::string_view, std::size_t> id_of;
    id_of.reserve(tokens_->size());
    for (std::size_t id = 0; id < tokens_->size(); ++id) {
      const std::string& text = (*tokens_)[id];
      const std::int32_t type = (*types_)[id];
      if (type < 1 || type > 6) {
        throw BadData(fmt::format("'{}' of token {} is {}, allowed are 1 to 6", kTypes, id, type));
      }
      if (text.empty()) throw BadToken(id, "has no text");
      if (FindInvalidUtf8(text)) throw BadToken(id, "is not UTF-8");
      const auto [other, is_new] = id_of.emplace(text, id);
      if (!is_new) throw BadToken(id, fmt::format("is token {} too", other->second));
    }
  }

  // SentencePiece's way: all that two tokens make together is a merge, the best score first.
  void ReadScores() {
    out_.kind = TokenizerKind::kSentencePiece;
    const std::vector<float>& scores = NeedForEachToken<float>(kScores, "an array of f32");
    for (std::size_t id = 0; id < tokens_->size(); ++id) {
      if (!std::isfinite(scores[id]))
        throw BadData(fmt::format("'{}' of token {} is {}", kScores, id, scores[id]));
      out_.pieces.push_back({(*tokens_)[id], scores[id], static_cast<PieceType>((*types_)[id])});
    }
    const bool* add_space_prefix = Get<bool>(kAddSpacePrefix, "a bool");
    out_.normalizer = SentencePieceNormalizer(add_space_prefix == nullptr || *add_space_prefix);
    out_.byte_fallback = true;
  }

  void ReadMerges() {
    out_.kind = TokenizerKind::kByteLevelBpe;
    const auto& pre = Need<std::string>(kPre, "a string");
    const auto known = std::ranges::find(kPreNames, pre, &PreName::name);
    if (known == kPreNames.end()) {
      throw Unsupported(fmt::format("'{}' is '{}', whose split expression phiq does not know", kPre,
                                    Escape(pre)));
    }
    out_.pre_tokenizer = known->pre_tokenizer;
    out_.ignore_merges = known->ignore_merges;
    out_.vocab.resize(tokens_->size());
    for (std::size_t id = 0; id < tokens_->size(); ++id) {
      if (TypeOfToken(id) != PieceType::kNormal) continue;
      if (!BytesOfLetters((*tokens_)[id]))
        throw BadToken(id, "has a character that is not in the byte alphabet");
      out_.vocab[id] = (*tokens_)[id];
    }
    const auto& merges = Need<std::vector<std::string>>(kMerges, "an array of strings");
    if (merges.size() > limits::kMerges) {
      throw BadData(fmt::format("'{}' has {} entries, at most {} are allowed", kMerges,
                                merges.size(), limits::kMerges));
    }
    std::unordered_map<std::string_view, std::uint32_t> ids;
    ids.reserve(out_.vocab.size());
    for (std::size_t id = 0; id < out_.vocab.size(); ++id)
      ids.emplace(out_.vocab[id], static_cast<std::uint32_t>(id));
    std::string both;
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::string_view merge = merges[i];
      const std::size_t space = merge.find(' ');
      if (space == std::string::npos || space == 0 || space + 1 == merge.size()) {
        throw BadData(
            fmt::format("'{}' {} '{}' does not have two parts", kMerges, i, Escape(merge)));
      }
      const auto id_of = [&](std::string_view text) {
        if (const auto found = ids.find(text); found != ids.end()) return found->second;
        throw BadData(fmt::format("'{}' {} needs token '{}', which '{}' lacks", kMerges, i,
                                  Escape(text), kTokens));
      };
      const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
      both = left;
      both += right;
      out_.merges.push_back({id_of(left), id_of(right), id_of(both)});
    }
  }

  void AddAddedTokens() {
    const std::string* name = Get<std::string>("general.name", "a string");
    const bool is_phi3 = name != nullptr && SaysPhi3(*name);
    for (std::size_t id = 0; id < tokens_->size(); ++id) {
      const PieceType type = TypeOfToken(id);
      if (type != PieceType::kControl && type != PieceType::kUserDefined &&
          type != PieceType::kUnknown)
        continue;
      AddedToken token;
      token.id = static_cast<std::uint32_t>(id);
      token.content = (*tokens_)[id];
      token.special = type != PieceType::kUserDefined;
      token.rstrip = is_phi3 && token.content != "<unk>" && token.content != "<s>" &&
                     token.content != "<|endoftext|>";
      out_.added_tokens.push_back(std::move(token));
    }
  }

  // Encoding needs none of these: what is no id of a token counts as left out.
  void AddSpecialIds() {
    const auto id_of = [&](std::string_view name) -> std::optional<std::uint32_t> {
      const Value* value = Find(metadata_, fmt::format("tokenizer.ggml.{}_token_id", name));
      const auto* id = value == nullptr ? nullptr : std::get_if<std::uint32_t>(value);
      return id != nullptr && *id < tokens_->size() ? std::optional(*id) : std::nullopt;
    };
    const auto flag = [&](std::string_view name) -> std::optional<bool> {
      const Value* value = Find(metadata_, fmt::format("tokenizer.ggml.{}", name));
      const bool* is_set = value == nullptr ? nullptr : std::get_if<bool>(value);
      return is_set == nullptr ? std::nullopt : std::optional(*is_set);
    };
    out_.bos_id = id_of("bos");
    out_.eos_id = id_of("eos");
    out_.unk_id = id_of("unknown");
    out_.sep_id = id_of("seperator");  // spelt so in GGUF
    out_.pad_id = id_of("padding");
    out_.cls_id = id_of("cls");
    out_.mask_id = id_of("mask");
    out_.add_bos = flag("add_bos_token");
    out_.add_eos = flag("add_eos_token");
  }

  void AddChatTemplates() {
    constexpr std::string_view kTemplate = "tokenizer.chat_template";
    for (const auto& [key, value] : metadata_) {
      const auto* text = std::get_if<std::string>(&value);
      if (text == nullptr || !key.starts_with(kTemplate)) continue;
      const std::string_view name = std::string_view(key).substr(kTemplate.size());
      if (name.empty()) {
        out_.chat_template = *text;
      } else if (name.front() == '.') {
        out_.named_chat_templates.emplace_back(name.substr(1), *text);
      }
    }
  }

  PieceType TypeOfToken(std::size_t id) const { return static_cast<PieceType>((*types_)[id]); }

  Error BadToken(std::size_t id, std::string_view what) const {
    return BadData(
        fmt::format("'{}': token {} '{}' {}", kTokens, id, Escape((*tokens_)[id]), what));
  }
  Error BadData(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message))
        .In(path_)
        .Hint("give the text as token ids with --ids");
  }

  const Metadata& metadata_;
  std::string_view path_;
  const std::vector<std::string>* tokens_ = nullptr;
  const std::vector<std::int32_t>* types_ = nullptr;
  Tokenizer out_;
};

}  // namespace

Tokenizer ReadTokenizer(const Metadata& metadata, std::string_view path) {
  return Reader(metadata, path).Read();
}

}  // namespace phiq::gguf
