// The plan of an OpenVINO folder.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/format.h"
#include "formats/order.h"
#include "phiq/plan.h"

namespace phiq::openvino {

// What a folder says of its weights, besides the lines.
struct GraphPlan final : Plan {
  double ratio = 1.0;            // 1 unless some 4-bit layers keep 8 bits
  std::uint32_t group_size = 0;  // of the 4-bit lines; 0: the whole row, or no such line
};

// See Format::plan and Format::questions.
std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const Answers& int8_errors, const WarningFn& warn);
std::vector<Question> QuestionsOf(const Model& model, const PlanOptions& options);

// Whether a weight is quantized.
bool HasCodes(const Plan& plan);

// How the runtime wants array `array` of an encoding: 4-bit zero points go on from row to row in
// the middle of a byte.
Order OrderOf(const Encoding& encoding, std::size_t array, std::uint64_t row_elements);

}  // namespace phiq::openvino
