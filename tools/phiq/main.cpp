// The program's frame: prepare the process, run the chosen command, turn errors into exit codes.
#include <cstdlib>
#include <exception>
#include <new>

#include "command_line.h"
#include "console.h"
#include "memory.h"
#include "phiq/convert.h"
#include "signals.h"

namespace {

bool wants_json = false;

// Destructors of libraries that allocate (nlohmann's JSON does) end the program where that fails:
// in order, as if they had thrown.
[[noreturn]] void EndForLackOfMemory() {
  const std::exception_ptr exception = std::current_exception();
  try {
    if (exception) std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    const int code = phiq::cli::ReportError(exception, wants_json);
    phiq::UnlinkTemporaries();
    std::_Exit(code);
  } catch (...) {  // a bug
  }
  std::abort();
}

}  // namespace

int main(int argc, char** argv) {
  wants_json = phiq::cli::WantsJson(argc, argv);
  std::set_terminate(EndForLackOfMemory);
  phiq::cli::OpenMissingStandardStreams();
  phiq::cli::PrepareForOutOfMemory();
  phiq::cli::SetDefaultSignals();
  try {
    phiq::cli::OpenLog();
    return phiq::cli::RunCommandLine(argc, argv);
  } catch (...) {
    return phiq::cli::ReportError(std::current_exception(), wants_json);
  }
}
