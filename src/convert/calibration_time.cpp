// Operations are counted; how many there are in a second is measured.
#include "convert/calibration_time.h"

#include <chrono>
#include <vector>

#include "calibrate/inputs.h"
#include "convert/line_inputs.h"
#include "convert/rates.h"
#include "engine/linear_algebra.h"
#include "engine/product.h"
#include "io/parallel.h"
#include "model/weights.h"
#include "plan/methods.h"

namespace phiq {
namespace {

// Seconds of one reading of all matrices for a step of so many windows: from one matrix, timed.
double MeasureReading(const SourceModel& source, std::uint64_t n_windows, unsigned threads) {
  const ModelConfig& config = source.model.config;
  std::uint64_t n_weights = 0;
  engine::WeightRows largest;
  for (const calibrate::MatrixInput& input : calibrate::InputsOf(config)) {
    for (const WeightId& weight : input.weights) {
      const engine::WeightRows rows = calibrate::RowsOf(config, weight);
      const std::uint64_t n = rows.n_rows * rows.row_elements;
      n_weights += n;
      if (weight.layer == 0 && n > largest.n_rows * largest.row_elements) largest = rows;
    }
  }
  const std::size_t n_columns = largest.row_elements;
  const std::vector<float> x(n_windows * n_columns, 0.5F);
  std::vector<std::vector<float>> products(threads,
                                           std::vector<float>(n_windows * engine::kTileRows));
  const auto start = std::chrono::steady_clock::now();
  engine::ForEachTile({.threads = threads}, source.weights, largest,
                      [&](std::size_t, std::span<const float> rows, unsigned worker) {
                        engine::MultiplyByRows(x.data(), n_windows, n_columns, rows.data(),
                                               rows.size() / n_columns, products[worker].data(),
                                               engine::kTileRows);
                      });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds * static_cast<double>(n_weights) / static_cast<double>(largest.n_rows * n_columns);
}

}  // namespace

double EstimateSeconds(const Calibration& calibration, const SourceModel& source,
                       std::span<const StreamTarget> targets, unsigned threads) {
  if (calibration.matrix) return 0;
  const auto n_tokens =
      static_cast<double>(calibration.planned.n_tokens + calibration.planned.n_held_back);
  const ModelConfig& config = source.model.config;
  const std::vector<calibrate::MatrixInput> inputs = calibrate::InputsOf(config);
  double operations = 0;  // of products
  const auto add_text = [&](std::span<const StreamTarget> of, bool is_corrected) {
    for (const calibrate::MatrixInput& input : inputs) {
      const auto n = static_cast<double>(input.n_columns);
      double n_weights = 0;
      for (const WeightId& weight : input.weights)
        n_weights += n * static_cast<double>(calibrate::RowsOf(config, weight).n_rows);
      // Each token uses two experts, and what is inside of them is computed twice.
      const double n_here = input.is_of_expert() ? 2 * n_tokens / config.n_experts : n_tokens;
      const bool is_twice = input.weight.role == TensorRole::kExpertGate;
      if (input.weight.layer >= 0) operations += (is_twice ? 4 : 2) * n_here * n_weights;
      if (NeedsOf(source.weights, of, input) != Needs::kMoments) continue;
      for (const std::size_t size :
           calibrate::BlocksOf(input.n_columns, calibration.widest_block)) {
        const auto k = static_cast<double>(size);
        operations += n_here * k * k + 2.0 / 3.0 * k * k * k;
        if (!is_corrected) continue;
        // Moments of what is lacked; a factor more and products with its inverse; each row's.
        operations += 2 * n_here * k * k + 2.0 / 3.0 * k * k * k + 2 * k * k * k;
        operations += 2 * k * n_weights * k / n;
      }
      if (is_corrected) operations += 4.0 * calibrate::Probe::kTokens * n_weights;
    }
  };
  std::vector<StreamTarget> uncorrected;
  for (const StreamTarget& target : targets) {
    if (IsCorrected(calibration, *target.plan)) {
      add_text(std::span(&target, 1), true);
    } else {
      uncorrected.push_back(target);
    }
  }
  add_text(uncorrected, false);
  double searched = 0;  // weights
  const PlanLine* largest = nullptr;
  for (const StreamTarget& target : targets) {
    for (const PlanLine& line : target.plan->lines) {
      if (line.reference == nullptr) continue;
      const auto n_weights = static_cast<double>(line.n_elements());
      operations += 6.0 * calibrate::Probe::kTokens * n_weights;
      if (line.method->needs == Needs::kMoments)
        for (const std::size_t size :
             calibrate::BlocksOf(line.row_elements(), calibration.widest_block))
          operations += n_weights * static_cast<double>(size);
      searched += 2 * n_weights;  // the method's own, and the reference beside it
      if (largest == nullptr || line.n_elements() > largest->n_elements()) largest = &line;
    }
  }
  double seconds = operations / MeasureProductRate(threads);
  if (calibration.planned.n_own_readings > 0)
    seconds += static_cast<double>(calibration.planned.n_own_readings) *
               MeasureReading(source, calibration.planned.n_own_at_once, threads);
  if (largest != nullptr) seconds += searched / MeasureEncodingRate(kSearch, *largest, threads);
  return seconds;
}

}  // namespace phiq
