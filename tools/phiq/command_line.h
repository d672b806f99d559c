// Understands the command line and runs what it asks for.
#pragma once

namespace phiq::cli {

// Returns  the exit code of the command. Throws phiq::Error, kUsage for a wrong command line.
int RunCommandLine(int argc, char** argv);

// True when `--json` is among the arguments, so that also a wrong command line is told as JSON.
bool WantsJson(int argc, char** argv);

}  // namespace phiq::cli
