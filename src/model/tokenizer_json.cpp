// Reads tokenizer.json as a stream of events. Vocabulary and merges go straight to where they are
// kept; the small rest (steps, added tokens, switches of the model) is made into trees first.
#include "model/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/limits.h"
#include "base/sha256.h"
#include "model/side_file.h"
#include "model/tokenizer_steps.h"
#include "phiq/text.h"

namespace phiq {
namespace {

Error Bad(std::string_view path, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).In(path);
}

Error Unsupported(std::string_view path, std::string message) {
  return Error(ErrorCode::kUnsupported, std::move(message)).In(path);
}

Error BadId(std::string_view path, std::string_view token, std::string_view id) {
  return Bad(path, fmt::format("token '{}' has id {}, needs a whole number", Escape(token), id));
}

// model.vocab while it is read.
class VocabReader {
 public:
  VocabReader(std::string_view path, std::uint32_t vocab_size)
      : path_(path), vocab_size_(vocab_size) {}

  void SetToken(const std::string& token) {
    CheckTokenText(token, path_);
    token_ = token;
    ++n_tokens_;
  }
  void SetId(std::uint64_t id) {
    if (id >= vocab_size_) {  // more tokens than rows has a message of its own
      if (beyond_.empty()) beyond_ = token_, beyond_id_ = id;
      return;
    }
    if (id >= vocab_.size()) vocab_.resize(id + 1);
    if (vocab_[id].empty()) {
      vocab_[id] = token_;
    } else if (!same_id_) {  // may be a number that the end of the file cuts: that is said first
      same_id_ = Bad(path_, fmt::format("tokens '{}' and '{}' both have id {}", Escape(vocab_[id]),
                                        Escape(token_), id));
    }
  }
  void RefuseId(std::string_view found) const { throw BadId(path_, token_, found); }

  std::vector<std::string> Finish() && {
    if (same_id_) throw *std::move(same_id_);
    if (n_tokens_ > vocab_size_) {
      throw Bad(path_, fmt::format(
                           "model.vocab holds {} tokens but the embedding has {} rows (vocab_size)",
                           n_tokens_, vocab_size_))
          .Hint(kMoreRowsHint);
    }
    if (!beyond_.empty()) {
      throw Bad(path_,
                fmt::format("token '{}' has id {} but the embedding has {} rows (vocab_size)",
                            Escape(beyond_), beyond_id_, vocab_size_))
          .Hint(kMoreRowsHint);
    }
    return std::move(vocab_);
  }

 private:
  std::string_view path_;
  std::uint32_t vocab_size_;
  std::size_t n_tokens_ = 0;
  std::string token_;   // whose id comes next
  std::string beyond_;  // the first token without a row
  std::uint64_t beyond_id_ = 0;
  std::optional<Error> same_id_;  // the first two tokens of one id
  std::vector<std::string> vocab_;
};

// model.merges while they are read: all "a b", or all ["a", "b"].
class MergeReader {
 public:
  explicit MergeReader(std::string_view path) : path_(path) {}

  void OnText(const std::string& text) {
    if (in_pair_) {
      parts_.push_back(text);
      if (parts_.size() > 2) RefusePair();
      return;
    }
    CheckForm(false);
    const std::size_t space = text.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == text.size() ||
        text.find(' ', space + 1) != std::string::npos) {
      throw Bad(path_,
                fmt::format("merge {} '{}' does not have two parts", merges_.size(), Escape(text)));
    }
    merges_.Add(std::string_view(text).substr(0, space), std::string_view(text).substr(space + 1));
  }
  void OpenPair() {
    if (in_pair_) RefusePair();
    CheckForm(true);
    in_pair_ = true;
  }
  void ClosePair() {
    if (parts_.size() != 2 || parts_[0].empty() || parts_[1].empty()) RefusePair();
    merges_.Add(parts_[0], parts_[1]);
    parts_.clear();
    in_pair_ = false;
  }
  void Refuse(std::string_view found) const {
    if (in_pair_) RefusePair();
    throw Bad(path_, fmt::format("merge {} is {}, needs \"a b\" or [\"a\", \"b\"]", merges_.size(),
                                 found));
  }

  MergeTexts Take() { return std::move(merges_); }

 private:
  [[noreturn]] void RefusePair() const {
    throw Bad(path_,
              fmt::format("merge {} is a list that does not have two parts", merges_.size()));
  }
  void CheckForm(bool is_pair) {
    if (merges_.size() == limits::kMerges) {
      throw Bad(path_, fmt::format("model.merges holds more than {} merges", limits::kMerges));
    }
    if (merges_.size() == 0) are_pairs_ = is_pair;
    if (is_pair != are_pairs_) {
      throw Bad(path_, fmt::format("merge {} is {}, merge 0 has the other form", merges_.size(),
                                   is_pair ? "an array" : "a string"));
    }
  }

  std::string_view path_;
  bool are_pairs_ = false, in_pair_ = false;
  std::vector<std::string> parts_;
  MergeTexts merges_;
};

// Follows the outermost members and those of `model`.
class FileEvents : public JsonEvents {
 public:
  FileEvents(std::string_view path, std::uint32_t vocab_size)
      : path_(path), vocab_(path, vocab_size), merges_(path), tree_(path) {}

  TokenizerJson Finish() && {
    if (!has_model_) throw Bad(path_, "model is missing or not an object");
    CheckModel();
    if (!has_vocab_) throw Bad(path_, "model.vocab is missing or not an object");
    if (!has_merges_) throw Bad(path_, "model.merges is missing or not an array");
    out_.vocab = std::move(vocab_).Finish();
    out_.merges = merges_.Take();
    std::ranges::sort(out_.added_tokens, {}, &AddedToken::id);
    out_.byte_fallback = JsonBool(model_, "byte_fallback", path_).value_or(false);
    out_.fuse_unk = JsonBool(model_, "fuse_unk", path_).value_or(false);
    out_.ignore_merges = JsonBool(model_, "ignore_merges", path_).value_or(false);
    out_.unk_token = JsonString(model_, "unk_token", path_).value_or("");
    if (const Json* const dropout = FindMember(model_, "dropout"); dropout && *dropout != 0)
      out_.dropout = Show(*dropout);
    return std::move(out_);
  }

  void OnStartObject(int depth) override {
    if (depth == 2 && place_ == Place::kModel) has_model_ = true;
    if (depth == 3 && place_ == Place::kVocab) {
      has_vocab_ = true;
    } else if (place_ == Place::kVocab && depth > 3) {
      if (has_vocab_) vocab_.RefuseId("an object");
    } else if (place_ == Place::kMerges && has_merges_) {
      merges_.Refuse("an object");
    } else if (IsKept(depth - 1)) {
      tree_.OpenObject();
    }
    depth_ = depth;
  }
  void OnKey(const std::string& key, int depth) override {
    if (depth == 1) {
      member_ = key;
      place_ = PlaceOf(key);
    } else if (depth == 2 && (place_ == Place::kModel || IsInModel())) {
      place_ = PlaceInModel(key);
      model_key_ = key;
    } else if (place_ == Place::kVocab && depth == 3 && has_vocab_) {
      vocab_.SetToken(key);
    } else if (IsKept(depth)) {
      tree_.SetKey(key);
    }
  }
  void OnEndObject(int depth) override { End(depth); }
  void OnStartArray(int depth) override {
    if (depth == 1) throw Bad(path_, "is not a JSON object");
    if (place_ == Place::kMerges) {
      if (depth == 3) {
        has_merges_ = true;
      } else if (has_merges_) {
        merges_.OpenPair();
      }
    } else if (place_ == Place::kVocab) {
      if (has_vocab_) vocab_.RefuseId("an array");
    } else if (place_ == Place::kAddedTokens && depth == 2) {
      in_added_tokens_ = true;
    } else if (IsKept(depth - 1)) {
      tree_.OpenArray();
    }
    depth_ = depth;
  }
  void OnEndArray(int depth) override {
    if (place_ == Place::kMerges && depth == 4 && has_merges_) merges_.ClosePair();
    if (depth == 2) in_added_tokens_ = false;
    End(depth);
  }
  void OnString(const std::string& value) override {
    if (place_ == Place::kMerges && has_merges_) {
      merges_.OnText(value);
    } else if (place_ == Place::kVocab && has_vocab_) {
      vocab_.RefuseId(fmt::format("\"{}\"", Escape(value)));
    } else {
      Keep(value);
    }
  }
  void OnUnsigned(std::uint64_t value) override {
    if (place_ == Place::kVocab && has_vocab_) {
      vocab_.SetId(value);
    } else if (place_ == Place::kMerges && has_merges_) {
      merges_.Refuse(fmt::format("{}", value));
    } else {
      Keep(value);
    }
  }
  void OnOther(std::string_view what) override {
    if (place_ == Place::kVocab && has_vocab_) {
      vocab_.RefuseId(Escape(what));
    } else if (place_ == Place::kMerges && has_merges_) {
      merges_.Refuse(Escape(what));
    } else if (IsKept(depth_)) {
      tree_.AddOther(what);
      FinishTree(depth_);
    } else if (depth_ == 0) {
      throw Bad(path_, "is not a JSON object");
    }
  }

 private:
  enum class Place {
    kSkipped,
    kModel,  // the value of "model" comes next
    kVocab,  // in it
    kMerges,
    kModelSetting,
    kModelSkipped,
    kAddedTokens,
    kComponent,
  };

  static Place PlaceOf(std::string_view key) {
    if (key == "model") return Place::kModel;
    if (key == "added_tokens") return Place::kAddedTokens;
    const bool is_component = key == "normalizer" || key == "pre_tokenizer" ||
                              key == "post_processor" || key == "decoder";
    return is_component ? Place::kComponent : Place::kSkipped;
  }
  static Place PlaceInModel(std::string_view key) {
    constexpr std::array<std::string_view, 8> kSettings = {
        "type",          "dropout",       "unk_token",          "fuse_unk",
        "byte_fallback", "ignore_merges", "end_of_word_suffix", "continuing_subword_prefix"};
    if (key == "vocab") return Place::kVocab;
    if (key == "merges") return Place::kMerges;
    return std::ranges::find(kSettings, key) != kSettings.end() ? Place::kModelSetting
                                                                : Place::kModelSkipped;
  }
  bool IsInModel() const {
    return place_ == Place::kVocab || place_ == Place::kMerges || place_ == Place::kModelSetting ||
           place_ == Place::kModelSkipped;
  }

  // Whether a value in so many objects and arrays belongs to a tree.
  bool IsKept(int outer_depth) const {
    switch (place_) {
      case Place::kComponent:
        return outer_depth >= 1;
      case Place::kModelSetting:
        return outer_depth >= 2;
      case Place::kAddedTokens:
        return outer_depth >= (in_added_tokens_ ? 2 : 1);
      default:
        return false;
    }
  }
  void Keep(Json value) {
    if (depth_ == 0) throw Bad(path_, "is not a JSON object");
    if (!IsKept(depth_)) return;
    tree_.Add(std::move(value));
    FinishTree(depth_);
  }
  // An object or array ends whose own depth is `depth`.
  void End(int depth) {
    depth_ = depth - 1;
    if (tree_.is_open()) {
      tree_.Close();
      FinishTree(depth_);
    }
    if (depth_ == 1 && place_ != Place::kSkipped) place_ = PlaceOf(member_);
  }
  // A value has been added, in so many objects and arrays: is its tree done?
  void FinishTree(int outer_depth) {
    if (tree_.is_open()) return;
    Json value = tree_.Take();
    if (place_ == Place::kModelSetting) {
      if (!value.is_null()) model_[model_key_] = std::move(value);
    } else if (place_ == Place::kAddedTokens) {
      if (outer_depth == 1 && !value.is_null()) {
        throw Bad(path_, fmt::format("added_tokens is {}, needs an array", value.type_name()));
      }
      if (outer_depth == 2) {
        if (out_.added_tokens.size() == limits::kVocab)
          throw Bad(path_, fmt::format("more than {} added tokens", limits::kVocab));
        out_.added_tokens.push_back(ParseAddedToken(value, std::nullopt, path_));
      }
    } else {
      ComponentOf(member_) = ReadSteps(value);
    }
  }
  std::vector<TokenizerStep>& ComponentOf(std::string_view name) {
    if (name == "normalizer") return out_.normalizer;
    if (name == "pre_tokenizer") return out_.pre_tokenizer;
    return name == "decoder" ? out_.decoder : out_.post_processor;
  }

  void CheckModel() const {
    const Json* const type = FindMember(model_, "type");
    if (type != nullptr && *type != "BPE") {
      throw Unsupported(path_,
                        fmt::format("model.type {} is not supported, only BPE", Show(*type)));
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json* const affix = FindMember(model_, key);
      if (affix != nullptr && *affix != "")
        throw Unsupported(path_, fmt::format("model.{} {} is not supported", key, Show(*affix)));
    }
  }

  std::string_view path_;
  VocabReader vocab_;
  MergeReader merges_;
  JsonTreeBuilder tree_;
  Place place_ = Place::kSkipped;
  int depth_ = 0;
  std::string member_, model_key_;  // the last keys at depth 1, and at depth 2 of the model
  bool has_model_ = false, has_vocab_ = false, has_merges_ = false, in_added_tokens_ = false;
  Json model_ = Json::object();  // its settings
  TokenizerJson out_;
};

}  // namespace

void MergeTexts::Add(std::string_view left, std::string_view right) {
  sizes_.emplace_back(static_cast<std::uint32_t>(left.size()),
                      static_cast<std::uint32_t>(right.size()));
  texts_ += left;
  texts_ += right;
}

void CheckTokenText(std::string_view text, std::string_view path) {
  if (text.empty()) throw Bad(path, "a token has no text");
  if (text.size() > limits::kTokenBytes) {
    throw Bad(path, fmt::format("token '{}' has {} bytes, at most {} are allowed", Escape(text),
                                text.size(), limits::kTokenBytes));
  }
}

std::uint32_t ParseAddedId(const Json& value, std::string_view token, std::string_view path) {
  if (!value.is_number_unsigned()) throw BadId(path, token, Show(value));
  if (value.get<std::uint64_t>() >= limits::kVocab) {
    throw Bad(path, fmt::format("token '{}' has id {}, ids below {} are possible", Escape(token),
                                Show(value), limits::kVocab));
  }
  return value.get<std::uint32_t>();
}

AddedToken ParseAddedToken(const Json& entry, std::optional<std::uint32_t> id,
                           std::string_view path) {
  const Json* const content = FindMember(entry, "content");
  if (content == nullptr || !content->is_string()) {
    throw Bad(path, fmt::format("added token {} has no content", Show(entry)));
  }
  AddedToken token;
  token.content = content->text();
  CheckTokenText(token.content, path);
  const Json* const own_id = entry.find("id");
  token.id = ParseAddedId(id                  ? Json(*id)
                          : own_id != nullptr ? *own_id
                                              : Json(),
                          token.content, path);
  token.special = JsonBool(entry, "special", path).value_or(false);
  token.lstrip = JsonBool(entry, "lstrip", path).value_or(false);
  token.rstrip = JsonBool(entry, "rstrip", path).value_or(false);
  token.single_word = JsonBool(entry, "single_word", path).value_or(false);
  token.normalized = JsonBool(entry, "normalized", path).value_or(!token.special);
  return token;
}

TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view path,
                                 std::uint32_t vocab_size) {
  FileEvents events(path, vocab_size);
  ParseJsonEvents(text, path, limits::kJsonDepth, events);
  return std::move(events).Finish();
}

PreTokenizer RecognizePreTokenizer(const std::vector<TokenizerStep>& pre_tokenizer,
                                   std::string_view path, std::uint32_t vocab_size) {
  const auto refuse = [&](const std::string& pattern) {
    return Unsupported(path,
                       fmt::format("pre_tokenizer is not one that phiq knows: {} (SHA-256 {})",
                                   Escape(pattern), Sha256Hex(pattern)));
  };
  std::vector<std::string> patterns;
  for (const TokenizerStep& step : pre_tokenizer) {
    if (step.As<TokenizerStep::ByteLevel>() != nullptr) continue;
    const auto* const split = step.As<TokenizerStep::Split>();
    if (split == nullptr || !split->is_expression) throw refuse(step.shown);
    patterns.push_back(split->pattern);
    if (patterns.size() > 1) throw refuse(step.shown);
  }
  if (patterns.empty()) {  // some exports leave the expression out; each vocabulary belongs to one
    if (vocab_size == 100'352) return PreTokenizer::kCl100k;
    if (vocab_size == 200'064) return PreTokenizer::kO200k;
    throw refuse("");
  }
  const auto has = [&](std::string_view part) {
    return patterns.front().find(part) != std::string::npos;
  };
  if (has("\\p{Lu}") && has("\\p{Lt}")) return PreTokenizer::kO200k;
  if (has("\\p{N}{1,3}") && has("\\p{L}+") && !has("\\p{Lu}")) return PreTokenizer::kCl100k;
  throw refuse(patterns.front());
}

}  // namespace phiq
