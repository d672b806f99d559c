// Rows are looked at one by one, so that no matrix is held whole; the largest error of its rows is
// a matrix's.
#include "convert/score.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "convert/meter.h"
#include "convert/rows.h"
#include "io/parallel.h"
#include "kernels/nncf_error.h"
#include "kernels/simd/floats.h"
#include "plan/lines.h"

namespace phiq {
namespace {

constexpr std::uint64_t kScoreChunkElements = 1ULL << 16;
constexpr std::uint64_t kBytesPerElement = 2 * sizeof(float) + 1;  // as read, as floats, as codes

// Reads all chunks, each once: use(item, its line, its rows, worker). Returns the bytes read.
template <typename Use>
std::uint64_t ReadChunks(const SourceModel& source, const Plan& plan,
                         std::span<const RowChunk> chunks, const ConvertOptions& options,
                         unsigned threads, const Hooks& hooks, const Use& use) {
  std::uint64_t n_weights = 0, n_bytes = 0, chunk_elements = kScoreChunkElements;
  for (const RowChunk& chunk : chunks) {
    const PlanLine& line = plan.lines[chunk.line];
    n_weights += chunk.n_rows * line.row_elements();
    n_bytes += source.StoredBytes(line, chunk.first_row, chunk.n_rows);
    chunk_elements = std::max(chunk_elements, chunk.n_rows * line.row_elements());
  }
  const std::uint64_t most_threads =
      options.memory_limit_bytes / 8 / (chunk_elements * kBytesPerElement);
  threads = static_cast<unsigned>(std::clamp<std::uint64_t>(most_threads, 1, threads));
  std::vector<LineReader> readers(threads, LineReader(source));
  Meter meter(hooks, n_weights);
  ParallelChunks(
      threads, chunks.size(),
      [&](std::size_t item, unsigned worker) {
        const PlanLine& line = plan.lines[chunks[item].line];
        const std::span<float> x = readers[worker].Read(line, chunks[item]);
        use(item, line, x, worker);
        meter.done += x.size();
      },
      meter.parallel_hooks());
  meter.Tell();
  source.stored->CheckUnchanged();
  return n_bytes;
}

}  // namespace

Measured Answer(const SourceModel& source, std::span<const Question> questions,
                const ConvertOptions& options, unsigned threads, const Hooks& hooks) {
  Measured result;
  if (questions.empty()) return result;
  Plan plan;  // of whole tensors, for the chunks
  std::vector<std::size_t> order;
  for (const Question& question : questions) {
    order.push_back(plan.lines.size());
    plan.lines.push_back(LineOf(source.model.tensors[question.tensor]));
  }
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, order, kScoreChunkElements);
  std::vector<float> of_chunk(chunks.size());
  std::vector<std::vector<std::uint8_t>> codes(threads);
  result.bytes_read = ReadChunks(
      source, plan, chunks, options, threads, hooks,
      [&](std::size_t item, const PlanLine& line, std::span<float> x, unsigned worker) {
        if (options.nan == NanPolicy::kZero) {
          std::ranges::replace_if(
              x, [](float w) { return std::isnan(w); }, 0.0F);
        }
        if (simd::FirstNonFinite(x) < x.size())
          throw NonFiniteWeights(source, line, kScoreChunkElements);
        const std::size_t n = line.row_elements();
        codes[worker].resize(n);
        for (std::size_t at = 0; at < x.size(); at += n)
          of_chunk[item] = std::max(of_chunk[item], Int8RowError(x.subspan(at, n), codes[worker]));
      });

  result.answers.assign(questions.size(), 0.0F);
  for (std::size_t item = 0; item < chunks.size(); ++item) {
    float& error = result.answers[chunks[item].line];
    error = std::max(error, of_chunk[item]);
  }
  return result;
}

std::uint64_t WidenWhatOverflowsHalf(const SourceModel& source, Plan& plan,
                                     const ConvertOptions& options, unsigned threads,
                                     const Hooks& hooks) {
  std::vector<std::size_t> half_lines;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    if (plan.lines[i].encoding == Encoding(GgmlType::kF16)) half_lines.push_back(i);
  }
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, half_lines, kScoreChunkElements);
  std::vector<char> overflows(chunks.size(), 0);
  const std::uint64_t n_bytes =
      ReadChunks(source, plan, chunks, options, threads, hooks,
                 [&](std::size_t item, const PlanLine&, std::span<const float> x, unsigned) {
                   const auto is_too_large = [](float w) {
                     return std::isfinite(w) && std::abs(w) >= kHalfOverflow;
                   };
                   overflows[item] = std::ranges::any_of(x, is_too_large) ? 1 : 0;
                 });
  for (std::size_t item = 0; item < chunks.size(); ++item) {
    PlanLine& line = plan.lines[chunks[item].line];
    if (overflows[item] == 0 || IsExact(line.encoding)) continue;
    line.encoding = GgmlType::kF32;
    line.size_bytes = line.n_elements() * sizeof(float);
    line.reason = "--overflow f32: a weight is beyond F16's range";
  }
  return n_bytes;
}

}  // namespace phiq
