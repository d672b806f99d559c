// The plan: what each tensor becomes and why. Pure: no input or output happens here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/encoding.h"
#include "phiq/model.h"
#include "phiq/profile.h"
#include "phiq/quantize.h"

namespace phiq {

// A --tensor-type rule: checkpoint tensors whose name the pattern finds (PCRE2 search) get `type`.
struct TensorRule {
  std::string pattern;
  std::string type;
};
// "REGEX=TYPE". Throws kUsage.
TensorRule ParseTensorRule(std::string_view text);

// The oldest onnxruntime that shall run the output. On disk by name: "1.20".
enum class OnnxRuntime : std::uint8_t { k1_20, k1_22, k1_24, kCurrent };
std::string_view OnnxRuntimeName(OnnxRuntime version) noexcept;  // "1.20", "current"

enum class Activations : std::uint8_t {
  kFloat,    // the matrix products' operators decide (MatMulNBits: accuracy_level)
  kDynamic,  // plain ONNX operators on int8, quantized as the model runs
};

// Options that only ONNX has.
struct OnnxOptions {
  ExecutionProvider ep = ExecutionProvider::kCpu;
  // Without it the builder's layout, whatever version that needs.
  std::optional<OnnxRuntime> min_onnxruntime;
  Activations activations = Activations::kFloat;
  std::optional<int> accuracy_level;        // 0 ... 4; without it 4 on cpu and webgpu, else 0
  std::optional<std::uint32_t> max_length;  // search.max_length; without it min(context, 4096)
};

// Options that only OpenVINO has.
struct OpenVinoOptions {
  // Share of the layers' weights that become 4-bit: above 0, at most 1; without it 0.6. The others
  // keep 8 bits.
  std::optional<double> ratio;
};

// Options that only MLX has.
struct MlxOptions {
  MlxRounding rounding = MlxRounding::kCpu;
};

struct PlanOptions {
  Format format = Format::kGguf;
  std::string type;                  // "Q4_K_M": the format's own type or recipe name
  std::string method = "reference";  // ONNX: "rtn" and "k_quant" too
  // Weights that share a scale, where the format has them; 0: the whole row (OpenVINO). Of MLX's
  // affine types.
  std::optional<std::uint32_t> group_size;
  std::optional<bool> symmetric;  // OpenVINO: must agree with the type, see OpenVinoTypeWith
  OnnxOptions onnx;
  OpenVinoOptions openvino;
  MlxOptions mlx;
  std::vector<TensorRule> tensor_rules;  // the last match wins
  bool strict_types = false;             // a shape fallback is kUnsupported instead of a line
};

struct PlanLine {
  std::string name;  // the checkpoint's tensor name; "config:long_factor" for values of config.json
  // Says nothing when `table` is set. A tied model's head is read from its embedding.
  TensorRole role = TensorRole::kTokenEmbedding;
  std::int32_t layer = -1;
  TensorPart part = TensorPart::kWhole;  // what of the tensor the line holds
  std::vector<std::uint64_t> shape;      // of the part; rows first
  std::optional<ConfigTable> table;      // where the values come from instead of a weight
  std::uint64_t first_row = 0;           // of the part, in the model's weight
  std::string source_type;               // "BF16"
  Encoding encoding = GgmlType::kF32;
  const Method* method = &kGgml;  // that chooses the codes, where the line is to be written
  std::uint64_t size_bytes = 0;   // of the encoded tensor, without padding
  std::string reason;             // why this encoding
  bool is_fallback = false;       // the wanted type does not fit the shape

  std::string_view role_name() const noexcept;  // RoleName(role), "rope_factors", "rope_table"
  std::string display_name() const;  // the name, and the part: "...gate_up_proj.weight[gate]"
  std::uint64_t n_elements() const noexcept;
  std::uint64_t row_elements() const noexcept;  // last dimension
  std::uint64_t n_rows() const noexcept;        // product of the others; 1 for 1-D
};

// Something decided that is no tensor's encoding: "opset", "21", "the oldest that holds ...".
struct Decision {
  std::string subject, value, reason;
};

// What onnxruntime's quantizers call the codes and scales of a matrix "w".
enum class OnnxNames : std::uint8_t {
  kBlockwise,   // of the one in C++: w_Q4, w_scales, w_zero_points
  kWeightOnly,  // of those in Python: w_Q4G32, w_scale, w_zp
};

// What the ONNX graph is built from, besides the lines; every choice is made.
struct OnnxGraphPlan {
  ExecutionProvider ep = ExecutionProvider::kCpu;
  FloatType float_type = FloatType::kF32;  // activations, caches, norms, scales
  Activations activations = Activations::kFloat;
  int accuracy_level = 4;
  OnnxNames names = OnnxNames::kBlockwise;
  OnnxRuntime min_onnxruntime = OnnxRuntime::k1_20;  // what the output needs
  std::uint32_t max_length = 0;
};

// What an OpenVINO folder says of its weights, besides the lines.
struct OpenVinoGraphPlan {
  double ratio = 1.0;            // 1 unless some 4-bit layers keep 8 bits
  std::uint32_t group_size = 0;  // of the 4-bit lines; 0: the whole row, or no such line
};

// What an MLX folder says of its quantized tensors, besides the lines.
struct MlxFolderPlan {
  // What tensors without an entry of their own have; nullopt: nothing is quantized.
  std::optional<GroupEncoding> common;
  bool lists_all = false;  // every quantized tensor has an entry (recipes)
};

struct Plan {
  Format format = Format::kGguf;
  std::string type;             // as in PlanOptions, in its official spelling
  std::vector<PlanLine> lines;  // in the model's order; tables last
  std::vector<Decision> decisions;
  OnnxGraphPlan onnx;          // ONNX only
  OpenVinoGraphPlan openvino;  // OpenVINO only
  MlxFolderPlan mlx;           // MLX only

  std::uint64_t n_weights() const noexcept;  // of the tensors; tables do not count
  std::uint64_t data_bytes() const noexcept;
  double bits_per_weight() const noexcept;  // of the tensors; tables do not count
};

// A type name that --type takes.
struct TypeName {
  std::string_view name;
  std::string_view description;  // "4.9 bits, K-quants, the usual choice"
};
std::vector<TypeName> TypeNames(Format format);  // largest first

// The official spelling of a type name ("q4_k" -> "Q4_K_M").
// Throws   kUsage: unknown (with a suggestion). kUnsupported: known, but not written, saying why.
std::string ParseType(Format format, std::string_view name);

// The type that a precision means in a format ("Q4_K_M").
// Throws kUsage: the format lacks the precision (naming those it has).
std::string TypeOfPrecision(Format format, Precision precision);

// The OpenVINO type of as many bits that is symmetric or not ("INT8_ASYM", true: "INT8_SYM").
// Throws kUsage: a type of floats; kUsage, kUnsupported as ParseType does.
std::string OpenVinoTypeWith(std::string_view type, bool symmetric);

// The tensors whose error at 8 bits the plan needs (OpenVINO, a ratio below 1; else none):
// indices into Model::tensors. Throws as MakePlan.
std::vector<std::size_t> TensorsToRank(const Model& model, const PlanOptions& options);

// Decides the type of every tensor.
//
// `int8_errors`  of TensorsToRank, in its order: the largest mean squared error of a row in
//            INT8_ASYM with float32 scales (MeasureInt8Errors).
// Throws     kUsage: unknown type (with a suggestion), options that contradict each other, a rule
//            that matches no tensor, a bad pattern. kUnsupported: a type of the format that phiq
//            does not write or the wanted runtime does not run, saying why; a shape fallback under
//            strict_types.
// Warns      a shape fallback.
Plan MakePlan(const Model& model, const PlanOptions& options, const WarningFn& warn,
              std::span<const float> int8_errors = {});

}  // namespace phiq
