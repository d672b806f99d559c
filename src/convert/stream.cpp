#include "convert/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>

#include "io/parallel.h"
#include "phiq/ggml_type.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr float kHalfMax = 65504.0F;
constexpr float kHalfOverflow = 65520.0F;  // rounds to Inf from here on

// What a chunk adds to the report. Kept by chunk and summed in order, so that the figures do not
// depend on the number of threads.
struct ChunkTally {
  std::uint64_t n_nan_zeroed = 0;
  std::uint64_t n_clamped = 0;
  double squared_error = 0;
  double squared_weight = 0;
};

// One thread's buffers.
class Worker {
 public:
  Worker(const Checkpoint& checkpoint, const ModelConfig& config, const Plan& plan,
         const StreamOptions& options)
      : checkpoint_(checkpoint),
        config_(config),
        plan_(plan),
        options_(options),
        reader_(checkpoint, config) {}

  // The encoded rows of a chunk, followed by `padding_bytes` zeros; valid until the next call.
  std::span<const std::byte> Encode(const RowChunk& chunk, std::uint64_t padding_bytes,
                                    ChunkTally& tally) {
    const PlanLine& line = plan_.lines[chunk.line];
    const std::span<float> x = reader_.Read(line, chunk);
    Sanitize(line, chunk, x, tally);

    const std::size_t row_elements = line.row_elements();
    const std::size_t row_bytes = GgmlRowBytes(line.type, row_elements);
    encoded_.assign(chunk.n_rows * row_bytes + padding_bytes, std::byte{0});
    const std::span<std::byte> out = std::span(encoded_).first(chunk.n_rows * row_bytes);
    for (std::size_t r = 0; r < chunk.n_rows; ++r) {
      QuantizeGgmlRow(line.type, x.subspan(r * row_elements, row_elements),
                      out.subspan(r * row_bytes, row_bytes));
    }
    if (const std::optional<std::size_t> block = FindNonFinite(line.type, out))
      throw ScaleOverflow(line, chunk, *block);
    if (line.type != GgmlType::kF32) Measure(line, chunk, x, out, tally);
    return encoded_;
  }

 private:
  // Applies the policies on NaN and on values beyond the range of a half.
  void Sanitize(const PlanLine& line, const RowChunk& chunk, std::span<float> x,
                ChunkTally& tally) const {
    std::size_t i = FirstNonFinite(x);
    for (; i < x.size(); i += 1 + FirstNonFinite(x.subspan(i + 1))) {
      if (options_.nan != NanPolicy::kZero || !std::isnan(x[i])) {
        throw NonFiniteWeights(checkpoint_, config_, line, options_.chunk_elements);
      }
      x[i] = 0.0F;
      ++tally.n_nan_zeroed;
    }
    if (line.type != GgmlType::kF16) return;
    for (std::size_t j = 0; j < x.size(); ++j) {
      if (std::abs(x[j]) < kHalfOverflow) continue;
      if (options_.overflow != OverflowPolicy::kClamp) throw HalfOverflow(line, chunk, j, x[j]);
      x[j] = std::copysign(kHalfMax, x[j]);
      ++tally.n_clamped;
    }
  }

  void Measure(const PlanLine& line, const RowChunk& chunk, std::span<const float> x,
               std::span<const std::byte> out, ChunkTally& tally) {
    const std::size_t row_elements = line.row_elements();
    const std::size_t row_bytes = GgmlRowBytes(line.type, row_elements);
    decoded_.resize(row_elements);
    for (std::size_t r = 0; r < chunk.n_rows; ++r) {
      if ((chunk.first_row + r) % kErrorSampleStride != 0) continue;
      DequantizeGgmlRow(line.type, out.subspan(r * row_bytes, row_bytes), decoded_);
      for (std::size_t c = 0; c < row_elements; ++c) {
        const double weight = x[r * row_elements + c];
        const double error = weight - decoded_[c];
        tally.squared_error += error * error;
        tally.squared_weight += weight * weight;
      }
    }
  }

  Error HalfOverflow(const PlanLine& line, const RowChunk& chunk, std::size_t i,
                     float value) const {
    return Error(ErrorCode::kNumeric,
                 fmt::format("weight {} is {}, beyond the largest F16 value 65504",
                             chunk.first_row * line.row_elements() + i, value))
        .In(ShardOf(line))
        .Tensor(line.name)
        .Hint("--overflow clamp or --overflow f32, or another type such as BF16");
  }

  Error ScaleOverflow(const PlanLine& line, const RowChunk& chunk, std::size_t block) const {
    const std::size_t block_size = GetGgmlTypeInfo(line.type).block_size;
    const std::uint64_t first = chunk.first_row * line.row_elements() + block * block_size;
    return Error(ErrorCode::kNumeric,
                 fmt::format("the scale of {} block {} (row {}, columns {} to {}) is beyond the "
                             "largest F16 value 65504",
                             GetGgmlTypeInfo(line.type).name, first / block_size,
                             first / line.row_elements(), first % line.row_elements(),
                             first % line.row_elements() + block_size - 1))
        .In(ShardOf(line))
        .Tensor(line.name)
        .Hint("weights this large fit BF16 or F32");
  }

  std::string ShardOf(const PlanLine& line) const {
    if (!line.source) return "config.json";
    return checkpoint_.shards()[checkpoint_.tensors()[*line.source].shard].string();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const Plan& plan_;
  const StreamOptions& options_;
  RowReader reader_;
  std::vector<std::byte> encoded_;
  std::vector<float> decoded_;
};

}  // namespace

std::uint64_t StreamBytesPerThread(const Plan& plan, const Checkpoint& checkpoint,
                                   std::uint64_t chunk_elements) {
  std::uint64_t most = 0;
  for (const PlanLine& line : plan.lines) {
    const std::uint64_t row = line.row_elements();
    const std::uint64_t elements =
        std::min(line.n_elements(), std::max<std::uint64_t>(1, chunk_elements / row) * row);
    const std::uint64_t source_bits =
        line.source ? DTypeBits(checkpoint.tensors()[*line.source].dtype) : 0;
    const std::uint64_t encoded = elements / row * GgmlRowBytes(line.type, row);
    most = std::max(most,
                    elements * (source_bits / 8 + sizeof(float)) + encoded + row * sizeof(float));
  }
  return most;
}

StreamResult StreamTensors(const Checkpoint& checkpoint, const ModelConfig& config,
                           const Plan& plan, std::span<const StreamTensor> tensors,
                           const StreamOptions& options, const Hooks& hooks) {
  std::vector<std::size_t> order;
  std::vector<const StreamTensor*> place(plan.lines.size());
  for (const StreamTensor& tensor : tensors) {
    order.push_back(tensor.line);
    place[tensor.line] = &tensor;
  }
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, order, options.chunk_elements);

  std::vector<Worker> workers;
  for (unsigned i = 0; i < options.threads; ++i)
    workers.emplace_back(checkpoint, config, plan, options);
  std::vector<ChunkTally> tallies(chunks.size());
  std::atomic<std::uint64_t> weights_done = 0;
  std::atomic<std::uint64_t> bytes_written = 0;

  const auto work = [&](std::size_t item, unsigned worker) {
    const RowChunk& chunk = chunks[item];
    const PlanLine& line = plan.lines[chunk.line];
    const StreamTensor& tensor = *place[chunk.line];
    const bool is_last = chunk.first_row + chunk.n_rows == line.n_rows();
    const std::span<const std::byte> bytes =
        workers[worker].Encode(chunk, is_last ? tensor.padding_bytes : 0, tallies[item]);
    tensor.file->WriteAt(
        tensor.offset_bytes + chunk.first_row * GgmlRowBytes(line.type, line.row_elements()),
        bytes);
    weights_done += chunk.n_rows * line.row_elements();
    bytes_written += bytes.size();
  };
  const auto start = std::chrono::steady_clock::now();
  const auto tick = [&] {
    if (!hooks.progress) return;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    hooks.progress({weights_done, plan.n_weights(), bytes_written, elapsed.count()});
  };
  const auto abandon = [&] {
    for (const StreamTensor& tensor : tensors) tensor.file->Abandon();
  };
  ParallelChunks(options.threads, chunks.size(), work, {tick, hooks.stop_requested, abandon});
  tick();
  checkpoint.CheckUnchanged();

  StreamResult result;
  double squared_error = 0;
  double squared_weight = 0;
  for (const ChunkTally& tally : tallies) {
    result.n_nan_zeroed += tally.n_nan_zeroed;
    result.n_clamped += tally.n_clamped;
    squared_error += tally.squared_error;
    squared_weight += tally.squared_weight;
  }
  result.relative_rmse = squared_weight > 0 ? std::sqrt(squared_error / squared_weight) : 0;
  result.bytes_written = bytes_written;
  for (const PlanLine& line : plan.lines) {
    if (line.source) result.bytes_read += checkpoint.tensors()[*line.source].size_bytes;
  }
  return result;
}

}  // namespace phiq
