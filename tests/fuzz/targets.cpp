// The table of targets, and what they share.
#include "fuzz/targets.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "phiq/text.h"
#include "testing/test_data.h"

namespace phiq::fuzz {
namespace {

namespace fs = std::filesystem;

// A message is one line that any terminal and log can take.
void CheckMessage(const std::string& message) {
  if (message.empty()) Fail("an empty message");
  for (const char c : message)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      Fail("a control character in a message: " + Escape(message));
}

}  // namespace

std::span<const Target> Targets() {
  static const std::vector<Target> targets = [] {
    std::vector<Target> all;
    for (const std::span<const Target> some :
         {CheckpointTargets(), ModelTargets(), FormatTargets(), KernelTargets()})
      all.insert(all.end(), some.begin(), some.end());
    return all;
  }();
  return targets;
}

void Fail(const std::string& what) {
  std::fprintf(stderr, "FOUND: %s\n", what.c_str());
  std::abort();
}

void Attempt(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kInternal) Fail(error.what());
    CheckMessage(error.what());
  } catch (const std::exception& error) {
    Fail(std::string("an exception that is no phiq::Error: ") + error.what());
  }
}

void CheckWarning(const Warning& warning) { CheckMessage(warning.text); }

std::string ReadSeed(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) Fail("no seed at " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

fs::path SeedFolder(std::string_view name) {
  return fs::path(kTestData).parent_path() / "fuzz" / "seeds" / name;
}

Scratch::Scratch() {
  const fs::path memory = "/dev/shm";
  std::error_code ignored;
  const fs::path base = fs::is_directory(memory, ignored) ? memory : fs::temp_directory_path();
  std::string pattern = (base / "phiq-fuzz-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) Fail("cannot make a folder in " + base.string());
  path_ = pattern;
}

Scratch::~Scratch() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

fs::path Scratch::Write(std::string_view name, Input content) const {
  const fs::path path = path_ / name;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(content.data()),
            static_cast<std::streamsize>(content.size()));
  if (!out.flush()) Fail("cannot write " + path.string());
  return path;
}

const Scratch& TheScratch() {
  static const Scratch scratch;
  return scratch;
}

MemoryFiles::MemoryFiles(const fs::path& folder, const std::string& name,
                         std::string_view content) {
  static std::map<fs::path, decltype(files_)> read;  // a target makes one for each input
  const auto [found, is_new] = read.try_emplace(folder);
  if (is_new)
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
      if (entry.path().extension() != ".safetensors")
        found->second.emplace(entry.path().filename().string(), ReadSeed(entry.path()));
  files_ = found->second;
  files_[name] = content;
}

std::optional<std::string> MemoryFiles::ReadFile(std::string_view name,
                                                 std::uint64_t max_bytes) const {
  const auto found = files_.find(name);
  if (found == files_.end()) return std::nullopt;
  if (found->second.size() > max_bytes) throw Error(ErrorCode::kBadData, "too large");
  return found->second;
}

std::vector<std::string> MemoryFiles::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, content] : files_) names.push_back(name);
  return names;
}

std::uint64_t MemoryFiles::SizeBytes(std::string_view name) const {
  const auto found = files_.find(name);
  return found == files_.end() ? 0 : found->second.size();
}

}  // namespace phiq::fuzz
