// The plan of memory is a sum of what is known to be held; the rest of the limit becomes threads
// and chunks, so that a limit changes the time of a run and never its bytes.
#include "convert/memory.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "engine/forward.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Program, libraries, plan. With everything else a tiny checkpoint's run peaks at 16 MiB, so this
// is an upper bound.
constexpr std::uint64_t kProgramBytes = 24ULL << 20;
// What is kept of the tokenizer is there again in other shapes, while it is read and while the
// output's files are made of it. Phi-4-mini's takes 44 MB, its file of 7.5 MB and the program
// included; 10 MB of it are kept.
constexpr std::uint64_t kTokenizerCopies = 4;
constexpr std::uint64_t kThreadBytes = 1ULL << 20;  // stack and allocator
// What is read, and the codes, stay in the second cache.
constexpr std::uint64_t kChunkElements = 1ULL << 18;
// A matrix by columns is written in runs of as many weights as a chunk has rows: larger chunks make
// fewer and longer runs. 2^22 weights of rows of 3072 are runs of 2.7 KB in float16.
constexpr std::uint64_t kMostColumnElements = 1ULL << 24;
constexpr std::uint64_t kLeastColumnElements = 1ULL << 22;
constexpr std::uint64_t kLeastChunkElements = 1ULL << 14;

// Of the files the text, of which little may be kept.
std::uint64_t TokenizerBytes(const SideFiles& files, const Tokenizer& tokenizer) {
  std::uint64_t kept = tokenizer.merges.size() * sizeof(Merge);
  for (const std::string& token : tokenizer.vocab) kept += sizeof(std::string) + token.size();
  for (const SentencePiece& piece : tokenizer.pieces) kept += sizeof(piece) + piece.text.size();
  return files.SizeBytes("tokenizer.json") + files.SizeBytes("tokenizer.model") +
         kTokenizerCopies * kept;
}

}  // namespace

MemoryPlan PlanMemory(std::span<const StreamTarget> targets, const SourceModel& source,
                      std::uint64_t header_bytes, std::uint64_t held_bytes, unsigned threads,
                      std::uint64_t limit_bytes, OverflowPolicy overflow) {
  const std::uint64_t fixed = FixedBytes(source) + 2 * header_bytes + held_bytes;
  const auto peak = [&](unsigned n_threads, std::uint64_t chunk_elements) {
    return fixed + n_threads * (kThreadBytes +
                                StreamBytesPerThread(targets, source, chunk_elements, overflow));
  };
  const bool has_columns = std::ranges::any_of(targets, [](const StreamTarget& target) {
    return std::ranges::any_of(target.layout->arrays,
                               [](const PlacedArray& array) { return array.order.IsByColumns(); });
  });
  // Smaller chunks cost little speed, fewer threads cost much: shrink the chunks first. Matrices by
  // columns come to short runs then, and threads go first as long as there are any.
  const auto fit = [&](std::uint64_t most, std::uint64_t least) -> std::optional<MemoryPlan> {
    for (unsigned n_threads = threads; n_threads >= 1; --n_threads) {
      for (std::uint64_t chunk = most; chunk >= least; chunk /= 2) {
        if (peak(n_threads, chunk) <= limit_bytes)
          return MemoryPlan{n_threads, chunk, peak(n_threads, chunk)};
      }
    }
    return std::nullopt;
  };
  std::optional<MemoryPlan> plan;
  if (has_columns) plan = fit(kMostColumnElements, kLeastColumnElements);
  if (!plan) plan = fit(kChunkElements, kLeastChunkElements);
  if (plan) return *plan;
  const std::uint64_t least = peak(1, kLeastChunkElements);
  throw Error(ErrorCode::kResources, fmt::format("--memory-limit {}: this model needs at least {}",
                                                 FormatBytes(limit_bytes), FormatBytes(least)))
      .Hint("--memory-limit " + LimitFor(least));
}

std::string LimitFor(std::uint64_t n_bytes) {
  constexpr std::uint64_t kMebibyte = 1ULL << 20;
  return fmt::format("{}M", (n_bytes + kMebibyte - 1) / kMebibyte);
}

std::uint64_t FixedBytes(const SourceModel& source) {
  return kProgramBytes + TokenizerBytes(source.stored->side_files(), source.model.tokenizer);
}

namespace {

// A line of /proc/self/status: "VmHWM:    1234 kB".
std::uint64_t StatusBytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::uint64_t kibibytes = 0;
    if (line.starts_with(name) &&
        std::sscanf(line.c_str() + name.size(), ": %" SCNu64, &kibibytes) == 1)
      return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

std::uint64_t RunBytes(const ModelConfig& config, std::size_t n_models, std::uint64_t n_windows,
                       std::uint32_t n_ctx, unsigned threads) {
  constexpr std::uint64_t kPanelFloats = 1ULL << 18;  // of tokens, beside a tile of rows
  constexpr std::uint64_t kPositionBytes = 64;        // of each model: running sums, scores
  const std::uint64_t n_tokens = n_windows * n_ctx;
  const std::uint64_t of_token =
      (engine::ForwardPass::ScratchFloats(config) + n_models * 2 * config.hidden_size) *
          sizeof(float) +
      n_models * kPositionBytes * (1 + 4 * threads / 2);
  const std::uint64_t of_thread =
      kThreadBytes + (2 * engine::kTileRows * engine::ForwardPass::WidestFloats(config) +
                      2 * n_tokens * engine::kTileRows + n_ctx + kPanelFloats) *
                         sizeof(float);
  const std::uint64_t rotary = n_models * n_ctx * config.rope_dim * sizeof(float);
  return rotary + n_tokens * of_token + threads * of_thread;
}

std::uint64_t ResidentMemoryBytes() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
  return StatusBytes("VmRSS");
}

// Not getrusage: its maximum begins with that of the program that started this one.
std::uint64_t PeakMemoryBytes() { return StatusBytes("VmHWM"); }

}  // namespace phiq
