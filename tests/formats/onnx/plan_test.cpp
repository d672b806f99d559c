// Encodings, parts, tables and contradictions of ONNX plans. Sizes are worked out from the shapes.
#include "formats/onnx/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using onnx::ExecutionProvider;
using onnx::GraphPlan;
using onnx::OnnxRuntime;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kPhi35Mini;
using testing::kPhi4;
using testing::kPhi4Mini;
using testing::LineOf;
using testing::PhiModel;
using testing::PhiShape;
using testing::SetGroupSize;
using testing::SetSymmetric;
using testing::Thrown;
using enum onnx::ExecutionProvider;

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

// With the contexts that the published config.json files have.
PhiModel Model(const PhiShape& shape) {
  PhiModel phi(shape);
  ModelConfig& config = phi.model.config;
  config.rms_norm_eps = 1e-5F;
  if (shape.rope_factors > 0) {
    config.max_position_embeddings = 131072;
    config.original_max_position_embeddings = 4096;
    config.rope_scaling = RopeScalingType::kLongRope;
  } else {
    config.max_position_embeddings = config.original_max_position_embeddings = 16384;
    config.rope_dim = config.head_dim;
  }
  return phi;
}

PlanOptions Options(std::string type, ExecutionProvider ep = kCpu) {
  PlanOptions options;
  options.format = "onnx";
  options.type = std::move(type);
  options.knobs["ep"] = onnx::ExecutionProviderName(ep);
  return options;
}

PlanOptions WithRules(std::string type, std::vector<TensorRule> rules) {
  PlanOptions options = Options(std::move(type));
  options.tensor_rules = std::move(rules);
  return options;
}

PlanOptions Oldest(std::string type, OnnxRuntime version) {
  PlanOptions options = Options(std::move(type));
  options.knobs["min-onnxruntime"] = onnx::OnnxRuntimeName(version);
  return options;
}

GraphPlan MakePlan(const PhiShape& shape, const PlanOptions& options) {
  PhiModel phi = Model(shape);
  return phi.MakePlan<GraphPlan>(options);
}

std::pair<ErrorCode, std::string> Refusal(const PlanOptions& options,
                                          const PhiShape& shape = kPhi35Mini) {
  return Thrown([&] { MakePlan(shape, options); });
}
using Refused = std::pair<ErrorCode, std::string>;

std::string Layer(int i, std::string_view tensor) {
  return "model.layers." + std::to_string(i) + "." + std::string(tensor) + ".weight";
}

std::string NameOf(const Plan& plan, std::string_view tensor) {
  return EncodingName(LineOf(plan, tensor).encoding);
}

const GroupEncoding& GroupsOf(const Plan& plan, std::string_view tensor) {
  return std::get<GroupEncoding>(LineOf(plan, tensor).encoding);
}

bool Has(const Plan& plan, std::string_view tensor) {
  return std::ranges::any_of(plan.lines, [&](const PlanLine& line) { return line.name == tensor; });
}

// All lines of a tensor, in order.
std::vector<PlanLine> Parts(const Plan& plan, std::string_view tensor) {
  std::vector<PlanLine> parts;
  std::ranges::copy_if(plan.lines, std::back_inserter(parts),
                       [&](const PlanLine& line) { return line.name == tensor; });
  return parts;
}

// "value (reason)" of a decision; empty when there is none.
std::string DecisionOf(const Plan& plan, std::string_view subject) {
  for (const Decision& decision : plan.decisions) {
    if (decision.subject == subject) return decision.value + " (" + decision.reason + ")";
  }
  return "";
}

// --- encodings -------------------------------------------------------------------------------

struct Encodings {
  const char* type;
  const char *embedding, *head, *down0, *down4, *output0, *norm;  // layer 4 has no more bits
};

TEST(OnnxPlan, HasTheEncodingsOfEveryRecipe) {
  constexpr Encodings kUntied[] = {
      {"fp32", "F32", "F32", "F32", "F32", "F32", "F32"},
      {"fp16", "F16", "F16", "F16", "F16", "F16", "F16"},
      {"int8", "F32", "int8 g32", "int8 g32", "int8 g32", "int8 g32", "F32"},
      {"k_quant_mixed", "F32", "int8 g32 asym", "int8 g32 asym", "int4 g32 asym", "int4 g32 asym",
       "F32"},
      {"k_quant_last", "F32", "int8 g32 asym", "int4 g32 asym", "int4 g32 asym", "int4 g32 asym",
       "F32"},
      {"rtn_last", "F32", "int8 g32", "int4 g32", "int4 g32", "int4 g32", "F32"},
      {"int4", "F32", "int4 g32", "int4 g32", "int4 g32", "int4 g32", "F32"},
  };
  EXPECT_EQ(std::size(kUntied), TypeNames("onnx").size());
  for (const Encodings& want : kUntied) {
    SCOPED_TRACE(want.type);
    const GraphPlan plan = MakePlan(kPhi35Mini, Options(want.type));
    EXPECT_EQ(plan.type, want.type);
    EXPECT_EQ(NameOf(plan, kEmbedding), want.embedding);
    EXPECT_EQ(NameOf(plan, kHead), want.head);
    EXPECT_EQ(NameOf(plan, Layer(0, "mlp.down_proj")), want.down0);
    EXPECT_EQ(NameOf(plan, Layer(4, "mlp.down_proj")), want.down4);
    EXPECT_EQ(NameOf(plan, Layer(0, "self_attn.o_proj")), want.output0);
    EXPECT_EQ(NameOf(plan, "model.norm.weight"), want.norm);
    EXPECT_EQ(NameOf(plan, Layer(31, "input_layernorm")), want.norm);
    EXPECT_EQ(NameOf(plan, "config:cos_long"), want.norm);
  }
}

TEST(OnnxPlan, HasOneEncodingForATiedEmbeddingAndHead) {
  const std::map<std::string, std::string> shared = {{"fp32", "F32"},
                                                     {"fp16", "F16"},
                                                     {"int4", "int4 g32"},
                                                     {"rtn_last", "int8 g32"},
                                                     {"k_quant_last", "int8 g32 asym"},
                                                     {"k_quant_mixed", "int8 g32 asym"}};
  for (const auto& [type, encoding] : shared) {
    SCOPED_TRACE(type);
    const GraphPlan plan = MakePlan(kPhi4Mini, Options(type));
    EXPECT_EQ(NameOf(plan, kEmbedding), encoding);
    EXPECT_FALSE(Has(plan, kHead));
    EXPECT_EQ(LineOf(plan, kEmbedding).reason, "tied: the output head too");
    EXPECT_EQ(plan.graph.min_onnxruntime,
              type.starts_with("fp") ? OnnxRuntime::k1_20 : OnnxRuntime::k1_24);
  }
}

// The builder's choice at 8 bits: floats to look up, codes to multiply.
TEST(OnnxPlan, KeepsATiedEmbeddingInFloatsBesideAnInt8Head) {
  const GraphPlan plan = MakePlan(kPhi4Mini, Options("int8"));
  EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
  EXPECT_EQ(NameOf(plan, kHead), "int8 g32");
  EXPECT_EQ(LineOf(plan, kHead).role, TensorRole::kOutputHead);
  EXPECT_EQ(LineOf(plan, kEmbedding).reason,
            "embedding: kept, as the runtime's own builder does (--tensor-type embed_tokens=int8 "
            "shares the head's tensor)");
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_22);
}

TEST(OnnxPlan, ChoosesTheMethodByNameOrOption) {
  const auto method_of = [](const PlanOptions& options) {
    const GraphPlan plan = MakePlan(kPhi35Mini, options);
    return std::pair(LineOf(plan, Layer(0, "self_attn.o_proj")).method, plan.graph.names);
  };
  PlanOptions options = Options("int4");
  EXPECT_EQ(method_of(options), std::pair(&kMlas, onnx::OnnxNames::kBlockwise));
  options.method = "rtn";
  EXPECT_EQ(method_of(options), std::pair(&kRtn, onnx::OnnxNames::kWeightOnly));
  options.method = "k_quant";
  EXPECT_EQ(method_of(options), std::pair(&kKQuant, onnx::OnnxNames::kWeightOnly));
  EXPECT_EQ(method_of(Options("rtn_last")), std::pair(&kRtn, onnx::OnnxNames::kWeightOnly));
  EXPECT_EQ(method_of(Options("k_quant_last")), std::pair(&kKQuant, onnx::OnnxNames::kWeightOnly));
  options.type = "k_quant_mixed";  // says the same twice
  EXPECT_EQ(method_of(options), std::pair(&kKQuant, onnx::OnnxNames::kWeightOnly));
}

TEST(OnnxPlan, TakesGroupsAndZeroPoints) {
  PlanOptions options = Options("int4");
  options.knobs["group-size"] = "128";
  SetSymmetric(options, false);
  const GraphPlan plan = MakePlan(kPhi35Mini, options);
  const PlanLine& down = LineOf(plan, Layer(7, "mlp.down_proj"));
  EXPECT_EQ(EncodingName(down.encoding), "int4 g128 asym");
  // 3072 rows of 8192: 64 groups, each 64 bytes of codes and a float32; 64 zero points in 32 bytes.
  EXPECT_EQ(down.size_bytes, 3072U * (64 * (64 + 4) + 32));
  SetSymmetric(options, true);
  EXPECT_EQ(NameOf(MakePlan(kPhi35Mini, options), kHead), "int4 g128");
}

TEST(OnnxPlan, StoresScalesInTheProvidersFloats) {
  for (const auto& [ep, float_type] : {std::pair(kCpu, FloatType::kF32),
                                       {kCuda, FloatType::kF16},
                                       {kDml, FloatType::kF16},
                                       {kWebGpu, FloatType::kF16}}) {
    const GraphPlan plan = MakePlan(kPhi4, Options("int4", ep));
    EXPECT_EQ(plan.graph.ep, ep);
    EXPECT_EQ(plan.graph.float_type, float_type);
    EXPECT_EQ(GroupsOf(plan, kHead).scale, ScaleTypeOf(float_type));
    EXPECT_EQ(NameOf(plan, kEmbedding), float_type == FloatType::kF32 ? "F32" : "F16");
  }
  EXPECT_EQ(MakePlan(kPhi4, Options("fp16")).graph.float_type, FloatType::kF16);
  EXPECT_EQ(MakePlan(kPhi4, Options("fp32", kWebGpu)).graph.float_type, FloatType::kF32);
}

TEST(OnnxPlan, ComputesOnInt8OnCpuAndWebGpu) {
  EXPECT_EQ(MakePlan(kPhi4, Options("int4", kCpu)).graph.accuracy_level, 4);
  EXPECT_EQ(MakePlan(kPhi4, Options("int8", kWebGpu)).graph.accuracy_level, 4);
  EXPECT_EQ(MakePlan(kPhi4, Options("int4", kCuda)).graph.accuracy_level, 0);
  EXPECT_EQ(MakePlan(kPhi4, Options("int4", kDml)).graph.accuracy_level, 0);
  PlanOptions options = Options("int4");
  options.knobs["accuracy-level"] = "1";
  EXPECT_EQ(MakePlan(kPhi4, options).graph.accuracy_level, 1);
}

TEST(OnnxPlan, HasOneScaleForEachOutputWhenActivationsAreDynamic) {
  PlanOptions options = Options("int8");
  options.knobs["activations"] = "dynamic";
  for (const PhiShape& shape : {kPhi35Mini, kPhi4Mini}) {
    const GraphPlan plan = MakePlan(shape, options);
    const PlanLine& head = LineOf(plan, kHead);
    EXPECT_EQ(EncodingName(head.encoding), "int8 row");
    EXPECT_EQ(std::get<GroupEncoding>(head.encoding).code, Code::kI8);
    EXPECT_EQ(head.size_bytes, std::uint64_t{shape.vocab} * (3072 + 4));
    EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
    EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_20);  // no MatMulNBits
    EXPECT_EQ(DecisionOf(plan, "accuracy_level"), "");
  }
}

// --- parts -----------------------------------------------------------------------------------

TEST(OnnxPlan, CutsGateAndUpApart) {
  const GraphPlan plan = MakePlan(kPhi4, Options("int4"));
  const std::vector<PlanLine> parts = Parts(plan, Layer(3, "mlp.gate_up_proj"));
  ASSERT_EQ(parts.size(), 2U);
  EXPECT_EQ(parts[0].display_name(), "model.layers.3.mlp.gate_up_proj.weight[gate]");
  EXPECT_EQ(parts[1].display_name(), "model.layers.3.mlp.gate_up_proj.weight[up]");
  EXPECT_EQ(parts[0].first_row, 0U);
  EXPECT_EQ(parts[1].first_row, 17920U);
  for (const PlanLine& part : parts) {
    EXPECT_THAT(part.shape, ElementsAre(17920, 5120));
    EXPECT_EQ(part.size_bytes, 17920U * 5120 * 5 / 8);
  }
  const std::vector<PlanLine> qkv = Parts(plan, Layer(3, "self_attn.qkv_proj"));
  ASSERT_EQ(qkv.size(), 1U);
  EXPECT_EQ(qkv[0].part, TensorPart::kWhole);
  EXPECT_THAT(qkv[0].shape, ElementsAre(7680, 5120));  // 40 query heads of 128, twice 10
}

TEST(OnnxPlan, CutsQueryKeyAndValueApartOnDml) {
  const std::vector<PlanLine> parts =
      Parts(MakePlan(kPhi4, Options("fp16", kDml)), Layer(39, "self_attn.qkv_proj"));
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].display_name(), "model.layers.39.self_attn.qkv_proj.weight[q]");
  EXPECT_EQ(parts[1].display_name(), "model.layers.39.self_attn.qkv_proj.weight[k]");
  EXPECT_EQ(parts[2].display_name(), "model.layers.39.self_attn.qkv_proj.weight[v]");
  EXPECT_THAT(parts[0].shape, ElementsAre(5120, 5120));
  EXPECT_THAT(parts[1].shape, ElementsAre(1280, 5120));
  EXPECT_THAT(parts[2].shape, ElementsAre(1280, 5120));
  EXPECT_EQ(parts[0].first_row, 0U);
  EXPECT_EQ(parts[1].first_row, 5120U);
  EXPECT_EQ(parts[2].first_row, 6400U);
}

// --- k_quant_mixed ---------------------------------------------------------------------------

std::vector<int> LayersWithEightBits(std::uint32_t n_layers, std::string_view tensor,
                                     TensorPart part = TensorPart::kWhole,
                                     ExecutionProvider ep = kCpu) {
  PhiShape shape = kPhi35Mini;
  shape.layers = n_layers;
  const GraphPlan plan = MakePlan(shape, Options("k_quant_mixed", ep));
  std::vector<int> layers;
  for (const PlanLine& line : plan.lines) {
    if (line.layer < 0 || line.name != Layer(line.layer, tensor) || line.part != part) continue;
    const int bits = BitsOf(std::get<GroupEncoding>(line.encoding).code);
    if (bits == 8) layers.push_back(line.layer);
    EXPECT_TRUE(bits == 4 || bits == 8);
  }
  return layers;
}

// As the builder chose them (k_quant_mixed of its own folders for 4 layers), and by its rule: i <
// L/8, i >= 7L/8, or (i - round(L/8)) % 3 == 2.
TEST(OnnxPlan, GivesSensitiveLayersEightBits) {
  const std::vector<int> of4 = {0, 2};
  const std::vector<int> of32 = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
  const std::vector<int> of40 = {0,  1,  2,  3,  4,  7,  10, 13, 16, 19,
                                 22, 25, 28, 31, 34, 35, 36, 37, 38, 39};
  for (const char* tensor : {"mlp.down_proj", "self_attn.qkv_proj"}) {
    EXPECT_EQ(LayersWithEightBits(4, tensor), of4);
    EXPECT_EQ(LayersWithEightBits(32, tensor), of32);
    EXPECT_EQ(LayersWithEightBits(40, tensor), of40);
    // L/8 = 1.5 is rounded to 2, 2.5 to 2: Python rounds ties to even.
    EXPECT_EQ(LayersWithEightBits(12, tensor), (std::vector<int>{0, 1, 4, 7, 10, 11}));
    EXPECT_EQ(LayersWithEightBits(20, tensor),
              (std::vector<int>{0, 1, 2, 4, 7, 10, 13, 16, 18, 19}));
  }
  EXPECT_THAT(LayersWithEightBits(32, "self_attn.o_proj"), IsEmpty());
  EXPECT_THAT(LayersWithEightBits(32, "mlp.gate_up_proj", TensorPart::kGate), IsEmpty());
}

TEST(OnnxPlan, GivesTheValuesAloneEightBitsWhereTheyStandAlone) {
  const auto layers = [](TensorPart part) {
    return LayersWithEightBits(4, "self_attn.qkv_proj", part, kDml);
  };
  EXPECT_THAT(layers(TensorPart::kQuery), IsEmpty());
  EXPECT_THAT(layers(TensorPart::kKey), IsEmpty());
  EXPECT_THAT(layers(TensorPart::kValue), ElementsAre(0, 2));
}

// --- rules -----------------------------------------------------------------------------------

TEST(OnnxPlan, FollowsRules) {
  const GraphPlan plan =
      MakePlan(kPhi35Mini, WithRules("k_quant_mixed", {{"layers.0.*down", "int4"},
                                                       {"layers.1.*qkv", "float"},
                                                       {"embed", "int8"},
                                                       {"lm_head", "fp32"}}));
  EXPECT_EQ(NameOf(plan, Layer(0, "mlp.down_proj")), "int4 g32 asym");
  EXPECT_EQ(LineOf(plan, Layer(0, "mlp.down_proj")).reason, "rule 'layers.0.*down=int4'");
  EXPECT_EQ(NameOf(plan, Layer(1, "self_attn.qkv_proj")), "F32");
  EXPECT_EQ(NameOf(plan, kEmbedding), "int8 g32 asym");
  EXPECT_EQ(LineOf(plan, kEmbedding).method, &kGather);
  EXPECT_EQ(NameOf(plan, kHead), "F32");
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_24);
}

TEST(OnnxPlan, LooksUpFourBitsInSignedCodes) {
  const GraphPlan plan = MakePlan(kPhi35Mini, WithRules("int4", {{"embed", "int4"}}));
  // INT4 has no zero points, and runs in onnxruntime 1.20.
  EXPECT_EQ(GroupsOf(plan, kEmbedding).code, Code::kI4);
  EXPECT_EQ(LineOf(plan, kEmbedding).method, &kGather);
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_20);
  PlanOptions options = WithRules("int4", {{"embed", "int4"}});
  SetSymmetric(options, false);
  EXPECT_EQ(GroupsOf(MakePlan(kPhi35Mini, options), kEmbedding).code, Code::kU4);
}

TEST(OnnxPlan, SharesATiedEmbeddingWhenRulesSayTheSame) {
  // At 8 bits int8 does not share by itself.
  GraphPlan plan = MakePlan(kPhi4Mini, WithRules("int8", {{"embed", "int8"}}));
  EXPECT_EQ(NameOf(plan, kEmbedding), "int8 g32");
  EXPECT_FALSE(Has(plan, kHead));
  EXPECT_EQ(LineOf(plan, kEmbedding).reason, "rule 'embed=int8', tied: the output head too");
  // An 8-bit head over a 4-bit body takes the embedding along.
  plan = MakePlan(kPhi4Mini, WithRules("int4", {{"lm_head", "int8"}}));
  EXPECT_EQ(NameOf(plan, kEmbedding), "int8 g32");
  EXPECT_FALSE(Has(plan, kHead));
  // Different wishes, two tensors.
  plan = MakePlan(kPhi4Mini, WithRules("int4", {{"embed", "float"}}));
  EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
  EXPECT_EQ(NameOf(plan, kHead), "int4 g32");
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_20);
  // One float tensor for both.
  plan = MakePlan(kPhi4Mini, WithRules("int4", {{"lm_head", "float"}}));
  EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
  EXPECT_FALSE(Has(plan, kHead));
}

TEST(OnnxPlan, RefusesTypesThatARuleCannotGive) {
  EXPECT_EQ(Refusal(WithRules("int4", {{"lm_head", "Q8_0"}})),
            Refused(ErrorCode::kUsage,
                    "rule 'lm_head=Q8_0': unknown tensor type (the tensor types "
                    "are float, int8, int4)"));
  EXPECT_EQ(Refusal(WithRules("int4", {{"lm_head", "fp16"}})).second,
            "rule 'lm_head=fp16': this graph computes in float32 ('float' is what it has)");
  EXPECT_EQ(NameOf(MakePlan(kPhi4, WithRules("int4", {{"lm_head", "INT8"}})), kHead), "int8 g32");
  PlanOptions options = WithRules("int8", {{"lm_head", "int4"}});
  options.knobs["activations"] = "dynamic";
  EXPECT_EQ(Refusal(options).second,
            "rule 'lm_head=int4': unknown tensor type, did you mean 'int8'? (the tensor types are "
            "float, int8)");
  EXPECT_EQ(Refusal(WithRules("int4", {{"layernorm", "int8"}})).first, ErrorCode::kUsage);
  EXPECT_EQ(Refusal(WithRules("int4", {{"no_such", "int8"}})).first, ErrorCode::kUsage);
}

// --- older runtimes --------------------------------------------------------------------------

TEST(OnnxPlan, KeepsToWhatAnOldRuntimeRuns) {
  GraphPlan plan = MakePlan(kPhi4Mini, Oldest("int4", OnnxRuntime::k1_20));
  EXPECT_EQ(NameOf(plan, kEmbedding), "int4 g32");
  EXPECT_EQ(NameOf(plan, kHead), "int4 g32");
  EXPECT_EQ(GroupsOf(plan, kEmbedding).code, Code::kI4);
  EXPECT_EQ(LineOf(plan, kEmbedding).reason,
            "of its own: one tensor for embedding and head needs onnxruntime 1.24, not 1.20");
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_20);
  EXPECT_EQ(DecisionOf(plan, "onnxruntime"), "1.20 or newer (the oldest that runs opset 21)");

  plan = MakePlan(kPhi4Mini, Oldest("k_quant_mixed", OnnxRuntime::k1_22));
  EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
  EXPECT_EQ(NameOf(plan, kHead), "int8 g32 asym");
  EXPECT_EQ(LineOf(plan, kEmbedding).reason, "an 8-bit embedding needs onnxruntime 1.24, not 1.22");
  EXPECT_EQ(plan.graph.min_onnxruntime, OnnxRuntime::k1_22);

  for (const OnnxRuntime enough : {OnnxRuntime::k1_24, OnnxRuntime::kCurrent}) {
    plan = MakePlan(kPhi4Mini, Oldest("int4", enough));
    EXPECT_FALSE(Has(plan, kHead));
    EXPECT_EQ(plan.graph.min_onnxruntime,
              OnnxRuntime::k1_24);  // what it needs, not what is allowed
  }
  // Floats are shared in any version.
  EXPECT_FALSE(Has(MakePlan(kPhi4Mini, Oldest("fp32", OnnxRuntime::k1_20)), kHead));
}

TEST(OnnxPlan, RefusesWhatAnOldRuntimeCannotRun) {
  EXPECT_EQ(Refusal(Oldest("int8", OnnxRuntime::k1_20)),
            Refused(ErrorCode::kUnsupported,
                    "tensor 'model.layers.0.self_attn.qkv_proj.weight': 8-bit MatMulNBits needs "
                    "onnxruntime 1.22, --min-onnxruntime says 1.20 (choose other types, or a newer "
                    "--min-onnxruntime)"));
  PlanOptions options = WithRules("int8", {{"embed", "int8"}});
  options.knobs["min-onnxruntime"] = onnx::OnnxRuntimeName(OnnxRuntime::k1_22);
  for (const PhiShape& shape : {kPhi35Mini, kPhi4Mini}) {
    EXPECT_EQ(
        Refusal(options, shape),
        Refused(ErrorCode::kUnsupported,
                "tensor 'model.embed_tokens.weight': a UINT8 embedding needs onnxruntime 1.24, "
                "--min-onnxruntime says 1.22 (choose other types, or a newer "
                "--min-onnxruntime)"));
  }
}

// 1.22's CPU kernel fails as it runs such a model.
TEST(OnnxPlan, NeedsANewerRuntimeForEightBitsAtAnotherLevel) {
  PlanOptions options = Options("int8");
  options.knobs["accuracy-level"] = "1";
  EXPECT_EQ(MakePlan(kPhi35Mini, options).graph.min_onnxruntime, OnnxRuntime::k1_24);
  options.knobs["min-onnxruntime"] = onnx::OnnxRuntimeName(OnnxRuntime::k1_22);
  EXPECT_EQ(
      Refusal(options),
      Refused(ErrorCode::kUnsupported,
              "tensor 'model.layers.0.self_attn.qkv_proj.weight': 8-bit MatMulNBits at another "
              "accuracy_level than 4 needs onnxruntime 1.24, --min-onnxruntime says 1.22 (choose "
              "other types, or a newer --min-onnxruntime)"));
  options.knobs["accuracy-level"] = "4";
  EXPECT_EQ(MakePlan(kPhi35Mini, options).graph.min_onnxruntime, OnnxRuntime::k1_22);
  EXPECT_EQ(MakePlan(kPhi35Mini, Options("int8", kCuda)).graph.min_onnxruntime, OnnxRuntime::k1_22);
}

// --- tables ----------------------------------------------------------------------------------

std::vector<std::string> Tables(const Plan& plan) {
  std::vector<std::string> names;
  for (const PlanLine& line : plan.lines) {
    if (line.table)
      names.push_back(line.name + " " + std::to_string(line.shape.at(0)) + "x" +
                      std::to_string(line.shape.at(1)) + " " + EncodingName(line.encoding));
  }
  return names;
}

TEST(OnnxPlan, HasTheTablesThatTheProviderReads) {
  EXPECT_THAT(Tables(MakePlan(kPhi35Mini, Options("int4"))),
              ElementsAre("config:cos_long 131072x48 F32", "config:sin_long 131072x48 F32",
                          "config:cos_short 4096x48 F32", "config:sin_short 4096x48 F32"));
  for (const ExecutionProvider ep : {kCuda, kWebGpu}) {
    EXPECT_THAT(Tables(MakePlan(kPhi4Mini, Options("int4", ep))),
                ElementsAre("config:cos_long 131072x48 F16", "config:sin_long 131072x48 F16",
                            "config:cos_short 4096x48 F16", "config:sin_short 4096x48 F16"));
  }
  EXPECT_THAT(
      Tables(MakePlan(kPhi35Mini, Options("fp16", kDml))),
      ElementsAre("config:cos_short_long 135168x48 F16", "config:sin_short_long 135168x48 F16"));
  for (const ExecutionProvider ep : {kCuda, kDml}) {
    EXPECT_THAT(Tables(MakePlan(kPhi4, Options("fp16", ep))),
                ElementsAre("config:cos 16384x64 F16", "config:sin 16384x64 F16"));
  }
}

// --- sizes -----------------------------------------------------------------------------------

struct Sizes {
  std::uint64_t matrices;  // weights, head included
  std::uint64_t embedding, norms, table_entries;
};
// Phi-3.5-mini: 32 layers of 3072 x (9216 + 3072 + 16384 + 8192), head 32064 x 3072; 65 norms; two
// tables of 131072 and two of 4096 rows of 48.
constexpr Sizes kOfPhi35Mini = {3'722'379'264, 98'500'608, 65 * 3072, 2 * (131'072 + 4'096) * 48};
// Phi-4-mini: 32 layers of 3072 x (5120 + 3072 + 16384 + 8192), head 200064 x 3072.
constexpr Sizes kOfPhi4Mini = {3'835'822'080, 614'596'608, 65 * 3072, 2 * (131'072 + 4'096) * 48};
// Phi-4: 40 layers of 5120 x (7680 + 5120 + 35840 + 17920), head 100352 x 5120; 16384 rows of 64.
constexpr Sizes kOfPhi4 = {14'145'290'240, 513'802'240, 81 * 5120, 2 * 16'384 * 64};

TEST(OnnxPlan, HasTheBytesOfTheShapes) {
  const auto bytes = [](const PhiShape& shape, const char* type) {
    return MakePlan(shape, Options(type)).data_bytes();
  };
  // Blocks of 32: 16 bytes of codes and a scale of 4, so 5/8 of a byte for a weight.
  EXPECT_EQ(bytes(kPhi35Mini, "int4"),
            kOfPhi35Mini.matrices / 8 * 5 +
                4 * (kOfPhi35Mini.embedding + kOfPhi35Mini.norms + kOfPhi35Mini.table_entries));
  EXPECT_EQ(bytes(kPhi35Mini, "int4"), 2'773'192'704U);  // 2.72 GB, and 52 MB of tables
  EXPECT_EQ(
      bytes(kPhi4, "int4"),
      kOfPhi4.matrices / 8 * 5 + 4 * (kOfPhi4.embedding + kOfPhi4.norms + kOfPhi4.table_entries));
  EXPECT_EQ(bytes(kPhi4, "int4"), 10'906'062'848U);  // 10.9 GB, 2.06 of them the embedding
  // Embedding and head are one tensor.
  EXPECT_EQ(bytes(kPhi4Mini, "int4"),
            kOfPhi4Mini.matrices / 8 * 5 + 4 * (kOfPhi4Mini.norms + kOfPhi4Mini.table_entries));
  EXPECT_EQ(bytes(kPhi4Mini, "int4"), 2'450'092'032U);  // 2.40 GB, and 52 MB of tables
  // 9/8 of a byte, the embedding in floats beside the head.
  EXPECT_EQ(bytes(kPhi4Mini, "int8"),
            kOfPhi4Mini.matrices / 8 * 9 +
                4 * (kOfPhi4Mini.embedding + kOfPhi4Mini.norms + kOfPhi4Mini.table_entries));
  EXPECT_EQ(bytes(kPhi4Mini, "fp32"),
            4 * (kOfPhi4Mini.matrices + kOfPhi4Mini.norms + kOfPhi4Mini.table_entries));
  EXPECT_EQ(bytes(kPhi35Mini, "fp16"), 2 * (kOfPhi35Mini.matrices + kOfPhi35Mini.embedding +
                                            kOfPhi35Mini.norms + kOfPhi35Mini.table_entries));
}

TEST(OnnxPlan, CountsWeightsAndBits) {
  const GraphPlan plan = MakePlan(kPhi35Mini, Options("int4"));
  EXPECT_EQ(plan.n_weights(), 3'821'079'552U);  // tables are none
  // 2,721,288,192 bytes without the tables
  EXPECT_NEAR(plan.bits_per_weight(), 8 * 2'721'288'192.0 / 3'821'079'552.0, 1e-9);
}

// --- contradictions --------------------------------------------------------------------------

TEST(OnnxPlan, RefusesSymmetricKQuant) {
  const Refused want(ErrorCode::kUsage, "--sym: k_quant always has zero points");
  PlanOptions options = Options("int4");
  options.method = "k_quant";
  SetSymmetric(options, true);
  EXPECT_EQ(Refusal(options), want);
  options.method = "reference";
  options.type = "k_quant_mixed";
  EXPECT_EQ(Refusal(options), want);
}

TEST(OnnxPlan, RefusesAMethodThatContradictsTheType) {
  PlanOptions options = Options("k_quant_last");
  options.method = "rtn";
  EXPECT_EQ(Refusal(options),
            Refused(ErrorCode::kUsage, "--method rtn contradicts type k_quant_last"));
  options.type = "rtn_last";
  options.method = "k_quant";
  EXPECT_EQ(Refusal(options),
            Refused(ErrorCode::kUsage, "--method k_quant contradicts type rtn_last"));
}

TEST(OnnxPlan, RefusesIntegerOptionsOfFloatTypes) {
  for (const std::string type : {"fp32", "fp16"}) {
    const std::string why = ": type " + type + " has no integer codes";
    PlanOptions options = Options(type);
    options.knobs["group-size"] = "32";
    EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--group-size" + why));
    options = Options(type);
    SetSymmetric(options, true);
    EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--sym, --asym" + why));
    options = Options(type);
    options.knobs["accuracy-level"] = "4";
    EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--accuracy-level" + why));
    options = Options(type);
    options.method = "rtn";
    EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--method" + why));
  }
}

TEST(OnnxPlan, RefusesGroupsThatTheKernelLacks) {
  for (const std::uint32_t group : {1U, 8U, 48U, 512U}) {
    PlanOptions options = Options("int4");
    SetGroupSize(options, group);
    EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--group-size " + std::to_string(group) +
                                                               ": ONNX has 16, 32, 64, 128, 256"));
  }
}

TEST(OnnxPlan, RefusesWhatDynamicActivationsCannotBe) {
  const auto dynamic = [](std::string type) {
    PlanOptions options = Options(std::move(type));
    options.knobs["activations"] = "dynamic";
    return options;
  };
  for (const char* type : {"int4", "fp32", "fp16", "k_quant_mixed"})
    EXPECT_EQ(Refusal(dynamic(type)),
              Refused(ErrorCode::kUsage, "--activations dynamic: needs int8"));
  PlanOptions options = dynamic("int8");
  options.knobs["ep"] = onnx::ExecutionProviderName(kCuda);
  EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--activations dynamic: is for --ep cpu"));
  const std::string why =
      ": with --activations dynamic there is one scale for each output, symmetric";
  options = dynamic("int8");
  options.knobs["group-size"] = "32";
  EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--group-size" + why));
  options = dynamic("int8");
  SetSymmetric(options, false);
  EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--asym" + why));
  SetSymmetric(options, true);
  EXPECT_EQ(Refusal(options).first, ErrorCode::kNo);
  options.method = "rtn";
  EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--method" + why));
  options = dynamic("int8");
  options.knobs["accuracy-level"] = "4";
  EXPECT_EQ(Refusal(options), Refused(ErrorCode::kUsage, "--accuracy-level" + why));
}

TEST(OnnxPlan, RefusesFloatsThatAProviderCannotCompute) {
  for (const auto& [ep, name] : {std::pair(kCuda, "cuda"), {kDml, "dml"}}) {
    EXPECT_EQ(Refusal(Options("fp32", ep)),
              Refused(ErrorCode::kUnsupported,
                      "fp32 for --ep " + std::string(name) +
                          " is not written: no onnxruntime has "
                          "the attention operator for it (use fp16, int8 or int4)"));
  }
  EXPECT_EQ(Refusal(Options("bf16")),
            Refused(ErrorCode::kUnsupported,
                    "type bf16 is not written: onnxruntime's CPU provider does not run it"));
  EXPECT_EQ(Refusal(Options("int5")).second,
            "unknown type 'int5', did you mean 'int8'? (`phiq profiles --types` lists the types)");
  EXPECT_EQ(
      Thrown([] { TypeOfPrecision("onnx", Precision::kBf16); }),
      Refused(ErrorCode::kUsage, "onnx has no precision bf16 (it has int4, int8, fp16, fp32)"));
}

TEST(OnnxPlan, KeepsMaxLengthWithinTheContext) {
  PlanOptions options = Options("int4");
  EXPECT_EQ(MakePlan(kPhi35Mini, options).graph.max_length, 4096U);
  options.knobs["max-length"] = "131072";
  EXPECT_EQ(MakePlan(kPhi35Mini, options).graph.max_length, 131072U);
  options.knobs["max-length"] = "131073";
  EXPECT_EQ(Refusal(options),
            Refused(ErrorCode::kUsage, "--max-length 131073: the model's context is 131072"));
  PhiModel small = Model(kPhi4);
  small.model.config.max_position_embeddings = small.model.config.original_max_position_embeddings =
      2048;
  EXPECT_EQ(small.MakePlan<GraphPlan>(Options("int4")).graph.max_length, 2048U);
}

TEST(OnnxPlan, RefusesModelsThatTheAttentionOperatorCannotCompute) {
  const auto refusal = [](auto edit) {
    PhiModel phi = Model(kPhi35Mini);
    edit(phi.model.config);
    return Thrown([&] { phi.MakePlan<GraphPlan>(Options("int4")); });
  };
  EXPECT_EQ(refusal([](ModelConfig& config) { config.head_dim = 72; }),
            Refused(ErrorCode::kUnsupported,
                    "config.json: head size 72 is not a multiple of 16, which onnxruntime's rotary "
                    "attention needs"));
  EXPECT_EQ(refusal([](ModelConfig& config) { config.rope_dim = 24; }),
            Refused(ErrorCode::kUnsupported,
                    "config.json: 24 rotated dimensions are not a multiple of 16, which "
                    "onnxruntime's rotary attention needs"));
  EXPECT_EQ(refusal([](ModelConfig& config) { config.rope_scaling = RopeScalingType::kYarn; }),
            Refused(ErrorCode::kUnsupported, "config.json: rope type yarn is not written to ONNX"));
  EXPECT_EQ(refusal([](ModelConfig& config) { config.head_dim = 80; }).first, ErrorCode::kNo);
}

// --- shape fallbacks -------------------------------------------------------------------------

// Rows of 304 = 9 groups of 32 and a half: fine for products, not for lookups.
constexpr PhiShape kOdd = {304, 96, 4, 19, 19, 512, 0, false};

TEST(OnnxPlanFallback, PadsRowsOfProducts) {
  PhiModel phi = Model(kOdd);
  const GraphPlan plan = phi.MakePlan<GraphPlan>(Options("int4"));
  EXPECT_EQ(NameOf(plan, kHead), "int4 g32");
  EXPECT_EQ(LineOf(plan, kHead).size_bytes, 512U * 10 * (16 + 4));  // the tenth group is half empty
  EXPECT_THAT(phi.warnings, IsEmpty());
}

TEST(OnnxPlanFallback, IsALineAndAWarning) {
  PhiShape tied = kOdd;
  tied.tied = true;
  PhiModel phi = Model(tied);
  const GraphPlan plan = phi.MakePlan<GraphPlan>(Options("int4"));
  EXPECT_EQ(NameOf(plan, kEmbedding), "F32");
  EXPECT_TRUE(LineOf(plan, kEmbedding).is_fallback);
  EXPECT_EQ(LineOf(plan, kEmbedding).reason, "row of 304 is not a multiple of 32: int4 -> float");
  EXPECT_EQ(NameOf(plan, kHead), "int4 g32");
  EXPECT_THAT(phi.warnings, ElementsAre("tensor 'model.embed_tokens.weight': row of 304 is not a "
                                        "multiple of 32: int4 -> float"));
  PlanOptions options = Options("int4");
  options.knobs["group-size"] = "16";
  EXPECT_FALSE(LineOf(phi.MakePlan<GraphPlan>(options), kEmbedding).is_fallback);  // 19 groups
  SetSymmetric(options, false);
  EXPECT_FALSE(
      LineOf(phi.MakePlan<GraphPlan>(options), kEmbedding).is_fallback);  // each row's begin a byte
  options.knobs["min-onnxruntime"] =
      onnx::OnnxRuntimeName(OnnxRuntime::k1_22);  // a UINT4 tensor of its own: they run on
  EXPECT_EQ(LineOf(phi.MakePlan<GraphPlan>(options), kEmbedding).reason,
            "row of 304 has an odd number of zero points: int4 -> float");
}

TEST(OnnxPlanFallback, IsUnsupportedUnderStrictTypes) {
  PhiModel phi = Model(kOdd);
  PlanOptions options = WithRules("int4", {{"embed", "int8"}});
  options.strict_types = true;
  EXPECT_EQ(
      Thrown([&] { phi.MakePlan<GraphPlan>(options); }),
      Refused(ErrorCode::kUnsupported,
              "tensor 'model.embed_tokens.weight': row of 304 is not a multiple of 32: int8 -> "
              "float (--strict-types forbids fallbacks)"));
  options.tensor_rules.clear();
  EXPECT_EQ(Thrown([&] { phi.MakePlan<GraphPlan>(options); }).first, ErrorCode::kNo);
}

// --- decisions -------------------------------------------------------------------------------

TEST(OnnxPlan, SaysWhatItDecided) {
  PhiModel phi = Model(kPhi4Mini);
  phi.model.config.sliding_window = 262144;
  GraphPlan plan = phi.MakePlan<GraphPlan>(Options("int4"));
  EXPECT_EQ(DecisionOf(plan, "execution provider"),
            "cpu (activations, caches and scales are float32)");
  EXPECT_EQ(DecisionOf(plan, "onnxruntime"),
            "1.24 or newer (a UINT8 embedding needs it (--min-onnxruntime 1.20 gives the embedding "
            "an INT4 tensor of its own))");
  EXPECT_EQ(DecisionOf(plan, "accuracy_level"),
            "4 (activations become int8 in blocks as the model runs)");
  EXPECT_EQ(DecisionOf(plan, "search.max_length"),
            "4096 (the runtime reserves the cache for it at once; the context is 131072)");
  EXPECT_EQ(DecisionOf(plan, "local_window_size"), "");  // wider than the context
  EXPECT_EQ(DecisionOf(plan, "activations"), "");

  phi.model.config.sliding_window = 2047;
  PlanOptions options = Options("int8", kCuda);
  options.knobs["max-length"] = "100";
  plan = phi.MakePlan<GraphPlan>(options);
  EXPECT_EQ(DecisionOf(plan, "execution provider"),
            "cuda (activations, caches and scales are float16)");
  EXPECT_EQ(DecisionOf(plan, "onnxruntime"), "1.22 or newer (8-bit MatMulNBits needs it)");
  EXPECT_EQ(DecisionOf(plan, "accuracy_level"), "0 (of MatMulNBits)");
  EXPECT_EQ(DecisionOf(plan, "search.max_length"), "100 (--max-length)");
  EXPECT_EQ(DecisionOf(plan, "local_window_size"), "2047 (the model attends to so many tokens)");

  options = Options("int8");
  options.knobs["activations"] = "dynamic";
  EXPECT_EQ(DecisionOf(phi.MakePlan<GraphPlan>(options), "activations"),
            "uint8 (--activations dynamic: plain ONNX operators, quantized for each product)");
}

TEST(OnnxPlan, KeepsTheModelsOrderAndPutsTablesLast) {
  const GraphPlan plan = MakePlan(kPhi4, Options("int8"));
  ASSERT_EQ(plan.lines.size(), 243U + 40 + 2);  // gate and up are two lines
  EXPECT_EQ(plan.lines[0].name, kEmbedding);
  EXPECT_EQ(plan.lines[1].name, Layer(0, "input_layernorm"));
  EXPECT_EQ(plan.lines[282].name, kHead);
  EXPECT_EQ(plan.lines[283].name, "config:cos");
  EXPECT_EQ(plan.lines[283].role_name(), "rope_table");
  EXPECT_EQ(plan.lines[283].table, ConfigTable::kCos);
}

}  // namespace
}  // namespace phiq
