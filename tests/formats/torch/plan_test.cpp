// Types, rules, refusals and what runtimes make of plans for transformers and vLLM. Sizes are
// worked out from the shapes of the published models (docs/formats/torch.md "Sizes to expect").
#include "formats/torch/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kPhi35Mini;
using testing::kPhi4;
using testing::kPhi4Mini;
using testing::LineOf;
using ::testing::Not;
using testing::PhiModel;
using testing::PhiShape;
using testing::SetGroupSize;
using testing::SetSymmetric;
using testing::Thrown;

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kDown = "model.layers.3.mlp.down_proj.weight";

PlanOptions Options(std::string type, std::vector<TensorRule> rules = {}) {
  PlanOptions options;
  options.format = "torch";
  options.type = std::move(type);
  options.tensor_rules = std::move(rules);
  return options;
}
PlanOptions WithGroup(PlanOptions options, std::uint32_t group_size) {
  SetGroupSize(options, group_size);
  return options;
}
PlanOptions With(PlanOptions options, bool symmetric) {
  SetSymmetric(options, symmetric);
  return options;
}

torch::FolderPlan MakePlan(const PhiShape& shape, const PlanOptions& options) {
  PhiModel phi(shape);
  return phi.MakePlan<torch::FolderPlan>(options);
}
std::string NameOf(const Plan& plan, std::string_view tensor) {
  return EncodingName(LineOf(plan, tensor).encoding);
}
std::vector<std::string> SubjectsOf(const Plan& plan) {
  std::vector<std::string> subjects;
  for (const Decision& decision : plan.decisions) subjects.push_back(decision.subject);
  return subjects;
}

TEST(TorchPlan, HasTheSizesOfPublishedModels) {
  struct Expected {
    PlanOptions options;
    std::uint64_t phi35_bytes, phi4_bytes, phi4mini_bytes;
  };
  for (const Expected& wanted : std::vector<Expected>{
           {Options("W8A16"), 4074903552, 15900518400, 4501149696},
           {Options("GPTQ-Int8"), 4074903552, 15900518400, 4501149696},
           {Options("W8A8"), 4020312064, 15691827200, 4452587520},
           {Options("W4A16"), 2262964224, 9084774400, 2890536960},
           {Options("GPTQ-Int4"), 2262964224, 9084774400, 2890536960},
           {With(Options("AWQ"), true), 2262964224, 9084774400, 2890536960},
           {Options("AWQ"), 2277120000, 9138022400, 2903119872},
           {With(Options("W4A16"), false), 2277120000, 9138022400, 2903119872},
           {WithGroup(Options("W4A16"), 32), 2432833536, 9723750400, 3041531904},
           {WithGroup(Options("W4A16"), 0), 2208372736, 8876083200, 2841974784}}) {
    EXPECT_EQ(MakePlan(kPhi35Mini, wanted.options).data_bytes(), wanted.phi35_bytes)
        << wanted.options.type;
    EXPECT_EQ(MakePlan(kPhi4, wanted.options).data_bytes(), wanted.phi4_bytes)
        << wanted.options.type;
    EXPECT_EQ(MakePlan(kPhi4Mini, wanted.options).data_bytes(), wanted.phi4mini_bytes)
        << wanted.options.type;
  }
}

TEST(TorchPlan, QuantizesTheMatricesOfTheLayersAlone) {
  const torch::FolderPlan plan = MakePlan(kPhi35Mini, Options("W4A16"));
  for (const PlanLine& line : plan.lines) {
    EXPECT_EQ(EncodingName(line.encoding),
              torch::IsLinear(line.role) && line.layer >= 0 ? "int4 g128" : "BF16")
        << line.name;
  }
  EXPECT_EQ(NameOf(MakePlan(kPhi4Mini, Options("W8A8")), kDown), "int8 row");
  EXPECT_EQ(NameOf(MakePlan(kPhi4Mini, Options("AWQ")), kDown), "int4 g128 asym");
}

TEST(TorchPlan, PrecisionsAndPeersWords) {
  EXPECT_EQ(TypeOfPrecision("torch", Precision::kInt4), "W4A16");
  EXPECT_EQ(TypeOfPrecision("torch", Precision::kInt8), "W8A8");
  EXPECT_EQ(Thrown([] { TypeOfPrecision("torch", Precision::kBf16); }).first, ErrorCode::kUsage);
  EXPECT_EQ(ParseType("torch", "gptq-int4"), "GPTQ-Int4");
  EXPECT_THAT(Thrown([] { CheckFormatName("vllm"); }).second, HasSubstr("here it is torch"));
}

TEST(TorchPlan, RulesMayQuantizeTheHeadAndLeaveTensors) {
  const torch::FolderPlan plan = MakePlan(
      kPhi35Mini, Options("W4A16", {{"lm_head", "W8A16"}, {"layers.3.mlp.down_proj", "float"}}));
  EXPECT_EQ(NameOf(plan, kHead), "int8 g128");
  EXPECT_EQ(NameOf(plan, kDown), "BF16");
  EXPECT_EQ(NameOf(plan, "model.layers.4.mlp.down_proj.weight"), "int4 g128");
}

TEST(TorchPlan, RefusesWhatLoadersDoNotBuild) {
  const auto refusal = [](const PhiShape& shape, PlanOptions options) {
    return Thrown([&] { MakePlan(shape, options); });
  };
  auto [code, text] = refusal(kPhi35Mini, Options("W4A16", {{"embed_tokens", "W8A16"}}));
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("have no quantized embedding"));
  std::tie(code, text) = refusal(kPhi4Mini, Options("W4A16", {{"lm_head", "W4A16"}}));
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("the output head is tied to it"));
  for (const auto& [options, what] : std::vector<std::pair<PlanOptions, std::string>>{
           {WithGroup(Options("W8A8"), 128), "--group-size: W8A8 has a scale for each row"},
           {WithGroup(Options("W4A16"), 16), "32, 64, 128 and row"},
           {With(Options("GPTQ-Int4"), false), "--asym: GPTQ-Int4 is symmetric"},
           {With(Options("W8A16"), false), "--asym: W8A16 is symmetric"},
           {Options("GPTQ-Int4", {{"down_proj", "GPTQ-Int8"}}), "all matrices have one type"},
           {Options("W4A16", {{"down_proj", "W8A8"}}), "W8A8"},
           {Options("W4A16", {{"down_proj", "AWQ"}}), "AWQ"}}) {
    std::tie(code, text) = refusal(kPhi35Mini, options);
    EXPECT_EQ(code, ErrorCode::kUsage) << text;
    EXPECT_THAT(text, HasSubstr(what));
  }
}

// Rows of 672 are whole groups of 32 only.
constexpr PhiShape kNarrow = {672, 768, 2, 4, 4, 512, 0, false};

TEST(TorchPlan, LeavesRowsThatGroupsDoNotFit) {
  PhiModel phi(kNarrow);
  const auto plan = phi.MakePlan<torch::FolderPlan>(Options("W4A16"));
  EXPECT_EQ(NameOf(plan, "model.layers.0.mlp.gate_up_proj.weight"), "BF16");
  EXPECT_TRUE(LineOf(plan, "model.layers.0.mlp.gate_up_proj.weight").is_fallback);
  EXPECT_THAT(phi.warnings, Each(HasSubstr("row of 672 is not a multiple of 128")));
  EXPECT_EQ(NameOf(plan, "model.layers.0.mlp.down_proj.weight"), "int4 g128");
  EXPECT_EQ(NameOf(MakePlan(kNarrow, WithGroup(Options("W4A16"), 32)),
                   "model.layers.0.mlp.gate_up_proj.weight"),
            "int4 g32");
  // Loaders of GPTQ and AWQ are not told of exceptions.
  const auto [code, text] = Thrown([] { MakePlan(kNarrow, Options("GPTQ-Int4")); });
  EXPECT_EQ(code, ErrorCode::kUnsupported);
  EXPECT_THAT(text, HasSubstr("row of 672 is not a multiple of 128, which GPTQ-Int4 needs"));
  PlanOptions strict = Options("W4A16");
  strict.strict_types = true;
  EXPECT_EQ(Thrown([&] { MakePlan(kNarrow, strict); }).first, ErrorCode::kUnsupported);
}

TEST(TorchPlan, SaysWhoDoesNotLoadIt) {
  const auto who = [](const PlanOptions& options) {
    return SubjectsOf(MakePlan(kPhi35Mini, options));
  };
  EXPECT_THAT(who(Options("W4A16")), ElementsAre("transformers", "mlx-lm"));
  EXPECT_THAT(who(Options("W8A16")), ElementsAre("transformers", "vLLM on CPUs", "mlx-lm"));
  EXPECT_THAT(who(Options("W8A8")), ElementsAre("transformers", "mlx-lm", "activations"));
  EXPECT_THAT(who(WithGroup(Options("W4A16"), 0)), Contains("llama.cpp's converter"));
  EXPECT_THAT(who(Options("W4A16", {{"lm_head", "W8A16"}})),
              ElementsAre("transformers", "vLLM on CPUs", "llama.cpp's converter", "mlx-lm"));
  EXPECT_THAT(who(Options("GPTQ-Int4")), ElementsAre("mlx-lm"));
  EXPECT_THAT(who(Options("GPTQ-Int8")), ElementsAre("vLLM on CPUs", "mlx-lm"));
  EXPECT_THAT(who(Options("AWQ")), ElementsAre("llama.cpp's converter"));
  EXPECT_THAT(SubjectsOf(MakePlan(kNarrow, Options("W8A8"))), Not(Contains("vLLM on GPUs")));
  EXPECT_THAT(SubjectsOf(MakePlan(kNarrow, WithGroup(Options("W4A16"), 32))),
              Contains("vLLM on GPUs"));
}

TEST(TorchPlan, WarnsOfZeroPointsThatTransformersDoesNotLoad) {
  PhiModel phi(kPhi35Mini);
  const auto plan = phi.MakePlan<torch::FolderPlan>(With(Options("W4A16"), false));
  EXPECT_EQ(plan.decisions.front().value, "with dequantize=True");
  EXPECT_THAT(phi.warnings, ElementsAre(HasSubstr("unless it is told to dequantize")));
  PhiModel other(kPhi35Mini);
  other.MakePlan(Options("AWQ"));
  EXPECT_THAT(other.warnings, IsEmpty());
}

}  // namespace
}  // namespace phiq
