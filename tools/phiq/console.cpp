// Checked output, the log, and how errors look.
#include "console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "phiq/error.h"
#include "phiq/text.h"
#include "signals.h"

namespace phiq::cli {
namespace {

Json ErrorObject(const Error& error) {
  Json object = {{"code", static_cast<int>(error.code())}, {"class", ErrorClassName(error.code())}};
  object["path"] = error.path().empty() ? Json() : Json(error.path());
  object["offset"] = error.offset_bytes() ? Json(*error.offset_bytes()) : Json();
  object["tensor"] = error.tensor().empty() ? Json() : Json(error.tensor());
  object["message"] = error.what();
  return {{"error", std::move(object)}};
}

int Report(const Error& error, bool json) {
  spdlog::error("{}", error.what());
  try {
    if (json && error.path() != kStandardOutput) PrintJson(stdout, ErrorObject(error));
  } catch (const Error&) {  // the first failure gives the exit code
  }
  if (error.code() == ErrorCode::kInterrupted) DieOfStopSignal();
  return static_cast<int>(error.code());
}

// Memory may still be short: nothing here allocates, as the JSON library does even to destroy.
int ReportOutOfMemory(bool json) noexcept {
  std::fputs("phiq: error: out of memory\n", stderr);
  if (json) {
    std::fputs(R"({"error":{"code":7,"class":"resources","path":null,"offset":null,"tensor":null,)"
               R"("message":"out of memory"}})"
               "\n",
               stdout);
    std::fflush(stdout);
  }
  return static_cast<int>(ErrorCode::kResources);
}

bool standard_output_was_closed = false;

Error Internal(std::string_view what) {
  return Error(ErrorCode::kInternal, fmt::format("internal error: {}", Escape(what)))
      .Hint("phiq " PHIQ_VERSION "; please report this");
}

}  // namespace

bool StandardOutputWasClosed() noexcept { return standard_output_was_closed; }

void OpenMissingStandardStreams() noexcept {
  // open() gives the lowest free number: the missing ones are filled from below.
  for (const int wanted : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(wanted, F_GETFD) >= 0) continue;
    // What is meant for standard output must not be lost: as it was closed, writing there fails.
    ::open("/dev/null", wanted == STDOUT_FILENO ? O_RDONLY : O_RDWR);
    standard_output_was_closed = standard_output_was_closed || wanted == STDOUT_FILENO;
  }
}

void OpenLog() {
  auto log =
      std::make_shared<spdlog::logger>("phiq", std::make_shared<spdlog::sinks::stderr_sink_st>());
  log->set_pattern("phiq: %l: %v");
  // What it cannot do for lack of memory it would tell in a line of its own, and go on.
  log->set_error_handler([](const std::string&) { throw std::bad_alloc(); });
  spdlog::set_default_logger(std::move(log));
}

void Print(std::FILE* stream, std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stream) == text.size();
  if (!written || std::fflush(stream) != 0)
    throw Error(ErrorCode::kOutput, fmt::format("write error: {}", std::strerror(errno)))
        .In(kStandardOutput);
}

void Keep(Json json) {
  static auto& kept = *new std::vector<Json>;
  kept.push_back(std::move(json));
}

void PrintJson(std::FILE* stream, Json json) {
  const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
  Keep(std::move(json));
  Print(stream, text);
}

int ReportError(const std::exception_ptr& exception, bool json) noexcept {
  try {
    try {
      std::rethrow_exception(exception);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const Error& error) {
      return Report(error, json);
    } catch (const std::exception& error) {
      return Report(Internal(error.what()), json);
    }
  } catch (...) {  // saying what is wrong takes memory, too
    return ReportOutOfMemory(json);
  }
}

}  // namespace phiq::cli
