// What is fuzzed: every reader of bytes that come from outside, every decoder and every method that
// chooses codes. A target may be given any bytes; whatever it does besides throwing a phiq::Error
// that a user can act on is a find.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq::fuzz {

using Input = std::span<const std::byte>;
inline std::string_view TextOf(Input input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}

// How inputs of a target are changed (mutate.h).
enum class Shape { kText, kBinary, kSafetensors };

struct Target {
  std::string name;
  Shape shape;
  std::function<void(Input)> run;
  std::function<std::vector<std::string>()> seeds;  // right inputs, to be changed
};
std::span<const Target> Targets();

// A find. Ends the process.
[[noreturn]] void Fail(const std::string& what);

// Calls `work`, which may refuse its input.
// Fails   on any other exception, on an internal error, and on a message that is no line of text.
void Attempt(const std::function<void()>& work);
// Takes warnings as Attempt takes errors.
void CheckWarning(const Warning& warning);

std::string ReadSeed(const std::filesystem::path& path);
// The folders that make_seeds.py has written.
std::filesystem::path SeedFolder(std::string_view name);

// A folder in memory, removed at the end, that one file after the other is written into.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path Write(std::string_view name, Input content) const;

 private:
  std::filesystem::path path_;
};
const Scratch& TheScratch();

// The small files beside a model, in memory.
class MemoryFiles final : public SideFiles {
 public:
  explicit MemoryFiles(std::map<std::string, std::string, std::less<>> files)
      : files_(std::move(files)) {}
  // Those of a folder, one of them replaced.
  MemoryFiles(const std::filesystem::path& folder, const std::string& name,
              std::string_view content);

  std::filesystem::path PathOf(std::string_view name) const override { return name; }
  std::optional<std::string> ReadFile(std::string_view name,
                                      std::uint64_t max_bytes) const override;
  std::vector<std::string> Names() const override;
  std::uint64_t SizeBytes(std::string_view name) const override;

 private:
  std::map<std::string, std::string, std::less<>> files_;
};

// Of each file with targets of its own:
std::span<const Target> CheckpointTargets();
std::span<const Target> ModelTargets();
std::span<const Target> FormatTargets();
std::span<const Target> KernelTargets();

}  // namespace phiq::fuzz
