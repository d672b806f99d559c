// A weight is good when its error as a whole and that of its worst block are within what its
// encoding may cost (BoundOf); where a calibration chose its codes, when the error as a whole is.
#include "convert/compare_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "convert/rows.h"
#include "io/parallel.h"
#include "kernels/grid.h"
#include "kernels/simd/compare.h"
#include "kernels/simd/floats.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint64_t kComparedElements = 1ULL << 17;  // weights compared at once by a thread

// A weight of small inputs may be clipped to nothing, or make up for others: what a block's weights
// are off by is not bounded. As a whole they stay near, or the products would not: twice the bound,
// of which a third was seen, where codes of other weights give 1.4 times the weights.
constexpr double kCalibratedRoom = 2;
// Weights that were corrected have moved, whatever their encoding. They are only where that brings
// products nearer on held-back text, so products move by less than twice what the layers before
// have lost: by 0.3 of themselves where they lost 0.15, which is more than a file is of use with.
// Seen: 1 % on the checkpoints of the tests, a tenth where one column is thousands of times others.
constexpr double kCorrectedRoom = 0.3;

ErrorBound BoundOf(const PlanLine& line, const CompareWeightsOptions& options) {
  ErrorBound bound = BoundOf(line.encoding, line.row_elements());
  if (options.was_calibrated && HasGrid(line.encoding)) {
    bound.relative_rmse = std::min(
        1.0, kCalibratedRoom * bound.relative_rmse + (options.was_corrected ? kCorrectedRoom : 0));
    bound.block_error = std::numeric_limits<double>::infinity();
  }
  // A frequency that another tool rounds otherwise, by 2^-24 of itself, moves the last position's
  // angle by as many times that as there are positions. Values reach 1.2 or so.
  if (line.table) bound.slack += static_cast<double>(line.n_rows()) * 0x1p-23;
  return bound;
}

struct BoundSum {
  simd::RowSums rows;  // of the source's weights and the output's
  // The largest error of a weight, less the slack, over the largest weight of its block.
  double worst_block = 0;
  std::uint64_t n_weights = 0;
  bool is_finite = true;

  void Add(const BoundSum& other) {
    rows.Add(other.rows);
    worst_block = std::max(worst_block, other.worst_block);
    n_weights += other.n_weights;
    is_finite = is_finite && other.is_finite;
  }
};

bool AreFinite(std::span<const float> x) { return simd::FirstNonFinite(x) == x.size(); }

BoundSum CompareRow(const ErrorBound& bound, std::span<const float> weights,
                    std::span<const float> decoded) {
  BoundSum total;
  total.n_weights = weights.size();
  total.is_finite = AreFinite(weights) && AreFinite(decoded);
  total.rows = simd::CompareRows(weights, decoded);
  // An error in a block of zeros is infinitely large.
  total.worst_block = simd::WorstBlock(weights, decoded, bound.block_size, bound.slack);
  return total;
}

VerifiedTensor Judge(const std::string& name, const PlanLine& line,
                     const CompareWeightsOptions& options, const BoundSum& error,
                     std::vector<std::string>& problems) {
  const ErrorBound bound = BoundOf(line, options);
  VerifiedTensor tensor;
  tensor.name = name;
  tensor.type = EncodingName(line.encoding);
  tensor.max_error = error.rows.max_error;
  tensor.relative_rmse = error.rows.squared_a > 0
                             ? std::sqrt(error.rows.squared_error / error.rows.squared_a)
                             : std::sqrt(error.rows.squared_error);
  tensor.bound = bound.relative_rmse;
  const auto n = static_cast<double>(error.n_weights);
  const double allowed_rms =
      bound.relative_rmse * std::sqrt(error.rows.squared_a / n) + bound.slack;
  tensor.ok = error.is_finite && std::sqrt(error.rows.squared_error / n) <= allowed_rms &&
              error.worst_block <= bound.block_error;
  if (!error.is_finite) {
    problems.push_back(
        fmt::format("tensor '{}': NaN or Inf, in it or in the source", Escape(name)));
  } else if (!tensor.ok) {
    problems.push_back(fmt::format(
        "tensor '{}': {} decodes with relative RMSE {:.3g} (at most {:.3g}) and an error of {:.3g} "
        "of a block's largest weight (at most {:.3g})",
        Escape(name), tensor.type, tensor.relative_rmse, bound.relative_rmse, error.worst_block,
        bound.block_error));
  }
  return tensor;
}

}  // namespace

void CompareWeights(const SourceModel& source, const StoredModel& output,
                    std::span<const StoredWeight> weights, const CompareWeightsOptions& options,
                    Meter& meter, Verification& verification) {
  Plan plan;
  std::vector<std::size_t> order;
  for (const StoredWeight& weight : weights) {
    order.push_back(plan.lines.size());
    plan.lines.push_back(weight.line);
  }
  struct Worker {
    LineReader reader;
    RowCodec codec;
    std::vector<float> decoded;
  };
  std::vector<Worker> workers(options.threads, Worker{LineReader(source), {}, {}});
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, order, kComparedElements);
  std::vector<BoundSum> of_chunk(chunks.size());
  ParallelChunks(
      options.threads, chunks.size(),
      [&](std::size_t item, unsigned i) {
        const RowChunk& chunk = chunks[item];
        const PlanLine& line = plan.lines[chunk.line];
        Worker& worker = workers[i];
        const std::span<float> x = worker.reader.Read(line, chunk);
        if (options.nan_was_zeroed)
          std::ranges::replace_if(
              x, [](float w) { return std::isnan(w); }, 0.0F);
        if (options.was_clamped && HasHalfRange(line.encoding)) {
          for (float& w : x) w = std::clamp(w, -kHalfMax, kHalfMax);
        }
        worker.decoded.resize(x.size());
        output.ReadRows(weights[chunk.line].piece, chunk.first_row, chunk.n_rows, worker.codec,
                        worker.decoded);
        const ErrorBound bound = BoundOf(line, options);
        const std::size_t n = line.row_elements();
        for (std::size_t r = 0; r < chunk.n_rows; ++r)
          of_chunk[item].Add(
              CompareRow(bound, x.subspan(r * n, n), std::span(worker.decoded).subspan(r * n, n)));
        meter.done += x.size();
      },
      meter.parallel_hooks());
  source.stored->CheckUnchanged();

  std::vector<BoundSum> of_weight(weights.size());
  for (std::size_t item = 0; item < chunks.size(); ++item)
    of_weight[chunks[item].line].Add(of_chunk[item]);
  for (std::size_t i = 0; i < weights.size(); ++i)
    verification.tensors.push_back(Judge(output.pieces()[weights[i].piece].name, weights[i].line,
                                         options, of_weight[i], verification.problems));
}

std::vector<std::string> NotesOf(std::span<const Decision> decisions) {
  std::vector<std::string> notes;
  for (const Decision& decision : decisions)
    notes.push_back(fmt::format("{}: {} ({})", Escape(decision.subject), Escape(decision.value),
                                decision.reason));
  return notes;
}

}  // namespace phiq
