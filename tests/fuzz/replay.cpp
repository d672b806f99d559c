// Runs every target over its seeds, over what was found before (corpus/TARGET) and over so many
// changed inputs, which are the same in each run; then looks how time grows with the input.
//
//   phiq_fuzz_replay [--executions N] [TARGET...]
//   phiq_fuzz_replay --list
//
// A find ends the program; the input then stands in the working folder as `found-TARGET`.
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "fuzz/growth.h"
#include "fuzz/mutate.h"
#include "fuzz/targets.h"
#include "testing/test_data.h"

// Sanitizers end the program as a find of ours does.
extern "C" const char* __asan_default_options() { return "abort_on_error=1:detect_leaks=0"; }
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace phiq::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr double kMostSeconds = 10;  // of the processor, for one input

std::string found_name;  // NOLINT: for the signal handler
std::string current;     // NOLINT

void KeepInput(int number) {
  const int fd = ::open(found_name.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd >= 0 && ::write(fd, current.data(), current.size()) >= 0) {
    constexpr std::string_view kText = "the input is ";
    (void)!::write(STDERR_FILENO, kText.data(), kText.size());
    (void)!::write(STDERR_FILENO, found_name.data(), found_name.size());
    (void)!::write(STDERR_FILENO, "\n", 1);
  }
  std::signal(number, SIG_DFL);
  std::raise(number);
}

double ProcessorSeconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void Run(const Target& target, std::string input) {
  current = std::move(input);
  const double before = ProcessorSeconds();
  target.run(std::as_bytes(std::span(current)));
  if (ProcessorSeconds() - before > kMostSeconds) Fail("takes too long");
}

std::vector<std::string> CorpusOf(const Target& target) {
  const fs::path folder = fs::path(kTestData).parent_path() / "fuzz" / "corpus" / target.name;
  std::vector<fs::path> paths;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none))
    paths.push_back(entry.path());
  std::ranges::sort(paths);
  std::vector<std::string> inputs;
  for (const fs::path& path : paths) inputs.push_back(ReadSeed(path));
  return inputs;
}

void Replay(const Target& target, std::size_t n_executions) {
  found_name = "found-" + target.name;
  const double before = ProcessorSeconds();
  std::vector<std::string> inputs = target.seeds();
  for (std::string& found : CorpusOf(target)) inputs.push_back(std::move(found));
  for (const std::string& input : inputs) Run(target, input);
  for (std::size_t i = 0; i < n_executions; ++i) {
    Random random(static_cast<Random::result_type>(i));
    std::string input = inputs[random() % inputs.size()];
    Mutate(target.shape, random, input);
    Run(target, std::move(input));
  }
  std::printf("%-18s %6zu inputs, %6.2f s\n", target.name.c_str(), inputs.size() + n_executions,
              ProcessorSeconds() - before);
  std::fflush(stdout);
}

int Main(const std::vector<std::string>& args) {
  std::size_t n_executions = 1000;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--executions" && i + 1 < args.size()) {
      n_executions = std::stoul(args[++i]);
    } else if (args[i] == "--list") {
      for (const Target& target : Targets()) std::puts(target.name.c_str());
      return 0;
    } else {
      names.push_back(args[i]);
    }
  }
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) std::signal(number, KeepInput);
#ifndef PHIQ_SANITIZED
  // A small file must not ask for more.
  const rlimit memory = {rlim_t{2} << 30, rlim_t{2} << 30};
  ::setrlimit(RLIMIT_AS, &memory);
#endif
  for (const Target& target : Targets())
    if (names.empty() || std::ranges::find(names, target.name) != names.end())
      Replay(target, n_executions);
  if (names.empty()) CheckGrowth();
  return 0;
}

}  // namespace
}  // namespace phiq::fuzz

int main(int argc, char** argv) {
  return phiq::fuzz::Main(std::vector<std::string>(argv + 1, argv + argc));
}
