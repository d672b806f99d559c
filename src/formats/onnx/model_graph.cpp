// Nodes as onnxruntime-genai's model builder makes them, with the exceptions that
// docs/formats/onnx.md lists. A function for each part of the model; values go between them by
// name.
#include "formats/onnx/model_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <variant>

#include "formats/onnx/weight_names.h"
#include "model/architecture.h"
#include "model/bias.h"
#include "phiq/error.h"

namespace phiq::onnx {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Below every logarithm of a weight: such an expert is never among the two best.
constexpr float kNoExpert = -10000.0F;

class ModelGraph {
 public:
  ModelGraph(const ModelConfig& config, const GraphPlan& plan, ::onnx::GraphProto& graph)
      : config_(config),
        network_(NetworkOf(config)),
        plan_(plan),
        choices_(plan.graph),
        graph_(graph),
        builder_(graph) {
    for (std::size_t i = 0; i < plan.lines.size(); ++i) {
      const PlanLine& line = plan.lines[i];
      if (line.table) {
        tables_[*line.table] = i;
      } else {
        lines_[{line.role, line.layer, line.part}] = i;
      }
    }
  }

  std::vector<StoredTensor> Build() {
    AddInputs();
    AddMask();
    AddRotaryTables();
    residual_ = branch_ = AddEmbedding();
    for (std::uint32_t i = 0; i < config_.n_layers; ++i) {
      const auto index = static_cast<std::int32_t>(i);
      const DecoderLayer& layer = network_.layers[i];
      const std::string path = fmt::format("/model/layers.{}", index);
      branch_ = AddAttention(layer.attention, index, path + "/attn",
                             AddNorm(layer.attention_norm, {TensorRole::kAttentionNorm, index}));
      const std::string x = AddNorm(layer.mlp_norm, {TensorRole::kMlpNorm, index});
      branch_ = std::visit([&](const auto& mlp) { return AddMlp(mlp, index, path, x); }, layer.mlp);
    }
    AddHead();
    AddOutputs();
    return builder_.stored();
  }

 private:
  bool OnDml() const { return choices_.ep == ExecutionProvider::kDml; }
  DataType FloatDataType() const {
    return choices_.float_type == FloatType::kF16 ? kFloat16 : kFloat;
  }

  std::optional<std::size_t> FindLine(TensorRole role, std::int32_t layer,
                                      TensorPart part = TensorPart::kWhole) const {
    const auto found = lines_.find({role, layer, part});
    if (found == lines_.end()) return std::nullopt;
    return found->second;
  }
  std::size_t LineOf(TensorRole role, std::int32_t layer,
                     TensorPart part = TensorPart::kWhole) const {
    if (const std::optional<std::size_t> line = FindLine(role, layer, part)) return *line;
    throw Error(ErrorCode::kInternal,
                fmt::format("no weight for {} of layer {}", RoleName(role), layer));
  }

  // --- inputs and outputs ---------------------------------------------------------------------

  std::vector<Dim> CacheDims(std::string length) const {
    return {"batch_size", std::int64_t{config_.n_kv_heads}, std::move(length),
            std::int64_t{config_.head_dim}};
  }

  void AddInputs() {
    builder_.AddInput("input_ids", kInt64, {"batch_size", "sequence_length"});
    builder_.AddInput("attention_mask", kInt64, {"batch_size", "total_sequence_length"});
    if (OnDml()) builder_.AddInput("position_ids", kInt64, {"batch_size", "sequence_length"});
    for (const std::string_view kind : {"key", "value"})
      for (std::uint32_t i = 0; i < config_.n_layers; ++i)
        builder_.AddInput(fmt::format("past_key_values.{}.{}", i, kind), FloatDataType(),
                          CacheDims("past_sequence_length"));
  }

  void AddOutputs() {
    builder_.AddOutput("logits", FloatDataType(),
                       {"batch_size", "sequence_length", std::int64_t{config_.vocab_size}});
    for (const std::string_view kind : {"key", "value"})
      for (std::uint32_t i = 0; i < config_.n_layers; ++i)
        builder_.AddOutput(fmt::format("present.{}.{}", i, kind), FloatDataType(),
                           CacheDims("total_sequence_length"));
  }

  // --- mask and positions ---------------------------------------------------------------------

  // From the mask: how many tokens each row has (less one), and how many columns there are.
  void AddMask() {
    const std::string path = "/model/attn_mask_reformat/attn_mask_subgraph";
    const std::string one = builder_.Constant(std::vector<std::int64_t>{1});
    const std::string lengths =
        builder_.Add("ReduceSum", path + "/ReduceSum", {"attention_mask", one}, {{"keepdims", 0L}});
    const std::string last = builder_.Add("Sub", path + "/Sub", {lengths, one});
    last_positions_ = builder_.Add("Cast", path + "/Sub/Cast", {last}, {{"to", 6L}});
    const std::string shape = builder_.Add("Shape", path + "/Shape", {"attention_mask"});
    total_length_ =
        builder_.Add("Gather", path + "/Gather", {shape, builder_.Constant(1)}, {{"axis", 0L}});
    total_length_int32_ =
        builder_.Add("Cast", path + "/Gather/Cast", {total_length_}, {{"to", 6L}});
  }

  std::string AddTable(const std::string& name, ConfigTable table) {
    const std::size_t line = tables_.at(table);
    return builder_.AddStored(name, FloatDataType(), plan_.lines[line].shape, line);
  }

  void AddRotaryTables() {
    using enum ConfigTable;
    if (tables_.contains(kCosLong)) {
      AddTableChoice();
    } else {
      const bool is_both = tables_.contains(kCosShortLong);
      AddTable("cos_cache", is_both ? kCosShortLong : kCos);
      AddTable("sin_cache", is_both ? kSinShortLong : kSin);
    }
    if (OnDml()) AddPositions();
  }

  // Long factors for every token once the text is longer than the original context.
  void AddTableChoice() {
    using enum ConfigTable;
    const std::string path = "/model/rope_caches_subgraph";
    const std::string is_long =
        builder_.Add("Greater", path + "/Greater",
                     {total_length_, builder_.Constant(config_.original_max_position_embeddings)});
    AddTable(TableName("cos", "large"), kCosLong);
    AddTable(TableName("sin", "large"), kSinLong);
    AddTable(TableName("cos", "small"), kCosShort);
    AddTable(TableName("sin", "small"), kSinShort);
    ::onnx::NodeProto& node =
        builder_.AddNode("If", "", path + "/If", {is_long}, {"cos_cache", "sin_cache"});
    AddTableBranch(node, "else_branch", "small", tables_.at(kCosShort));
    AddTableBranch(node, "then_branch", "large", tables_.at(kCosLong));
  }

  static std::string TableName(std::string_view kind, std::string_view size) {
    return fmt::format("model.rope.{}_cache_{}", kind, size);
  }

  // A branch that passes on two tables of the main graph: constants inside of a branch would stand
  // in the .onnx file itself, 52 MB of them for Phi-3.5-mini.
  void AddTableBranch(::onnx::NodeProto& node, const std::string& branch, std::string_view size,
                      std::size_t line) {
    ::onnx::AttributeProto& attribute = *node.add_attribute();
    attribute.set_name(branch);
    attribute.set_type(::onnx::AttributeProto::GRAPH);
    ::onnx::GraphProto& graph = *attribute.mutable_g();
    graph.set_name(fmt::format("{}_rope_caches_graph", size));
    GraphBuilder builder(graph);
    const std::vector<std::uint64_t>& shape = plan_.lines[line].shape;
    for (const std::string_view kind : {"cos", "sin"}) {
      const std::string output = fmt::format("{}_cache_{}", kind, size);
      builder.AddNode("Identity", "", fmt::format("/{}/{}_cache/Identity", size, kind),
                      {TableName(kind, size)}, {output});
      builder.AddOutput(output, FloatDataType(),
                        {static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1])});
    }
  }

  // On dml rotation has nodes of its own; with two tables in one, positions of a long text point
  // into the second.
  void AddPositions() {
    positions_ = "position_ids";
    if (!tables_.contains(ConfigTable::kCosShortLong)) return;
    const std::string path = "/model/pos_ids_reformat";
    const std::string limit = builder_.Constant(config_.original_max_position_embeddings);
    const std::string last =
        builder_.Add("ReduceMax", path + "/ReduceMax", {positions_}, {{"keepdims", 0L}});
    const std::string is_long =
        builder_.Add("GreaterOrEqual", path + "/GreaterOrEqual", {last, limit});
    const std::string as_number = builder_.Add("Cast", path + "/Cast", {is_long}, {{"to", 7L}});
    const std::string shift = builder_.Add("Mul", path + "/Mul", {as_number, limit});
    positions_ = builder_.Add("Add", path + "/Add_1", {shift, positions_});
  }

  // --- embedding and head ---------------------------------------------------------------------

  std::string AddEmbedding() {
    const std::string path = NodePath(config_, {TensorRole::kTokenEmbedding});
    const std::string weight = WeightName(config_, {TensorRole::kTokenEmbedding});
    const std::size_t line = LineOf(TensorRole::kTokenEmbedding, -1);
    const std::vector<std::uint64_t>& shape = plan_.lines[line].shape;
    const auto* groups = std::get_if<GroupEncoding>(&plan_.lines[line].encoding);
    const bool is_shared = !FindLine(TensorRole::kOutputHead, -1);
    if (groups == nullptr) {
      std::string table = is_shared ? builder_.Add("Transpose", path + "/Transpose", {HeadWeight()},
                                                   {{"perm", std::vector<std::int64_t>{1, 0}}})
                                    : builder_.AddStored(weight, FloatDataType(), shape, line);
      return builder_.Add("Gather", path + "/Gather", {std::move(table), "input_ids"});
    }
    const auto group_size = static_cast<std::int64_t>(groups->group_size);
    std::vector<Attribute> attributes = {
        {"block_size", group_size}, {"gather_axis", 0L}, {"quantize_axis", 1L}};
    const Attribute bits = {"bits", std::int64_t{BitsOf(groups->code)}};
    if (is_shared) {
      // The head's codes, as rows of bytes.
      std::vector<std::string> arrays = IntegerArrays(HeadName(), line);
      const auto row_bytes = shape[1] * static_cast<unsigned>(BitsOf(groups->code)) / 8;
      std::vector<std::string> inputs = {
          builder_.Add("Reshape", path + "/Reshape",
                       {arrays[0], builder_.Constant({static_cast<std::int64_t>(shape[0]),
                                                      static_cast<std::int64_t>(row_bytes)})}),
          "input_ids"};
      inputs.insert(inputs.end(), arrays.begin() + 1, arrays.end());
      attributes.insert(attributes.begin(), bits);
      const std::string name = path + "/GatherBlockQuantized";
      builder_.AddNode("GatherBlockQuantized", kContribDomain, name, inputs, {name + "/output_0"},
                       attributes);
      return name + "/output_0";
    }
    const bool is_nibbles = BitsOf(groups->code) == 4;
    // INT4 and UINT4 have no `bits`: runtimes older than the attribute know them.
    const DataType type = !is_nibbles ? kUint8 : IsSigned(groups->code) ? kInt4 : kUint4;
    if (!is_nibbles) attributes.insert(attributes.begin(), bits);
    const std::uint64_t n_groups = GroupCount(*groups, shape[1]);
    std::vector<std::string> inputs = {
        builder_.AddStored(fmt::format("{}_Q{}", weight, BitsOf(groups->code)), type, shape, line,
                           0),
        "input_ids",
        builder_.AddStored(weight + "_scales", FloatDataType(), {shape[0], n_groups}, line, 1)};
    if (HasZeroPoints(*groups))
      inputs.push_back(
          builder_.AddStored(weight + "_zero_points", type, {shape[0], n_groups}, line, 2));
    builder_.AddNode("GatherBlockQuantized", kContribDomain,
                     fmt::format("{}/Gather_Q{}", path, BitsOf(groups->code)), inputs,
                     {path + "/Gather/output_0"}, attributes);
    return path + "/Gather/output_0";
  }

  std::size_t HeadLine() const {
    const std::optional<std::size_t> own = FindLine(TensorRole::kOutputHead, -1);
    return own ? *own : LineOf(TensorRole::kTokenEmbedding, -1);
  }

  std::string HeadName() const { return WeightName(config_, {TensorRole::kOutputHead}); }

  // The float weight of the head, stored once.
  std::string HeadWeight() {
    const std::size_t line = HeadLine();
    const std::vector<std::uint64_t>& shape = plan_.lines[line].shape;
    if (!head_is_stored_)
      builder_.AddStored(HeadName(), FloatDataType(), {shape[1], shape[0]}, line, 0,
                         Order::Columns(shape[1]));
    head_is_stored_ = true;
    return HeadName();
  }

  void AddHead() {
    const std::string normed =
        AddNorm(network_.output_norm, {TensorRole::kOutputNorm}, /*is_last=*/true);
    AddLinear({TensorRole::kOutputHead}, TensorPart::kWhole, normed, "logits");
  }

  // --- the parts of a layer -------------------------------------------------------------------

  // Normalizes the sum of residual stream and branch, which becomes the new residual stream.
  std::string AddNorm(const NormSpec& norm, WeightId id, bool is_last = false) {
    return std::visit([&](const auto& kind) { return Normalize(kind, id, is_last); }, norm);
  }
  std::string Normalize(const LayerNormSpec& norm, WeightId id, bool is_last) {
    const std::string weight = AddVector(id);
    return Normalize("LayerNormalization", norm.epsilon, id,
                     {weight, AddVector({BiasOf(id.role), id.layer})}, is_last);
  }
  std::string Normalize(const RmsNormSpec& norm, WeightId id, bool is_last) {
    return Normalize("SimplifiedLayerNormalization", norm.epsilon, id, {AddVector(id)}, is_last);
  }

  // A norm or a bias.
  std::string AddVector(WeightId id) {
    const std::size_t line = LineOf(id.role, id.layer);
    return builder_.AddStored(WeightName(config_, id), FloatDataType(), plan_.lines[line].shape,
                              line);
  }

  std::string Normalize(const std::string& op, float epsilon_value, WeightId id,
                        const std::vector<std::string>& vectors, bool is_last) {
    const std::string path = NodePath(config_, id);
    std::string output = path + "/output_0";
    const Attribute epsilon = {"epsilon", epsilon_value};
    std::vector<std::string> inputs = {residual_};
    if (residual_ != branch_) inputs.push_back(branch_);
    inputs.insert(inputs.end(), vectors.begin(), vectors.end());
    if (residual_ == branch_) {  // the embedding: nothing to add yet
      builder_.AddNode(op, "", path + "/LayerNorm", inputs, {output},
                       {epsilon, {"axis", -1L}, {"stash_type", 1L}});
      return output;
    }
    const std::string sum = path + "/output_3";
    builder_.AddNode(
        "Skip" + op, kContribDomain, path + "/SkipLayerNorm", inputs,
        is_last ? std::vector<std::string>{output} : std::vector<std::string>{output, "", "", sum},
        {epsilon});
    residual_ = sum;
    return output;
  }

  std::string AddAttention(const AttentionSpec& spec, std::int32_t layer, const std::string& path,
                           const std::string& x) {
    std::vector<std::string> inputs;
    if (spec.is_split) {
      for (const TensorRole role :
           {TensorRole::kAttentionQuery, TensorRole::kAttentionKey, TensorRole::kAttentionValue})
        inputs.push_back(AddLinear({role, layer}, TensorPart::kWhole, x));
    } else if (OnDml()) {
      inputs = AddSplitQkv(spec, layer, path, x);
    } else {
      inputs = {AddLinear({TensorRole::kAttentionQkv, layer}, TensorPart::kWhole, x), "", ""};
    }
    inputs.insert(inputs.end(), {fmt::format("past_key_values.{}.key", layer),
                                 fmt::format("past_key_values.{}.value", layer), last_positions_,
                                 total_length_int32_});
    // No empty inputs at the end: older runtimes refuse more inputs than they know.
    if (!OnDml()) inputs.insert(inputs.end(), {"cos_cache", "sin_cache"});
    std::vector<Attribute> attributes = {
        {"num_heads", std::int64_t{spec.n_heads}},
        {"kv_num_heads", std::int64_t{spec.n_kv_heads}},
        {"scale", static_cast<float>(1.0 / std::sqrt(spec.head_dim))},
        {"softcap", 0.0F},
        {"do_rotary", std::int64_t{OnDml() ? 0 : 1}},
        {"rotary_interleaved", 0L}};
    if (HasSlidingWindow(config_))
      attributes.emplace_back("local_window_size", std::int64_t{spec.sliding_window});
    const std::string name = path + "/GroupQueryAttention";
    const std::string output = name + "/output_0";
    builder_.AddNode(
        "GroupQueryAttention", kContribDomain, name, inputs,
        {output, fmt::format("present.{}.key", layer), fmt::format("present.{}.value", layer)},
        attributes);
    return AddLinear({TensorRole::kAttentionOutput, layer}, TensorPart::kWhole, output);
  }

  // Query, key and value, the first two rotated.
  std::vector<std::string> AddSplitQkv(const AttentionSpec& spec, std::int32_t layer,
                                       const std::string& path, const std::string& x) {
    const auto linear = [&](TensorPart part) {
      return AddLinear({TensorRole::kAttentionQkv, layer}, part, x);
    };
    const auto rotate = [&](std::string_view letter, std::uint32_t n_heads, std::string value) {
      const std::string name = fmt::format("{}/{}_rotary/RotaryEmbedding", path, letter);
      const bool is_partial = spec.rope_dim < spec.head_dim;
      builder_.AddNode("RotaryEmbedding", kContribDomain, name,
                       {std::move(value), positions_, "cos_cache", "sin_cache"},
                       {name + "/output_0"},
                       {{"interleaved", 0L},
                        {"num_heads", std::int64_t{is_partial ? n_heads : 0}},
                        {"rotary_embedding_dim", std::int64_t{is_partial ? spec.rope_dim : 0}}});
      return name + "/output_0";
    };
    const std::string query = linear(TensorPart::kQuery);
    const std::string key = linear(TensorPart::kKey);
    const std::string value = linear(TensorPart::kValue);
    return {rotate("q", spec.n_heads, query), rotate("k", spec.n_kv_heads, key), value};
  }

  // The CPU provider's operator knows a softmax over the two best scores, whose weights sum to 1.
  // It is given scores of which that makes r1 / (r1 + r2) and r2 / (r1 + r2), and its output is
  // multiplied by r1 + r2.
  std::string AddMlp(const Experts& experts, std::int32_t layer, const std::string& layer_path,
                     const std::string& x) {
    const std::string path = layer_path + "/moe";
    const std::string router = path + "/router";
    const std::string scores = AddLinear({TensorRole::kRouter, layer}, TensorPart::kWhole, x);
    const std::string magnitudes = builder_.Add("Abs", router + "/Abs", {scores});
    const auto [first, first_weight] =
        AddChoice(experts, router + "/first", scores, scores, magnitudes);
    // As if the first were not there.
    const std::string best = router + "/first/ReduceMax/output_0";
    const std::string hidden =
        builder_.Add("Sub", router + "/Sub", {best, builder_.FloatConstant(kInfinity)});
    const std::string others = builder_.Add("ScatterElements", router + "/others",
                                            {scores, first, hidden}, {{"axis", -1L}});
    const auto [second, second_weight] =
        AddChoice(experts, router + "/second", others, scores, magnitudes);
    const std::string chosen =
        builder_.Add("Concat", router + "/chosen", {first, second}, {{"axis", -1L}});
    const std::string weights =
        builder_.Add("Concat", router + "/weights", {first_weight, second_weight}, {{"axis", -1L}});
    const std::string logs = builder_.Add("Log", router + "/Log", {weights});
    const std::string shape = builder_.Add("Shape", router + "/Shape", {scores});
    const std::string nothing = builder_.FloatConstant(kNoExpert);
    const std::string none = builder_.Add("Expand", router + "/Expand", {nothing, shape});
    const std::string all =
        builder_.Add("ScatterElements", router + "/all", {none, chosen, logs}, {{"axis", -1L}});
    const std::string tokens = builder_.Constant({-1, std::int64_t{experts.n_experts}});
    const std::string rows = builder_.Add("Reshape", router + "/Reshape", {all, tokens});
    const std::string output = AddExperts(layer, path, x, rows);
    const std::string axis = builder_.Constant(std::vector<std::int64_t>{-1});
    const std::string sum =
        builder_.Add("ReduceSum", router + "/ReduceSum", {weights, axis}, {{"keepdims", 1L}});
    return builder_.Add("Mul", path + "/Mul", {output, sum});
  }

  // The index of the best candidate and its weight. See Experts.
  std::pair<std::string, std::string> AddChoice(const Experts& experts, const std::string& path,
                                                const std::string& candidates,
                                                const std::string& scores,
                                                const std::string& magnitudes) {
    const std::string axis = builder_.Constant(std::vector<std::int64_t>{-1});
    const std::string best =
        builder_.Add("ReduceMax", path + "/ReduceMax", {candidates, axis}, {{"keepdims", 1L}});
    const std::string index =
        builder_.Add("ArgMax", path + "/ArgMax", {candidates}, {{"axis", -1L}, {"keepdims", 1L}});
    const std::string distance = builder_.Add("Sub", path + "/Sub", {best, scores});
    const std::string scale = builder_.Add("Max", path + "/Max", {magnitudes, best});
    const std::string share = builder_.Add("Div", path + "/Div", {distance, scale});
    const std::string limit = builder_.FloatConstant(2 * experts.epsilon);
    const std::string is_less = builder_.Add("Greater", path + "/Greater", {share, limit});
    const std::string hidden = builder_.FloatConstant(-kInfinity);
    const std::string ties = builder_.Add("Where", path + "/Where", {is_less, hidden, candidates});
    const std::string softmax = builder_.Add("Softmax", path + "/Softmax", {ties}, {{"axis", -1L}});
    return {index, builder_.Add("GatherElements", path + "/GatherElements", {softmax, index},
                                {{"axis", -1L}})};
  }

  std::string AddExperts(std::int32_t layer, const std::string& path, const std::string& x,
                         const std::string& scores) {
    const std::size_t gate = LineOf(TensorRole::kExpertGate, layer);
    const std::size_t up = LineOf(TensorRole::kExpertUp, layer);
    const std::size_t down = LineOf(TensorRole::kExpertDown, layer);
    const std::string module = fmt::format("model.layers.{}.moe", layer);
    const std::string down_name = ExpertName(module, TensorRole::kExpertDown);
    const std::string gate_up_name = ExpertGateUpName(module);
    const auto dims_of = [&](std::size_t line, std::uint64_t row_size, bool is_row = false) {
      std::vector<std::uint64_t> dims = plan_.lines[line].shape;
      if (line == gate) dims[1] *= 2;  // gate and up in turn
      dims.back() = row_size;
      if (is_row) dims.pop_back();
      return dims;
    };
    std::vector<Attribute> attributes = {{"k", 2L},
                                         {"activation_type", std::string("swiglu")},
                                         {"swiglu_fusion", 1L},
                                         {"activation_alpha", 1.0F},
                                         {"activation_beta", 0.0F},
                                         {"normalize_routing_weights", 1L}};
    const std::uint64_t width = config_.hidden_size, inner = config_.intermediate_size;
    const auto* groups = std::get_if<GroupEncoding>(&plan_.lines[gate].encoding);
    if (groups == nullptr) {
      const std::string both =
          builder_.AddInterleaved(gate_up_name, FloatDataType(), dims_of(gate, width), gate, up, 0);
      const std::string out =
          builder_.AddStored(down_name, FloatDataType(), dims_of(down, inner), down);
      const std::string node = path + "/MoE";
      builder_.AddNode("MoE", kContribDomain, node, {x, scores, both, "", out, ""},
                       {node + "/output_0"}, attributes);
      return node + "/output_0";
    }
    const auto bits = static_cast<unsigned>(BitsOf(groups->code));
    const bool is_row = groups->group_size == 0;
    const auto add_pair = [&](const std::string& tensor, std::size_t line, std::uint64_t n) {
      const std::uint64_t n_groups = GroupCount(*groups, n);
      const std::string codes = fmt::format("{}_Q{}", tensor, bits), scales = tensor + "_scales";
      const std::vector<std::uint64_t> code_dims = dims_of(line, n * bits / 8),
                                       scale_dims = dims_of(line, n_groups, is_row);
      if (line == gate) {
        builder_.AddInterleaved(codes, kUint8, code_dims, gate, up, 0);
        builder_.AddInterleaved(scales, FloatDataType(), scale_dims, gate, up, 1);
      } else {
        builder_.AddStored(codes, kUint8, code_dims, line, 0);
        builder_.AddStored(scales, FloatDataType(), scale_dims, line, 1);
      }
      return std::pair(codes, scales);
    };
    const auto [gate_up_codes, gate_up_scales] = add_pair(gate_up_name, gate, width);
    const auto [down_codes, down_scales] = add_pair(down_name, down, inner);
    attributes.emplace_back("expert_weight_bits", std::int64_t{bits});
    if (!is_row)
      attributes.emplace_back("block_size", static_cast<std::int64_t>(groups->group_size));
    const std::string node = path + "/QMoE";
    builder_.AddNode("QMoE", kContribDomain, node,
                     {x, scores, gate_up_codes, gate_up_scales, "", down_codes, down_scales},
                     {node + "/output_0"}, attributes);
    return node + "/output_0";
  }

  std::string AddMlp(const GatedMlp&, std::int32_t layer, const std::string& layer_path,
                     const std::string& x) {
    const std::string path = layer_path + "/mlp";
    const WeightId gate_up = {TensorRole::kMlpGateUp, layer};
    const std::string gate = AddLinear(gate_up, TensorPart::kGate, x);
    const std::string up = AddLinear(gate_up, TensorPart::kUp, x);
    const std::string sigmoid = builder_.Add("Sigmoid", path + "/act_fn/Sigmoid", {gate});
    const std::string silu = builder_.Add("Mul", path + "/act_fn/Mul", {gate, sigmoid});
    const std::string product = builder_.Add("Mul", path + "/Mul", {silu, up});
    return AddLinear({TensorRole::kMlpDown, layer}, TensorPart::kWhole, product);
  }

  // --- matrix products ------------------------------------------------------------------------

  // x times the transposed weight, in the form that the weight's encoding asks for.
  std::string AddLinear(WeightId id, TensorPart part, const std::string& x,
                        std::string output = "") {
    const std::string path = NodePath(config_, id, part);
    const std::string node = path + "/MatMul";
    const WeightId bias = {BiasOf(id.role), id.layer};
    if (bias.role != id.role && FindLine(bias.role, bias.layer)) {
      const std::string product = AddProduct(id, part, x, node + "/output_0");
      const std::string added = AddVector(bias);
      const std::string sum = path + "/Add";
      if (output.empty()) output = sum + "/output_0";
      builder_.AddNode("Add", "", sum, {product, added}, {output});
      return output;
    }
    if (output.empty()) output = node + "/output_0";
    return AddProduct(id, part, x, output);
  }

  std::string AddProduct(WeightId id, TensorPart part, const std::string& x,
                         const std::string& output) {
    const bool is_head = id.role == TensorRole::kOutputHead;
    const std::size_t line = is_head ? HeadLine() : LineOf(id.role, id.layer, part);
    const PlanLine& plan_line = plan_.lines[line];
    const std::string weight_name = WeightName(config_, id, part);
    const std::string path = NodePath(config_, id, part);
    const std::string node = path + "/MatMul";
    const auto* groups = std::get_if<GroupEncoding>(&plan_line.encoding);
    if (groups == nullptr) {
      const std::string weight =
          is_head ? HeadWeight()
                  : builder_.AddStored(weight_name, FloatDataType(),
                                       {plan_line.shape[1], plan_line.shape[0]}, line, 0,
                                       Order::Columns(plan_line.shape[1]));
      builder_.AddNode("MatMul", "", node, {x, weight}, {output});
    } else if (choices_.activations == Activations::kDynamic) {
      AddDynamicLinear(path, weight_name, line, x, output);
    } else {
      AddBlockLinear(node, weight_name, line, *groups, x, output);
    }
    return output;
  }

  // MatMulNBits: the weight stays in blocks of codes.
  void AddBlockLinear(const std::string& node, const std::string& weight, std::size_t line,
                      const GroupEncoding& groups, const std::string& x,
                      const std::string& output) {
    const PlanLine& plan_line = plan_.lines[line];
    std::vector<std::string> inputs = IntegerArrays(weight, line);
    inputs.insert(inputs.begin(), x);
    std::vector<Attribute> attributes = {
        {"K", static_cast<std::int64_t>(plan_line.shape[1])},
        {"N", static_cast<std::int64_t>(plan_line.shape[0])},
        {"bits", std::int64_t{BitsOf(groups.code)}},
        {"block_size", static_cast<std::int64_t>(groups.group_size)}};
    if (choices_.accuracy_level != 0)
      attributes.emplace_back("accuracy_level", std::int64_t{choices_.accuracy_level});
    builder_.AddNode("MatMulNBits", kContribDomain,
                     fmt::format("{}_Q{}", node, BitsOf(groups.code)), inputs, {output},
                     attributes);
  }

  // Codes, scales and zero points of MatMulNBits; a shared tensor is stored once.
  std::vector<std::string> IntegerArrays(const std::string& weight, std::size_t line) {
    if (const auto found = integer_arrays_.find(line); found != integer_arrays_.end())
      return found->second;
    const PlanLine& plan_line = plan_.lines[line];
    const GroupEncoding& groups = std::get<GroupEncoding>(plan_line.encoding);
    const std::uint64_t n_rows = plan_line.shape[0];
    const std::uint64_t n_groups = GroupCount(groups, plan_line.shape[1]);
    const auto bits = static_cast<unsigned>(BitsOf(groups.code));
    const bool is_blockwise = choices_.names == OnnxNames::kBlockwise;
    const std::string codes = is_blockwise
                                  ? fmt::format("{}_Q{}", weight, bits)
                                  : fmt::format("{}_Q{}G{}", weight, bits, groups.group_size);
    std::vector<std::string> names = {
        builder_.AddStored(codes, kUint8, {n_rows, n_groups, groups.group_size * bits / 8}, line,
                           0),
        builder_.AddStored(weight + (is_blockwise ? "_scales" : "_scale"), FloatDataType(),
                           {n_rows, n_groups}, line, 1)};
    if (HasZeroPoints(groups))
      names.push_back(builder_.AddStored(weight + (is_blockwise ? "_zero_points" : "_zp"), kUint8,
                                         {n_rows, (n_groups * bits + 7) / 8}, line, 2));
    return integer_arrays_[line] = names;
  }

  // Plain ONNX operators on 8-bit integers; activations that several products read are quantized
  // once.
  void AddDynamicLinear(const std::string& path, const std::string& weight, std::size_t line,
                        const std::string& x, const std::string& output) {
    const PlanLine& plan_line = plan_.lines[line];
    const std::string node = path + "/MatMul";
    const auto [found, is_new] = quantized_.try_emplace(x, path + "/DynamicQuantizeLinear");
    const std::string& quantize = found->second;
    const std::string codes = quantize + "/output_0", scale = quantize + "/output_1",
                      zero_point = quantize + "/output_2";
    if (is_new)
      builder_.AddNode("DynamicQuantizeLinear", "", quantize, {x}, {codes, scale, zero_point});
    const std::string weight_codes =
        builder_.AddStored(weight + "_quantized", kInt8, {plan_line.shape[1], plan_line.shape[0]},
                           line, 0, Order::Columns(plan_line.shape[1]));
    const std::string weight_scale =
        builder_.AddStored(weight + "_scale", kFloat, {plan_line.shape[0]}, line, 1);
    const std::string sums =
        builder_.Add("MatMulInteger", path + "/MatMulInteger", {codes, weight_codes, zero_point});
    const std::string floats = builder_.Add("Cast", path + "/Cast", {sums}, {{"to", 1L}});
    const std::string scales = builder_.Add("Mul", path + "/scales/Mul", {scale, weight_scale});
    builder_.AddNode("Mul", "", node, {floats, scales}, {output});
  }

  const ModelConfig& config_;
  const Network network_;
  const GraphPlan& plan_;
  const GraphChoices& choices_;
  ::onnx::GraphProto& graph_;
  GraphBuilder builder_;
  std::map<std::tuple<TensorRole, std::int32_t, TensorPart>, std::size_t> lines_;
  std::map<ConfigTable, std::size_t> tables_;

  // Names of values.
  std::string residual_, branch_;
  std::string last_positions_, total_length_, total_length_int32_, positions_;
  std::map<std::size_t, std::vector<std::string>> integer_arrays_;  // by line
  std::map<std::string, std::string> quantized_;                    // value -> node
  bool head_is_stored_ = false;
};

}  // namespace

std::vector<StoredTensor> BuildModelGraph(const ModelConfig& config, const GraphPlan& plan,
                                          ::onnx::GraphProto& graph) {
  return ModelGraph(config, plan, graph).Build();
}

}  // namespace phiq::onnx
