#include "formats/openvino/tokenizer_steps.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "model/byte_alphabet.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

// What ByteLevel splits by when its use_regex is on.
constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string StringOf(const Json& object, std::string_view key) {
  const Json* value = FindMember(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

bool BoolOf(const Json& object, std::string_view key, bool otherwise) {
  const Json* value = FindMember(object, key);
  return value != nullptr && value->is_boolean() ? value->get<bool>() : otherwise;
}

class StepReader {
 public:
  StepReader(const Json& root, const std::string& path, const Tokenizer& tokenizer)
      : root_(root), path_(path), tokenizer_(tokenizer) {}

  TokenizerSteps Read() && {
    ReadModel();
    ForEachStep("normalizer", "normalizers", [&](const Json& step) { return Normalize(step); });
    ForEachStep("pre_tokenizer", "pretokenizers", [&](const Json& step) { return Split(step); });
    if (IsByteLevel() && !has_byte_level_) Refuse("pre_tokenizer", Json());
    ForEachStep("post_processor", "processors", [&](const Json& step) { return Process(step); });
    ForEachStep("decoder", "decoders", [&](const Json& step) { return Decode(step); });
    const bool is_joined = std::ranges::any_of(
        steps_.decoding, [](const auto& step) { return step.first == DecodingStep::kJoin; });
    if (!is_joined) steps_.decoding.push_back({DecodingStep::kJoin, {}});
    return std::move(steps_);
  }

 private:
  bool IsByteLevel() const { return tokenizer_.kind == TokenizerKind::kByteLevelBpe; }

  [[noreturn]] void Refuse(std::string_view component, const Json& step) const {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{} {} has no counterpart in an OpenVINO tokenizer", component, Show(step)))
        .In(path_);
  }

  // A component: one step, or a sequence of them; those that `read` does not know are refused.
  template <typename Read>
  void ForEachStep(std::string_view name, std::string_view list, const Read& read) const {
    const Json* component = FindMember(root_, name);
    if (component == nullptr) return;
    const Json* members = FindMember(*component, list);
    if (members == nullptr || !members->is_array()) {
      if (!read(*component)) Refuse(name, *component);
      return;
    }
    for (const Json& step : *members)
      if (!read(step)) Refuse(name, step);
  }

  std::string BytesOf(const std::string& token) const {
    if (!IsByteLevel()) return token;
    if (std::optional<std::string> bytes = BytesOfLetters(token)) return *std::move(bytes);
    throw Error(ErrorCode::kBadData, fmt::format("token '{}' is not in the byte alphabet of a "
                                                 "byte-level tokenizer",
                                                 Escape(token)))
        .In(path_);
  }

  void ReadModel() {
    const Json* model = FindMember(root_, "model");
    if (model == nullptr || tokenizer_.vocab.empty()) Refuse("model", Json());
    for (const char* key : {"dropout", "ignore_merges"}) {
      const Json* value = FindMember(*model, key);
      if (value != nullptr && *value != false && *value != 0)
        Refuse(fmt::format("model.{}", key), *value);
    }
    steps_.unk_token = StringOf(*model, "unk_token");
    steps_.fuse_unk = BoolOf(*model, "fuse_unk", false);
    steps_.byte_fallback = BoolOf(*model, "byte_fallback", false);
    steps_.added_tokens = tokenizer_.added_tokens;
    std::size_t n_ids = tokenizer_.vocab.size();
    for (const AddedToken& token : steps_.added_tokens) {
      if (token.single_word) Refuse("single_word of added token", Json(token.content));
      n_ids = std::max<std::size_t>(n_ids, token.id + std::size_t{1});
    }
    steps_.vocab.resize(n_ids);
    std::vector<bool> is_added(n_ids);
    for (const AddedToken& token : steps_.added_tokens) {
      steps_.vocab[token.id] = token.content;
      is_added[token.id] = true;
    }
    for (std::size_t id = 0; id < tokenizer_.vocab.size(); ++id)
      if (!is_added[id]) steps_.vocab[id] = BytesOf(tokenizer_.vocab[id]);
    for (const auto& [left, right] : tokenizer_.merges)
      steps_.merges.emplace_back(BytesOf(left), BytesOf(right));
  }

  bool Normalize(const Json& step) {
    const std::string type = StringOf(step, "type");
    if (type == "Prepend") {
      steps_.normalizations.push_back({R"((?:^)([\s\S]))", Quoted(step, "prepend") + "$1"});
      return true;
    }
    if (type != "Replace") return false;
    std::optional<Replacement> replacement = ReadReplacement(step);
    if (!replacement) return false;
    steps_.normalizations.push_back(*std::move(replacement));
    return true;
  }

  // A text for a text.
  std::optional<Replacement> ReadReplacement(const Json& step) const {
    const Json* pattern = FindMember(step, "pattern");
    const std::string replaced = pattern == nullptr ? "" : StringOf(*pattern, "String");
    if (replaced.empty()) return std::nullopt;
    return Replacement{QuoteExpression(replaced), Quoted(step, "content")};
  }

  // What replaces a match; "$" and "\" have a meaning of their own there.
  std::string Quoted(const Json& step, std::string_view key) const {
    std::string text = StringOf(step, key);
    if (text.find_first_of("$\\") != std::string::npos) Refuse("a replacement by", Json(text));
    return text;
  }

  bool Split(const Json& step) {
    const std::string type = StringOf(step, "type");
    if (!IsByteLevel()) return false;
    if (type == "ByteLevel") {
      has_byte_level_ = true;
      if (BoolOf(step, "add_prefix_space", true)) return false;
      if (BoolOf(step, "use_regex", true))
        steps_.splits.push_back({std::string(kGpt2Expression), "isolate", false});
      return true;
    }
    const Json* pattern = FindMember(step, "pattern");
    const std::string expression = pattern == nullptr ? "" : StringOf(*pattern, "Regex");
    // "Isolated" -> "isolate", "MergedWithNext" -> "mergedwithnext"
    std::string behaviour = LowerAscii(StringOf(step, "behavior"));
    if (behaviour.ends_with('d')) behaviour.pop_back();
    if (type != "Split" || expression.empty() || behaviour.empty()) return false;
    steps_.splits.push_back({expression, behaviour, BoolOf(step, "invert", false)});
    return true;
  }

  // One text with at most one special token at either end.
  bool Process(const Json& step) {
    const std::string type = StringOf(step, "type");
    if (type == "ByteLevel") return true;  // about offsets, which nobody asks for
    const Json* single = FindMember(step, "single");
    if (type != "TemplateProcessing" || single == nullptr || !single->is_array()) return false;
    bool seen_text = false;
    for (const Json& part : *single) {
      if (FindMember(part, "Sequence") != nullptr) {
        if (std::exchange(seen_text, true)) return false;
        continue;
      }
      const Json* special = FindMember(part, "SpecialToken");
      const std::optional<std::uint32_t> id =
          special == nullptr ? std::nullopt : IdOf(StringOf(*special, "id"));
      std::optional<std::uint32_t>& place = seen_text ? steps_.last_special : steps_.first_special;
      if (!id || place) return false;
      place = id;
    }
    return seen_text;
  }

  std::optional<std::uint32_t> IdOf(const std::string& token) const {
    const auto found = std::ranges::find(steps_.vocab, token);
    if (token.empty() || found == steps_.vocab.end()) return std::nullopt;
    return static_cast<std::uint32_t>(found - steps_.vocab.begin());
  }

  bool Decode(const Json& step) {
    const std::string type = StringOf(step, "type");
    if (type == "ByteLevel" || type == "Fuse") {
      steps_.decoding.push_back({DecodingStep::kJoin, {}});
      return true;
    }
    if (type == "ByteFallback") {
      steps_.decoding.push_back({DecodingStep::kByteFallback, {}});
      return true;
    }
    if (type == "Replace") {
      std::optional<Replacement> replacement = ReadReplacement(step);
      if (!replacement) return false;
      steps_.decoding.push_back({DecodingStep::kReplace, *std::move(replacement)});
      return true;
    }
    const Json* start = FindMember(step, "start");
    const Json* stop = FindMember(step, "stop");
    const std::string content = StringOf(step, "content");
    if (type != "Strip" || content.empty() || start == nullptr || *start != 1 || stop == nullptr ||
        *stop != 0)
      return false;
    steps_.decoding.push_back(
        {DecodingStep::kReplace, {fmt::format("^{}", QuoteExpression(content)), ""}});
    return true;
  }

  const Json& root_;
  const std::string& path_;
  const Tokenizer& tokenizer_;
  bool has_byte_level_ = false;
  TokenizerSteps steps_;
};

}  // namespace

std::string QuoteExpression(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                          (c >= 'A' && c <= 'Z') || c == '_' || c == ' ' ||
                          static_cast<unsigned char>(c) >= 0x80;
    if (!is_plain) quoted.push_back('\\');
    quoted.push_back(c);
  }
  return quoted;
}

TokenizerSteps ReadTokenizerSteps(std::string_view text, const std::string& path,
                                  const Tokenizer& tokenizer) {
  const Json root = ParseJson(text, path);
  return StepReader(root, path, tokenizer).Read();
}

}  // namespace phiq::openvino
