// Types, recipes, overrides and fallbacks of MLX plans. Sizes are worked out from the shapes of the
// published models (docs/formats/mlx.md "Sizes to expect").
#include "formats/mlx/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kPhi35Mini;
using testing::kPhi4;
using testing::kPhi4Mini;
using testing::LineOf;
using testing::PhiModel;
using testing::PhiShape;
using testing::SetGroupSize;
using ::testing::SizeIs;
using testing::Thrown;

constexpr const char* kEmbedding = "model.embed_tokens.weight";

PlanOptions Options(std::string type, std::vector<TensorRule> rules = {}) {
  PlanOptions options;
  options.format = "mlx";
  options.type = std::move(type);
  options.tensor_rules = std::move(rules);
  return options;
}

PlanOptions WithGroup(PlanOptions options, std::uint32_t group_size) {
  SetGroupSize(options, group_size);
  return options;
}

mlx::FolderPlan MakePlan(const PhiShape& shape, const PlanOptions& options) {
  PhiModel phi(shape);
  mlx::FolderPlan plan = phi.MakePlan<mlx::FolderPlan>(options);
  EXPECT_THAT(phi.warnings, IsEmpty());
  return plan;
}

std::string NameOf(const Plan& plan, std::string_view tensor) {
  return EncodingName(LineOf(plan, tensor).encoding);
}

std::size_t TensorCount(const Plan& plan) {
  std::size_t n = 0;
  for (const PlanLine& line : plan.lines) n += ArrayCount(line.encoding);
  return n;
}

// Tensors and bytes that mlx_lm.convert's rules give the published shapes.
struct Expected {
  std::string type;
  std::uint32_t group_size;  // 0: the default
  std::uint64_t phi35_bytes, phi4_bytes, phi4mini_bytes;
};
constexpr std::size_t kTensors[] = {455, 567, 452}, kTensorsWithoutBiases[] = {325, 405, 323};

TEST(MlxPlan, HasMlxLmsSizes) {
  for (const Expected& wanted :
       std::vector<Expected>{{"BF16", 0, 7642159104, 29319014400, 7672043520},
                             {"8bit", 0, 4060084224, 15576115200, 4075960320},
                             {"6bit", 0, 3104864256, 11911342080, 3117004800},
                             {"5bit", 0, 2627254272, 10078955520, 2637527040},
                             {"4bit", 0, 2149644288, 8246568960, 2158049280},
                             {"4bit", 32, 2388449280, 9162762240, 2397788160},
                             {"4bit", 128, 2030241792, 7788472320, 2038179840},
                             {"3bit", 0, 1672034304, 6414182400, 1678571520},
                             {"2bit", 0, 1194424320, 4581795840, 1199093760},
                             {"mxfp4", 0, 2030241792, 7788472320, 2038179840},
                             {"nvfp4", 0, 2149644288, 8246568960, 2158049280},
                             {"mxfp8", 0, 3940681728, 15118018560, 3956090880},
                             {"mixed_2_6", 0, 1671493632, 6149416960, 1526249472},
                             {"mixed_3_4", 0, 1791301632, 6806087680, 1760360448},
                             {"mixed_3_6", 0, 2029836288, 7589898240, 1923938304},
                             {"mixed_4_6", 0, 2388178944, 9030379520, 2321627136}}) {
    PlanOptions options = Options(wanted.type);
    if (wanted.group_size != 0) SetGroupSize(options, wanted.group_size);
    const PhiShape shapes[] = {kPhi35Mini, kPhi4, kPhi4Mini};
    const std::uint64_t n_bytes[] = {wanted.phi35_bytes, wanted.phi4_bytes, wanted.phi4mini_bytes};
    for (std::size_t m = 0; m < 3; ++m) {
      const mlx::FolderPlan plan = MakePlan(shapes[m], options);
      EXPECT_EQ(plan.data_bytes(), n_bytes[m]) << wanted.type << " of model " << m;
      if (wanted.type == "BF16") continue;
      const bool has_biases = wanted.type.find("fp") == std::string::npos;
      EXPECT_EQ(TensorCount(plan), (has_biases ? kTensors : kTensorsWithoutBiases)[m])
          << wanted.type << " of model " << m;
    }
  }
}

TEST(MlxPlan, PrecisionsAreTypes) {
  EXPECT_EQ(TypeOfPrecision("mlx", Precision::kInt4), "4bit");
  EXPECT_EQ(TypeOfPrecision("mlx", Precision::kInt8), "8bit");
  EXPECT_EQ(TypeOfPrecision("mlx", Precision::kFp16), "F16");
  EXPECT_EQ(ParseType("mlx", "MIXED_4_6"), "mixed_4_6");
  const auto [code, text] = Thrown([] { ParseType("mlx", "4bits"); });
  EXPECT_EQ(code, ErrorCode::kUsage);
  EXPECT_THAT(text, HasSubstr("unknown type '4bits', did you mean '4bit'?"));
}

TEST(MlxPlan, QuantizesEveryMatrixAndNoNorm) {
  const mlx::FolderPlan plan = MakePlan(kPhi35Mini, Options("4bit"));
  for (const PlanLine& line : plan.lines)
    EXPECT_EQ(EncodingName(line.encoding), IsNorm(line.role) ? "BF16" : "affine4 g64") << line.name;
  ASSERT_TRUE(plan.common);
  EXPECT_EQ(BitsOf(plan.common->code), 4);
  EXPECT_FALSE(plan.lists_all);
  EXPECT_THAT(LineOf(MakePlan(kPhi4Mini, Options("4bit")), kEmbedding).reason,
              HasSubstr("tied: the output head too"));
}

// Layers whose qkv and down projections have 6 bits.
std::vector<int> FavouredLayers(const Plan& plan) {
  std::vector<int> layers;
  for (const PlanLine& line : plan.lines) {
    if (line.role == TensorRole::kAttentionQkv && EncodingName(line.encoding) == "affine6 g64") {
      layers.push_back(line.layer);
      const std::string layer = "model.layers." + std::to_string(line.layer);
      EXPECT_EQ(NameOf(plan, layer + ".mlp.down_proj.weight"), "affine6 g64");
      EXPECT_EQ(NameOf(plan, layer + ".self_attn.o_proj.weight"), "affine4 g64");
      EXPECT_EQ(NameOf(plan, layer + ".mlp.gate_up_proj.weight"), "affine4 g64");
    }
  }
  return layers;
}

TEST(MlxPlan, RecipesFavourTheLayersOfMlxLms) {
  const mlx::FolderPlan of_32 = MakePlan(kPhi35Mini, Options("mixed_4_6"));
  EXPECT_THAT(FavouredLayers(of_32),
              ElementsAre(0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31));
  EXPECT_EQ(NameOf(of_32, "lm_head.weight"), "affine6 g64");
  EXPECT_EQ(NameOf(of_32, kEmbedding), "affine4 g64");
  EXPECT_TRUE(of_32.lists_all);
  EXPECT_EQ(BitsOf(of_32.common->code), 4);
  EXPECT_THAT(
      FavouredLayers(MakePlan(kPhi4, Options("mixed_4_6"))),
      ElementsAre(0, 1, 2, 3, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 35, 36, 37, 38, 39));
  const mlx::FolderPlan tied = MakePlan(kPhi4Mini, Options("mixed_2_6"));
  EXPECT_EQ(NameOf(tied, kEmbedding), "affine2 g64");
  EXPECT_EQ(BitsOf(tied.common->code), 4) << "mlx-lm's own value, beside entries for all";
}

TEST(MlxPlan, RulesDecideSingleTensors) {
  const mlx::FolderPlan plan =
      MakePlan(kPhi4Mini,
               Options("4bit", {{"down_proj", "6BIT"}, {"lm_head", "mxfp8"}, {"o_proj", "bf16"}}));
  EXPECT_EQ(NameOf(plan, "model.layers.5.mlp.down_proj.weight"), "affine6 g64");
  EXPECT_EQ(NameOf(plan, kEmbedding), "mxfp8");
  EXPECT_EQ(NameOf(plan, "model.layers.5.self_attn.o_proj.weight"), "BF16");
  EXPECT_EQ(NameOf(plan, "model.layers.5.self_attn.qkv_proj.weight"), "affine4 g64");
  EXPECT_EQ(plan.common->offset, Offset::kBias);
  EXPECT_THAT(LineOf(plan, kEmbedding).reason, HasSubstr("rule 'lm_head=mxfp8', tied"));
}

TEST(MlxPlan, RulesMayQuantizeAFolderOfFloats) {
  const mlx::FolderPlan plan =
      MakePlan(kPhi35Mini, WithGroup(Options("F16", {{"embed_tokens", "8bit"}}), 32));
  EXPECT_EQ(NameOf(plan, kEmbedding), "affine8 g32");
  EXPECT_EQ(NameOf(plan, "lm_head.weight"), "F16");
  EXPECT_EQ(NameOf(plan, "model.norm.weight"), "F16");
  ASSERT_TRUE(plan.common);
  EXPECT_EQ(BitsOf(plan.common->code), 8);
  EXPECT_EQ(plan.common->group_size, 32U);
  EXPECT_EQ(std::get<GroupEncoding>(LineOf(plan, kEmbedding).encoding).scale, ScaleType::kF16);
}

TEST(MlxPlan, CastsToWhatTheConfigurationNamesElseKeepsEachTensorsType) {
  PhiModel phi(kPhi35Mini);
  phi.model.tensors[0].dtype = DType::kF32;
  Plan plan = phi.MakePlan(Options("4bit"));
  EXPECT_EQ(std::get<GroupEncoding>(LineOf(plan, kEmbedding).encoding).scale, ScaleType::kF32);
  EXPECT_EQ(NameOf(plan, "model.norm.weight"), "BF16");
  phi.model.config.torch_dtype = DType::kF16;
  plan = phi.MakePlan(Options("4bit"));
  EXPECT_EQ(std::get<GroupEncoding>(LineOf(plan, kEmbedding).encoding).scale, ScaleType::kF16);
  EXPECT_EQ(NameOf(plan, "model.norm.weight"), "F16");
  EXPECT_EQ(NameOf(phi.MakePlan(Options("F32")), "model.norm.weight"), "F32");
}

TEST(MlxPlan, PassesTheRoundingOn) {
  PlanOptions options = Options("4bit");
  options.knobs["mlx-rounding"] = "metal";
  const mlx::FolderPlan plan = MakePlan(kPhi35Mini, options);
  EXPECT_EQ(plan.lines[0].method, &MlxMethod(MlxRounding::kMetal, FloatType::kBF16));
}

// Rows of 96: groups of 64 do not fit, groups of 32 do.
constexpr PhiShape kOddRows = {96, 128, 1, 2, 2, 500, 0, false};

TEST(MlxPlan, LeavesRowsAsFloatsThatGroupsDoNotFit) {
  PhiModel phi(kOddRows);
  const Plan plan = phi.MakePlan(Options("4bit"));
  EXPECT_EQ(NameOf(plan, kEmbedding), "BF16");
  EXPECT_TRUE(LineOf(plan, kEmbedding).is_fallback);
  EXPECT_EQ(NameOf(plan, "model.layers.0.mlp.down_proj.weight"), "affine4 g64");
  EXPECT_THAT(phi.warnings, SizeIs(5));
  EXPECT_THAT(phi.warnings[0], HasSubstr("row of 96 is not a multiple of 64: affine4 g64 -> BF16"));
  EXPECT_EQ(NameOf(MakePlan(kOddRows, WithGroup(Options("4bit"), 32)), kEmbedding), "affine4 g32");
  PlanOptions strict = Options("4bit");
  strict.strict_types = true;
  EXPECT_EQ(Thrown([&] { phi.MakePlan(strict); }).first, ErrorCode::kUnsupported);
}

TEST(MlxPlan, RefusesWhatContradicts) {
  const auto refused = [](const PlanOptions& options) {
    PhiModel phi(kPhi35Mini);
    const auto [code, text] = Thrown([&] { phi.MakePlan(options); });
    EXPECT_EQ(code, ErrorCode::kUsage) << text;
    return text;
  };
  EXPECT_EQ(refused(WithGroup(Options("4bit"), 48)), "--group-size 48: MLX has 32, 64 and 128");
  EXPECT_EQ(refused(WithGroup(Options("4bit"), 0)), "--group-size row: MLX has 32, 64 and 128");
  EXPECT_EQ(refused(WithGroup(Options("BF16"), 64)), "--group-size: type BF16 has no groups");
  EXPECT_EQ(refused(WithGroup(Options("nvfp4"), 64)),
            "--group-size: type nvfp4 has groups of 16 only");
  EXPECT_THAT(refused(Options("4bit", {{"o_proj", "mixed_4_6"}})),
              HasSubstr("rule 'o_proj=mixed_4_6': unknown tensor type"));
  EXPECT_THAT(refused(Options("4bit", {{"o_prj", "8bit"}})), HasSubstr("matches no tensor"));
}

TEST(MlxPlan, SaysWhatMlxLmComputesOtherwise) {
  PhiModel phi(kPhi35Mini);
  phi.model.config.rope_scaling = RopeScalingType::kLongRope;
  phi.model.config.rope_dim = 96;
  phi.model.config.original_max_position_embeddings = 4096;
  EXPECT_THAT(phi.MakePlan(Options("4bit")).decisions, IsEmpty()) << "equal factors";
  phi.model.config.long_factor[3] = 2.0F;
  const Plan plan = phi.MakePlan(Options("4bit"));
  ASSERT_THAT(plan.decisions, SizeIs(1));
  EXPECT_EQ(plan.decisions[0].subject, "rotary factors");
  EXPECT_THAT(plan.decisions[0].reason, HasSubstr("4096 tokens"));
  EXPECT_THAT(phi.warnings, IsEmpty());
  phi.model.config.max_position_embeddings = 131072;
  phi.model.config.sliding_window = 2047;
  phi.MakePlan(Options("4bit"));
  ASSERT_THAT(phi.warnings, SizeIs(1));
  EXPECT_THAT(
      phi.warnings[0],
      HasSubstr("sliding_window 2047 is below the context of 131072, and mlx-lm ignores it"));
}

TEST(MlxPlan, RefusesWhatMlxLmCannotCompute) {
  PhiModel phi(kPhi35Mini);
  phi.model.config.rope_scaling = RopeScalingType::kYarn;
  const auto [code, text] = Thrown([&] { phi.MakePlan(Options("4bit")); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("yarn"));
}

}  // namespace
}  // namespace phiq
