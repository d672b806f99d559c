// Every size that an operator implies is compared with its arrays before anybody reads them.
#include "formats/onnx/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <unordered_map>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "formats/onnx/attributes.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/weight_names.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

constexpr std::uint64_t kSmallBytes = 4096;  // constants and the like; nobody misses them
constexpr std::size_t kCastsAndScales = 4;   // nodes between MatMulInteger and the weight's scale

// "cos_cache", "sin_cache_small".
bool IsTableName(std::string_view name) {
  name = TableKind(name);
  return name.starts_with("cos_cache") || name.starts_with("sin_cache");
}

// How a weight's integer codes are laid out, as a node has it.
struct BlockShape {
  std::uint64_t n_rows, row_elements, bits, block_size;
  std::uint64_t n_blocks() const { return (row_elements + block_size - 1) / block_size; }
};

class WeightFinder {
 public:
  WeightFinder(const ::onnx::GraphProto& graph, const Initializers& initializers)
      : initializers_(initializers), graph_(graph) {
    for (const ::onnx::NodeProto& node : graph_.node()) {
      for (const std::string& output : node.output()) {
        if (!output.empty()) producers_.emplace(output, &node);
      }
      if (node.op_type() == "Cast" || node.op_type() == "Mul") {
        for (const std::string& input : node.input()) consumers_.emplace(input, &node);
      }
    }
  }

  std::vector<Weight> Find() {
    for (const ::onnx::NodeProto& node : graph_.node()) {
      const std::string& op = node.op_type();
      if (op == "MatMulNBits") {
        AddMatMulNBits(node);
      } else if (op == "GatherBlockQuantized") {
        AddGatherBlockQuantized(node);
      } else if (op == "MatMul") {
        AddMatrix(node, 1, /*rows_first=*/false);
      } else if (op == "Gather") {
        if (IntegerOf(node, "axis", 0) == 0) AddMatrix(node, 0, /*rows_first=*/true);
      } else if (op == "MatMulInteger") {
        AddMatMulInteger(node);
      } else if (op == "SimplifiedLayerNormalization" || op == "RMSNormalization") {
        AddNorm(node, 1);
      } else if (op == "SkipSimplifiedLayerNormalization") {
        AddNorm(node, 2);
      } else if (op == "LayerNormalization") {
        AddNorm(node, 1);
        AddNorm(node, 2);
      } else if (op == "SkipLayerNormalization") {
        AddNorm(node, 2);
        AddNorm(node, 3);
      } else if (op == "Add") {
        if (InputName(node, 1).ends_with(".Add.bias")) AddNorm(node, 1);
      } else if (op == "MoE" || op == "QMoE") {
        AddExperts(node);
      }
    }
    return std::move(weights_);
  }

 private:
  static Error Bad(const ::onnx::NodeProto& node, std::string_view message) {
    return NodeError(node, message);
  }
  static Error Unsupported(const ::onnx::NodeProto& node, std::string_view message) {
    return NodeError(node, message, ErrorCode::kUnsupported);
  }

  static std::string_view InputName(const ::onnx::NodeProto& node, int i) {
    return i < node.input_size() ? std::string_view(node.input(i)) : std::string_view();
  }
  std::optional<std::size_t> InitializerAt(const ::onnx::NodeProto& node, int i) const {
    const std::string_view name = InputName(node, i);
    return name.empty() ? std::nullopt : initializers_.FindIndex(name);
  }
  const Initializer& At(std::size_t i) const { return initializers_.all()[i]; }
  const ::onnx::NodeProto* ProducerOf(std::string_view name) const {
    const auto found = producers_.find(name);
    return found == producers_.end() ? nullptr : found->second;
  }

  // Input i as an initializer of one of the wanted shapes and this type.
  void CheckArray(const ::onnx::NodeProto& node, std::string_view what, const Initializer& array,
                  std::span<const std::int32_t> types,
                  std::span<const std::vector<std::uint64_t>> shapes) const {
    if (std::find(types.begin(), types.end(), array.data_type) == types.end()) {
      throw Bad(node, fmt::format("input {} '{}' is {}, allowed is {}", what, Escape(array.name),
                                  DataTypeName(array.data_type), DataTypeName(types.front())));
    }
    if (std::find(shapes.begin(), shapes.end(), array.dims) != shapes.end()) return;
    throw Bad(node, fmt::format("input {} '{}' has dims [{}] ({} bytes), needs [{}]", what,
                                Escape(array.name), fmt::join(array.dims, ", "), array.size_bytes,
                                fmt::join(shapes.front(), ", ")));
  }

  ScaleType CheckScales(const ::onnx::NodeProto& node, const Initializer& scales,
                        std::span<const std::vector<std::uint64_t>> shapes) const {
    CheckArray(node, "scales", scales, std::array<std::int32_t, 3>{kFloat, kFloat16, kBfloat16},
               shapes);
    return scales.data_type == kFloat     ? ScaleType::kF32
           : scales.data_type == kFloat16 ? ScaleType::kF16
                                          : ScaleType::kBF16;
  }

  static std::uint64_t BitsOf(const ::onnx::NodeProto& node) {
    const std::int64_t bits = IntegerOf(node, "bits", 4);
    if (bits == 2) throw Unsupported(node, "has bits 2, phiq does 4 and 8");
    if (bits != 4 && bits != 8)
      throw Bad(node, fmt::format("has bits {}, allowed are 4 and 8", bits));
    return static_cast<std::uint64_t>(bits);
  }
  static std::uint64_t BlockSizeOf(const ::onnx::NodeProto& node,
                                   std::optional<std::int64_t> otherwise) {
    const std::int64_t size = IntegerOf(node, "block_size", otherwise);
    if (size < 16 || std::cmp_greater(size, limits::kOnnxBlockSize) ||
        !std::has_single_bit(static_cast<std::uint64_t>(size))) {
      throw Bad(node, fmt::format("has block_size {}, allowed are powers of two from 16 to {}",
                                  size, limits::kOnnxBlockSize));
    }
    return static_cast<std::uint64_t>(size);
  }
  static std::uint64_t FeaturesOf(const ::onnx::NodeProto& node, std::string_view name) {
    const std::int64_t n = IntegerOf(node, name, std::nullopt);
    if (n < 1 || n > INT32_MAX) {
      throw Bad(node, fmt::format("has {} {}, allowed are 1 to {}", name, n, INT32_MAX));
    }
    return static_cast<std::uint64_t>(n);
  }

  static GroupEncoding EncodingOf(const BlockShape& shape, ScaleType scale, bool has_zero_points) {
    return {UnsignedCode(static_cast<int>(shape.bits)), static_cast<std::size_t>(shape.block_size),
            scale, has_zero_points ? Offset::kZeroPoint : Offset::kMiddle};
  }

  void AddMatMulNBits(const ::onnx::NodeProto& node) {
    const BlockShape shape = {FeaturesOf(node, "N"), FeaturesOf(node, "K"), BitsOf(node),
                              BlockSizeOf(node, std::nullopt)};
    if (IntegerOf(node, "weight_prepacked", 0) != 0)
      throw Unsupported(node, "has prepacked weights");
    if (!InputName(node, 4).empty()) throw Unsupported(node, "has a g_idx");
    const std::optional<std::size_t> codes = InitializerAt(node, 1),
                                     scales = InitializerAt(node, 2);
    const std::optional<std::size_t> zero_points = InitializerAt(node, 3);
    if (!codes || !scales || (!zero_points && !InputName(node, 3).empty()))
      return NoteMissing(node);

    // Below 2^31 x 2^31 x 8 / 8: no product of these overflows.
    const std::uint64_t n_blocks = shape.n_blocks(), blob = shape.block_size * shape.bits / 8;
    CheckArray(node, "B", At(*codes), std::array<std::int32_t, 1>{kUint8},
               std::array<std::vector<std::uint64_t>, 2>{
                   {{shape.n_rows, n_blocks, blob}, {shape.n_rows, n_blocks * blob}}});
    const ScaleType scale = CheckScales(node, At(*scales),
                                        std::array<std::vector<std::uint64_t>, 2>{
                                            {{shape.n_rows, n_blocks}, {shape.n_rows * n_blocks}}});
    if (zero_points) {
      const std::uint64_t row_bytes = (n_blocks * shape.bits + 7) / 8;
      if (FloatTypeOf(At(*zero_points).data_type)) throw Unsupported(node, "has float zero_points");
      CheckArray(node, "zero_points", At(*zero_points), std::array<std::int32_t, 1>{kUint8},
                 std::array<std::vector<std::uint64_t>, 2>{
                     {{shape.n_rows, row_bytes}, {shape.n_rows * row_bytes}}});
    }
    Add(node,
        {.name = MatMulName(node, At(*codes)),
         .shared_name = {},
         .encoding = EncodingOf(shape, scale, zero_points.has_value()),
         .n_rows = shape.n_rows,
         .row_elements = shape.row_elements,
         .transposed = false,
         .arrays = {codes, scales, zero_points}},
        /*is_embedding=*/false);
  }

  void AddGatherBlockQuantized(const ::onnx::NodeProto& node) {
    const std::uint64_t bits = BitsOf(node), block_size = BlockSizeOf(node, 128);
    const std::int64_t axis = IntegerOf(node, "quantize_axis", 1);
    if (IntegerOf(node, "gather_axis", 0) != 0 || (axis != 1 && axis != -1)) {
      throw Unsupported(node, "gathers along or quantizes another axis than phiq does");
    }
    std::optional<std::size_t> codes = InitializerAt(node, 0);
    bool is_reshaped = false;
    if (const ::onnx::NodeProto* const producer = ProducerOf(InputName(node, 0));
        !codes && producer != nullptr && producer->op_type() == "Reshape") {
      codes = InitializerAt(*producer, 0);
      is_reshaped = true;
    }
    const std::optional<std::size_t> scales = InitializerAt(node, 2);
    const std::optional<std::size_t> zero_points = InitializerAt(node, 3);
    if (!codes || !scales || (!zero_points && !InputName(node, 3).empty()))
      return NoteMissing(node);

    const Initializer& data = At(*codes);
    const bool is_packed = data.data_type == kUint8, is_signed = data.data_type == kInt4;
    if (!is_packed && !is_signed && data.data_type != kUint4) {
      throw Bad(node, fmt::format("input data '{}' is {}, allowed are UINT8, INT4 and UINT4",
                                  Escape(data.name), DataTypeName(data.data_type)));
    }
    // A reshaped matrix of MatMulNBits has dims [rows, blocks, bytes of a block].
    const std::size_t rank = data.dims.size();
    if (rank != 2 && !(is_reshaped && rank == 3)) {
      throw Bad(node, fmt::format("input data '{}' has dims [{}], needs two", Escape(data.name),
                                  fmt::join(data.dims, ", ")));
    }
    BlockShape shape = {data.dims[0], rank == 3 ? data.dims[1] * data.dims[2] : data.dims[1], bits,
                        block_size};
    if (is_packed) {
      const std::optional<std::uint64_t> row_bits = CheckedMul(shape.row_elements, 8);
      if (!row_bits) throw Bad(node, "rows overflow");
      shape.row_elements = *row_bits / bits;
    } else if (bits != 4) {
      throw Bad(node,
                fmt::format("has bits {} but data of {}", bits, DataTypeName(data.data_type)));
    }
    if (shape.n_rows == 0 || shape.row_elements == 0) throw Bad(node, "has no weights");
    if (shape.row_elements > INT32_MAX || shape.n_rows > INT32_MAX) {
      throw Bad(node,
                fmt::format("input data '{}' has dims [{}], allowed are up to {} rows and columns",
                            Escape(data.name), fmt::join(data.dims, ", "), INT32_MAX));
    }
    if (!is_packed && shape.row_elements % 2 != 0) {
      throw Unsupported(node, "has rows of an odd number of 4-bit codes");
    }
    const ScaleType scale =
        CheckScales(node, At(*scales),
                    std::array<std::vector<std::uint64_t>, 1>{{{shape.n_rows, shape.n_blocks()}}});
    if (zero_points) {
      if (!is_packed && shape.n_blocks() % 2 != 0) {
        throw Unsupported(node, "has rows of an odd number of 4-bit zero points");
      }
      const std::uint64_t columns =
          is_packed ? (shape.n_blocks() * bits + 7) / 8 : shape.n_blocks();
      CheckArray(node, "zero_points", At(*zero_points), std::array<std::int32_t, 1>{data.data_type},
                 std::array<std::vector<std::uint64_t>, 1>{{{shape.n_rows, columns}}});
    } else if (data.data_type == kUint4) {
      throw Unsupported(node, "has UINT4 data without zero_points");  // means 0, not 8
    }
    GroupEncoding groups = EncodingOf(shape, scale, zero_points.has_value());
    if (is_signed) groups.code = Code::kI4;
    if (is_signed && !zero_points) groups.offset = Offset::kNone;
    Add(node,
        {.name = GatherName(node, data),
         .shared_name = {},
         .encoding = groups,
         .n_rows = shape.n_rows,
         .row_elements = shape.row_elements,
         .transposed = false,
         .arrays = {codes, scales, zero_points}},
        /*is_embedding=*/true);
  }

  // A float matrix that a MatMul (input 1, columns are rows of the checkpoint) or a Gather uses,
  // maybe through a Transpose.
  void AddMatrix(const ::onnx::NodeProto& node, int input, bool rows_first) {
    std::optional<std::size_t> array = InitializerAt(node, input);
    bool transposed = !rows_first;
    if (const ::onnx::NodeProto* const producer = ProducerOf(InputName(node, input));
        !array && producer != nullptr && SwapsTwoAxes(*producer)) {
      array = InitializerAt(*producer, 0);
      transposed = rows_first;
    }
    if (!array) return;  // computed
    const Initializer& matrix = At(*array);
    const std::optional<GgmlType> type = FloatTypeOf(matrix.data_type);
    if (!type || matrix.dims.size() != 2 || matrix.size_bytes == 0 || IsTableName(matrix.name))
      return;
    Add(node,
        {.name = rows_first ? GatherName(node, matrix) : MatMulName(node, matrix),
         .shared_name = {},
         .encoding = *type,
         .n_rows = matrix.dims[transposed ? 1 : 0],
         .row_elements = matrix.dims[transposed ? 0 : 1],
         .transposed = transposed,
         .arrays = {array, std::nullopt, std::nullopt}},
        rows_first);
  }

  static bool SwapsTwoAxes(const ::onnx::NodeProto& node) {
    if (node.op_type() != "Transpose") return false;
    const ::onnx::AttributeProto* const perm = FindAttribute(node, "perm");
    return perm == nullptr || (perm->ints_size() == 2 && perm->ints(0) == 1 && perm->ints(1) == 0);
  }

  void AddNorm(const ::onnx::NodeProto& node, int input) {
    const std::optional<std::size_t> array = InitializerAt(node, input);
    if (!array) return;
    const Initializer& norm = At(*array);
    const std::optional<GgmlType> type = FloatTypeOf(norm.data_type);
    if (!type || norm.dims.size() != 1 || norm.size_bytes == 0) {
      throw Bad(node, fmt::format("weight '{}' is {} x [{}], needs floats of one dimension",
                                  Escape(norm.name), DataTypeName(norm.data_type),
                                  fmt::join(norm.dims, ", ")));
    }
    Add(node,
        {.name = norm.name,
         .shared_name = {},
         .encoding = *type,
         .n_rows = 1,
         .row_elements = norm.dims[0],
         .transposed = false,
         .arrays = {array, std::nullopt, std::nullopt}},
        /*is_embedding=*/false);
  }

  // Experts as phiq writes them: gate and up in turn, then down.
  void AddExperts(const ::onnx::NodeProto& node) {
    const bool is_quantized = node.op_type() == "QMoE";
    const int down_input = is_quantized ? 5 : 4;
    const auto parts = SplitNodeName(node);
    if (!parts || IntegerOf(node, "swiglu_fusion", 0) != 1)
      throw Unsupported(node, "has experts in another form than phiq writes");
    for (int i = is_quantized ? 7 : 6; i < node.input_size(); ++i)
      if (!node.input(i).empty()) throw Unsupported(node, fmt::format("has input {}", i));
    for (const int i : {2, down_input}) {
      const std::optional<std::size_t> codes = InitializerAt(node, i);
      if (!codes) throw Unsupported(node, fmt::format("has no weights as input {}", i));
      const Initializer& data = At(*codes);
      if (data.dims.size() != 3 || data.size_bytes == 0)
        throw Bad(node, fmt::format("input '{}' has dims [{}], needs three", Escape(data.name),
                                    fmt::join(data.dims, ", ")));
      Weight weight;
      weight.n_matrices = data.dims[0];
      const std::uint64_t n_rows = data.dims[0] * data.dims[1];
      weight.row_elements = data.dims[2];
      weight.arrays = {codes, std::nullopt, std::nullopt};
      if (is_quantized) {
        SetExpertCodes(node, i, data, weight);
      } else if (const std::optional<GgmlType> type = FloatTypeOf(data.data_type)) {
        weight.encoding = *type;
      } else {
        throw Bad(node, fmt::format("input '{}' is {}, needs floats", Escape(data.name),
                                    DataTypeName(data.data_type)));
      }
      if (i == down_input) {
        weight.name = ExpertName(parts->first, TensorRole::kExpertDown);
        weight.n_rows = n_rows;
        AddAlone(std::move(weight));
        continue;
      }
      if (data.dims[1] % 2 != 0)
        throw Bad(node, fmt::format("input '{}' has {} rows of gate and up", Escape(data.name),
                                    data.dims[1]));
      weight.n_rows = n_rows / 2;
      for (const std::size_t turn : {std::size_t{0}, std::size_t{1}}) {
        Weight half = weight;
        half.name =
            ExpertName(parts->first, turn == 0 ? TensorRole::kExpertGate : TensorRole::kExpertUp);
        half.turn = turn;
        AddAlone(std::move(half));
      }
    }
  }

  void SetExpertCodes(const ::onnx::NodeProto& node, int input, const Initializer& data,
                      Weight& weight) const {
    const std::int64_t bits = IntegerOf(node, "expert_weight_bits", 4);
    const std::int64_t block_size = IntegerOf(node, "block_size", 0);
    if (bits != 4 && bits != 8)
      throw Unsupported(node, fmt::format("has expert_weight_bits {}, phiq does 4 and 8", bits));
    if (data.data_type != kUint8)
      throw Bad(node, fmt::format("input '{}' is {}, needs UINT8", Escape(data.name),
                                  DataTypeName(data.data_type)));
    if (block_size != 0 &&
        (block_size < 16 || std::cmp_greater(block_size, limits::kOnnxBlockSize)))
      throw Bad(node, fmt::format("has block_size {}", block_size));
    weight.row_elements = data.dims[2] * 8 / static_cast<std::uint64_t>(bits);
    GroupEncoding groups = {UnsignedCode(static_cast<int>(bits)),
                            static_cast<std::size_t>(block_size), ScaleType::kF32, Offset::kMiddle};
    const std::uint64_t n_groups = GroupCount(groups, weight.row_elements);
    if (block_size != 0 && weight.row_elements % static_cast<std::uint64_t>(block_size) != 0)
      throw Unsupported(node, "has rows that are no whole blocks");
    const std::optional<std::size_t> scales = InitializerAt(node, input + 1);
    if (!scales) throw Unsupported(node, fmt::format("has no scales as input {}", input + 1));
    std::vector<std::uint64_t> dims = {data.dims[0], data.dims[1]};
    if (block_size != 0) dims.push_back(n_groups);
    groups.scale =
        CheckScales(node, At(*scales), std::array<std::vector<std::uint64_t>, 1>{{dims}});
    weight.encoding = groups;
    weight.arrays[1] = scales;
  }

  // One that no other node shares.
  void AddAlone(Weight weight) {
    embeddings_.push_back(false);
    weights_.push_back(std::move(weight));
  }

  void AddMatMulInteger(const ::onnx::NodeProto& node) {
    const std::optional<std::size_t> codes = InitializerAt(node, 1);
    if (!codes) return NoteMissing(node);
    const Initializer& matrix = At(*codes);
    if (matrix.data_type == kUint8) throw Unsupported(node, "has UINT8 weights");
    if (matrix.data_type != kInt8 || matrix.dims.size() != 2 || matrix.size_bytes == 0) {
      throw Bad(node, fmt::format("input B '{}' is {} x [{}], needs INT8 of two dimensions",
                                  Escape(matrix.name), DataTypeName(matrix.data_type),
                                  fmt::join(matrix.dims, ", ")));
    }
    CheckZeroPointsAreZero(node);
    const std::optional<std::size_t> scales = FindScales(node);
    if (!scales)
      throw Unsupported(node,
                        fmt::format("has no scale of '{}' in a Mul after it", Escape(matrix.name)));
    const std::uint64_t n_rows = matrix.dims[1];
    if (n_rows != 1 && At(*scales).size_bytes * 8 == *DataTypeBits(At(*scales).data_type)) {
      throw Unsupported(node, "has one scale for all of its weights");
    }
    GroupEncoding groups = {Code::kI8, 0, ScaleType::kF32, Offset::kNone};
    groups.scale = CheckScales(
        node, At(*scales),
        std::array<std::vector<std::uint64_t>, 3>{{{n_rows}, {1, n_rows}, {1, 1, n_rows}}});
    Add(node,
        {.name = MatMulName(node, matrix),
         .shared_name = {},
         .encoding = groups,
         .n_rows = n_rows,
         .row_elements = matrix.dims[0],
         .transposed = true,
         .arrays = {codes, scales, std::nullopt}},
        /*is_embedding=*/false);
  }

  void CheckZeroPointsAreZero(const ::onnx::NodeProto& node) const {
    if (InputName(node, 3).empty()) return;
    const std::optional<std::size_t> zero_points = InitializerAt(node, 3);
    if (!zero_points || At(*zero_points).size_bytes > kZeroPointBytes) {
      throw Unsupported(node, "has zero points of B that are no small constant");
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(At(*zero_points).size_bytes));
    initializers_.Read(At(*zero_points), 0, bytes);
    if (std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; })) {
      throw Unsupported(node, "has zero points of B other than 0");
    }
  }

  // The float initializer that a Mul after the product multiplies with, itself or as a factor of
  // the other side: Cast(product) * (activation scale * weight scale).
  std::optional<std::size_t> FindScales(const ::onnx::NodeProto& matmul) const {
    if (matmul.output_size() == 0) return std::nullopt;
    std::string_view value = matmul.output(0);
    for (std::size_t step = 0; step < kCastsAndScales; ++step) {
      const auto [begin, end] = consumers_.equal_range(value);
      if (begin == end || std::next(begin) != end) return std::nullopt;  // nobody, or several
      const ::onnx::NodeProto& next = *begin->second;
      if (next.op_type() == "Mul" && next.input_size() == 2) {
        const int other = next.input(0) == value ? 1 : 0;
        if (const auto found = FloatInitializerAt(next, other)) return found;
        const ::onnx::NodeProto* const factor = ProducerOf(next.input(other));
        if (factor != nullptr && factor->op_type() == "Mul" && factor->input_size() == 2) {
          for (const int i : {0, 1}) {
            if (const auto found = FloatInitializerAt(*factor, i)) return found;
          }
        }
      }
      if (next.output_size() == 0) return std::nullopt;
      value = next.output(0);
    }
    return std::nullopt;
  }
  std::optional<std::size_t> FloatInitializerAt(const ::onnx::NodeProto& node, int i) const {
    const std::optional<std::size_t> found = InitializerAt(node, i);
    return found && FloatTypeOf(At(*found).data_type) ? found : std::nullopt;
  }

  // An operator on weights without its weights: undefined names are FindGraphProblems' business.
  void NoteMissing(const ::onnx::NodeProto& node) const {
    for (const std::string& input : node.input()) {
      const ::onnx::NodeProto* const producer = ProducerOf(input);
      const bool is_activation =
          &input == &node.input(0) && node.op_type() != "GatherBlockQuantized";
      if (producer != nullptr && !is_activation && node.op_type() == "MatMulNBits") {
        throw Unsupported(node,
                          fmt::format("input '{}' is computed, not an initializer", Escape(input)));
      }
    }
  }

  // "/model/layers.0/attn/o_proj/MatMul_Q4" -> "model.layers.0.attn.o_proj" and "MatMul_Q4";
  // nothing when the node is named otherwise.
  static std::optional<std::pair<std::string, std::string_view>> SplitNodeName(
      const ::onnx::NodeProto& node) {
    std::string_view name = node.name();
    if (name.starts_with('/')) name.remove_prefix(1);
    const std::size_t slash = name.rfind('/');
    if (slash == name.npos || slash == 0) return std::nullopt;
    std::string prefix(name.substr(0, slash));
    std::replace(prefix.begin(), prefix.end(), '/', '.');
    return std::pair(std::move(prefix), name.substr(slash + 1));
  }
  static std::string MatMulName(const ::onnx::NodeProto& node, const Initializer& codes) {
    const auto parts = SplitNodeName(node);
    if (!parts || !parts->second.starts_with("MatMul")) return Unquantized(codes.name);
    return parts->first + ".MatMul.weight";
  }
  static std::string GatherName(const ::onnx::NodeProto& node, const Initializer& codes) {
    const auto parts = SplitNodeName(node);
    if (!parts || !parts->second.starts_with("Gather")) return Unquantized(codes.name);
    return parts->first + ".weight";
  }
  // Without what quantizers append: _Q4, _Q8, _Q4G32, _quantized.
  static std::string Unquantized(std::string_view name) {
    const std::size_t last = name.rfind('_');
    if (last == name.npos || last == 0) return std::string(name);
    const std::string_view suffix = name.substr(last + 1);
    const bool is_quantizers =
        suffix == "quantized" || suffix.starts_with("Q4") || suffix.starts_with("Q8");
    return std::string(is_quantizers ? name.substr(0, last) : name);
  }

  // A weight that is there already gets a second name: the head's comes first.
  void Add(const ::onnx::NodeProto& node, Weight weight, bool is_embedding) {
    const auto [place, is_new] = by_codes_.emplace(*weight.arrays[0], weights_.size());
    if (is_new) {
      embeddings_.push_back(is_embedding);
      weights_.push_back(std::move(weight));
      return;
    }
    Weight& known = weights_[place->second];
    if (known.encoding != weight.encoding || known.n_rows != weight.n_rows ||
        known.row_elements != weight.row_elements || known.transposed != weight.transposed ||
        known.arrays != weight.arrays) {
      throw Bad(node, fmt::format("uses '{}' in another way than the node before it",
                                  Escape(At(*weight.arrays[0]).name)));
    }
    if (known.name == weight.name) return;
    if (embeddings_[place->second] && !is_embedding) {
      embeddings_[place->second] = false;
      std::swap(known.name, weight.name);
    }
    if (known.shared_name.empty()) known.shared_name = std::move(weight.name);
  }

  static constexpr std::uint64_t kZeroPointBytes = 1ULL << 20;  // one a column

  const Initializers& initializers_;
  const ::onnx::GraphProto& graph_;
  std::unordered_map<std::string_view, const ::onnx::NodeProto*> producers_;
  std::unordered_multimap<std::string_view, const ::onnx::NodeProto*>
      consumers_;                                          // Cast and Mul only
  std::unordered_map<std::size_t, std::size_t> by_codes_;  // initializer -> weight
  std::vector<bool> embeddings_;  // of each weight: only an embedding so far
  std::vector<Weight> weights_;
};

void WarnOfLeftovers(const Initializers& initializers, std::span<const Weight> weights,
                     const WarningFn& warn) {
  std::vector<bool> is_used(initializers.all().size());
  for (const Weight& weight : weights) {
    for (const std::optional<std::size_t>& array : weight.arrays) {
      if (array) is_used[*array] = true;
    }
  }
  std::size_t count = 0;
  const Initializer* largest = nullptr;
  for (std::size_t i = 0; i < is_used.size(); ++i) {
    const Initializer& initializer = initializers.all()[i];
    if (is_used[i] || initializer.size_bytes <= kSmallBytes || IsTableName(initializer.name))
      continue;
    ++count;
    if (largest == nullptr || initializer.size_bytes > largest->size_bytes) largest = &initializer;
  }
  if (count == 0) return;
  warn({ErrorCode::kBadData,
        fmt::format(
            "{}: {} initializer{} to no weight that phiq knows, the largest is '{}' of {} bytes",
            Escape(initializers.files()[0].path().native()), count,
            count == 1 ? " belongs" : "s belong", Escape(largest->name), largest->size_bytes)});
}

// Depth: CheckWire bounds it.
void AddConstantTables(const ::onnx::GraphProto& graph, std::vector<Table>& tables) {
  for (const ::onnx::NodeProto& node : graph.node()) {
    for (const ::onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_g()) AddConstantTables(attribute.g(), tables);
      for (const ::onnx::GraphProto& branch : attribute.graphs()) AddConstantTables(branch, tables);
      const bool is_table = node.op_type() == "Constant" && attribute.name() == "value" &&
                            node.output_size() > 0 && IsTableName(node.output(0));
      if (!is_table || !attribute.t().has_raw_data()) continue;
      Table table;
      table.name = node.output(0);
      table.data_type = attribute.t().data_type();
      for (const std::int64_t dim : attribute.t().dims())
        table.dims.push_back(static_cast<std::uint64_t>(dim));
      table.size_bytes = attribute.t().raw_data().size();
      table.constant = &attribute.t();
      tables.push_back(std::move(table));
    }
  }
}

}  // namespace

std::vector<Weight> FindWeights(const ::onnx::GraphProto& graph, const Initializers& initializers,
                                const WarningFn& warn) {
  std::vector<Weight> weights = WeightFinder(graph, initializers).Find();
  WarnOfLeftovers(initializers, weights, warn);
  return weights;
}

std::vector<Table> FindTables(const ::onnx::GraphProto& graph, const Initializers& initializers) {
  std::vector<Table> tables;
  for (std::size_t i = 0; i < initializers.all().size(); ++i) {
    const Initializer& initializer = initializers.all()[i];
    if (!IsTableName(initializer.name)) continue;
    tables.push_back({initializer.name, initializer.data_type, initializer.dims,
                      initializer.size_bytes, i, nullptr});
  }
  AddConstantTables(graph, tables);
  return tables;
}

}  // namespace phiq::onnx
