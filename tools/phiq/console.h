// What the program says: results on standard output, log and error lines on standard error.
#pragma once

#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>

namespace phiq::cli {

using Json = nlohmann::ordered_json;

// What error lines call standard output.
constexpr std::string_view kStandardOutput = "standard output";

// Opens /dev/null in place of standard streams that the caller closed, so that no file of ours
// ever gets the number 0, 1 or 2. What is written to such a standard output fails.
void OpenMissingStandardStreams() noexcept;
// The caller gave none: nobody wants to see a report.
bool StandardOutputWasClosed() noexcept;

// From here on spdlog writes "phiq: warning: ..." lines to standard error.
void OpenLog();

// Writes all of `text` now.
// Throws   kOutput: a full disk, a closed pipe.
void Print(std::FILE* stream, std::string_view text);
// One object, one line; pure ASCII, so that names from files cannot upset a terminal.
void PrintJson(std::FILE* stream, Json json);
// Never destroys a tree: nlohmann's destructor allocates, and ends the program where that fails.
void Keep(Json json);

// Prints the error line (with `json` also the error object on standard output). A caught stop
// signal ends the process here.
// Returns  the exit code.
int ReportError(const std::exception_ptr& exception, bool json) noexcept;

}  // namespace phiq::cli
