// The one place that knows how tokenizer.json spells its steps. Defaults are those of the
// tokenizers library.
#include "model/tokenizer_steps.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "model/side_file.h"

namespace phiq {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

// nullopt: no text of that name.
std::optional<std::string> TextMember(const Json& object, std::string_view key) {
  const Json* const value = FindMember(object, key);
  return value != nullptr && value->is_string() ? std::optional(value->text()) : std::nullopt;
}

std::optional<bool> FlagMember(const Json& object, std::string_view key) {
  const Json* const value = FindMember(object, key);
  return value != nullptr && value->is_boolean() ? std::optional(value->get<bool>()) : std::nullopt;
}

// A pattern is {"String": TEXT} or {"Regex": EXPRESSION}; text and whether it is an expression.
std::optional<std::pair<std::string, bool>> PatternOf(const Json& step) {
  const Json* const pattern = FindMember(step, "pattern");
  if (pattern == nullptr) return std::nullopt;
  for (const bool is_expression : {false, true}) {
    if (std::optional<std::string> text = TextMember(*pattern, is_expression ? "Regex" : "String"))
      return std::pair(*std::move(text), is_expression);
  }
  return std::nullopt;
}

using What = decltype(TokenizerStep::what);

What ReadReplace(const Json& step) {
  const auto pattern = PatternOf(step);
  const std::optional<std::string> content = TextMember(step, "content");
  if (!pattern || !content || pattern->first.empty()) return TokenizerStep::Other{};
  return TokenizerStep::Replace{pattern->first, pattern->second, *content};
}

What ReadSplit(const Json& step) {
  const auto pattern = PatternOf(step);
  const std::optional<std::string> behavior = TextMember(step, "behavior");
  if (!pattern || !behavior || pattern->first.empty()) return TokenizerStep::Other{};
  return TokenizerStep::Split{pattern->first, pattern->second, *behavior,
                              FlagMember(step, "invert").value_or(false)};
}

What ReadMetaspace(const Json& step) {
  using Prepend = TokenizerStep::Metaspace::Prepend;
  constexpr std::array<std::pair<std::string_view, Prepend>, 3> kSchemes = {
      {{"first", Prepend::kFirst}, {"always", Prepend::kAlways}, {"never", Prepend::kNever}}};
  TokenizerStep::Metaspace metaspace;
  metaspace.replacement = TextMember(step, "replacement").value_or(std::string(kSpaceMark));
  metaspace.split = FlagMember(step, "split").value_or(true);
  const std::string scheme = TextMember(step, "prepend_scheme").value_or("always");
  for (const auto& [name, prepend] : kSchemes) {
    if (scheme != name) continue;
    metaspace.prepend = prepend;
    // The older key; the library does not load a file in which the two disagree.
    if (FlagMember(step, "add_prefix_space") == false && prepend != Prepend::kNever) break;
    return metaspace;
  }
  return TokenizerStep::Other{};
}

What ReadTemplate(const Json& step) {
  const Json* const single = FindMember(step, "single");
  if (single == nullptr || !single->is_array()) return TokenizerStep::Other{};
  TokenizerStep::Template read;
  for (const Json& part : *single) {
    if (FindMember(part, "Sequence") != nullptr) {
      read.single.push_back(std::nullopt);
      continue;
    }
    const Json* const special = FindMember(part, "SpecialToken");
    std::optional<std::string> token =
        special == nullptr ? std::nullopt : TextMember(*special, "id");
    if (!token) return TokenizerStep::Other{};
    read.single.push_back(std::move(token));
  }
  return read;
}

What ReadStrip(const Json& step) {
  const Json* const start = FindMember(step, "start");
  const Json* const stop = FindMember(step, "stop");
  const std::optional<std::string> content = TextMember(step, "content");
  if (!content || content->empty() || start == nullptr || !start->is_number_unsigned() ||
      stop == nullptr || !stop->is_number_unsigned())
    return TokenizerStep::Other{};
  return TokenizerStep::Strip{*content, start->get<std::uint64_t>(), stop->get<std::uint64_t>()};
}

What ReadStep(const Json& step) {
  const std::string type = TextMember(step, "type").value_or("");
  if (type == "Prepend") {
    const std::optional<std::string> text = TextMember(step, "prepend");
    if (text && !text->empty()) return TokenizerStep::Prepend{*text};
  }
  if (type == "Replace") return ReadReplace(step);
  if (type == "Split") return ReadSplit(step);
  if (type == "ByteLevel")
    return TokenizerStep::ByteLevel{FlagMember(step, "add_prefix_space").value_or(true),
                                    FlagMember(step, "use_regex").value_or(true)};
  if (type == "Metaspace") return ReadMetaspace(step);
  if (type == "TemplateProcessing") return ReadTemplate(step);
  if (type == "Strip") return ReadStrip(step);
  if (type == "ByteFallback") return TokenizerStep::ByteFallback{};
  if (type == "Fuse") return TokenizerStep::Fuse{};
  return TokenizerStep::Other{};
}

}  // namespace

std::vector<TokenizerStep> ReadSteps(const Json& component) {
  std::vector<TokenizerStep> steps;
  if (component.is_null()) return steps;
  for (const char* list : {"normalizers", "pretokenizers", "processors", "decoders"}) {
    const Json* const members = FindMember(component, list);
    if (members == nullptr || !members->is_array()) continue;
    for (const Json& step : *members) steps.push_back({ReadStep(step), Show(step)});
    return steps;
  }
  steps.push_back({ReadStep(component), Show(component)});
  return steps;
}

std::vector<TokenizerStep> SentencePieceNormalizer(bool add_dummy_prefix) {
  const std::string mark(kSpaceMark);
  std::vector<TokenizerStep> steps;
  if (add_dummy_prefix) steps.push_back({TokenizerStep::Prepend{mark}, "add_dummy_prefix"});
  steps.push_back({TokenizerStep::Replace{" ", false, mark}, "escape_whitespaces"});
  return steps;
}

}  // namespace phiq
