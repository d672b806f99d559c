// The words of --type.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using testing::Thrown;

std::string Gguf(std::string_view name) { return ParseType("gguf", name); }

TEST(TypeName, ListsTheNineteen) {
  std::set<std::string_view> names;
  for (const TypeName& type : TypeNames("gguf")) {
    names.insert(type.name);
    EXPECT_EQ(Gguf(type.name), type.name);
    EXPECT_THAT(std::string(type.description), ::testing::HasSubstr(" bits, "));
  }
  EXPECT_EQ(names,
            (std::set<std::string_view>{"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S",
                                        "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
                                        "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"}));
}

TEST(TypeName, DescriptionsTellThePlansBitsLargestFirst) {
  testing::PhiModel phi(testing::kPhi35Mini);
  double previous = 100;
  for (const TypeName& type : TypeNames("gguf")) {
    const double bits = std::stod(std::string(type.description));
    EXPECT_NEAR(bits, phi.MakePlan(std::string(type.name)).bits_per_weight(), 0.005) << type.name;
    EXPECT_LE(bits, previous) << type.name;
    previous = bits;
  }
}

TEST(TypeName, TakesAnyCaseAndLlamaQuantizesAliases) {
  EXPECT_EQ(Gguf("q4_k_m"), "Q4_K_M");
  EXPECT_EQ(Gguf("bf16"), "BF16");
  EXPECT_EQ(Gguf("iq4_Xs"), "IQ4_XS");
  EXPECT_EQ(Gguf("Q3_K"), "Q3_K_M");
  EXPECT_EQ(Gguf("q4_k"), "Q4_K_M");
  EXPECT_EQ(Gguf("Q5_K"), "Q5_K_M");
}

TEST(TypeName, RefusesTheOthersOfLlamaCppWithTheReason) {
  const std::string hint = " (`phiq profiles --types` lists the types)";
  const auto refused = [&](const char* name, const std::string& text) {
    EXPECT_EQ(Thrown([&] { Gguf(name); }), std::pair(ErrorCode::kUnsupported, text + hint));
  };
  for (const char* name :
       {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"}) {
    refused(name, std::string("type ") + name +
                      " is not written: it is made with an importance "
                      "matrix only, and this version has no method for it");
  }
  for (const char* name : {"IQ3_S", "IQ3_M"}) {
    refused(name, std::string("type ") + name +
                      " is not written: it is made for an importance "
                      "matrix, and this version has no method for it");
  }
  for (const char* name : {"Q4_1_SOME_F16", "Q4_2", "Q4_3", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8"}) {
    refused(name, std::string("type ") + name +
                      " is not written: it is obsolete, llama.cpp has removed it");
  }
  for (const char* name : {"TQ1_0", "TQ2_0", "Q1_0", "Q2_0", "NVFP4", "MXFP4_MOE", "iq2_xxs"}) {
    EXPECT_EQ(Thrown([&] { Gguf(name); }).first, ErrorCode::kUnsupported) << name;
  }
  refused("mxfp4_moe",
          "type MXFP4_MOE is not written: it is for models with experts, and this version does not "
          "write it");
}

TEST(TypeName, SuggestsForUnknownWords) {
  const std::string hint = " (`phiq profiles --types` lists the types)";
  EXPECT_EQ(Thrown([] { Gguf("Q4_KM"); }),
            std::pair(ErrorCode::kUsage, "unknown type 'Q4_KM', did you mean 'Q4_K_M'?" + hint));
  EXPECT_EQ(Thrown([] { Gguf("zzz"); }), std::pair(ErrorCode::kUsage, "unknown type 'zzz'" + hint));
  EXPECT_EQ(Thrown([] { Gguf(""); }).first, ErrorCode::kUsage);
  EXPECT_EQ(Thrown([] { Gguf("\033[2J"); }).second, "unknown type '\\x1b[2J'" + hint);
}

TEST(TypeName, HasOneForEveryPrecision) {
  EXPECT_EQ(TypeOfPrecision("gguf", Precision::kInt4), "Q4_K_M");
  EXPECT_EQ(TypeOfPrecision("gguf", Precision::kInt8), "Q8_0");
  EXPECT_EQ(TypeOfPrecision("gguf", Precision::kFp16), "F16");
  EXPECT_EQ(TypeOfPrecision("gguf", Precision::kBf16), "BF16");
  EXPECT_EQ(TypeOfPrecision("gguf", Precision::kFp32), "F32");
}

}  // namespace
}  // namespace phiq
