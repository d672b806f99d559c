// Inputs are what a user gives; how they were used is what the output says of itself.
#include "convert/same_calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/parse_number.h"
#include "calibrate/input_statistics.h"
#include "phiq/text.h"
#include "plan/methods.h"

namespace phiq {
namespace {

class Recorded {
 public:
  Recorded(const Facts& facts, const std::string& path) : facts_(facts), path_(path) {}

  // "" where it says nothing.
  std::string_view Find(std::string_view name) const {
    const auto found = std::ranges::find(facts_, fmt::format("phiq.{}", name),
                                         [](const auto& fact) { return fact.first; });
    return found == facts_.end() ? std::string_view() : std::string_view(found->second);
  }
  Error Bad(std::string_view name) const {
    return Error(ErrorCode::kBadData,
                 fmt::format("its 'phiq.{}' is '{}', which phiq does not write", name,
                             Escape(Find(name))))
        .In(path_);
  }
  Error Other(std::string what) const {
    return Error(ErrorCode::kUsage, std::move(what)).In(path_);
  }

 private:
  const Facts& facts_;
  const std::string& path_;
};

void TakeHow(const Recorded& recorded, CalibrationOptions& how) {
  how.corrects = !recorded.Find("calibration_correction").empty();
  if (const std::string_view text = recorded.Find("calibration_shrink"); !text.empty()) {
    const auto shrink = ParseNumber<float>(text);
    if (!shrink || !(*shrink >= 0 && *shrink <= 1)) throw recorded.Bad("calibration_shrink");
    how.shrink = *shrink;
  }
  if (const std::string_view text = recorded.Find("calibration_block"); !text.empty()) {
    const auto block = ParseNumber<std::uint32_t>(text);
    if (!block || *block < 2 * calibrate::kBlockMultiple || *block > calibrate::kWidestBlock)
      throw recorded.Bad("calibration_block");
    how.widest_block = *block;
  }
}

// Before anything is read.
void CheckKind(const Recorded& recorded, const CalibrationOptions& given) {
  if (recorded.Find("calibration_windows").empty())
    throw recorded.Other("no text and no importance matrix chose its codes")
        .Hint("without --calibrate and --imatrix all of them are made again");
  const std::string_view matrix = recorded.Find("calibration_imatrix");
  if (!matrix.empty() && given.imatrix.empty())
    throw recorded
        .Other(fmt::format("its codes were chosen by the importance matrix {}, not by a text",
                           Escape(matrix)))
        .Hint("--imatrix FILE");
  if (matrix.empty() && !given.has_text())
    throw recorded
        .Other(fmt::format("its codes were chosen by text of {}, not by an importance matrix",
                           Escape(recorded.Find("calibration_files"))))
        .Hint("--calibrate FILE");
}

void CheckSame(const Recorded& recorded, const CalibrationPlan& given) {
  const std::string_view sha256 = recorded.Find("calibration_sha256");
  if (sha256.empty() || sha256 == given.sha256) return;
  if (!given.imatrix.empty())
    throw recorded
        .Other(fmt::format("its codes were chosen by other values than those of {} (SHA-256 {}, "
                           "here {})",
                           Escape(given.imatrix), Escape(sha256), given.sha256))
        .Hint(fmt::format("it names {}", Escape(recorded.Find("calibration_imatrix"))));
  throw recorded
      .Other(fmt::format("its codes were chosen by other token ids: {} windows of {} tokens of {} "
                         "(SHA-256 {}), here {} windows of {} (SHA-256 {})",
                         Escape(recorded.Find("calibration_windows")),
                         Escape(recorded.Find("calibration_ctx")),
                         Escape(recorded.Find("calibration_files")), Escape(sha256),
                         given.n_windows, given.n_ctx, given.sha256))
      .Hint("the texts, --calibration-tokens and --calibration-ctx that quantize had");
}

}  // namespace

Calibration PrepareSame(const VerifyOptions& options, const Facts& facts, const SourceModel& source,
                        unsigned threads, const Hooks& hooks) {
  const Recorded recorded(facts, options.output);
  CheckKind(recorded, *options.calibration);
  ConvertOptions conversion;
  conversion.output = options.output;
  conversion.memory_limit_bytes = options.memory_limit_bytes;
  conversion.calibration = options.calibration;
  TakeHow(recorded, *conversion.calibration);
  std::vector<PlanOptions> targets(1);
  targets[0].method = recorded.Find("method");
  if (FindCommonMethod(targets[0].method) == nullptr) throw recorded.Bad("method");
  // What there is to warn of was said when it was made.
  const Hooks silent = {hooks.progress, {}, hooks.stop_requested};
  Calibration calibration =
      PrepareCalibration(conversion, source, targets, /*writes_own=*/true, threads, silent);
  CheckSame(recorded, calibration.planned);
  return calibration;
}

}  // namespace phiq
