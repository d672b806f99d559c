// The plan of an ONNX folder, and the options that only ONNX has.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "phiq/plan.h"

namespace phiq::onnx {

// What a graph is made for.
enum class ExecutionProvider : std::uint8_t { kCpu, kCuda, kDml, kWebGpu };
std::string_view ExecutionProviderName(ExecutionProvider ep) noexcept;  // "cpu"
// Throws   kBadData: no such word.
ExecutionProvider ParseExecutionProvider(std::string_view text);

// The oldest onnxruntime that shall run the output. On disk by name: "1.20".
enum class OnnxRuntime : std::uint8_t { k1_20, k1_22, k1_24, kCurrent };
std::string_view OnnxRuntimeName(OnnxRuntime version) noexcept;  // "1.20", "current"

enum class Activations : std::uint8_t {
  kFloat,    // the matrix products' operators decide (MatMulNBits: accuracy_level)
  kDynamic,  // plain ONNX operators on int8, quantized as the model runs
};

struct Options {
  std::optional<std::uint32_t> group_size;
  std::optional<bool> symmetric;
  ExecutionProvider ep = ExecutionProvider::kCpu;
  // Without it the builder's layout, whatever version that needs.
  std::optional<OnnxRuntime> min_onnxruntime;
  Activations activations = Activations::kFloat;
  std::optional<int> accuracy_level;        // 0 ... 4; without it 4 on cpu and webgpu, else 0
  std::optional<std::uint32_t> max_length;  // search.max_length; without it min(context, 4096)
};
// Throws   kUsage.
Options ReadOptions(const PlanOptions& options);

// What onnxruntime's quantizers call the codes and scales of a matrix "w".
enum class OnnxNames : std::uint8_t {
  kBlockwise,   // of the one in C++: w_Q4, w_scales, w_zero_points
  kWeightOnly,  // of those in Python: w_Q4G32, w_scale, w_zp
};

// What the graph is built from, besides the lines; every choice is made.
struct GraphChoices {
  ExecutionProvider ep = ExecutionProvider::kCpu;
  FloatType float_type = FloatType::kF32;  // activations, caches, norms, scales
  Activations activations = Activations::kFloat;
  int accuracy_level = 4;
  OnnxNames names = OnnxNames::kBlockwise;
  OnnxRuntime min_onnxruntime = OnnxRuntime::k1_20;  // what the output needs
  std::uint32_t max_length = 0;
};

struct GraphPlan final : Plan {
  GraphChoices graph;
};

// See Format::plan.
std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const WarningFn& warn);

}  // namespace phiq::onnx
