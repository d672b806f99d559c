// Finds formats, and judges the words of their options: what a format says of itself in its tables
// is all that help, completions and refusals are made from.
#include "formats/format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/ascii.h"
#include "base/parse_number.h"
#include "phiq/text.h"
#include "plan/methods.h"
#include "plan/names.h"

namespace phiq {
namespace {

using enum Precision;

struct PrecisionEntry {
  Precision precision;
  std::string_view name;
};
constexpr std::array<PrecisionEntry, 5> kPrecisions = {{
    {kInt4, "int4"},
    {kInt8, "int8"},
    {kFp16, "fp16"},
    {kBf16, "bf16"},
    {kFp32, "fp32"},
}};

// What other tools call the precisions.
struct PeerWord {
  std::string_view name;
  Precision means;
};
constexpr PeerWord kPeerPrecisions[] = {
    {"4", kInt4},    {"4bit", kInt4},     {"q4", kInt4},    {"w4a16", kInt4},   {"8", kInt8},
    {"8bit", kInt8}, {"q8", kInt8},       {"w8a16", kInt8}, {"f16", kFp16},     {"float16", kFp16},
    {"half", kFp16}, {"bfloat16", kBf16}, {"f32", kFp32},   {"float32", kFp32}, {"float", kFp32},
};

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

// "unknown format 'guff' (formats: gguf, onnx)"
Error Unknown(std::string_view what, std::string_view word, const std::vector<std::string>& known) {
  const std::string suggestion = DidYouMean(word, known);
  return Usage(fmt::format("unknown {} '{}'{}{}", what, Escape(word),
                           suggestion.empty() ? "" : ", ", suggestion))
      .Hint(fmt::format("{}s: {}", what, fmt::join(known, ", ")));
}

const Knob* FindKnobOf(const Format& format, std::string_view name) {
  return FindByName(format.knobs, name);
}

// "onnx, openvino and mlx have it".
template <typename Has>
std::string OwnersText(const Has& has) {
  std::vector<std::string_view> owners;
  for (const Format* format : Formats())
    if (has(*format)) owners.push_back(format->name);
  if (owners.empty()) return "no format has it";
  std::string text(owners.front());
  for (std::size_t i = 1; i < owners.size(); ++i)
    text += fmt::format("{}{}", i + 1 == owners.size() ? " and " : ", ", owners[i]);
  return text + (owners.size() == 1 ? " has it" : " have it");
}

template <typename Has>
Error NotAnOption(std::string_view option, const Format& format, bool is_encoding, const Has& has) {
  return Usage(fmt::format("{}: not an option of {}; {}", option, format.name, OwnersText(has)))
      .Hint(is_encoding ? format.instead_of_encoding_knobs : "");
}

std::size_t PlaceOf(std::string_view word, std::span<const std::string_view> words) {
  const auto found = std::ranges::find_if(
      words, [&](std::string_view one) { return EqualsIgnoringCase(one, word); });
  return static_cast<std::size_t>(found - words.begin());
}

void CheckWord(std::string_view option, const std::string& value,
               std::span<const std::string_view> words) {
  if (words.empty() || PlaceOf(value, words) < words.size()) return;
  const std::vector<std::string> known(words.begin(), words.end());
  throw Usage(
      fmt::format("{}: '{}' is not one of {}", option, Escape(value), fmt::join(words, ", ")))
      .Hint(DidYouMean(value, known));
}

// The formats that have a type of that name.
std::vector<std::string_view> OwnersOf(std::string_view type) {
  std::vector<std::string_view> owners;
  for (const Format* format : Formats()) {
    const std::vector<TypeName> types = format->types();
    if (FindByName(types, type) != nullptr) owners.push_back(format->name);
  }
  return owners;
}

}  // namespace

std::string_view PrecisionName(Precision precision) noexcept {
  return std::ranges::find(kPrecisions, precision, &PrecisionEntry::precision)->name;
}

Precision ParsePrecision(std::string_view text) {
  if (const PrecisionEntry* found = FindByName(kPrecisions, text)) return found->precision;
  const std::vector<std::string> names = NamesOf(kPrecisions);
  const std::string hint = fmt::format("precisions: {}", fmt::join(names, ", "));
  if (const PeerWord* peer = FindByName(kPeerPrecisions, text)) {
    throw Usage(fmt::format("unknown precision '{}', here it is {}", Escape(text),
                            PrecisionName(peer->means)))
        .Hint(hint);
  }
  const std::vector<std::string_view> owners = OwnersOf(text);
  if (!owners.empty()) {
    throw Usage(fmt::format("'{}' is no precision, it is a type of {}", Escape(text),
                            fmt::join(owners, ", ")))
        .Hint(fmt::format("--type {}; {}", Escape(text), hint));
  }
  throw Unknown("precision", text, names);
}

std::span<const std::string_view> FormatNames() {
  static const std::vector<std::string_view> names = [] {
    std::vector<std::string_view> list;
    for (const Format* format : Formats()) list.push_back(format->name);
    return list;
  }();
  return names;
}

const Format& FindFormat(std::string_view name) {
  if (name.empty()) return *Formats().front();
  for (const Format* format : Formats())
    if (EqualsIgnoringCase(format->name, name)) return *format;
  const std::vector<std::string> names(FormatNames().begin(), FormatNames().end());
  for (const Format* format : Formats()) {
    if (std::ranges::none_of(format->runtimes, [&](std::string_view runtime) {
          return EqualsIgnoringCase(runtime, name);
        }))
      continue;
    throw Usage(fmt::format("unknown format '{}', here it is {}", Escape(name), format->name))
        .Hint(fmt::format("formats: {}", fmt::join(names, ", ")));
  }
  throw Unknown("format", name, names);
}

const Format* RecognizeFormat(const std::filesystem::path& path) {
  const std::span<const Format* const> formats = Formats();
  for (std::size_t i = formats.size(); i-- > 0;)
    if (formats[i]->recognizes(path)) return formats[i];
  return nullptr;
}

bool IsBareName(const Format& format, std::string_view name) {
  return !format.bare_ending.empty() && LowerAscii(name).ends_with(format.bare_ending);
}

void CheckFormatName(std::string_view name) {
  if (name.empty())
    throw Unknown("format", name,
                  std::vector<std::string>(FormatNames().begin(), FormatNames().end()));
  FindFormat(name);
}
std::string_view FormatTitle(std::string_view format) { return FindFormat(format).title; }
std::vector<TypeName> TypeNames(std::string_view format) { return FindFormat(format).types(); }
std::span<const Knob> KnobsOf(std::string_view format) { return FindFormat(format).knobs; }
std::span<const std::string_view> MethodsOf(std::string_view format) {
  return FindFormat(format).methods;
}
std::string_view FileEnding(std::string_view format) { return FindFormat(format).file_ending; }

std::string ParseType(std::string_view format, std::string_view name) {
  return FindFormat(format).parse_type(name);
}

std::string ParseTypeWord(const Format& format, bool is_chosen, std::string_view word) {
  try {
    return format.parse_type(word);
  } catch (const Error& error) {
    const std::vector<std::string_view> owners = OwnersOf(word);
    // A reason why this format does not have it stands, unless the format is only the default.
    if (error.code() == ErrorCode::kUnsupported && (is_chosen || owners.empty())) throw;
    const auto not_of = [&](std::string_view what, std::string_view hint) {
      return Usage(fmt::format("'{}' is no type of {}{}", Escape(word), format.name, what))
          .Hint(fmt::format("{}; `phiq profiles --types` lists the types", hint));
    };
    if (const PrecisionEntry* precision = FindByName(kPrecisions, word))
      throw not_of(", it is a precision", fmt::format("--precision {}", precision->name));
    const PeerWord* const peer = FindByName(kPeerPrecisions, word);
    if (owners.empty() && peer == nullptr) throw;
    throw not_of(owners.empty() ? "" : fmt::format(", it is one of {}", fmt::join(owners, ", ")),
                 peer != nullptr
                     ? fmt::format("--precision {} may be meant", PrecisionName(peer->means))
                     : fmt::format("--format {}", owners.front()));
  }
}

std::string TypeOfPrecision(std::string_view format, Precision precision) {
  return TypeOfPrecision(FindFormat(format), precision, {});
}

std::string TypeOfPrecision(const Format& format, Precision precision, const PlanOptions& options) {
  const std::string_view type = format.types_of_precisions[static_cast<std::size_t>(precision)];
  if (!type.empty())
    return format.type_with != nullptr ? format.type_with(type, options) : std::string(type);
  std::vector<std::string_view> has;
  for (const PrecisionEntry& entry : kPrecisions)
    if (!format.types_of_precisions[static_cast<std::size_t>(entry.precision)].empty())
      has.push_back(entry.name);
  throw Usage(fmt::format("{} has no precision {}", format.name, PrecisionName(precision)))
      .Hint(fmt::format("it has {}", fmt::join(has, ", ")));
}

void CheckOptions(const Format& format, const PlanOptions& options) {
  if (options.method != "reference" && FindCommonMethod(options.method) == nullptr &&
      std::ranges::find(format.methods, options.method) == format.methods.end()) {
    const auto has = [&](const Format& other) {
      return std::ranges::find(other.methods, options.method) != other.methods.end();
    };
    if (std::ranges::any_of(Formats(), [&](const Format* other) { return has(*other); }))
      throw NotAnOption(fmt::format("--method {}", options.method), format, true, has);
    std::vector<std::string_view> words = {"reference"};
    words.insert(words.end(), CommonMethods().begin(), CommonMethods().end());
    for (const Format* other : Formats()) {
      for (const std::string_view method : other->methods)
        if (std::ranges::find(words, method) == words.end()) words.push_back(method);
    }
    CheckWord("--method", options.method, words);
  }
  for (const auto& [name, value] : options.knobs) {
    const std::string option = "--" + name;
    const Knob* knob = FindKnobOf(format, name);
    if (knob == nullptr) {
      bool is_encoding = false;
      const auto has = [&](const Format& other) {
        const Knob* theirs = FindKnobOf(other, name);
        is_encoding = is_encoding || (theirs != nullptr && theirs->is_encoding);
        return theirs != nullptr;
      };
      OwnersText(has);  // finds out what kind of option it is
      throw NotAnOption(option, format, is_encoding, has);
    }
    CheckWord(option, value, knob->words);
  }
  FindSymmetric(options);
}

std::unique_ptr<Plan> PlanTarget(const Model& model, const PlanOptions& options,
                                 const WarningFn& warn, const Answers& answers) {
  const Format& format = FindFormat(options.format);
  CheckOptions(format, options);
  PlanOptions own = options;
  const Method* const common = FindCommonMethod(options.method);
  if (common != nullptr) {
    own.method = "reference";
    own.is_method_chosen = false;
  }
  own.with_importance = common == &kImatrix;
  std::unique_ptr<Plan> plan = format.plan(model, own, answers, warn);
  plan->format = format.name;
  if (common != nullptr) UseMethod(*common, *plan);
  return plan;
}

std::vector<Question> QuestionsOf(const Model& model, const PlanOptions& options) {
  const Format& format = FindFormat(options.format);
  if (format.questions == nullptr) return {};
  CheckOptions(format, options);
  PlanOptions own = options;
  if (FindCommonMethod(options.method) != nullptr) own.method = "reference";
  return format.questions(model, own);
}

std::uint32_t BitsOfVectors(const Plan& plan) {
  const auto vector = std::ranges::find_if(
      plan.lines, [](const PlanLine& line) { return !line.table && IsVector(line.role); });
  return vector == plan.lines.end()
             ? 32
             : static_cast<std::uint32_t>(8 * vector->size_bytes / vector->n_elements());
}

std::optional<std::string> FindKnob(const PlanOptions& options, std::string_view name) {
  const auto found = options.knobs.find(std::string(name));
  return found == options.knobs.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::uint32_t> FindCount(const PlanOptions& options, std::string_view name,
                                       std::uint32_t least, std::uint32_t most) {
  const std::optional<std::string> text = FindKnob(options, name);
  if (!text) return std::nullopt;
  const auto value = ParseNumber<std::uint32_t>(*text);
  if (value && *value >= least && *value <= most) return value;
  throw Usage(fmt::format("--{}: '{}' is not a whole number from {} to {}", name, Escape(*text),
                          least, most));
}

std::size_t FindWord(const PlanOptions& options, std::string_view name,
                     std::span<const std::string_view> words) {
  const std::optional<std::string> text = FindKnob(options, name);
  if (!text) return 0;
  return PlaceOf(*text, words);
}

std::optional<std::uint32_t> FindGroupSize(const PlanOptions& options) {
  constexpr std::string_view kName = "group-size";
  const std::optional<std::string> text = FindKnob(options, kName);
  if (text && (EqualsIgnoringCase(*text, "row") || *text == "-1")) return 0;
  constexpr std::uint32_t kMost = 1U << 20;
  const auto size = text ? ParseNumber<std::uint32_t>(*text) : std::nullopt;
  if (text && !(size && *size >= 1 && *size <= kMost)) {
    const std::span<const Knob> knobs = KnobsOf(options.format);
    throw Usage(fmt::format("--{} {}: {} has {}", kName, Escape(*text), FormatTitle(options.format),
                            std::ranges::find(knobs, kName, &Knob::name)->range));
  }
  return size;
}

std::optional<bool> FindSymmetric(const PlanOptions& options) {
  const bool sym = options.knobs.contains("sym"), asym = options.knobs.contains("asym");
  if (sym && asym) throw Usage("--sym: contradicts --asym");
  return sym || asym ? std::optional(sym) : std::nullopt;
}

}  // namespace phiq
