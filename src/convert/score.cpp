// Rows are measured one by one, so that no matrix is held whole; the largest error of its rows is a
// matrix's.
#include "convert/score.h"

#include <algorithm>
#include <cmath>

#include "convert/meter.h"
#include "convert/rows.h"
#include "io/parallel.h"
#include "kernels/nncf_error.h"
#include "kernels/simd/floats.h"
#include "plan/lines.h"

namespace phiq {
namespace {

constexpr std::uint64_t kChunkElements = 1ULL << 16;
constexpr std::uint64_t kBytesPerElement = 2 * sizeof(float) + 1;  // as read, as floats, as codes

// One thread's buffers.
class Worker {
 public:
  Worker(const SourceModel& source, NanPolicy nan) : source_(source), nan_(nan), reader_(source) {}

  // The largest error of the chunk's rows.
  float Run(const PlanLine& line, const RowChunk& chunk) {
    const std::span<float> x = reader_.Read(line, chunk);
    if (nan_ == NanPolicy::kZero) {
      std::ranges::replace_if(
          x, [](float w) { return std::isnan(w); }, 0.0F);
    }
    if (simd::FirstNonFinite(x) < x.size()) throw NonFiniteWeights(source_, line, kChunkElements);
    const std::size_t n = line.row_elements();
    codes_.resize(n);
    float largest = 0;
    for (std::size_t r = 0; r < chunk.n_rows; ++r)
      largest = std::max(largest, Int8RowError(x.subspan(r * n, n), codes_));
    return largest;
  }

 private:
  const SourceModel& source_;
  NanPolicy nan_;
  LineReader reader_;
  std::vector<std::uint8_t> codes_;
};

}  // namespace

Measured Answer(const SourceModel& source, std::span<const Question> questions,
                const ConvertOptions& options, unsigned threads, const Hooks& hooks) {
  Measured result;
  if (questions.empty()) return result;
  Plan plan;  // of whole tensors, for the chunks
  std::vector<std::size_t> order;
  std::uint64_t n_weights = 0;
  std::uint64_t chunk_elements = kChunkElements;
  for (const Question& question : questions) {
    order.push_back(plan.lines.size());
    const PlanLine& line = plan.lines.emplace_back(LineOf(source.model.tensors[question.tensor]));
    n_weights += line.n_elements();
    chunk_elements = std::max(chunk_elements, line.row_elements());
    result.bytes_read += source.StoredBytes(line, 0, line.n_rows());
  }
  const std::uint64_t most_threads =
      options.memory_limit_bytes / 8 / (chunk_elements * kBytesPerElement);
  threads = static_cast<unsigned>(std::clamp<std::uint64_t>(most_threads, 1, threads));

  const std::vector<RowChunk> chunks = CutIntoChunks(plan, order, kChunkElements);
  std::vector<Worker> workers(threads, Worker(source, options.nan));
  std::vector<float> of_chunk(chunks.size());
  Meter meter(hooks, n_weights);
  ParallelChunks(threads, chunks.size(),
                 [&](std::size_t item, unsigned worker) {
                   const PlanLine& line = plan.lines[chunks[item].line];
                   of_chunk[item] = workers[worker].Run(line, chunks[item]);
                   meter.done += chunks[item].n_rows * line.row_elements();
                 },
                 {[&] { meter.Tell(); }, hooks.stop_requested, {}});
  source.stored->CheckUnchanged();

  result.answers.assign(questions.size(), 0.0F);
  for (std::size_t item = 0; item < chunks.size(); ++item) {
    float& error = result.answers[chunks[item].line];
    error = std::max(error, of_chunk[item]);
  }
  return result;
}

}  // namespace phiq
