// Target devices: which format and precision a device wants.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "phiq/format.h"
#include "phiq/plan.h"

namespace phiq {

struct Profile {
  std::string name;
  std::string description;
  std::string format;
  Precision default_precision = Precision::kInt4;
  std::vector<Precision> allowed;   // the default is one of them
  std::optional<std::string> type;  // the format's own type instead of the default precision
  std::map<std::string, std::string> knobs;  // options of the format
};

// The built-in profiles.
std::span<const Profile> BuiltinProfiles();

// A built-in profile by name, or a JSON file with the keys of Profile and the format's options.
// Throws   kUsage: unknown name (with a suggestion); kInput, kBadData, kUnsupported: the file.
Profile LoadProfile(const std::string& name_or_path);

// The JSON of a profile, as LoadProfile reads it.
std::string ProfileToJson(const Profile& profile);

// A value that the user gives to an option of formats: to one of them, or (format empty) to all.
struct KnobValue {
  std::string name;  // "group-size"; "type" and "method" are given likewise
  std::string value;
  std::string format;
};

// What --profile, --format, --precision and the options of the formats say; any may be absent.
struct TargetRequest {
  const Profile* profile = nullptr;
  std::vector<std::string> formats;  // none: the profile's, or the first of all
  std::optional<Precision> precision;
  std::vector<KnobValue> knobs;
};

// What they mean together, a target a format. int4 where nothing says anything. A type that the
// user names needs no leave of the profile.
//
// Throws   kUsage, naming the option: options that contradict each other, one that a format lacks
//          (naming those that have it), a precision that the profile does not allow, an unknown
//          type or word (with a suggestion). kUnsupported: a type that phiq does not write, saying
//          why.
std::vector<PlanOptions> ResolveTargets(const TargetRequest& request);

// Throws   kUsage: the name says what the output is not (a folder called y.gguf), which would
//          mislead whoever, or whatever, opens it by its name.
void CheckOutputName(std::string_view output, std::span<const PlanOptions> targets);

}  // namespace phiq
