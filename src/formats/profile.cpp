// Profiles, the user's own files among them, and what options mean together.
#include "phiq/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "base/ascii.h"
#include "base/json.h"
#include "base/limits.h"
#include "formats/format.h"
#include "io/input_file.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/names.h"

namespace phiq {
namespace {

using enum Precision;

std::string Names(std::span<const Precision> precisions) {
  std::vector<std::string_view> names;
  for (const Precision precision : precisions) names.push_back(PrecisionName(precision));
  return fmt::format("{}", fmt::join(names, ", "));
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

// An option of the profile's format as a key: its value, a string or a number.
void ReadKnob(const std::string& key, const Json& value, const std::string& path,
              Profile& profile) {
  if (!value.is_string() && !value.is_number()) {
    throw Error(ErrorCode::kBadData, fmt::format("'{}' is {}, needs a string or a number",
                                                 Escape(key), Escape(value.dump())))
        .In(path);
  }
  profile.knobs[key] = value.is_string() ? value.text() : value.dump();
  FromFile(path, Escape(key), [&] {
    PlanOptions alone;
    alone.format = profile.format;
    alone.knobs[key] = profile.knobs[key];
    CheckOptions(FindFormat(profile.format), alone);
    FindGroupSize(alone);
    FindCount(alone, "max-length", 1, std::numeric_limits<std::int32_t>::max());
  });
}

Profile ReadProfileFile(const std::string& path) {
  constexpr std::array<std::string_view, 6> kKeys = {"name",      "description", "format",
                                                     "precision", "allow",       "type"};
  const Json json = ParseJson(ReadWholeFile(path, limits::kConfigBytes), path, limits::kJsonDepth);
  if (!json.is_object()) {
    throw Error(ErrorCode::kBadData, "a profile is a JSON object").In(path);
  }
  const auto is_knob = [](std::string_view format, std::string_view key) {
    return std::ranges::find(KnobsOf(format), key, &Knob::name) != KnobsOf(format).end();
  };
  for (const auto& [key, value] : json.members()) {
    const auto has_it = [&](std::string_view format) { return is_knob(format, key); };
    if (std::ranges::find(kKeys, key) != kKeys.end() || std::ranges::any_of(FormatNames(), has_it))
      continue;
    throw Error(ErrorCode::kBadData, fmt::format("unknown key '{}'", Escape(key)))
        .In(path)
        .Hint(fmt::format("a profile has {}, and options of its format such as group-size",
                          fmt::join(kKeys, ", ")));
  }
  Profile profile;
  profile.name =
      JsonString(json, "name", path).value_or(std::filesystem::path(path).stem().string());
  profile.description = JsonString(json, "description", path).value_or("");
  const std::string format = Required(json, "format", path);
  profile.format = FromFile(path, "format", [&] { return FindFormat(format).name; });
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
  for (const auto& [key, value] : json.members())
    if (std::ranges::find(kKeys, key) == kKeys.end()) ReadKnob(key, value, path, profile);
  PlanOptions options;
  options.format = profile.format;
  options.knobs = profile.knobs;
  const Format& target = FindFormat(profile.format);
  FromFile(path, "sym", [&] { CheckOptions(target, options); });  // and "asym"
  // An output of another type needs no precision.
  if (!profile.type)
    FromFile(path, "precision",
             [&] { TypeOfPrecision(target, profile.default_precision, options); });
  for (const Precision allowed : profile.allowed) {
    if (allowed != profile.default_precision)
      FromFile(path, "allow", [&] { TypeOfPrecision(target, allowed, options); });
  }
  return profile;
}

}  // namespace

std::span<const Profile> BuiltinProfiles() { return ListedProfiles(); }

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
  json["format"] = profile.format;
  json["precision"] = PrecisionName(profile.default_precision);
  json["allow"] = Json::array();
  for (const Precision precision : profile.allowed)
    json["allow"].push_back(PrecisionName(precision));
  if (profile.type) json["type"] = *profile.type;
  for (const auto& [name, value] : profile.knobs) json[name] = value;
  return json.dump(2);
}

namespace {

// The values given for a format, by name. Plain ones are for every format.
std::map<std::string, std::string> ValuesFor(const TargetRequest& request,
                                             std::string_view format) {
  std::map<std::string, std::string> values;
  for (const bool plain : {true, false}) {  // what is given to one format wins
    for (const KnobValue& knob : request.knobs)
      if (plain ? knob.format.empty() : knob.format == format) values[knob.name] = knob.value;
  }
  return values;
}

std::optional<std::string> Take(std::map<std::string, std::string>& values,
                                const std::string& name) {
  const auto found = values.find(name);
  if (found == values.end()) return std::nullopt;
  std::string value = std::move(found->second);
  values.erase(found);
  return value;
}

void CheckRequest(const TargetRequest& request, std::span<const std::string> formats) {
  const auto usage = [](std::string message) {
    return Error(ErrorCode::kUsage, std::move(message));
  };
  std::set<std::pair<std::string, std::string>> given;
  for (const KnobValue& knob : request.knobs) {
    if (!knob.format.empty() && std::ranges::find(formats, knob.format) == formats.end())
      throw usage(fmt::format("--{} {}=...: {} is none of the formats that are written", knob.name,
                              Escape(knob.format), Escape(knob.format)));
    if (!given.emplace(knob.name, knob.format).second)
      throw usage(fmt::format("--{}: given more than once{}", knob.name,
                              knob.format.empty() ? "" : " for " + knob.format));
    if (knob.name != "type") continue;
    if (request.precision) {
      throw usage("--precision and --type contradict each other")
          .Hint("a type says the precision: give one of the two");
    }
    if (knob.format.empty() && formats.size() > 1)
      throw usage("--type: each format has types of its own")
          .Hint(fmt::format("use --precision, or --type {}=NAME", formats.front()));
  }
  if (request.profile == nullptr) return;
  const Profile& profile = *request.profile;
  for (const std::string& format : formats) {
    if (format != profile.format)
      throw usage(fmt::format("--format {} contradicts profile '{}', which is {}", format,
                              Escape(profile.name), profile.format));
  }
  if (request.precision &&
      std::ranges::find(profile.allowed, *request.precision) == profile.allowed.end()) {
    throw usage(fmt::format("profile '{}' does not allow precision {}", Escape(profile.name),
                            PrecisionName(*request.precision)))
        .Hint("it allows " + Names(profile.allowed));
  }
}

PlanOptions ResolveTarget(const TargetRequest& request, const std::string& name) {
  const Format& format = FindFormat(name);
  PlanOptions options;
  options.format = format.name;
  if (request.profile != nullptr) options.knobs = request.profile->knobs;
  std::map<std::string, std::string> values = ValuesFor(request, format.name);
  const std::optional<std::string> type = Take(values, "type");
  options.method = LowerAscii(Take(values, "method").value_or("reference"));
  for (auto& [knob, value] : values) options.knobs[knob] = std::move(value);
  CheckOptions(format, options);
  if (type) {
    options.type =
        ParseTypeWord(format, request.profile != nullptr || !request.formats.empty(), *type);
  } else if (request.precision) {
    options.type = TypeOfPrecision(format, *request.precision, options);
  } else if (request.profile != nullptr && request.profile->type) {
    options.type = format.parse_type(*request.profile->type);
  } else if (request.profile == nullptr && !format.default_type.empty()) {
    options.type = format.default_type;
  } else {
    options.type = TypeOfPrecision(
        format, request.profile != nullptr ? request.profile->default_precision : kInt4, options);
  }
  return options;
}

std::string NamedLike(const Format& format) {
  return format.main_ending.empty() ? fmt::format("a {} file", format.title)
                                    : fmt::format("the graph in an {} folder", format.title);
}

}  // namespace

void CheckOutputName(std::string_view output, std::span<const PlanOptions> targets) {
  const std::string name = LowerAscii(output);
  const Format& target = FindFormat(targets.front().format);
  const bool is_folder = targets.size() > 1 || target.file_ending.empty();
  const std::string made =
      targets.size() > 1 ? "several formats make a folder"
                         : fmt::format("{} makes a {}", target.name,
                                       is_folder ? "folder" : fmt::format("{} file", target.title));
  const auto check = [&](std::string_view ending, std::string_view like, std::string_view hint) {
    if (ending.empty() || !name.ends_with(ending)) return;
    throw Error(ErrorCode::kUsage,
                fmt::format("'{}' is named like {}, but {}", Escape(output), like, made))
        .Hint(fmt::format("{}another name", hint));
  };
  for (const Format* format : Formats()) {
    if (!is_folder && format == &target &&
        (name.ends_with(target.file_ending) || IsBareName(target, name)))
      return;
    const std::string hint = format == &target ? "" : fmt::format("--format {}, or ", format->name);
    check(format->file_ending, NamedLike(*format), hint);
    check(format->main_ending, NamedLike(*format), hint);
    check(format->bare_ending, NamedLike(*format), hint);
  }
  check(".safetensors", "the weights in a folder", "");
}

std::vector<PlanOptions> ResolveTargets(const TargetRequest& request) {
  std::vector<std::string> formats = request.formats;
  if (formats.empty())
    formats.emplace_back(request.profile != nullptr ? request.profile->format
                                                    : FormatNames().front());
  CheckRequest(request, formats);
  std::vector<PlanOptions> targets;
  for (const std::string& format : formats) {
    try {
      targets.push_back(ResolveTarget(request, format));
    } catch (Error& error) {
      if (formats.size() > 1 && error.code() == ErrorCode::kUsage)
        throw std::move(error).Hint(
            "with several formats --OPTION FORMAT=VALUE gives an option to one of them");
      throw;
    }
  }
  return targets;
}

}  // namespace phiq
