// Damage is looked for in the bytes of the files, by the places that the record names: no format is
// asked what they mean.
#include "convert/check_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "convert/calibrated_run.h"
#include "convert/stages.h"
#include "io/parallel.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq {
namespace {

constexpr std::uint64_t kBytesAtOnce = 1U << 20;

std::string FileName(const InputFile& file) { return Escape(file.path().filename().string()); }

// Some rows of one array.
struct ArrayRows {
  std::size_t array = 0;  // of Record::arrays
  std::uint64_t first = 0, n = 0;
};

class ArrayReader {
 public:
  ArrayReader(const Record& record, std::span<const InputFile> files)
      : record_(record), files_(files) {}

  RowArray ArrayOf(const PlacedArray& place) const {
    const PlanLine& line = record_.lines[place.line];
    return {place.order, line.n_rows(),
            ArrayRowBytes(line.encoding, place.array, line.row_elements())};
  }

  // The sum of their hashes. Threads: safe, with a buffer for each.
  Hash128 Hash(const ArrayRows& rows, std::vector<std::byte>& buffer) {
    const PlacedArray& place = record_.arrays[rows.array];
    const RowArray array = ArrayOf(place);
    buffer.resize(rows.n * array.row_bytes);
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> out) {
      files_[place.file].ReadAt(place.offset_bytes + offset_bytes, out);
    };
    if (array.order.IsByColumns()) {
      bands_.ReadRows(array, &place, rows.first, buffer, read);
    } else {
      ReadRows(array, rows.first, buffer, read);
    }
    Hash128 sum;
    for (std::uint64_t r = 0; r < rows.n; ++r)
      sum.Add(HashRow(place.array, rows.first + r,
                      std::span(buffer).subspan(r * array.row_bytes, array.row_bytes)));
    return sum;
  }

 private:
  const Record& record_;
  std::span<const InputFile> files_;
  ColumnBands bands_;
};

bool NeedsCalibration(const PlanLine& recorded) {
  return recorded.method == nullptr || recorded.method->needs != Needs::kNothing;
}

// A recorded line as the source has it; nullopt: it has no such rows.
class LineFinder {
 public:
  explicit LineFinder(const Model& model) : model_(model) {
    for (const ModelTensor& tensor : model.tensors) {
      tensors_[tensor.name] = &tensor;
      if (tensor.shape.size() != 3) continue;  // an expert may be a line of its own
      for (const WeightPart& part : InfoOf(model.config, {tensor.role, tensor.layer}).parts)
        tensors_[part.name] = &tensor;
    }
  }

  std::optional<PlanLine> Find(const PlanLine& recorded) const {
    PlanLine line;
    if (recorded.table) {
      line = LineOf(model_.config, *recorded.table, "");
      if (line.shape != recorded.shape) return std::nullopt;
    } else {
      const ModelTensor* const tensor = TensorOf(recorded);
      if (tensor == nullptr) return std::nullopt;
      line = LineOf(*tensor);
      const std::uint64_t n_rows = line.n_rows();
      const bool is_one_expert = line.shape.size() == 3 && recorded.shape.size() == 2;
      if (line.row_elements() != recorded.row_elements() ||
          (line.shape.size() != recorded.shape.size() && !is_one_expert) ||
          recorded.n_rows() > n_rows || recorded.first_row > n_rows - recorded.n_rows())
        return std::nullopt;
    }
    line.name = recorded.name;
    line.role = recorded.role;
    line.part = recorded.part;
    line.first_row = recorded.first_row;
    line.shape = recorded.shape;
    line.encoding = recorded.encoding;
    line.method = recorded.method;
    line.reference = recorded.reference;
    return line;
  }

 private:
  // A tied head is read from the embedding.
  const ModelTensor* TensorOf(const PlanLine& recorded) const {
    const auto named = tensors_.find(recorded.name);
    if (named != tensors_.end()) return named->second;
    if (recorded.role != TensorRole::kOutputHead) return nullptr;
    const auto embedding =
        std::ranges::find(model_.tensors, TensorRole::kTokenEmbedding, &ModelTensor::role);
    return embedding == model_.tensors.end() ? nullptr : &*embedding;
  }

  const Model& model_;
  std::map<std::string, const ModelTensor*> tensors_;
};

// `beside`: where hidden states go that memory does not bear.
StreamResult CalibrateAgain(const Remaking& remaking, const StreamTarget& target,
                            const std::filesystem::path& beside) {
  const std::span<const StreamTarget> targets(&target, 1);
  const StreamOptions& wanted = remaking.options;
  const MemoryPlan memory =
      PlanMemory(*remaking.calibration, targets, remaking.source, /*header_bytes=*/0,
                 wanted.threads, remaking.memory_limit_bytes, wanted.overflow);
  const StreamOptions options = {memory.threads, memory.chunk_elements, wanted.nan,
                                 wanted.overflow};
  // What there is to warn of was said when it was made.
  const Hooks silent = {remaking.hooks.progress, {}, remaking.hooks.stop_requested};
  Stages stages(/*outputs=*/nullptr, {}, targets, beside);
  std::vector<InputSquares> inputs;
  std::vector<std::vector<InputCorrection>> corrections(1);
  return WriteCalibrated(*remaking.calibration, remaking.source, targets, options, silent, stages,
                         inputs, corrections);
}

}  // namespace

std::vector<InputFile> OpenRecorded(const StoredRecord& stored,
                                    std::vector<std::string>& problems) {
  std::vector<InputFile> files;
  const std::size_t n_before = problems.size();
  for (std::size_t i = 0; i < stored.files.size(); ++i) {
    try {
      files.emplace_back(stored.files[i]);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInput) throw;
      problems.emplace_back(error.what());
      continue;
    }
    const std::uint64_t wanted = stored.record.files[i].size_bytes;
    if (files.back().size() != wanted)
      problems.push_back(fmt::format("file '{}' has {} bytes, {} were written",
                                     FileName(files.back()), files.back().size(), wanted));
  }
  if (problems.size() > n_before) files.clear();
  return files;
}

std::uint64_t WeightsOf(const Record& record) {
  std::uint64_t sum = 0;
  for (const PlanLine& line : record.lines) sum += line.n_elements();
  return sum;
}

std::vector<Hash128> HashLines(const Record& record, std::span<const InputFile> files,
                               const std::vector<bool>& wanted, unsigned threads, Meter& meter) {
  ArrayReader reader(record, files);
  std::vector<ArrayRows> chunks;
  for (std::size_t i = 0; i < record.arrays.size(); ++i) {
    if (!wanted[record.arrays[i].line]) continue;
    const RowArray array = reader.ArrayOf(record.arrays[i]);
    const std::uint64_t at_once = std::max<std::uint64_t>(1, kBytesAtOnce / array.row_bytes);
    for (std::uint64_t row = 0; row < array.n_rows; row += at_once)
      chunks.push_back({i, row, std::min(at_once, array.n_rows - row)});
  }
  std::vector<Hash128> of_chunk(chunks.size());
  std::vector<std::vector<std::byte>> buffers(threads);
  ParallelChunks(
      threads, chunks.size(),
      [&](std::size_t item, unsigned worker) {
        of_chunk[item] = reader.Hash(chunks[item], buffers[worker]);
        const PlacedArray& array = record.arrays[chunks[item].array];
        if (array.array == 0)
          meter.done += chunks[item].n * record.lines[array.line].row_elements();
      },
      meter.parallel_hooks());
  std::vector<Hash128> of_line(record.lines.size());
  for (std::size_t item = 0; item < chunks.size(); ++item)
    of_line[record.arrays[chunks[item].array].line].Add(of_chunk[item]);
  return of_line;
}

std::vector<bool> CheckChecksums(const StoredRecord& stored, std::span<const InputFile> files,
                                 unsigned threads, Meter& meter, Verification& verification) {
  const Record& record = stored.record;
  const std::vector<Hash128> of_line =
      HashLines(record, files, std::vector<bool>(record.lines.size(), true), threads, meter);
  std::vector<bool> damaged(record.lines.size());
  for (std::size_t i = 0; i < record.lines.size(); ++i) {
    damaged[i] = of_line[i] != record.of_lines[i];
    if (damaged[i])
      verification.problems.push_back(fmt::format(
          "tensor '{}': damaged, its bytes are not those that were written (XXH3 {}, "
          "recorded {})",
          Escape(record.lines[i].display_name()), of_line[i].Hex(), record.of_lines[i].Hex()));
  }
  const std::vector<Hash128> heads =
      HashHeads(record, stored.place, stored.text.size(),
                [&](std::size_t file, std::uint64_t offset_bytes, std::span<std::byte> out) {
                  files[file].ReadAt(offset_bytes, out);
                });
  for (std::size_t f = 0; f < files.size(); ++f) {
    if (heads[f] != record.files[f].hash)
      verification.problems.push_back(
          fmt::format("file '{}': damaged or changed, besides its tensors it is not what was "
                      "written (XXH3 {}, recorded {})",
                      FileName(files[f]), heads[f].Hex(), record.files[f].hash.Hex()));
  }
  if (HashText(BlankRecord(stored.text, record)) != record.of_text)
    verification.problems.push_back(
        fmt::format("file '{}': the record in it is damaged", FileName(files[stored.place.file])));
  for (const InputFile& file : files) file.CheckUnchanged();
  verification.n_checked = record.lines.size();
  return damaged;
}

std::uint64_t WeightsToEncode(const Record& record) {
  if (record.version != PHIQ_VERSION) return 0;
  std::uint64_t sum = 0;
  for (const PlanLine& line : record.lines)
    if (!NeedsCalibration(line)) sum += line.n_elements();
  return sum;
}

void EncodeAgain(const StoredRecord& stored, std::span<const InputFile> files,
                 const std::vector<bool>& damaged, const Remaking& remaking, Meter& meter,
                 Verification& verification) {
  const Record& record = stored.record;
  if (record.version != PHIQ_VERSION) {
    verification.notes.push_back(
        fmt::format("written by phiq {}, this is " PHIQ_VERSION
                    ": codes are held to the bounds of their types, not made again",
                    Escape(record.version)));
    return;
  }
  const LineFinder finder(remaking.source.model);
  Plan plan;
  plan.format = remaking.format;
  OutputLayout layout;
  std::vector<std::optional<std::size_t>> number(record.lines.size());
  std::vector<bool> is_damaged;  // beside plan.lines
  std::size_t n_left = 0;
  for (std::size_t i = 0; i < record.lines.size(); ++i) {
    const PlanLine& recorded = record.lines[i];
    if (recorded.method == nullptr ||
        (NeedsCalibration(recorded) && remaking.calibration == nullptr)) {
      ++n_left;
      continue;
    }
    std::optional<PlanLine> line = finder.Find(recorded);
    if (!line) {
      verification.problems.push_back(
          fmt::format("tensor '{}' is not one of the source", Escape(recorded.display_name())));
      continue;
    }
    number[i] = plan.lines.size();
    is_damaged.push_back(i < damaged.size() && damaged[i]);
    plan.lines.push_back(*std::move(line));
  }
  for (PlacedArray array : record.arrays) {
    if (!number[array.line]) continue;
    array.line = *number[array.line];
    layout.arrays.push_back(array);
  }
  StreamTarget target{&plan, &layout, {}, {}};
  for (const InputFile& file : files) target.stored.push_back(&file);
  try {
    const StreamResult again =
        remaking.calibration == nullptr
            ? StreamTensors(remaking.source, std::span(&target, 1), remaking.options, {}, meter)
            : CalibrateAgain(remaking, target, stored.files[stored.place.file]);
    for (const LineResult& line : again.lines) {
      ++verification.n_encoded;
      if (line.n_different > 0 && !is_damaged[line.line])
        verification.problems.push_back(
            fmt::format("tensor '{}': its bytes are not those that {} makes of the source: {} rows "
                        "differ",
                        Escape(plan.lines[line.line].display_name()), MethodText(*line.method),
                        line.n_different));
    }
    if (again.lines.size() < plan.lines.size())
      verification.notes.push_back(fmt::format(
          "{} tensors make up for what codes before them lost, which are not those that "
          "were chosen: they are not made again",
          plan.lines.size() - again.lines.size()));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNumeric) throw;
    verification.problems.push_back(fmt::format("cannot be made of the source: {}", error.what()));
  }
  if (n_left > 0)
    verification.notes.push_back(
        fmt::format("{} tensors have codes chosen by a calibration: they are held to {}the bounds "
                    "of their types, not made again (--calibrate or --imatrix, with what quantize "
                    "had, makes them)",
                    n_left, record.has_checksums ? "their checksums and " : ""));
}

}  // namespace phiq
