// The same targets for libFuzzer (tools/fuzz), which seeks inputs that reach new code.
// PHIQ_FUZZ_TARGET names one.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "fuzz/mutate.h"
#include "fuzz/targets.h"

namespace phiq::fuzz {
namespace {

const Target& Chosen() {
  static const Target& target = []() -> const Target& {
    const char* name = std::getenv("PHIQ_FUZZ_TARGET");
    const auto found = std::ranges::find(Targets(), name == nullptr ? "" : name, &Target::name);
    if (found != Targets().end()) return *found;
    std::fputs("PHIQ_FUZZ_TARGET names none of:", stderr);
    for (const Target& known : Targets()) std::fprintf(stderr, " %s", known.name.c_str());
    std::fputs("\n", stderr);
    std::exit(2);
  }();
  return target;
}

}  // namespace
}  // namespace phiq::fuzz

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

// With PHIQ_FUZZ_SEEDS the seeds are written into that folder and nothing is run.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  const phiq::fuzz::Target& target = phiq::fuzz::Chosen();
  const char* folder = std::getenv("PHIQ_FUZZ_SEEDS");
  if (folder == nullptr) return 0;
  std::size_t n = 0;
  for (const std::string& seed : target.seeds())
    std::ofstream(std::filesystem::path(folder) / ("seed-" + std::to_string(n++)), std::ios::binary)
        << seed;
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  phiq::fuzz::Chosen().run(std::as_bytes(std::span(data, size)));
  return 0;
}

// Half of the changes know the shape of the file, the others are libFuzzer's own.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned int seed) {
  if (seed % 2 == 0) return LLVMFuzzerMutate(data, size, max_size);
  phiq::fuzz::Random random(seed);
  std::string input(reinterpret_cast<const char*>(data), size);
  phiq::fuzz::Mutate(phiq::fuzz::Chosen().shape, random, input);
  const std::size_t n = std::min(input.size(), max_size);
  std::memcpy(data, input.data(), n);
  return n;
}
