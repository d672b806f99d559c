// `phiq compare`: two sets of weights, part by part of the finer side.
#include "phiq/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "convert/meter.h"
#include "convert/open_model.h"
#include "io/parallel.h"
#include "kernels/simd/compare.h"
#include "phiq/plan.h"
#include "phiq/text.h"
#include "stored/stored_model.h"

namespace phiq {
namespace {

constexpr std::uint64_t kCompareElements = 1ULL << 17;  // weights compared at once by a thread

// Models of which one has other weights that say the same are compared as if both had.
void ExpressAlike(std::unique_ptr<StoredModel>& a, std::unique_ptr<StoredModel>& b) {
  const Expression of_a = a->expression(), of_b = b->expression();
  if (of_a == of_b) return;
  const bool changes_a = !of_a.has_zero_mean && (of_b.has_zero_mean || of_a == Expression());
  std::unique_ptr<StoredModel>& changed = changes_a ? a : b;
  changed = Express(std::move(changed), changes_a ? of_b : of_a);
}

struct Side {
  explicit Side(std::unique_ptr<StoredModel> opened) : model(std::move(opened)), index(*model) {}

  const std::unique_ptr<StoredModel> model;
  const WeightIndex index;
};

// Rows of a weight that one piece holds on either side.
struct Segment {
  WeightId weight;
  std::uint64_t first_row = 0, n_rows = 0, row_elements = 0;
  std::size_t piece_a = 0, piece_b = 0;
};

using ErrorSum = simd::RowSums;

// sqrt(error / of), where nothing of nothing is 0.
double RelativeRmse(const ErrorSum& sum) {
  if (sum.squared_error == 0) return 0;
  return std::sqrt(sum.squared_error / sum.squared_a);
}

double Cosine(const ErrorSum& sum) {
  if (sum.squared_error == 0) return 1;
  if (sum.squared_a == 0 || sum.squared_b == 0) return 0;
  return sum.product / std::sqrt(sum.squared_a * sum.squared_b);
}

void CheckSameModel(const CompareOptions& options, const ModelConfig& a, const ModelConfig& b) {
  const auto check = [&](std::string_view what, std::uint32_t of_a, std::uint32_t of_b) {
    if (of_a == of_b) return;
    throw Error(ErrorCode::kBadData, fmt::format("is another model than {}: {} {}, there {}",
                                                 Escape(options.a), what, of_b, of_a))
        .In(options.b);
  };
  check("layers", a.n_layers, b.n_layers);
  check("hidden size", a.hidden_size, b.hidden_size);
  check("intermediate size", a.intermediate_size, b.intermediate_size);
  check("vocabulary size", a.vocab_size, b.vocab_size);
  check("attention heads", a.n_heads, b.n_heads);
  check("key and value heads", a.n_kv_heads, b.n_kv_heads);
}

bool HasOwnHead(const StoredModel& model) {
  return std::ranges::any_of(model.pieces(), [](const StoredPiece& piece) {
    return piece.holds == Holds::kWeight && piece.role == TensorRole::kOutputHead;
  });
}

// In the model's order.
std::vector<Segment> FindSegments(const Side& a, const Side& b) {
  const ModelConfig& config = a.model->config();
  const bool has_head = HasOwnHead(*a.model) || HasOwnHead(*b.model);
  std::vector<Segment> segments;
  for (const WeightInfo& weight : WeightsOf(config)) {
    const WeightId& id = weight.id;
    const WeightShape& shape = weight.shape;
    if (id.role == TensorRole::kOutputHead && !has_head) continue;
    auto part_a = a.index.PartsOf(id).begin();
    auto part_b = b.index.PartsOf(id).begin();
    for (std::uint64_t row = 0; row < shape.n_rows;) {
      const std::uint64_t end_a = part_a->first_row + part_a->n_rows;
      const std::uint64_t end_b = part_b->first_row + part_b->n_rows;
      const std::uint64_t end = std::min(end_a, end_b);
      segments.push_back({id, row, end - row, shape.row_elements, part_a->piece, part_b->piece});
      if (end == end_a) ++part_a;
      if (end == end_b) ++part_b;
      row = end;
    }
  }
  return segments;
}

TensorPart PartOf(const ModelConfig& config, const Segment& segment) {
  const WeightInfo weight = InfoOf(config, segment.weight);
  if (segment.n_rows == weight.shape.n_rows) return TensorPart::kWhole;
  const auto part = std::ranges::find_if(weight.parts, [&](const WeightPart& p) {
    return segment.first_row < p.first_row + p.n_rows;
  });
  return part == weight.parts.end() ? TensorPart::kWhole : part->part;
}

double BitsPerWeight(const StoredPiece& piece) { return TotalsOf({&piece, 1}).bits_per_weight(); }

ComparedSide Describe(const std::string& path, const StoredModel& model) {
  ComparedSide side;
  side.path = path;
  side.kind = model.kind();
  const WeightTotals totals = TotalsOf(model.pieces());
  side.data_bytes = totals.size_bytes;
  side.bits_per_weight = totals.bits_per_weight();
  return side;
}

ComparedTensor Describe(const Side& a, const Side& b, const Segment& segment,
                        const ErrorSum& error) {
  const StoredPiece& piece_a = a.model->pieces()[segment.piece_a];
  const StoredPiece& piece_b = b.model->pieces()[segment.piece_b];
  PlanLine line;
  line.name = CheckpointName(a.model->config(), segment.weight);
  line.part = PartOf(a.model->config(), segment);
  ComparedTensor tensor;
  tensor.name = line.display_name();
  tensor.role = segment.weight.role;
  tensor.layer = segment.weight.layer;
  if (!IsVector(tensor.role)) tensor.shape.push_back(segment.n_rows);
  tensor.shape.push_back(segment.row_elements);
  tensor.type_a = piece_a.type;
  tensor.type_b = piece_b.type;
  tensor.bits_per_weight_a = BitsPerWeight(piece_a);
  tensor.bits_per_weight_b = BitsPerWeight(piece_b);
  tensor.max_error = error.max_error;
  const auto n_weights = static_cast<double>(segment.n_rows * segment.row_elements);
  tensor.rmse = std::sqrt(error.squared_error / n_weights);
  tensor.relative_rmse = RelativeRmse(error);
  tensor.snr_db = -20 * std::log10(tensor.relative_rmse);
  tensor.cosine = Cosine(error);
  return tensor;
}

struct Chunk {
  std::size_t segment = 0;
  std::uint64_t first_row = 0, n_rows = 0;  // of the weight
};

std::vector<Chunk> CutIntoChunks(std::span<const Segment> segments) {
  std::vector<Chunk> chunks;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const std::uint64_t rows_at_once =
        std::max<std::uint64_t>(1, kCompareElements / segment.row_elements);
    for (std::uint64_t row = 0; row < segment.n_rows; row += rows_at_once) {
      chunks.push_back({i, segment.first_row + row, std::min(rows_at_once, segment.n_rows - row)});
    }
  }
  return chunks;
}

// The sums of each segment: the same for any number of threads, as chunks are added in order.
std::vector<ErrorSum> Measure(const Side& a, const Side& b, std::span<const Segment> segments,
                              unsigned threads, const Hooks& hooks) {
  const std::vector<Chunk> chunks = CutIntoChunks(segments);
  struct Worker {
    RowCodec codec;
    std::vector<float> a, b;
  };
  std::vector<Worker> workers(threads);
  std::vector<ErrorSum> of_chunk(chunks.size());
  std::uint64_t n_weights = 0;
  for (const Segment& segment : segments) n_weights += segment.n_rows * segment.row_elements;
  Meter meter(hooks, n_weights);
  ParallelChunks(
      threads, chunks.size(),
      [&](std::size_t item, unsigned i) {
        const Chunk& chunk = chunks[item];
        const Segment& segment = segments[chunk.segment];
        const std::size_t n = segment.row_elements;
        Worker& worker = workers[i];
        worker.a.resize(chunk.n_rows * n);
        worker.b.resize(chunk.n_rows * n);
        a.index.ReadRows(segment.weight, chunk.first_row, chunk.n_rows, worker.codec, worker.a);
        b.index.ReadRows(segment.weight, chunk.first_row, chunk.n_rows, worker.codec, worker.b);
        for (std::size_t r = 0; r < chunk.n_rows; ++r)
          of_chunk[item].Add(simd::CompareRows(std::span(worker.a).subspan(r * n, n),
                                               std::span(worker.b).subspan(r * n, n)));
        meter.done += chunk.n_rows * n;
      },
      {[&] { meter.Tell(); }, hooks.stop_requested, {}});
  meter.Tell();
  std::vector<ErrorSum> of_segment(segments.size());
  for (std::size_t item = 0; item < chunks.size(); ++item)
    of_segment[chunks[item].segment].Add(of_chunk[item]);
  return of_segment;
}

}  // namespace

Comparison Compare(const CompareOptions& options, const Hooks& hooks) {
  const auto open = [&](const std::string& path) {
    return OpenStoredModel(path, hooks.warn,
                           {options.ignore_extra, options.adapters, options.pad_vocab});
  };
  std::unique_ptr<StoredModel> model_a = open(options.a), model_b = open(options.b);
  // Only headers are read so far, and a broken file is told before other differences.
  model_a->config();
  model_b->config();
  ExpressAlike(model_a, model_b);
  const Side a(std::move(model_a));
  const Side b(std::move(model_b));
  CheckSameModel(options, a.model->config(), b.model->config());
  // From here on every weight has the same shape on both sides.
  const std::vector<Segment> segments = FindSegments(a, b);
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  const std::vector<ErrorSum> errors = Measure(a, b, segments, threads, hooks);
  a.model->CheckUnchanged();
  b.model->CheckUnchanged();

  Comparison comparison;
  comparison.a = Describe(options.a, *a.model);
  comparison.b = Describe(options.b, *b.model);
  ErrorSum total;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    comparison.tensors.push_back(Describe(a, b, segments[i], errors[i]));
    comparison.n_weights += segments[i].n_rows * segments[i].row_elements;
    total.Add(errors[i]);
  }
  for (std::size_t i = 0; i < segments.size() && total.squared_error > 0; ++i)
    comparison.tensors[i].share = errors[i].squared_error / total.squared_error;
  std::ranges::stable_sort(comparison.tensors, std::ranges::greater(), &ComparedTensor::share);
  comparison.relative_rmse = RelativeRmse(total);
  comparison.max_error = total.max_error;
  return comparison;
}

}  // namespace phiq
