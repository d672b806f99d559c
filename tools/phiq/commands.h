// The subcommands. Each Add function describes one of them to CLI11; parsing a command line that
// names it sets `chosen`, and nothing runs before the whole line has been understood.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace phiq::cli {

using Command = std::function<int()>;  // returns the exit code; throws phiq::Error

// `line`: what was typed, for the message of a run that --resume goes on with.
void AddQuantize(CLI::App& app, Command& chosen, const std::string& line);
void AddPlan(CLI::App& app, Command& chosen);
void AddInspect(CLI::App& app, Command& chosen);
void AddVerify(CLI::App& app, Command& chosen);
void AddEval(CLI::App& app, Command& chosen);
void AddCompare(CLI::App& app, Command& chosen);
void AddFormats(CLI::App& app, Command& chosen);
void AddProfiles(CLI::App& app, Command& chosen);
void AddCompletion(CLI::App& app, Command& chosen);

}  // namespace phiq::cli
