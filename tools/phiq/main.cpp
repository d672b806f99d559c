// The program's frame: prepare the process, run the chosen command, turn errors into exit codes.
#include <exception>

#include "command_line.h"
#include "console.h"
#include "memory.h"
#include "signals.h"

int main(int argc, char** argv) {
  phiq::cli::OpenMissingStandardStreams();
  phiq::cli::PrepareForOutOfMemory();
  phiq::cli::SetDefaultSignals();
  try {
    phiq::cli::OpenLog();
    return phiq::cli::RunCommandLine(argc, argv);
  } catch (...) {
    return phiq::cli::ReportError(std::current_exception(), phiq::cli::WantsJson(argc, argv));
  }
}
