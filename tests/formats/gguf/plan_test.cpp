// Types, sizes and reasons of whole plans.
#include "phiq/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "plan/phi_model.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

PlanOptions Strict(std::string type) {
  PlanOptions options;
  options.type = std::move(type);
  options.strict_types = true;
  return options;
}

using testing::kPhi35Mini;
using testing::kPhi4;
using testing::kPhi4Mini;
using testing::LineOf;
using testing::PhiModel;
using testing::PhiShape;
using testing::Thrown;
using testing::TypeOf;
using enum GgmlType;

std::map<GgmlType, int> CountTypes(const Plan& plan) {
  std::map<GgmlType, int> counts;
  for (const PlanLine& line : plan.lines) ++counts[TypeOf(line)];
  return counts;
}

std::string Layer(int i, std::string_view tensor) {
  return "model.layers." + std::to_string(i) + "." + std::string(tensor) + ".weight";
}

// Sum of the tensor bytes in files of llama-quantize (docs/profiles.md says how they come about).
struct FileBytes {
  const char* type;
  std::uint64_t phi35_mini, phi4, phi4_mini;
};
constexpr FileBytes kFileBytes[] = {
    {"F32", 15'284'318'592, 58'638'028'800, 15'344'087'424},
    {"F16", 7'642'558'848, 29'319'843'840, 7'672'443'264},
    {"BF16", 7'642'558'848, 29'319'843'840, 7'672'443'264},
    {"Q8_0", 4'060'483'968, 15'576'944'640, 4'076'360'064},
    {"Q4_0", 2'175'438'720, 8'379'863'040, 2'316'899'712},
    {"Q4_1", 2'408'087'424, 9'263'943'680, 2'518'226'304},
    {"Q5_0", 2'640'736'128, 10'148'024'320, 2'719'552'896},
    {"Q5_1", 2'873'384'832, 11'032'104'960, 2'920'879'488},
    {"Q2_K", 1'507'478'400, 5'912'432'640, 1'725'502'848},
    {"Q3_K_S", 1'681'060'224, 6'501'191'680, 1'889'080'704},
    {"Q3_K_M", 1'961'816'448, 7'369'543'680, 2'113'213'824},
    {"Q3_K_L", 2'200'105'344, 8'123'207'680, 2'304'316'800},
    {"Q4_K_S", 2'202'177'408, 8'456'867'840, 2'337'346'944},
    {"Q4_K_M", 2'396'032'896, 9'055'703'040, 2'485'589'376},
    {"Q5_K_S", 2'640'736'128, 10'148'024'320, 2'719'552'896},
    {"Q5_K_M", 2'754'375'552, 10'496'184'320, 2'806'453'632},
    {"Q6_K", 3'135'114'624, 12'026'695'680, 3'147'371'904},
    {"IQ4_NL", 2'188'021'632, 8'633'815'040, 2'329'482'624},
    {"IQ4_XS", 2'074'843'008, 8'255'262'720, 2'231'965'056},
};

TEST(Plan, HasTheBytesOfLlamaQuantizeForEveryType) {
  PhiModel phi35_mini(kPhi35Mini), phi4(kPhi4), phi4_mini(kPhi4Mini);
  for (const FileBytes& want : kFileBytes) {
    SCOPED_TRACE(want.type);
    EXPECT_EQ(phi35_mini.MakePlan(want.type).data_bytes(), want.phi35_mini);
    EXPECT_EQ(phi4.MakePlan(want.type).data_bytes(), want.phi4);
    EXPECT_EQ(phi4_mini.MakePlan(want.type).data_bytes(), want.phi4_mini);
  }
  EXPECT_EQ(std::size(kFileBytes), TypeNames("gguf").size());
  EXPECT_THAT(phi35_mini.warnings, ::testing::IsEmpty());
}

TEST(Plan, HasTheTypeCountsOfLlamaQuantize) {
  const auto counts = [](const PhiShape& shape, const char* type) {
    return CountTypes(PhiModel(shape).MakePlan(type));
  };
  EXPECT_EQ(counts(kPhi35Mini, "Q4_K_M"),
            (std::map<GgmlType, int>{{kF32, 67}, {kQ4_K, 97}, {kQ6_K, 33}}));
  EXPECT_EQ(counts(kPhi4, "Q4_K_M"),
            (std::map<GgmlType, int>{{kF32, 81}, {kQ4_K, 121}, {kQ6_K, 41}}));
  EXPECT_EQ(counts(kPhi4Mini, "Q4_K_M"),
            (std::map<GgmlType, int>{{kF32, 67}, {kQ4_K, 96}, {kQ6_K, 33}}));
  EXPECT_EQ(counts(kPhi4Mini, "Q8_0"), (std::map<GgmlType, int>{{kF32, 67}, {kQ8_0, 129}}));
}

TEST(Plan, CountsWeightsAndBits) {
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("Q4_K_M");
  EXPECT_EQ(plan.n_weights(), 3'821'079'552U);  // the rope tables are none
  EXPECT_NEAR(plan.bits_per_weight(), 5.016, 0.0005);
  EXPECT_EQ(Plan{}.bits_per_weight(), 0);
}

// The types of all matrices in the order of a checkpoint.
std::string TypesOf(const Plan& plan) {
  std::string types;
  for (const PlanLine& line : plan.lines) {
    if (line.shape.size() < 2) continue;
    types += std::string(types.empty() ? "" : " ") + std::string(EncodingName(line.encoding));
  }
  return types;
}

// Every layer's types for other depths, head groups and widths, as llama-quantize --dry-run said.
TEST(Plan, EqualsLlamaQuantizeTensorByTensor) {
  std::ifstream file(std::string(kTestData) + "/plan/llama_quantize_types.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_GE(golden.size(), 8U);
  for (const auto& [name, model] : golden.items()) {
    const auto& s = model["shape"];
    PhiModel phi({s["hidden"], s["intermediate"], s["layers"], s["heads"], s["kv_heads"],
                  s["vocab"], 0, s["tied"]});
    ASSERT_EQ(model["types"].size(), 19U);
    for (const auto& [type, tensors] : model["types"].items()) {
      EXPECT_EQ(TypesOf(phi.MakePlan(type)), tensors.get<std::string>()) << name << " " << type;
      // With an importance matrix, which makes a difference to some types only.
      PlanOptions options;
      options.type = type;
      options.method = "imatrix";
      const auto& with_matrix = model["with_matrix"];
      EXPECT_EQ(TypesOf(phi.MakePlan(options)), with_matrix.value(type, tensors.get<std::string>()))
          << name << " " << type;
    }
  }
}

// Worked by hand from "i < L/8, i >= 7L/8 or (i - L/8) % 3 == 2".
TEST(Plan, GivesSensitiveLayersMoreBits) {
  const std::vector<int> of32 = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
  const std::vector<int> of40 = {0,  1,  2,  3,  4,  7,  10, 13, 16, 19,
                                 22, 25, 28, 31, 34, 35, 36, 37, 38, 39};
  const auto layers_in_q6k = [](const PhiShape& shape, std::string_view tensor) {
    const Plan plan = PhiModel(shape).MakePlan("Q5_K_M");
    std::vector<int> layers;
    for (int i = 0; i < static_cast<int>(shape.layers); ++i) {
      if (TypeOf(plan, Layer(i, tensor)) == kQ6_K) layers.push_back(i);
    }
    return layers;
  };
  EXPECT_EQ(layers_in_q6k(kPhi35Mini, "mlp.down_proj"), of32);
  EXPECT_EQ(layers_in_q6k(kPhi35Mini, "self_attn.qkv_proj"), of32);
  EXPECT_EQ(layers_in_q6k(kPhi4, "mlp.down_proj"), of40);
  EXPECT_THAT(layers_in_q6k(kPhi4, "self_attn.o_proj"), ::testing::IsEmpty());
}

TEST(Plan, GivesSharedKeysAndValuesMoreBits) {
  const auto qkv = [](const PhiShape& shape, const char* type) {
    return TypeOf(PhiModel(shape).MakePlan(type), Layer(9, "self_attn.qkv_proj"));
  };
  EXPECT_EQ(qkv(kPhi35Mini, "Q2_K"), kQ3_K);  // a head each
  EXPECT_EQ(qkv(kPhi4Mini, "Q2_K"), kQ3_K);   // 3 heads share
  EXPECT_EQ(qkv(kPhi4, "Q2_K"), kQ4_K);       // 4 heads share
  EXPECT_EQ(qkv(kPhi4Mini, "IQ4_XS"), kIQ4_XS);
  EXPECT_EQ(qkv(kPhi4, "IQ4_XS"), kQ5_K);
}

TEST(Plan, SaysWhyInEveryLine) {
  const Plan plan = PhiModel(kPhi35Mini).MakePlan("Q4_K_M");
  EXPECT_EQ(LineOf(plan, "model.embed_tokens.weight").reason, "Q4_K_M: default");
  EXPECT_EQ(LineOf(plan, "lm_head.weight").reason, "output head");
  EXPECT_EQ(LineOf(plan, "model.norm.weight").reason, "norm");
  EXPECT_EQ(LineOf(plan, Layer(0, "mlp.down_proj")).reason,
            "Q4_K_M: more bits in the outer eighths and every third layer between");
  EXPECT_EQ(LineOf(plan, Layer(4, "mlp.down_proj")).reason, "Q4_K_M: default");
  EXPECT_EQ(LineOf(PhiModel(kPhi35Mini).MakePlan("Q3_K_M"), Layer(2, "self_attn.o_proj")).reason,
            "Q3_K_M: more bits for this role");
  EXPECT_EQ(LineOf(PhiModel(kPhi4Mini).MakePlan("Q4_K_M"), "model.embed_tokens.weight").reason,
            "tied embedding: the output head too");
}

TEST(Plan, KeepsTheModelsOrderAndPutsRopeFactorsLast) {
  PhiModel phi(kPhi35Mini);
  const Plan plan = phi.MakePlan("q4_k");
  EXPECT_EQ(plan.type, "Q4_K_M");
  ASSERT_EQ(plan.lines.size(), 197U);
  for (std::size_t i = 0; i < 195; ++i) {
    EXPECT_EQ(plan.lines[i].name, phi.model.tensors[i].name);
    EXPECT_EQ(plan.lines[i].table, std::nullopt);
  }
  EXPECT_EQ(plan.lines[2].role_name(), "attention_qkv");
  EXPECT_EQ(plan.lines[2].layer, 0);
  EXPECT_EQ(plan.lines[2].source_type, "BF16");
  const PlanLine& rope = plan.lines[195];
  EXPECT_EQ(rope.name, "config:long_factor");
  EXPECT_EQ(plan.lines[196].name, "config:short_factor");
  EXPECT_EQ(rope.role_name(), "rope_factors");
  EXPECT_EQ(rope.table, ConfigTable::kLongFactor);
  EXPECT_EQ(TypeOf(rope), kF32);
  EXPECT_EQ(rope.size_bytes, 48U * 4);
  EXPECT_EQ(PhiModel(kPhi4).MakePlan("F16").lines.size(), 243U);  // no longrope
}

TEST(PlanLine, KnowsItsRows) {
  PlanLine line;
  line.shape = {6, 5};
  EXPECT_EQ(line.n_rows(), 6U);
  EXPECT_EQ(line.row_elements(), 5U);
  EXPECT_EQ(line.n_elements(), 30U);
  line.shape = {7};
  EXPECT_EQ(line.n_rows(), 1U);
  EXPECT_EQ(line.row_elements(), 7U);
}

// Rows of 288 are whole blocks of 32 but not of 256; rows of 100 are neither.
constexpr PhiShape kOdd = {288, 100, 8, 4, 4, 512, 0, false};

TEST(PlanFallback, IsALineAndAWarning) {
  PhiModel phi(kOdd);
  const Plan plan = phi.MakePlan("Q4_K_M");
  const PlanLine& up = LineOf(plan, Layer(4, "mlp.gate_up_proj"));
  EXPECT_EQ(TypeOf(up), kQ5_0);
  EXPECT_TRUE(up.is_fallback);
  EXPECT_EQ(up.reason, "row of 288 is not a multiple of 256: Q4_K -> Q5_0");
  EXPECT_EQ(up.size_bytes, 200U * 288 / 32 * 22);
  EXPECT_EQ(LineOf(plan, Layer(4, "mlp.down_proj")).reason,
            "row of 100 is not a multiple of 256: Q4_K -> F16");
  EXPECT_EQ(TypeOf(plan, "lm_head.weight"), kQ8_0);
  EXPECT_EQ(phi.warnings.size(), 8U * 4 + 2);  // every matrix
  EXPECT_THAT(phi.warnings,
              ::testing::Contains("tensor 'model.layers.4.mlp.gate_up_proj.weight': row of 288 is "
                                  "not a multiple of 256: Q4_K -> Q5_0"));
}

TEST(PlanFallback, FollowsTheTypeThatWasWanted) {
  const auto narrow_and_odd = [](const char* type) {
    const Plan plan = PhiModel(kOdd).MakePlan(type);
    return std::pair(TypeOf(plan, Layer(4, "mlp.gate_up_proj")),
                     TypeOf(plan, Layer(4, "mlp.down_proj")));
  };
  using Pair = std::pair<GgmlType, GgmlType>;
  EXPECT_EQ(narrow_and_odd("Q2_K"), Pair(kQ4_0, kF16));
  EXPECT_EQ(narrow_and_odd("Q3_K_S"), Pair(kQ4_0, kF16));
  EXPECT_EQ(narrow_and_odd("Q5_K_S"), Pair(kQ5_1, kF16));
  EXPECT_EQ(narrow_and_odd("Q6_K"), Pair(kQ8_0, kF16));
  EXPECT_EQ(narrow_and_odd("IQ4_XS"), Pair(kIQ4_NL, kF16));
  EXPECT_EQ(narrow_and_odd("Q8_0"), Pair(kQ8_0, kF16));
  EXPECT_EQ(narrow_and_odd("BF16"), Pair(kBF16, kBF16));
}

TEST(PlanFallback, IsUnsupportedUnderStrictTypes) {
  PhiModel phi(kOdd);
  EXPECT_EQ(
      Thrown([&] { phi.MakePlan(Strict("Q4_K_M")); }),
      std::pair(ErrorCode::kUnsupported,
                std::string("tensor 'model.embed_tokens.weight': row of 288 is not a multiple of "
                            "256: Q4_K -> Q5_0 (--strict-types forbids fallbacks)")));
  phi.MakePlan(Strict("F16"));
  EXPECT_THAT(phi.warnings, ::testing::IsEmpty());
}

}  // namespace
}  // namespace phiq
