// The stages of a conversion with a calibration text or an importance matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "convert/calibration.h"
#include "convert/rows.h"
#include "convert/stages.h"
#include "convert/stream.h"
#include "formats/importance.h"
#include "phiq/convert.h"

namespace phiq {

// Stages that WriteCalibrated has.
std::uint64_t CountStages(const Calibration& calibration, const SourceModel& source);

// StreamTensors of all lines: layer by layer, each weight when the text's moments of its input are
// known. Where error feedback does not pay on held-back text, kImatrix chooses the codes. Of
// outputs that stand (StreamTarget::stored) a corrected one is left at the first input whose
// weights differ: what is behind makes up for their codes.
//
// `inputs`  gets the sums of every input of the unquantized model, of a text.
// `corrections`  one a target: gets its inputs where it is corrected.
// Throws   as StreamTensors, and kNumeric: naming the layer or the input that is not finite.
// Warns    of tensors that feedback did not serve; of too few tokens.
StreamResult WriteCalibrated(const Calibration& calibration, const SourceModel& source,
                             std::span<const StreamTarget> targets, const StreamOptions& options,
                             const Hooks& hooks, Stages& stages, std::vector<InputSquares>& inputs,
                             std::vector<std::vector<InputCorrection>>& corrections);

}  // namespace phiq
