// Profiles, formats and precisions: the tables, the words, the user's own files.
#include "phiq/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "io/input_file.h"
#include "phiq/error.h"
#include "phiq/plan.h"
#include "phiq/text.h"
#include "plan/names.h"

namespace phiq {
namespace {

using enum Precision;

struct FormatEntry {
  Format format;
  std::string_view name;
};
constexpr std::array<FormatEntry, 4> kFormats = {{
    {Format::kGguf, "gguf"},
    {Format::kOnnx, "onnx"},
    {Format::kOpenVino, "openvino"},
    {Format::kMlx, "mlx"},
}};
constexpr std::array<Format, 4> kAllFormats = {Format::kGguf, Format::kOnnx, Format::kOpenVino,
                                               Format::kMlx};

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

// And the formats, by their runtimes.
struct PeerFormat {
  std::string_view name, means;
};
constexpr PeerFormat kPeerFormats[] = {
    {"ggml", "gguf"},        {"llama.cpp", "gguf"}, {"llamacpp", "gguf"},
    {"onnxruntime", "onnx"}, {"ort", "onnx"},       {"onnxruntime-genai", "onnx"},
    {"ov", "openvino"},      {"ir", "openvino"},    {"openvino-genai", "openvino"},
    {"mlx-lm", "mlx"},       {"mlx_lm", "mlx"},
};

struct ProviderEntry {
  ExecutionProvider ep;
  std::string_view name;
};
constexpr std::array<ProviderEntry, 4> kProviders = {{
    {ExecutionProvider::kCpu, "cpu"},
    {ExecutionProvider::kCuda, "cuda"},
    {ExecutionProvider::kDml, "dml"},
    {ExecutionProvider::kWebGpu, "webgpu"},
}};

std::string Names(std::span<const Precision> precisions) {
  std::vector<std::string_view> names;
  for (const Precision precision : precisions) names.push_back(PrecisionName(precision));
  return fmt::format("{}", fmt::join(names, ", "));
}

template <typename Range>
bool HasName(const Range& table, std::string_view name) {
  return FindByName(table, name) != nullptr;
}

// The formats that have a type of that name.
std::vector<std::string_view> OwnersOf(std::string_view type) {
  std::vector<std::string_view> owners;
  for (const Format format : kAllFormats) {
    if (HasName(TypeNames(format), type)) owners.push_back(FormatName(format));
  }
  return owners;
}

// ParseType for a word that a user typed; a word that is no type of `format` is told whose it is.
// `is_chosen`   the user asked for the format too.
std::string ParseTypeWord(Format format, bool is_chosen, std::string_view word) {
  try {
    return ParseType(format, word);
  } catch (const Error& error) {
    const std::vector<std::string_view> owners = OwnersOf(word);
    // A reason why this format does not have it stands, unless the format is only the default.
    if (error.code() == ErrorCode::kUnsupported && (is_chosen || owners.empty())) throw;
    const auto not_of = [&](std::string_view what, std::string_view hint) {
      return Error(ErrorCode::kUsage,
                   fmt::format("'{}' is no type of {}{}", Escape(word), FormatName(format), what))
          .Hint(fmt::format("{}; `phiq profiles --types` lists the types", hint));
    };
    if (const PrecisionEntry* precision = FindByName(kPrecisions, word)) {
      throw not_of(", it is a precision", fmt::format("--precision {}", precision->name));
    }
    const PeerWord* const peer = FindByName(kPeerPrecisions, word);
    if (owners.empty() && peer == nullptr) throw;
    throw not_of(owners.empty() ? "" : fmt::format(", it is one of {}", fmt::join(owners, ", ")),
                 peer != nullptr
                     ? fmt::format("--precision {} may be meant", PrecisionName(peer->means))
                     : fmt::format("--format {}", owners.front()));
  }
}

// "unknown profile 'mobil', did you mean 'mobile'? (HINT)"
Error Unknown(std::string_view what, std::string_view word, std::span<const std::string> known,
              std::string_view hint) {
  const std::string suggestion = DidYouMean(word, known);
  return Error(ErrorCode::kUsage, fmt::format("unknown {} '{}'{}{}", what, Escape(word),
                                              suggestion.empty() ? "" : ", ", suggestion))
      .Hint(hint);
}

bool LooksLikeFile(const std::string& text) {
  std::error_code ignored;
  return text.find('/') != std::string::npos || text.ends_with(".json") ||
         std::filesystem::is_regular_file(text, ignored);
}

// Calls `parse`, whose wrong word is bad data when it stands in a file.
template <typename Parse>
auto FromFile(const std::string& path, std::string_view key, const Parse& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    const bool is_word = error.code() == ErrorCode::kUsage;
    throw Error(is_word ? ErrorCode::kBadData : error.code(),
                fmt::format("'{}': {}", key, error.what()))
        .In(path);
  }
}

std::string Required(const Json& json, std::string_view key, const std::string& path) {
  if (std::optional<std::string> value = JsonString(json, key, path)) return *std::move(value);
  throw Error(ErrorCode::kBadData, fmt::format("the profile lacks '{}'", key)).In(path);
}

std::vector<Precision> ReadAllowed(const Json& list, const std::string& path) {
  std::vector<Precision> allowed;
  for (const Json& item : list) {
    if (!item.is_string()) break;
    allowed.push_back(FromFile(path, "allow", [&] { return ParsePrecision(item.text()); }));
  }
  if (allowed.empty() || allowed.size() != list.size()) {
    throw Error(ErrorCode::kBadData, "'allow' needs to be a list of precisions, at least one")
        .In(path);
  }
  return allowed;
}

Profile ReadProfileFile(const std::string& path) {
  constexpr std::array<std::string_view, 7> kKeys = {"name",  "description", "format", "precision",
                                                     "allow", "type",        "ep"};
  const Json json = ParseJson(ReadWholeFile(path, limits::kConfigBytes), path, limits::kJsonDepth);
  if (!json.is_object()) {
    throw Error(ErrorCode::kBadData, "a profile is a JSON object").In(path);
  }
  for (const auto& [key, value] : json.members()) {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
    throw Error(ErrorCode::kBadData, fmt::format("unknown key '{}'", Escape(key)))
        .In(path)
        .Hint(fmt::format("a profile has {}", fmt::join(kKeys, ", ")));
  }
  Profile profile;
  profile.name =
      JsonString(json, "name", path).value_or(std::filesystem::path(path).stem().string());
  profile.description = JsonString(json, "description", path).value_or("");
  const std::string format = Required(json, "format", path);
  profile.format = FromFile(path, "format", [&] { return ParseFormat(format); });
  const std::string precision = Required(json, "precision", path);
  profile.default_precision =
      FromFile(path, "precision", [&] { return ParsePrecision(precision); });
  profile.allowed = {profile.default_precision};
  if (const Json* const allow = json.find("allow")) profile.allowed = ReadAllowed(*allow, path);
  if (std::find(profile.allowed.begin(), profile.allowed.end(), profile.default_precision) ==
      profile.allowed.end()) {
    throw Error(ErrorCode::kBadData,
                fmt::format("'precision' is {}, which 'allow' lacks", precision))
        .In(path);
  }
  if (const std::optional<std::string> type = JsonString(json, "type", path)) {
    profile.type = FromFile(path, "type", [&] { return ParseType(profile.format, *type); });
  }
  if (const std::optional<std::string> ep = JsonString(json, "ep", path)) {
    profile.ep = FromFile(path, "ep", [&] { return ParseExecutionProvider(*ep); });
    if (profile.format != Format::kOnnx)
      throw Error(ErrorCode::kBadData, "'ep' is for the format onnx").In(path);
  }
  return profile;
}

}  // namespace

std::string_view FormatName(Format format) noexcept {
  return kFormats[static_cast<std::size_t>(format)].name;
}

std::string_view PrecisionName(Precision precision) noexcept {
  return kPrecisions[static_cast<std::size_t>(precision)].name;
}

std::string_view ExecutionProviderName(ExecutionProvider ep) noexcept {
  return kProviders[static_cast<std::size_t>(ep)].name;
}

ExecutionProvider ParseExecutionProvider(std::string_view text) {
  const ProviderEntry* const found = FindByName(kProviders, text);
  if (found == nullptr) {
    const std::vector<std::string> names = NamesOf(kProviders);
    throw Unknown("execution provider", text, names,
                  fmt::format("providers: {}", fmt::join(names, ", ")));
  }
  return found->ep;
}

std::span<const Format> AllFormats() noexcept { return kAllFormats; }

Format ParseFormat(std::string_view text) {
  const FormatEntry* const found = FindByName(kFormats, text);
  if (const PeerFormat* peer = FindByName(kPeerFormats, text)) {
    throw Error(ErrorCode::kUsage,
                fmt::format("unknown format '{}', here it is {}", Escape(text), peer->means))
        .Hint(fmt::format("formats: {}", fmt::join(NamesOf(kFormats), ", ")));
  }
  if (found == nullptr) {
    const std::vector<std::string> names = NamesOf(kFormats);
    throw Unknown("format", text, names, fmt::format("formats: {}", fmt::join(names, ", ")));
  }
  return found->format;
}

Precision ParsePrecision(std::string_view text) {
  if (const PrecisionEntry* found = FindByName(kPrecisions, text)) return found->precision;
  const std::vector<std::string> names = NamesOf(kPrecisions);
  const std::string hint = fmt::format("precisions: {}", fmt::join(names, ", "));
  const std::vector<std::string_view> owners = OwnersOf(text);
  if (const PeerWord* peer = FindByName(kPeerPrecisions, text)) {
    throw Error(ErrorCode::kUsage, fmt::format("unknown precision '{}', here it is {}",
                                               Escape(text), PrecisionName(peer->means)))
        .Hint(hint);
  }
  if (!owners.empty()) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}' is no precision, it is a type of {}",
                                               Escape(text), fmt::join(owners, ", ")))
        .Hint(fmt::format("--type {}; {}", Escape(text), hint));
  }
  throw Unknown("precision", text, names, hint);
}

std::span<const Profile> BuiltinProfiles() {
  static const std::vector<Profile> profiles = {
      {"mobile",
       "phones and tablets, onnxruntime mobile CPU",
       Format::kOnnx,
       kInt4,
       {kInt4, kInt8},
       std::nullopt,
       std::nullopt},
      {"iot",
       "Arm and x86 boards, llama.cpp",
       Format::kGguf,
       kInt4,
       {kInt4, kInt8},
       std::nullopt,
       std::nullopt},
      {"ai-pc",
       "any AI PC, onnxruntime CPU",
       Format::kOnnx,
       kInt8,
       {kInt8, kInt4, kFp16, kFp32},
       std::nullopt,
       std::nullopt},
      {"ai-pc-intel",
       "Intel CPU, GPU, NPU",
       Format::kOpenVino,
       kInt8,
       {kInt4, kInt8, kFp16, kFp32},
       std::nullopt,
       std::nullopt},
      {"ai-pc-nvidia",
       "onnxruntime CUDA",
       Format::kOnnx,
       kFp16,
       {kInt4, kInt8, kFp16},
       std::nullopt,
       ExecutionProvider::kCuda},
      {"apple",
       "Apple silicon",
       Format::kMlx,
       kInt4,
       {kInt4, kInt8, kFp16, kBf16, kFp32},
       std::nullopt,
       std::nullopt},
  };
  return profiles;
}

Profile LoadProfile(const std::string& name_or_path) {
  if (const Profile* profile = FindByName(BuiltinProfiles(), name_or_path)) return *profile;
  if (LooksLikeFile(name_or_path)) return ReadProfileFile(name_or_path);
  throw Unknown("profile", name_or_path, NamesOf(BuiltinProfiles()),
                "`phiq profiles` lists them; a file's name ends in .json or has a /");
}

std::string ProfileToJson(const Profile& profile) {
  Json json;
  json["name"] = profile.name;
  json["description"] = profile.description;
  json["format"] = FormatName(profile.format);
  json["precision"] = PrecisionName(profile.default_precision);
  json["allow"] = Json::array();
  for (const Precision precision : profile.allowed)
    json["allow"].push_back(PrecisionName(precision));
  if (profile.type) json["type"] = *profile.type;
  if (profile.ep) json["ep"] = ExecutionProviderName(*profile.ep);
  return json.dump(2);
}

Target ResolveTarget(const Profile* profile, std::optional<Format> format,
                     std::optional<Precision> precision, const std::optional<std::string>& type) {
  if (precision && type) {
    throw Error(ErrorCode::kUsage, "--precision and --type contradict each other")
        .Hint("a type says the precision: give one of the two");
  }
  if (profile != nullptr && format && *format != profile->format) {
    throw Error(ErrorCode::kUsage, fmt::format("--format {} contradicts profile '{}', which is {}",
                                               FormatName(*format), Escape(profile->name),
                                               FormatName(profile->format)));
  }
  if (profile != nullptr && precision &&
      std::find(profile->allowed.begin(), profile->allowed.end(), *precision) ==
          profile->allowed.end()) {
    throw Error(ErrorCode::kUsage, fmt::format("profile '{}' does not allow precision {}",
                                               Escape(profile->name), PrecisionName(*precision)))
        .Hint("it allows " + Names(profile->allowed));
  }
  const Format resolved = profile != nullptr ? profile->format : format.value_or(Format::kGguf);
  if (type) return {resolved, ParseTypeWord(resolved, profile != nullptr || format, *type)};
  if (precision) return {resolved, TypeOfPrecision(resolved, *precision)};
  if (profile == nullptr) return {resolved, TypeOfPrecision(resolved, kInt4)};
  if (profile->type) return {resolved, ParseType(resolved, *profile->type)};
  return {resolved, TypeOfPrecision(resolved, profile->default_precision)};
}

}  // namespace phiq
