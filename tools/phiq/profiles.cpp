// phiq profiles: the built-in target devices, and the types that --type takes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "console.h"
#include "option_values.h"
#include "phiq/error.h"
#include "phiq/format.h"
#include "phiq/profile.h"
#include "report_flags.h"
#include "table.h"

namespace phiq::cli {
namespace {

constexpr const char* kProfilesExamples = R"(Examples:
  phiq profiles                      the built-in ones
  phiq profiles iot > mine.json      one in full; edit it, then --profile mine.json
  phiq profiles --types              the names that --type takes)";

struct ProfilesFlags {
  std::optional<std::string> name;
  bool types = false;
  bool json = false;
};

void ShowProfiles(bool as_json) {
  Json json;
  std::vector<std::vector<std::string>> rows = {{"NAME", "FORMAT", "DEFAULT", "ALLOWS", "FOR"}};
  for (const Profile& profile : BuiltinProfiles()) {
    std::vector<std::string_view> allowed;
    for (const Precision precision : profile.allowed) allowed.push_back(PrecisionName(precision));
    rows.push_back({profile.name, profile.format,
                    std::string(PrecisionName(profile.default_precision)),
                    fmt::format("{}", fmt::join(allowed, ", ")), profile.description});
    if (as_json) json.push_back(Json::parse(ProfileToJson(profile)));
  }
  if (as_json) return PrintJson(stdout, {{"profiles", std::move(json)}});
  Print(stdout, FormatTable("lllll", rows));
}

void ShowTypes(bool as_json) {
  Json json;
  std::vector<std::vector<std::string>> rows = {{"FORMAT", "TYPE", ""}};
  for (const std::string_view format : FormatNames()) {
    for (const TypeName& type : TypeNames(format)) {
      rows.push_back({std::string(format), std::string(type.name), std::string(type.description)});
      if (as_json)
        json[std::string(format)].push_back(
            {{"name", type.name}, {"description", type.description}});
    }
  }
  if (as_json) return PrintJson(stdout, std::move(json));
  Print(stdout, FormatTable("lll", rows));
}

int Show(const ProfilesFlags& flags) {
  if (flags.types && flags.name)
    throw Error(ErrorCode::kUsage, "a profile's name and --types exclude each other");
  if (flags.types) {
    ShowTypes(flags.json);
  } else if (!flags.name) {
    ShowProfiles(flags.json);
  } else {
    const std::string json = ProfileToJson(LoadProfile(ValueOf("NAME", flags.name)));
    if (flags.json) {
      PrintJson(stdout, Json::parse(json));
    } else {
      Print(stdout, json.ends_with('\n') ? json : json + "\n");
    }
  }
  return 0;
}

}  // namespace

void AddProfiles(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("profiles", "List the target devices, or show one in full");
  const auto flags = std::make_shared<ProfilesFlags>();
  command->add_option("NAME", flags->name, "A profile, or a JSON file with the keys of one")
      ->option_text(" ");
  AddSwitch(*command, "--types", flags->types, "List the names that --type takes");
  AddSwitch(*command, "--json", flags->json, "As one JSON object");
  command->footer(kProfilesExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return Show(*flags); }; });
}

}  // namespace phiq::cli
