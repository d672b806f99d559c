// A model's flatbuffer, children before parents. What is alike stands there once, so that a further
// signature costs its operators and little more.
#include <algorithm>
#include <array>
#include <tuple>

#include "formats/litert/graph.h"

namespace phiq::litert {
namespace {

namespace fb = flatbuffers;

constexpr std::uint32_t kSchemaVersion = 3;
constexpr std::int32_t kLargestByteCode = 127;  // what deprecated_builtin_code can say
// The first version that a reader needs: FULLY_CONNECTED with keep_num_dims has its fifth.
std::int32_t VersionOf(Op op) noexcept { return op == Op::kFullyConnected ? 5 : 1; }

class Serializer {
 public:
  Serializer(const ModelGraph& model, std::span<const std::uint64_t> offsets)
      : model_(model), offsets_(offsets), builder_(std::size_t{1} << 20) {
    for (const Subgraph& graph : model.subgraphs)
      for (const Node& node : graph.nodes) codes_.push_back(node.op);
    std::ranges::sort(codes_);
    codes_.erase(std::ranges::unique(codes_).begin(), codes_.end());
  }

  SerializedModel Make() {
    std::vector<fb::Offset<tflite::SubGraph>> subgraphs;
    std::vector<fb::Offset<tflite::SignatureDef>> signatures;
    for (std::size_t i = 0; i < model_.subgraphs.size(); ++i) {
      subgraphs.push_back(AddSubgraph(model_.subgraphs[i]));
      signatures.push_back(AddSignature(model_.subgraphs[i], static_cast<std::uint32_t>(i)));
    }
    std::vector<fb::Offset<tflite::OperatorCode>> codes;
    for (const Op op : codes_) {
      const auto code = static_cast<std::int32_t>(op);
      codes.push_back(tflite::CreateOperatorCode(
          builder_, static_cast<std::int8_t>(std::min(code, kLargestByteCode)), 0, VersionOf(op),
          code));
    }
    // Buffers of metadata stand behind all others.
    std::vector<fb::Offset<tflite::Buffer>> buffers;
    const std::vector<BufferContent>& contents = model_.pool.buffers();
    for (std::size_t i = 0; i < contents.size(); ++i) buffers.push_back(AddBuffer(contents[i], i));
    std::vector<fb::Offset<tflite::Metadata>> metadata;
    for (const auto& [name, value] : model_.metadata) {
      metadata.push_back(tflite::CreateMetadata(builder_, builder_.CreateSharedString(name),
                                                static_cast<std::uint32_t>(buffers.size())));
      buffers.push_back(AddBytes(std::as_bytes(std::span(value))));
    }
    const auto codes_at = builder_.CreateVector(codes);
    const auto subgraphs_at = builder_.CreateVector(subgraphs);
    const auto description_at = builder_.CreateString(model_.description);
    const auto buffers_at = builder_.CreateVector(buffers);
    const auto metadata_at = builder_.CreateVector(metadata);
    const auto signatures_at = builder_.CreateVector(signatures);
    tflite::FinishModelBuffer(
        builder_, tflite::CreateModel(builder_, kSchemaVersion, codes_at, subgraphs_at,
                                      description_at, buffers_at, 0, metadata_at, signatures_at));
    SerializedModel made;
    const std::span<const std::uint8_t> bytes = builder_.GetBufferSpan();
    made.bytes.assign(std::as_bytes(bytes).begin(), std::as_bytes(bytes).end());
    for (const auto& [line, from_end] : scales_)
      made.scales.push_back({line, bytes.size() - from_end});
    return made;
  }

 private:
  using IntVector = fb::Offset<fb::Vector<std::int32_t>>;

  // Buffers are built from the end, so offsets are counted from there.
  IntVector Ints(const std::vector<std::int32_t>& values) {
    const auto [found, is_new] = ints_.try_emplace(values);
    if (is_new) found->second = builder_.CreateVector(values);
    return found->second;
  }

  fb::Offset<tflite::Buffer> AddBytes(std::span<const std::byte> bytes) {
    if (bytes.empty()) return tflite::CreateBuffer(builder_);
    builder_.ForceVectorAlignment(bytes.size(), 1, 16);
    const auto data =
        builder_.CreateVector(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    return tflite::CreateBuffer(builder_, data);
  }

  fb::Offset<tflite::Buffer> AddBuffer(const BufferContent& content, std::size_t i) {
    if (const auto* bytes = std::get_if<std::vector<std::byte>>(&content)) return AddBytes(*bytes);
    return tflite::CreateBuffer(builder_, 0, offsets_[i],
                                std::get<StoredArray>(content).size_bytes);
  }

  fb::Offset<fb::Vector<std::int64_t>> Zeros(std::uint64_t n) {
    const auto [found, is_new] = zeros_.try_emplace(n);
    if (is_new) found->second = builder_.CreateVector(std::vector<std::int64_t>(n));
    return found->second;
  }

  fb::Offset<tflite::QuantizationParameters> AddQuantization(const Quantization& how) {
    const auto [found, is_new] = quantizations_.try_emplace({how.line, how.scales});
    if (!is_new) return found->second;
    if (how.block_size != 0) {
      const auto details =
          tflite::CreateBlockwiseQuantization(builder_, how.scales, -1, how.block_size);
      found->second = tflite::CreateQuantizationParameters(
          builder_, 0, 0, 0, 0, tflite::QuantizationDetails::BlockwiseQuantization,
          details.Union());
    } else {
      // 1, not 0, in place of the scales until they are written: a model that is looked at without
      // them is one.
      const auto scales = builder_.CreateVector(std::vector<float>(how.n_rows, 1.0F));
      scales_.emplace_back(how.line, scales.o - sizeof(fb::uoffset_t));
      found->second =
          tflite::CreateQuantizationParameters(builder_, 0, 0, scales, Zeros(how.n_rows));
    }
    return found->second;
  }

  fb::Offset<tflite::Tensor> AddTensor(const Tensor& tensor) {
    const IntVector shape = Ints(tensor.shape);
    const auto name = builder_.CreateSharedString(tensor.name);
    fb::Offset<tflite::QuantizationParameters> quantization;
    if (tensor.quantization) quantization = AddQuantization(*tensor.quantization);
    const auto [found, is_new] = tensors_.try_emplace(
        {shape.o, static_cast<std::uint32_t>(tensor.type), tensor.buffer, name.o, quantization.o});
    if (is_new) {
      found->second = tflite::CreateTensor(builder_, shape, tensor.type, tensor.buffer, name,
                                           quantization, false, 0, 0, /*has_rank=*/true);
    }
    return found->second;
  }

  struct Options {
    tflite::BuiltinOptions kind = tflite::BuiltinOptions::NONE;
    fb::Offset<void> at;
  };

  Options MakeOptions(const Node& node) {
    using enum tflite::BuiltinOptions;
    switch (node.op) {
      case Op::kConcatenation:
        return {ConcatenationOptions,
                tflite::CreateConcatenationOptions(builder_, std::get<Axis>(node.options).axis)
                    .Union()};
      case Op::kFullyConnected:
        return {
            FullyConnectedOptions,
            tflite::CreateFullyConnectedOptions(builder_, 0, 0, /*keep_num_dims=*/true).Union()};
      case Op::kReshape:
        return {ReshapeOptions,
                tflite::CreateReshapeOptions(builder_, Ints(std::get<NewShape>(node.options).shape))
                    .Union()};
      case Op::kSoftmax:
        return {SoftmaxOptions, tflite::CreateSoftmaxOptions(builder_, /*beta=*/1.0F).Union()};
      case Op::kTranspose:
        return {TransposeOptions, tflite::CreateTransposeOptions(builder_).Union()};
      case Op::kMean:
        return {ReducerOptions, tflite::CreateReducerOptions(builder_, /*keep_dims=*/true).Union()};
      case Op::kCast: {
        const auto [from, to] = std::get<Conversion>(node.options);
        return {CastOptions, tflite::CreateCastOptions(builder_, from, to).Union()};
      }
      case Op::kSlice:
        return {SliceOptions, tflite::CreateSliceOptions(builder_).Union()};
      case Op::kCos:
        return {CosOptions, tflite::CreateCosOptions(builder_).Union()};
      case Op::kBatchMatMul:
        return {BatchMatMulOptions,
                tflite::CreateBatchMatMulOptions(builder_, false, /*adj_y=*/true).Union()};
      case Op::kAdd:
      case Op::kEmbeddingLookup:
      case Op::kLogistic:
      case Op::kMul:
      case Op::kSin:
      case Op::kRsqrt:
      case Op::kDynamicUpdateSlice:
        break;
    }
    return {};
  }

  // Of a kind those that say the same are one table.
  Options AddOptions(const Node& node) {
    std::vector<std::int32_t> says;
    if (const Axis* axis = std::get_if<Axis>(&node.options)) says = {axis->axis};
    if (const NewShape* reshape = std::get_if<NewShape>(&node.options)) says = reshape->shape;
    if (const Conversion* cast = std::get_if<Conversion>(&node.options))
      says = {static_cast<std::int32_t>(cast->from), static_cast<std::int32_t>(cast->to)};
    const auto [found, is_new] = options_.try_emplace({node.op, std::move(says)});
    if (is_new) found->second = MakeOptions(node);
    return found->second;
  }

  fb::Offset<tflite::SubGraph> AddSubgraph(const Subgraph& graph) {
    std::vector<fb::Offset<tflite::Tensor>> tensors;
    for (const Tensor& tensor : graph.tensors) tensors.push_back(AddTensor(tensor));
    std::vector<fb::Offset<tflite::Operator>> operators;
    for (const Node& node : graph.nodes) {
      const Options options = AddOptions(node);
      const auto code =
          static_cast<std::uint32_t>(std::ranges::lower_bound(codes_, node.op) - codes_.begin());
      const IntVector inputs = Ints(node.inputs), outputs = Ints(node.outputs);
      operators.push_back(
          tflite::CreateOperator(builder_, code, inputs, outputs, options.kind, options.at));
    }
    const auto ids_of = [&](const std::vector<Named>& named) {
      std::vector<std::int32_t> ids;
      for (const Named& tensor : named) ids.push_back(tensor.tensor);
      return Ints(ids);
    };
    const auto tensors_at = builder_.CreateVector(tensors);
    const IntVector inputs = ids_of(graph.inputs), outputs = ids_of(graph.outputs);
    const auto operators_at = builder_.CreateVector(operators);
    const auto name = builder_.CreateSharedString(graph.name);
    return tflite::CreateSubGraph(builder_, tensors_at, inputs, outputs, operators_at, name);
  }

  fb::Offset<tflite::SignatureDef> AddSignature(const Subgraph& graph, std::uint32_t index) {
    const auto map_of = [&](const std::vector<Named>& named) {
      std::vector<fb::Offset<tflite::TensorMap>> map;
      for (const Named& tensor : named)
        map.push_back(tflite::CreateTensorMap(builder_, builder_.CreateSharedString(tensor.name),
                                              static_cast<std::uint32_t>(tensor.tensor)));
      return builder_.CreateVector(map);
    };
    const auto inputs = map_of(graph.inputs);
    const auto outputs = map_of(graph.outputs);
    const auto key = builder_.CreateSharedString(graph.name);
    return tflite::CreateSignatureDef(builder_, inputs, outputs, key, 0, index);
  }

  const ModelGraph& model_;
  const std::span<const std::uint64_t> offsets_;
  fb::FlatBufferBuilder builder_;
  std::vector<Op> codes_;
  std::map<std::vector<std::int32_t>, IntVector> ints_;
  std::map<std::uint64_t, fb::Offset<fb::Vector<std::int64_t>>> zeros_;
  std::map<std::pair<std::size_t, std::int32_t>, fb::Offset<tflite::QuantizationParameters>>
      quantizations_;  // by line and tensor of the scales
  std::map<std::array<std::uint32_t, 5>, fb::Offset<tflite::Tensor>> tensors_;
  std::map<std::pair<Op, std::vector<std::int32_t>>, Options> options_;
  std::vector<std::pair<std::size_t, std::size_t>> scales_;  // line, distance from the end
};

}  // namespace

SerializedModel Serialize(const ModelGraph& model, std::span<const std::uint64_t> offsets) {
  return Serializer(model, offsets).Make();
}

}  // namespace phiq::litert
