// `phiq inspect`: what is in a checkpoint or an output.
#include "phiq/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "convert/meter.h"
#include "convert/open_model.h"
#include "io/parallel.h"
#include "kernels/simd/floats.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint64_t kCheckElements = 1ULL << 17;  // weights read at once by a thread

struct PieceRows {
  std::size_t piece = 0;
  std::uint64_t first = 0, n = 0;
};

// Reads every row. A piece in which a NaN or Inf was met is a problem.
void CheckRows(const StoredModel& model, unsigned threads, const Hooks& hooks,
               std::vector<std::string>& problems) {
  const std::span<const StoredPiece> pieces = model.pieces();
  std::vector<PieceRows> chunks;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::uint64_t at_once = std::max<std::uint64_t>(
        1, kCheckElements / std::max<std::uint64_t>(1, pieces[i].row_elements));
    for (std::uint64_t row = 0; row < pieces[i].n_rows; row += at_once)
      chunks.push_back({i, row, std::min(at_once, pieces[i].n_rows - row)});
  }
  struct Worker {
    RowCodec codec;
    std::vector<float> floats;
  };
  std::uint64_t n_weights = 0;
  for (const StoredPiece& piece : pieces) n_weights += piece.n_rows * piece.row_elements;
  Meter meter(hooks, n_weights);
  std::vector<Worker> workers(threads);
  std::vector<std::atomic<bool>> is_bad(pieces.size());
  ParallelChunks(
      threads, chunks.size(),
      [&](std::size_t item, unsigned i) {
        const PieceRows& rows = chunks[item];
        Worker& worker = workers[i];
        worker.floats.resize(rows.n * pieces[rows.piece].row_elements);
        model.ReadRows(rows.piece, rows.first, rows.n, worker.codec, worker.floats);
        if (simd::FirstNonFinite(worker.floats) < worker.floats.size()) is_bad[rows.piece] = true;
        meter.done += worker.floats.size();
      },
      meter.parallel_hooks());
  meter.Tell();
  for (std::size_t i = 0; i < pieces.size(); ++i)
    if (is_bad[i]) problems.emplace_back(NonFiniteWeights(model, i, kCheckElements).what());
}

}  // namespace

double Inspection::bits_per_weight() const noexcept {
  return n_weights == 0 ? 0
                        : 8.0 * static_cast<double>(data_bytes) / static_cast<double>(n_weights);
}

Inspection Inspect(const std::string& path, const InspectOptions& options, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const std::unique_ptr<StoredModel> model = OpenStoredModel(path, warn);
  Inspection inspection;
  inspection.kind = model->kind();
  inspection.path = model->path();
  About about = model->Describe(warn);
  inspection.metadata = std::move(about.metadata);
  inspection.notes = std::move(about.notes);
  for (const StoredPiece& piece : model->pieces()) {
    const bool is_weight = piece.holds != Holds::kTable;
    inspection.tensors.push_back(
        {piece.name, piece.type, piece.shape, piece.size_bytes, piece.file, is_weight});
    if (!is_weight) continue;
    inspection.n_weights += piece.n_rows * piece.row_elements;
    inspection.data_bytes += piece.size_bytes;
  }
  if (!options.check) return inspection;
  inspection.problems = model->FindProblems();
  CheckRows(*model, options.threads == 0 ? AvailableThreads() : options.threads, hooks,
            inspection.problems);
  return inspection;
}

}  // namespace phiq
