// --tensor-type: what a rule is, which tensors it finds, what it may not do.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using testing::kPhi35Mini;
using testing::kPhi4Mini;
using testing::LineOf;
using testing::PhiModel;
using testing::Thrown;
using testing::TypeOf;
using enum GgmlType;

std::pair<ErrorCode, std::string> ThrownBy(std::vector<TensorRule> rules) {
  return Thrown([&] { PhiModel(kPhi35Mini).MakePlan("Q4_K_M", std::move(rules)); });
}

std::pair<ErrorCode, std::string> Usage(std::string text) {
  return {ErrorCode::kUsage, std::move(text)};
}

TEST(TensorRule, IsSplitAtTheLastEqualsSign) {
  const TensorRule rule = ParseTensorRule("(?=layers)a|b=q8_0");
  EXPECT_EQ(rule.pattern, "(?=layers)a|b");
  EXPECT_EQ(rule.type, "q8_0");
}

TEST(TensorRule, NeedsBothHalves) {
  for (const char* text : {"", "=", "down_proj", "down_proj=", "=Q8_0"}) {
    EXPECT_EQ(Thrown([&] { ParseTensorRule(text); }),
              Usage(fmt::format("'{}' is not REGEX=TYPE (for example 'down_proj=Q6_K')", text)));
  }
}

TEST(TensorRule, NamesTheMistakeInABadPattern) {
  EXPECT_EQ(Thrown([] { ParseTensorRule("down(proj=Q8_0"); }),
            Usage("rule 'down(proj=Q8_0': bad pattern, missing closing parenthesis at "
                  "position 9"));
}

TEST(TensorRules, FindAnywhereInTheName) {
  const Plan plan =
      PhiModel(kPhi35Mini).MakePlan("Q4_K_M", {{R"(layers\.[01]\.mlp\.down)", "q8_0"}});
  EXPECT_EQ(TypeOf(plan, "model.layers.0.mlp.down_proj.weight"), kQ8_0);
  EXPECT_EQ(TypeOf(plan, "model.layers.1.mlp.down_proj.weight"), kQ8_0);
  EXPECT_EQ(TypeOf(plan, "model.layers.2.mlp.down_proj.weight"), kQ6_K);  // the recipe's
  EXPECT_EQ(TypeOf(plan, "model.layers.10.mlp.down_proj.weight"), kQ4_K);
  EXPECT_EQ(LineOf(plan, "model.layers.0.mlp.down_proj.weight").reason,
            R"(rule 'layers\.[01]\.mlp\.down=q8_0')");
}

TEST(TensorRules, LetTheLastMatchWin) {
  const std::vector<TensorRule> rules = {{"proj", "Q5_K"}, {"o_proj", "F16"}};
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("Q8_0", rules);
  EXPECT_EQ(TypeOf(plan, "model.layers.3.self_attn.o_proj.weight"), kF16);
  EXPECT_EQ(TypeOf(plan, "model.layers.3.mlp.down_proj.weight"), kQ5_K);
  const Plan reversed = PhiModel(kPhi35Mini).MakePlan("Q8_0", {rules[1], rules[0]});
  EXPECT_EQ(TypeOf(reversed, "model.layers.3.self_attn.o_proj.weight"), kQ5_K);
}

TEST(TensorRules, ApplyToFloatTypesToo) {
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("F16", {{"embed_tokens", "Q8_0"}});
  EXPECT_EQ(TypeOf(plan, "model.embed_tokens.weight"), kQ8_0);
  EXPECT_EQ(TypeOf(plan, "lm_head.weight"), kF16);
}

TEST(TensorRules, KnowTheOutputHeadOfATiedModel) {
  const Plan plan = PhiModel(kPhi4Mini).MakePlan("Q4_K_M", {{R"(^lm_head\.weight$)", "Q8_0"}});
  const PlanLine& line = LineOf(plan, "model.embed_tokens.weight");
  EXPECT_EQ(TypeOf(line), kQ8_0);
  EXPECT_EQ(line.reason, R"(rule '^lm_head\.weight$=Q8_0', tied: the output head too)");
}

TEST(TensorRules, LeaveTheEmbeddingOfAnUntiedModelToItsOwnName) {
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("Q4_K_M", {{"lm_head", "Q8_0"}});
  EXPECT_EQ(TypeOf(plan, "model.embed_tokens.weight"), kQ4_K);
  EXPECT_EQ(TypeOf(plan, "lm_head.weight"), kQ8_0);
}

TEST(TensorRules, NeverReachNorms) {
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("Q4_K_M", {{"layers\\.0\\.", "Q8_0"}});
  EXPECT_EQ(TypeOf(plan, "model.layers.0.input_layernorm.weight"), kF32);
  EXPECT_EQ(TypeOf(plan, "model.layers.0.self_attn.qkv_proj.weight"), kQ8_0);
  EXPECT_EQ(
      ThrownBy({{"layernorm", "Q8_0"}}),
      Usage("rule 'layernorm=Q8_0' matches only what is never quantized: norms, biases, routers"));
}

TEST(TensorRules, SuggestANameWhenNothingMatches) {
  EXPECT_EQ(ThrownBy({{"down_porj", "Q8_0"}}),
            Usage("rule 'down_porj=Q8_0' matches no tensor (did you mean 'down_proj'?)"));
  EXPECT_EQ(ThrownBy({{R"(model\.layers\.40\.mlp\.down_proj\.weight)", "Q8_0"}}).second,
            R"(rule 'model\.layers\.40\.mlp\.down_proj\.weight=Q8_0' matches no tensor )"
            "(did you mean 'model.layers.0.mlp.down_proj.weight'?)");
  EXPECT_EQ(ThrownBy({{"zzzzzzzzzzzz", "Q8_0"}}),
            Usage("rule 'zzzzzzzzzzzz=Q8_0' matches no tensor (`phiq plan` lists the names)"));
  EXPECT_EQ(ThrownBy({{"proj", "Q8_0"}, {"experts", "Q8_0"}}).first, ErrorCode::kUsage);
}

TEST(TensorRules, TakeTensorTypesOnly) {
  EXPECT_THAT(ThrownBy({{"down_proj", "Q4_K_M"}}).second,
              ::testing::StartsWith("rule 'down_proj=Q4_K_M': unknown tensor type, did you "
                                    "mean 'Q4_K'? (the tensor types are F32, F16, "));
  EXPECT_EQ(ThrownBy({{"down_proj", "Q4_K_M"}}).first, ErrorCode::kUsage);
}

TEST(TensorRules, FallBackWhereTheTypeDoesNotFit) {
  PhiModel phi({288, 512, 8, 4, 4, 512, 0, false});
  const Plan plan = phi.MakePlan("F16", {{"o_proj", "Q6_K"}});
  const PlanLine& line = LineOf(plan, "model.layers.0.self_attn.o_proj.weight");
  EXPECT_EQ(TypeOf(line), kQ8_0);
  EXPECT_TRUE(line.is_fallback);
  EXPECT_EQ(phi.warnings.size(), 8U);
}

TEST(TensorRules, StopAPatternThatTakesTooLong) {
  // Nested repeats that can split the name in exponentially many ways and then fail.
  const auto [code, text] = ThrownBy({{"^(([a-z._0-9]+)+)+[!?]$", "Q8_0"}});
  EXPECT_EQ(code, ErrorCode::kUsage);
  EXPECT_THAT(text, ::testing::HasSubstr("cannot be matched, match limit exceeded"));
}

}  // namespace
}  // namespace phiq
