// A weight is read once, however many outputs want it: the unit of work is a run of rows of one
// source, with the list of plan lines that these rows belong to.
#include "convert/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <variant>

#include "base/buffer.h"
#include "base/finite.h"
#include "base/half.h"
#include "calibrate/inputs.h"
#include "convert/record.h"
#include "engine/product.h"
#include "formats/format.h"
#include "io/parallel.h"
#include "kernels/grid.h"
#include "kernels/simd/compare.h"
#include "kernels/simd/floats.h"
#include "model/float_types.h"
#include "phiq/encoding.h"
#include "phiq/quantize.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// What a scale of the encoding may be at most, for messages.
std::string_view LargestScale(const Encoding& encoding) {
  const GroupEncoding* groups = std::get_if<GroupEncoding>(&encoding);
  if (groups != nullptr && groups->scale == ScaleType::kE4M3) return "E4M3 value 448";
  // GGUF's scales are halves.
  const bool is_half = std::holds_alternative<GgmlType>(encoding) || HasHalfRange(encoding);
  return is_half ? "F16 value 65504" : "F32 value";
}

// Whether weights of 65520 and above become Inf.
bool HasHalfRange(const PlanLine& line) {
  return HasHalfRange(line.encoding) || line.method->weights == FloatType::kF16;
}

// Whether the rows' own bytes are what is stored of them.
bool IsStoredAs(FloatType type, const PlanLine& line) {
  return line.method == &kGgml && line.encoding == Encoding(GgmlTypeOf(type));
}

// Whether the encoding is floats that hold a weight of the largest magnitude, and so all of them.
bool HoldsAll(const Encoding& encoding, float largest) {
  const GgmlType* type = std::get_if<GgmlType>(&encoding);
  if (type == nullptr) return false;
  return *type == GgmlType::kF32 || (*type == GgmlType::kF16 && largest < kHalfOverflow) ||
         (*type == GgmlType::kBF16 && IsFinite(Bf16ToFloat(FloatToBf16(largest))));
}

float LargestMagnitude(const RawRows& x) {
  return simd::LargestMagnitude({x.type, x.bytes.data()}, x.size());
}

// As many as `floats` takes.
void ToFloats(const RawRows& x, std::span<float> floats) {
  simd::ConvertFloats({x.type, x.bytes.data()}, floats.size(), FloatType::kF32,
                      std::as_writable_bytes(floats).data());
}

// A line of one target, with the places of its arrays.
struct Sink {
  std::size_t target = 0;
  std::size_t result = 0;  // of all sinks of a stage
  std::size_t line_number = 0;
  const PlanLine* line = nullptr;
  std::array<const PlacedArray*, kMaxArrays> arrays{};
};

// A weight of the source or a table, and all lines that take rows of it.
struct TensorJob {
  std::vector<Sink> sinks;
};

// Rows [first_row, first_row + n_rows) of a job's source; each of its sinks takes all of them or
// none.
struct Piece {
  const TensorJob* job = nullptr;
  std::uint64_t first_row = 0, n_rows = 0;

  bool IsFor(const Sink& sink) const noexcept {
    return first_row >= sink.line->first_row &&
           first_row < sink.line->first_row + sink.line->n_rows();
  }
  // The same rows as the sink's line counts them.
  RowChunk In(const Sink& sink) const noexcept {
    return {0, first_row - sink.line->first_row, n_rows};
  }
};

std::vector<TensorJob> CollectJobs(const WeightIndex& weights,
                                   std::span<const StreamTarget> targets,
                                   const StreamStage& stage) {
  std::vector<TensorJob> jobs;
  std::size_t n_sinks = 0;
  std::map<std::variant<WeightId, ConfigTable>, std::size_t> of_source;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    const Plan& plan = *targets[t].plan;
    std::vector<Sink> sinks(plan.lines.size());
    std::vector<std::size_t> order;
    for (const PlacedArray& array : targets[t].layout->arrays) {
      Sink& sink = sinks[array.line];
      if (stage.takes && !stage.takes(plan.lines[array.line])) continue;
      if (sink.line == nullptr) {
        order.push_back(array.line);
        sink.result = n_sinks++;
      }
      sink.target = t;
      sink.line_number = array.line;
      sink.line = &plan.lines[array.line];
      sink.arrays[array.array] = &array;
    }
    for (const std::size_t i : order) {
      const PlanLine& line = *sinks[i].line;
      std::variant<WeightId, ConfigTable> from = weights.StoredAs({line.role, line.layer});
      if (line.table) from = *line.table;
      const auto [found, is_new] = of_source.try_emplace(from, jobs.size());
      if (is_new) jobs.emplace_back();
      jobs[found->second].sinks.push_back(sinks[i]);
    }
  }
  return jobs;
}

bool NeedsMoments(const PlanLine& line) { return line.method->needs == Needs::kMoments; }

// Whether rows of the line share words with others: then pieces have whole words of them.
bool HasRowsInWords(const Sink& sink) {
  return std::ranges::any_of(sink.arrays, [](const PlacedArray* array) {
    return array != nullptr && array->order.HasRowsInWords();
  });
}

std::uint64_t RowsAtOnce(std::uint64_t max_elements, std::uint64_t row_elements, bool needs_moments,
                         bool in_words) {
  const std::uint64_t n =
      std::max<std::uint64_t>(needs_moments ? kFeedbackRows : 1, max_elements / row_elements);
  constexpr std::uint64_t kInWord = Order::kRowsInWord;
  return in_words ? std::max(kInWord, n / kInWord * kInWord) : n;
}

// Rows of the weight or table that a job is of.
struct RowRange {
  std::uint64_t first = 0, end = std::numeric_limits<std::uint64_t>::max();
};

RowRange RowsOf(const ModelConfig& config, const TensorJob& job, const StreamStage& stage) {
  if (stage.expert < 0) return {};
  const PlanLine& line = *job.sinks.front().line;
  const engine::WeightRows rows = calibrate::RowsOf(config, {line.role, line.layer, stage.expert});
  return {rows.first_row, rows.first_row + rows.n_rows};
}

std::vector<Piece> CutIntoPieces(const ModelConfig& config, std::span<const TensorJob> jobs,
                                 const StreamStage& stage, std::uint64_t max_elements) {
  std::vector<Piece> pieces;
  for (const TensorJob& job : jobs) {
    const RowRange range = RowsOf(config, job, stage);
    std::vector<std::uint64_t> borders;
    for (const Sink& sink : job.sinks) {
      borders.push_back(std::clamp(sink.line->first_row, range.first, range.end));
      borders.push_back(
          std::clamp(sink.line->first_row + sink.line->n_rows(), range.first, range.end));
    }
    std::ranges::sort(borders);
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    const std::uint64_t rows_at_once = RowsAtOnce(
        max_elements, job.sinks.front().line->row_elements(),
        std::ranges::any_of(job.sinks, [](const Sink& sink) { return NeedsMoments(*sink.line); }),
        std::ranges::any_of(job.sinks, HasRowsInWords));
    for (std::size_t b = 0; b + 1 < borders.size(); ++b) {
      for (std::uint64_t row = borders[b]; row < borders[b + 1]; row += rows_at_once) {
        const Piece piece{&job, row, std::min(rows_at_once, borders[b + 1] - row)};
        if (std::ranges::any_of(job.sinks, [&](const Sink& sink) { return piece.IsFor(sink); }))
          pieces.push_back(piece);
      }
    }
  }
  return pieces;
}

// What a piece adds to the report of one sink. Kept by piece and summed in order, so that the
// figures do not depend on the number of threads; what decides between codes is kept by row, since
// pieces depend on the memory.
struct Tally {
  std::uint64_t n_clamped = 0;
  std::uint64_t n_outliers = 0;
  double squared_error = 0;
  double squared_weight = 0;
  Hash128 hash;
  std::uint64_t n_different = 0;
  std::vector<ProductErrors> products;  // of each row
};

// What all workers have.
struct Shared {
  SharedBytes bytes;
  ColumnBands bands;  // of stored arrays
};

// One thread's buffers.
class Worker {
 public:
  Worker(const SourceModel& source, std::span<const StreamTarget> targets,
         const StreamOptions& options, const StreamStage& stage, Shared& shared)
      : source_(source),
        targets_(targets),
        options_(options),
        stage_(stage),
        shared_(shared),
        reader_(source) {}

  // Reads, encodes and writes a piece. `tallies`: one a sink of its job.
  // Returns the bytes written.
  std::uint64_t Run(const Piece& piece, std::uint64_t& n_nan_zeroed, std::span<Tally> tallies) {
    const PlanLine& any_line = *piece.job->sinks.front().line;
    PlanLine whole = any_line;  // rows are counted from the start of the source
    whole.first_row = 0;
    RawRows x = reader_.ReadRaw(whole, {0, piece.first_row, piece.n_rows});
    // The place of a NaN, or of what overflows a half, is looked for only when there is one.
    float largest = LargestMagnitude(x);
    if (!IsFinite(largest)) {
      const std::span<float> floats = reader_.RawAsFloats();
      n_nan_zeroed += ZeroNan(any_line, floats);
      x = floats;
      largest = LargestMagnitude(x);
    }
    const std::uint64_t n_outliers = largest >= kOutlier ? CountOutliers(x, piece.n_rows) : 0;
    std::uint64_t n_bytes = 0;
    for (std::size_t s = 0; s < piece.job->sinks.size(); ++s) {
      const Sink& sink = piece.job->sinks[s];
      if (!piece.IsFor(sink)) continue;
      const RowChunk rows = piece.In(sink);
      Tally& tally = tallies[s];
      const bool overflows = HasHalfRange(*sink.line) && largest >= kHalfOverflow;
      const RawRows weights = overflows ? WithinRange(*sink.line, rows, x, tally) : x;
      if (IsStoredAs(weights.type, *sink.line)) {
        encoded_[0] = weights.bytes;
        row_bytes_[0] = weights.bytes.size() / rows.n_rows;
      } else {
        const float bound = overflows ? kHalfMax : largest;
        const bool is_held_against = stage_.probe != nullptr && sink.line->reference != nullptr;
        if (is_held_against) {
          const calibrate::Probe& probe = *stage_.probe;
          tally.products.resize(rows.n_rows);
          Encode(*sink.line, *sink.line->reference, rows, weights, bound);
          AddProducts(*sink.line, rows, weights, probe.held_back, probe.held_back_lacks,
                      &ProductErrors::reference, tally);
        }
        const Method& method = stage_.MethodOf(*sink.line);
        if (method.needs == Needs::kMoments && !stage_.correction.empty()) {
          const std::span<const float> corrected = Corrected(*sink.line, weights);
          Encode(*sink.line, method, rows, corrected, LargestMagnitude(corrected));
        } else {
          Encode(*sink.line, method, rows, weights, bound);
        }
        if (is_held_against) {
          const calibrate::Probe& probe = *stage_.probe;
          AddProducts(*sink.line, rows, weights, probe.held_back, probe.held_back_lacks,
                      &ProductErrors::held_back, tally);
          AddProducts(*sink.line, rows, weights, probe.seen, probe.seen_lacks, &ProductErrors::seen,
                      tally);
        }
        if (!sink.line->table && !IsExact(sink.line->encoding))
          Measure(*sink.line, rows, weights, tally);
        if (!sink.line->table && HasGrid(sink.line->encoding)) tally.n_outliers = n_outliers;
      }
      for (std::size_t a = 0; a < ArrayCount(sink.line->encoding); ++a) {
        HashRows(sink, a, rows, tally);
        if (targets_[sink.target].stored.empty()) {
          n_bytes += Write(sink, a, rows);
        } else {
          Compare(sink, a, rows, tally);
        }
      }
    }
    return n_bytes;
  }

 private:
  // Applies the policy on NaN and Inf. Returns how many were replaced.
  std::uint64_t ZeroNan(const PlanLine& line, std::span<float> x) const {
    std::uint64_t n_zeroed = 0;
    std::size_t i = FirstNonFinite(x);
    for (; i < x.size(); i += 1 + FirstNonFinite(x.subspan(i + 1))) {
      if (options_.nan != NanPolicy::kZero || !std::isnan(x[i])) {
        throw NonFiniteWeights(source_, line, options_.chunk_elements);
      }
      x[i] = 0.0F;
      ++n_zeroed;
    }
    return n_zeroed;
  }

  // A copy of weights of which some are beyond a half's range, with those clamped.
  RawRows WithinRange(const PlanLine& line, const RowChunk& rows, const RawRows& x, Tally& tally) {
    Renew(clamped_, x.size());
    ToFloats(x, clamped_);
    for (std::size_t i = 0; i < clamped_.size(); ++i) {
      float& w = clamped_[i];
      if (std::abs(w) < kHalfOverflow) continue;
      if (options_.overflow != OverflowPolicy::kClamp) throw HalfOverflow(line, rows, i, w);
      w = std::copysign(kHalfMax, w);
      ++tally.n_clamped;
    }
    return clamped_;
  }

  // Fills encoded_. `largest`: the largest magnitude.
  void Encode(const PlanLine& line, const Method& method, const RowChunk& rows, const RawRows& x,
              float largest) {
    const std::size_t n = line.row_elements();
    const std::size_t n_arrays = ArrayCount(line.encoding);
    std::array<std::span<std::byte>, kMaxArrays> all_rows;
    for (std::size_t a = 0; a < n_arrays; ++a) {
      row_bytes_[a] = ArrayRowBytes(line.encoding, a, n);
      Renew(buffers_[a], rows.n_rows * row_bytes_[a]);
      all_rows[a] = buffers_[a];
      encoded_[a] = buffers_[a];
    }
    assert(method.fills(line.encoding));
    method.quantize(line.encoding, x, n, stage_.stats, std::span(all_rows).first(n_arrays));
    if (HoldsAll(line.encoding, largest)) return;
    for (std::size_t r = 0; r < rows.n_rows; ++r) {
      const auto arrays = EncodedRow(line, r);
      if (const auto bad = FindNonFinite(line.encoding, std::span(arrays).first(n_arrays), n))
        throw ScaleOverflow(line, rows.first_row + r, *bad);
    }
  }

  std::array<std::span<const std::byte>, kMaxArrays> EncodedRow(const PlanLine& line,
                                                                std::size_t r) const {
    std::array<std::span<const std::byte>, kMaxArrays> arrays;
    for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a)
      arrays[a] = encoded_[a].subspan(r * row_bytes_[a], row_bytes_[a]);
    return arrays;
  }

  std::span<const float> Corrected(const PlanLine& line, const RawRows& x) {
    Renew(errors_, x.size());
    ToFloats(x, errors_);
    Renew(corrected_, x.size());
    calibrate::CorrectRows(stage_.correction, calibrate::kCorrectionShare, errors_,
                           line.row_elements(), corrected_);
    return corrected_;
  }

  // Of what was encoded last: the squares of what its errors make of inputs, by row.
  // Shapes    inputs: [tokens, n]; lacks: the same, or without rows.
  void AddProducts(const PlanLine& line, const RowChunk& rows, const RawRows& x,
                   const engine::Matrix& inputs, const engine::Matrix& lacks,
                   double ProductErrors::*sum, Tally& tally) {
    const std::size_t n = line.row_elements();
    Renew(errors_, x.size());
    ToFloats(x, errors_);
    Renew(products_, inputs.n_rows * rows.n_rows);
    const auto multiply = [&](const engine::Matrix& vectors, engine::Into into) {
      if (vectors.n_rows > 0)
        engine::Multiply(vectors.values.data(), n, {errors_.data(), n, true}, vectors.n_rows,
                         rows.n_rows, n, into, products_.data(), rows.n_rows);
    };
    // w x - v x~ = w (x - x~) + (w - v) x~: no digits are lost.
    multiply(lacks, engine::Into::kReplace);
    Renew(decoded_, n);
    for (std::size_t r = 0; r < rows.n_rows; ++r) {
      const auto arrays = EncodedRow(line, r);
      codec_.Decode(line.encoding, std::span(arrays).first(ArrayCount(line.encoding)), decoded_);
      for (std::size_t c = 0; c < n; ++c) errors_[r * n + c] -= decoded_[c];
    }
    multiply(inputs, lacks.n_rows > 0 ? engine::Into::kAdd : engine::Into::kReplace);
    for (std::size_t t = 0; t < inputs.n_rows; ++t) {
      for (std::size_t r = 0; r < rows.n_rows; ++r) {
        const double error = products_[t * rows.n_rows + r];
        tally.products[r].*sum += error * error;
      }
    }
  }

  std::uint64_t CountOutliers(const RawRows& x, std::uint64_t n_rows) {
    const std::size_t n_bytes = x.bytes.size() / n_rows;
    std::uint64_t n_outliers = 0;
    row_.resize(x.size() / n_rows);
    for (std::uint64_t r = 0; r < n_rows; ++r) {
      ToFloats({x.type, x.bytes.subspan(r * n_bytes)}, row_);
      for (float& w : row_) w = std::abs(w);
      if (std::ranges::max(row_) < kOutlier) continue;
      const auto middle = row_.begin() + static_cast<std::ptrdiff_t>(row_.size() / 2);
      std::ranges::nth_element(row_, middle);
      const float bound = kOutlierRatio * *middle;
      if (bound == 0) continue;  // nothing that could be lost
      n_outliers += static_cast<std::uint64_t>(
          std::ranges::count_if(row_, [&](float w) { return w >= kOutlier && w > bound; }));
    }
    return n_outliers;
  }

  void Measure(const PlanLine& line, const RowChunk& rows, const RawRows& x, Tally& tally) {
    const std::size_t n = line.row_elements();
    row_.resize(n);
    decoded_.resize(n);
    for (std::size_t r = 0; r < rows.n_rows; ++r) {
      if ((rows.first_row + r) % kErrorSampleStride != 0) continue;
      const auto arrays = EncodedRow(line, r);
      codec_.Decode(line.encoding, std::span(arrays).first(ArrayCount(line.encoding)), decoded_);
      ToFloats({x.type, x.bytes.subspan(r * (x.bytes.size() / rows.n_rows))}, row_);
      const simd::RowSums sums = simd::CompareRows(row_, decoded_);
      tally.squared_error += sums.squared_error;
      tally.squared_weight += sums.squared_a;
    }
  }

  RowArray ArrayOf(const Sink& sink, std::size_t a) const {
    return {sink.arrays[a]->order, sink.line->n_rows(), row_bytes_[a]};
  }

  // Encoded rows of an array as its file will have them, with what it does not store cleared.
  std::span<const std::byte> Stored(const RowArray& array, std::size_t a) {
    if (!HasUnstored(array)) return encoded_[a];
    cleared_.assign(encoded_[a].begin(), encoded_[a].end());
    ClearUnstored(array, cleared_);
    return cleared_;
  }

  void HashRows(const Sink& sink, std::size_t a, const RowChunk& rows, Tally& tally) {
    const std::span<const std::byte> bytes = Stored(ArrayOf(sink, a), a);
    for (std::uint64_t r = 0; r < rows.n_rows; ++r)
      tally.hash.Add(
          HashRow(a, rows.first_row + r, bytes.subspan(r * row_bytes_[a], row_bytes_[a])));
  }

  void Compare(const Sink& sink, std::size_t a, const RowChunk& rows, Tally& tally) {
    const PlacedArray& place = *sink.arrays[a];
    const StreamTarget& target = targets_[sink.target];
    const RowArray array = ArrayOf(sink, a);
    Renew(stored_, encoded_[a].size());
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> out) {
      target.ReadAt(place.file, place.offset_bytes + offset_bytes, out);
    };
    if (array.order.IsByColumns()) {
      shared_.bands.ReadRows(array, &place, rows.first_row, stored_, read);
    } else {
      ReadRows(array, rows.first_row, stored_, read);
    }
    const std::span<const std::byte> bytes = Stored(array, a);
    for (std::uint64_t r = 0; r < rows.n_rows; ++r) {
      const std::size_t at = r * row_bytes_[a];
      if (std::memcmp(&stored_[at], &bytes[at], row_bytes_[a]) != 0) ++tally.n_different;
    }
  }

  // Returns the bytes written.
  std::uint64_t Write(const Sink& sink, std::size_t a, const RowChunk& rows) {
    const PlacedArray& place = *sink.arrays[a];
    OutputFile& file = *targets_[sink.target].files[place.file];
    const RowArray array = ArrayOf(sink, a);
    std::uint64_t n_bytes = 0;
    const auto write = [&](std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
      file.WriteAt(place.offset_bytes + offset_bytes, bytes);
      n_bytes += bytes.size();
    };
    WriteRows(array, rows.first_row, encoded_[a], shared_.bytes, &place, rearranged_, write);
    const bool is_last = rows.first_row + rows.n_rows == array.n_rows;
    if (is_last && place.padding_bytes > 0)
      write(SizeBytes(array), std::vector<std::byte>(place.padding_bytes));
    return n_bytes;
  }

  Error HalfOverflow(const PlanLine& line, const RowChunk& rows, std::size_t i, float value) const {
    const bool may_widen = std::holds_alternative<GgmlType>(line.encoding) &&
                           std::ranges::all_of(targets_, [](const StreamTarget& target) {
                             return FindFormat(target.plan->format).may_widen;
                           });
    return Error(ErrorCode::kNumeric,
                 fmt::format("weight {} is {}, beyond the largest F16 value 65504",
                             (line.first_row + rows.first_row) * line.row_elements() + i, value))
        .In(source_.FileOf(line, rows.first_row))
        .Tensor(line.name)
        .Hint(may_widen ? "--overflow clamp or --overflow f32, or another type such as BF16"
                        : "--overflow clamp, or a type that computes in float32");
  }

  Error ScaleOverflow(const PlanLine& line, std::uint64_t row, std::size_t column) const {
    const std::size_t n = line.row_elements();
    const std::size_t block_size = BoundOf(line.encoding, n).block_size;
    return Error(ErrorCode::kNumeric,
                 fmt::format("the scale of {} block {} (row {}, columns {} to {}) is beyond the "
                             "largest {}",
                             EncodingName(line.encoding), (row * n + column) / block_size,
                             line.first_row + row, column, std::min(column + block_size, n) - 1,
                             LargestScale(line.encoding)))
        .In(source_.FileOf(line, row))
        .Tensor(line.name)
        .Hint(
            "weights this large need BF16 or F32: --tensor-type NAME=F32, where the format has "
            "it");
  }

  const SourceModel& source_;
  std::span<const StreamTarget> targets_;
  const StreamOptions& options_;
  const StreamStage& stage_;
  Shared& shared_;
  LineReader reader_;
  RowCodec codec_;
  // Of the line encoded last: bytes of its arrays (in buffers_, or as they were read), and of one
  // row in each.
  std::array<std::span<const std::byte>, kMaxArrays> encoded_;
  std::array<std::vector<std::byte>, kMaxArrays> buffers_;
  std::array<std::size_t, kMaxArrays> row_bytes_{};
  std::vector<std::byte> rearranged_, cleared_, stored_;
  std::vector<float> clamped_, row_, decoded_, errors_, corrected_, products_;
};

}  // namespace

std::uint64_t StreamBytesPerThread(std::span<const StreamTarget> targets, const SourceModel& source,
                                   std::uint64_t chunk_elements, OverflowPolicy overflow) {
  // Buffers keep the size of the largest chunk so far.
  std::uint64_t most_read = 0, most_clamped = 0, most_encoded = 0, most_rearranged = 0;
  std::uint64_t most_calibrated = 0;
  for (const StreamTarget& target : targets) {
    for (const PlacedArray& array : target.layout->arrays) {
      const PlanLine& line = target.plan->lines[array.line];
      const std::uint64_t row = line.row_elements();
      const std::uint64_t n_rows = std::min(
          line.n_rows(),
          RowsAtOnce(chunk_elements, row, NeedsMoments(line), array.order.HasRowsInWords()));
      const std::uint64_t encoded = n_rows * EncodedRowBytes(line.encoding, row);
      most_read =
          std::max(most_read, source.StoredBytes(line, 0, n_rows) + source.WorkBytes(line, n_rows) +
                                  (n_rows + 4) * row * sizeof(float));
      if (overflow == OverflowPolicy::kClamp && HasHalfRange(line))
        most_clamped = std::max(most_clamped, n_rows * row * sizeof(float));
      most_encoded = std::max(most_encoded, encoded);
      if (array.order.kind != Order::Kind::kRows)
        most_rearranged = std::max(most_rearranged, 2 * encoded);  // cleared, or words of rows
      if (line.reference == nullptr) continue;
      std::uint64_t calibrated = n_rows * (row + calibrate::Probe::kTokens) * sizeof(float);
      // Twice again as floats: corrected weights, and what they are corrected by.
      if (NeedsMoments(line))
        calibrated += 2 * n_rows * row * sizeof(float) + kFeedbackRows * (10 * row + (2ULL << 10));
      most_calibrated = std::max(most_calibrated, calibrated);
    }
  }
  return most_read + most_clamped + most_encoded + most_rearranged + most_calibrated;
}

void StreamTarget::ReadAt(std::size_t file, std::uint64_t offset_bytes,
                          std::span<std::byte> bytes) const {
  if (stored.empty()) {
    files[file]->ReadAt(offset_bytes, bytes);
  } else {
    stored[file]->ReadAt(offset_bytes, bytes);
  }
}

void StreamResult::Add(const StreamResult& other) {
  bytes_read += other.bytes_read;
  n_nan_zeroed += other.n_nan_zeroed;
  for (const LineResult& line : other.lines) {
    const auto same = std::ranges::find_if(lines, [&](const LineResult& one) {
      return one.target == line.target && one.line == line.line && one.expert == line.expert;
    });
    if (same == lines.end()) {
      lines.push_back(line);
    } else {
      *same = line;  // written once more
    }
  }
}

std::uint64_t WeightsOf(const SourceModel& source, std::span<const StreamTarget> targets,
                        const StreamStage& stage) {
  std::uint64_t n_weights = 0;
  for (const TensorJob& job : CollectJobs(source.weights, targets, stage)) {
    const PlanLine& line = *job.sinks.front().line;
    const RowRange rows = RowsOf(source.model.config, job, stage);
    n_weights +=
        stage.expert < 0 ? line.n_elements() : (rows.end - rows.first) * line.row_elements();
  }
  return n_weights;
}

StreamResult StreamTensors(const SourceModel& source, std::span<const StreamTarget> targets,
                           const StreamOptions& options, const StreamStage& stage, Meter& meter) {
  const std::vector<TensorJob> jobs = CollectJobs(source.weights, targets, stage);
  const std::vector<Piece> pieces =
      CutIntoPieces(source.model.config, jobs, stage, options.chunk_elements);

  Shared shared;
  std::vector<Worker> workers;
  for (unsigned i = 0; i < options.threads; ++i)
    workers.emplace_back(source, targets, options, stage, shared);
  std::vector<std::vector<Tally>> tallies(pieces.size());
  std::vector<std::uint64_t> n_nan_zeroed(pieces.size());
  const auto work = [&](std::size_t item, unsigned worker) {
    const Piece& piece = pieces[item];
    tallies[item].resize(piece.job->sinks.size());
    meter.bytes_written += workers[worker].Run(piece, n_nan_zeroed[item], tallies[item]);
    meter.done += piece.n_rows * piece.job->sinks.front().line->row_elements();
  };
  ParallelHooks hooks = meter.parallel_hooks();
  hooks.on_failure = [&] {
    for (const StreamTarget& target : targets)
      for (OutputFile* file : target.files) file->Abandon();
  };
  ParallelChunks(options.threads, pieces.size(), work, hooks);
  meter.Tell();
  source.stored->CheckUnchanged();

  StreamResult result;
  for (const std::uint64_t n : n_nan_zeroed) result.n_nan_zeroed += n;
  std::size_t n_sinks = 0;
  for (const TensorJob& job : jobs) n_sinks += job.sinks.size();
  result.lines.resize(n_sinks);
  for (const TensorJob& job : jobs) {
    for (const Sink& sink : job.sinks) {
      result.lines[sink.result].target = sink.target;
      result.lines[sink.result].line = sink.line_number;
      result.lines[sink.result].expert = stage.expert;
      result.lines[sink.result].method = &stage.MethodOf(*sink.line);
    }
  }
  std::vector<std::size_t> n_rows(n_sinks);  // with products
  for (std::size_t item = 0; item < pieces.size(); ++item) {
    const Piece& piece = pieces[item];
    for (std::size_t s = 0; s < piece.job->sinks.size(); ++s) {
      const Tally& tally = tallies[item][s];
      LineResult& line = result.lines[piece.job->sinks[s].result];
      line.n_clamped += tally.n_clamped;
      line.n_outliers += tally.n_outliers;
      line.squared_error += tally.squared_error;
      line.squared_weight += tally.squared_weight;
      line.hash.Add(tally.hash);
      line.n_different += tally.n_different;
      for (const ProductErrors& row : tally.products) {
        if (!line.products) line.products.emplace();
        line.products->held_back += row.held_back;
        line.products->reference += row.reference;
        line.products->seen += row.seen;
        ++n_rows[piece.job->sinks[s].result];
      }
    }
    PlanLine whole = *piece.job->sinks.front().line;
    whole.first_row = 0;
    result.bytes_read += source.StoredBytes(whole, piece.first_row, piece.n_rows);
  }
  for (std::size_t s = 0; s < n_sinks; ++s) {
    if (!result.lines[s].products) continue;
    const auto share = [&](const engine::Matrix& inputs) {
      return 1.0 / static_cast<double>(std::max<std::size_t>(1, inputs.n_rows) * n_rows[s]);
    };
    ProductErrors& products = *result.lines[s].products;
    products.held_back *= share(stage.probe->held_back);
    products.reference *= share(stage.probe->held_back);
    products.seen *= share(stage.probe->seen);
  }
  return result;
}

}  // namespace phiq
