// Types, ratios, fallbacks and contradictions of OpenVINO plans. Sizes are worked out from the
// shapes; which matrices NNCF gives 4 bits is in tests/convert/openvino_test.cpp.
#include "formats/openvino/plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/openvino/recipe.h"
#include "plan/phi_model.h"

namespace phiq {
namespace {

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

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";
// One layer whose matrices have 3, 1, 4 and 2 times 65536 weights: qkv, o, gate and up, down.
constexpr PhiShape kTenths = {256, 512, 1, 4, 4, 1000, 0, false};
constexpr PhiShape kTiedTenths = {256, 512, 1, 4, 4, 1000, 0, true};

PlanOptions Options(std::string type, std::optional<double> ratio = std::nullopt) {
  PlanOptions options;
  options.format = "openvino";
  options.type = std::move(type);
  if (ratio) options.knobs["ratio"] = fmt::format("{}", *ratio);
  return options;
}

PlanOptions WithRules(PlanOptions options, std::vector<TensorRule> rules) {
  options.tensor_rules = std::move(rules);
  return options;
}

PlanOptions WithGroup(PlanOptions options, std::uint32_t group_size) {
  SetGroupSize(options, group_size);
  return options;
}

openvino::GraphPlan MakePlan(PhiModel& phi, const PlanOptions& options,
                             const std::vector<float>& errors) {
  return phi.MakePlan<openvino::GraphPlan>(options, errors);
}

openvino::GraphPlan MakePlan(const PhiShape& shape, const PlanOptions& options,
                             const std::vector<float>& errors = {}) {
  PhiModel phi(shape);
  openvino::GraphPlan plan = MakePlan(phi, options, errors);
  EXPECT_THAT(phi.warnings, IsEmpty());
  return plan;
}

// A plan with as many equal errors as it needs.
openvino::GraphPlan MakePlanOfEqualErrors(const PhiShape& shape, const PlanOptions& options) {
  const PhiModel phi(shape);
  const std::size_t n = QuestionsOf(phi.model, options).size();
  return MakePlan(shape, options, std::vector<float>(n, 1e-6F));
}

std::string Layer(int i, std::string_view tensor) {
  return "model.layers." + std::to_string(i) + "." + std::string(tensor) + ".weight";
}

std::string NameOf(const Plan& plan, std::string_view tensor) {
  return EncodingName(LineOf(plan, tensor).encoding);
}

// The part of the name that tells layer's matrices from each other.
std::set<std::string> FourBitMatrices(const Plan& plan) {
  std::set<std::string> names;
  for (const PlanLine& line : plan.lines) {
    if (!EncodingName(line.encoding).starts_with("int4")) continue;
    const std::size_t begin = line.name.find("_attn.") != std::string::npos
                                  ? line.name.find("_attn.") + 6
                                  : line.name.find("mlp.") + 4;
    names.insert(line.name.substr(begin, line.name.find('_', begin) - begin));
  }
  return names;
}
using Names = std::set<std::string>;

std::pair<ErrorCode, std::string> Refusal(const PlanOptions& options) {
  return Thrown([&] { MakePlan(kPhi35Mini, options); });
}
using Refused = std::pair<ErrorCode, std::string>;

// --- encodings -------------------------------------------------------------------------------

struct Encodings {
  const char *type, *embedding, *head, *matrix, *norm;
};

TEST(OpenVinoPlan, HasTheEncodingsOfEveryType) {
  constexpr Encodings kUntied[] = {
      {"F32", "F32", "F32", "F32", "F32"},
      {"F16", "F16", "F16", "F16", "F32"},
      {"BF16", "BF16", "BF16", "BF16", "F32"},
      {"INT8_ASYM", "int8 row asym", "int8 row asym", "int8 row asym", "F32"},
      {"INT8_SYM", "int8 row", "int8 row", "int8 row", "F32"},
      // The backup is asymmetric for both.
      {"INT4_ASYM", "int8 row asym", "int8 row asym", "int4 g128 asym", "F32"},
      {"INT4_SYM", "int8 row asym", "int8 row asym", "int4 g128", "F32"},
  };
  EXPECT_EQ(std::size(kUntied), TypeNames("openvino").size());
  for (const Encodings& want : kUntied) {
    SCOPED_TRACE(want.type);
    PlanOptions options = Options(want.type);
    if (options.type.starts_with("INT4")) options.knobs["ratio"] = fmt::format("{}", 1.0);
    const openvino::GraphPlan plan = MakePlan(kPhi35Mini, options);
    EXPECT_EQ(plan.format, "openvino");
    EXPECT_EQ(plan.type, want.type);
    EXPECT_EQ(NameOf(plan, kEmbedding), want.embedding);
    EXPECT_EQ(NameOf(plan, kHead), want.head);
    for (const char* matrix :
         {"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"}) {
      for (const int layer : {0, 15, 31})
        EXPECT_EQ(NameOf(plan, Layer(layer, matrix)), want.matrix);
    }
    EXPECT_EQ(NameOf(plan, "model.norm.weight"), want.norm);
    EXPECT_EQ(NameOf(plan, Layer(31, "input_layernorm")), want.norm);
    EXPECT_EQ(plan.lines.size(), 3U + 32U * 6U);
    EXPECT_THAT(plan.decisions, IsEmpty());
    EXPECT_EQ(plan.ratio, 1.0);
    EXPECT_EQ(plan.group_size, options.type.starts_with("INT4") ? 128U : 0U);
  }
}

TEST(OpenVinoPlan, StoresCodesAsTheTypesOfOpenVinoDo) {
  for (const char* type : {"INT8_ASYM", "INT8_SYM", "INT4_ASYM", "INT4_SYM"}) {
    PlanOptions options = Options(type);
    if (options.type.starts_with("INT4")) options.knobs["ratio"] = fmt::format("{}", 1.0);
    const openvino::GraphPlan plan = MakePlan(kPhi4, options);
    const PlanLine& line = LineOf(plan, Layer(0, "mlp.down_proj"));
    const auto& groups = std::get<GroupEncoding>(line.encoding);
    EXPECT_EQ(IsSigned(groups.code), !HasZeroPoints(groups)) << type;
    EXPECT_EQ(line.method, &kNncf) << type;
    EXPECT_EQ(groups.scale, ScaleType::kF16) << type;
  }
}

TEST(OpenVinoPlan, HasOneLineForATiedEmbeddingAndHead) {
  for (const char* type : {"F16", "INT8_ASYM", "INT8_SYM", "INT4_SYM"}) {
    const openvino::GraphPlan plan = MakePlanOfEqualErrors(kPhi4Mini, Options(type));
    EXPECT_EQ(std::ranges::count(plan.lines, std::string(kHead), &PlanLine::name), 0) << type;
    EXPECT_THAT(LineOf(plan, kEmbedding).reason,
                ::testing::EndsWith(", tied: the output head too"));
  }
}

// Of Phi-3.5-mini 32 layers of 28311552 + 9437184 + 50331648 + 25165824 weights in 31744 rows, and
// twice 98500608 in 32064 rows; 65 norms of 3072.
TEST(OpenVinoPlan, HasExactSizes) {
  constexpr std::uint64_t kLayers = 3'623'878'656;
  constexpr std::uint64_t kRows = 32 * 31'744;
  constexpr std::uint64_t kEnds = 2 * 98'500'608;
  constexpr std::uint64_t kEndRows = 2 * 32'064;
  constexpr std::uint64_t kNorms = 65 * 3'072 * 4;
  const auto bytes_of = [](const PlanOptions& options) {
    return MakePlan(kPhi35Mini, options).data_bytes();
  };
  EXPECT_EQ(bytes_of(Options("F32")), 4 * (kLayers + kEnds) + kNorms);
  EXPECT_EQ(bytes_of(Options("F16")), 2 * (kLayers + kEnds) + kNorms);
  EXPECT_EQ(bytes_of(Options("INT8_SYM")), kLayers + kEnds + 2 * (kRows + kEndRows) + kNorms);
  EXPECT_EQ(bytes_of(Options("INT8_ASYM")), kLayers + kEnds + 3 * (kRows + kEndRows) + kNorms);
  const std::uint64_t ends = kEnds + 3 * kEndRows + kNorms;  // INT8_ASYM
  EXPECT_EQ(bytes_of(Options("INT4_SYM", 1.0)), kLayers / 2 + kLayers / 128 * 2 + ends);
  EXPECT_EQ(bytes_of(Options("INT4_ASYM", 1.0)),
            kLayers / 2 + kLayers / 128 * 2 + kLayers / 128 / 2 + ends);
  EXPECT_EQ(bytes_of(WithGroup(Options("INT4_SYM", 1.0), 64)),
            kLayers / 2 + kLayers / 64 * 2 + ends);
  EXPECT_EQ(bytes_of(WithGroup(Options("INT4_SYM", 1.0), 0)), kLayers / 2 + kRows * 2 + ends);
  // One zero point of half a byte for each row, and none of them padded.
  EXPECT_EQ(bytes_of(WithGroup(Options("INT4_ASYM", 1.0), 0)),
            kLayers / 2 + kRows * 2 + kRows / 2 + ends);
}

TEST(OpenVinoPlan, RoundsAnOddNumberOfHalfBytesUp) {
  PhiModel phi(kTenths);
  phi.model.tensors[2].shape = {769, 256};  // qkv
  const openvino::GraphPlan plan = MakePlan(phi, WithGroup(Options("INT4_ASYM", 1.0), 0), {});
  EXPECT_EQ(LineOf(plan, Layer(0, "self_attn.qkv_proj")).size_bytes, 769U * 128 + 769 * 2 + 385);
}

// --- ratio -----------------------------------------------------------------------------------

TEST(OpenVinoRatio, RanksTheMatricesOfTheLayers) {
  const PhiModel phi(kTenths);
  const auto ranked = [&phi](const PlanOptions& options) {
    std::vector<std::string> names;
    for (const Question& question : QuestionsOf(phi.model, options))
      names.push_back(phi.model.tensors[question.tensor].name);
    return names;
  };
  EXPECT_THAT(ranked(Options("INT4_SYM")),
              ElementsAre(Layer(0, "self_attn.qkv_proj"), Layer(0, "self_attn.o_proj"),
                          Layer(0, "mlp.gate_up_proj"), Layer(0, "mlp.down_proj")));
  EXPECT_THAT(ranked(WithRules(Options("INT4_ASYM", 0.3), {{"o_proj|embed", "INT4_SYM"}})),
              ElementsAre(Layer(0, "self_attn.qkv_proj"), Layer(0, "mlp.gate_up_proj"),
                          Layer(0, "mlp.down_proj")));
  EXPECT_THAT(ranked(Options("INT4_SYM", 1.0)), IsEmpty());
  EXPECT_THAT(ranked(Options("INT8_ASYM")), IsEmpty());
  PlanOptions gguf;
  gguf.type = "Q4_K_M";
  EXPECT_THAT(ranked(gguf), IsEmpty());
}

TEST(OpenVinoRatio, GivesFourBitsToTheLargestErrorsFirst) {
  const std::vector<float> errors = {1e-6F, 3e-6F, 4e-6F, 2e-6F};  // qkv, o, gate and up, down
  const auto four_bits = [&](double ratio) {
    return FourBitMatrices(MakePlan(kTenths, Options("INT4_SYM", ratio), errors));
  };
  EXPECT_EQ(four_bits(0.39), Names{});
  EXPECT_EQ(four_bits(0.41), Names{"gate"});
  // The share stays below the ratio, and the first matrix that would reach it ends the list.
  EXPECT_EQ(four_bits(0.5), Names{"gate"});
  EXPECT_EQ(four_bits(0.501), (Names{"gate", "o"}));
  EXPECT_EQ(four_bits(0.69), (Names{"gate", "o"}));
  EXPECT_EQ(four_bits(0.71), (Names{"gate", "o", "down"}));
  EXPECT_EQ(four_bits(0.999), (Names{"gate", "o", "down"}));
  EXPECT_EQ(four_bits(1e-9), Names{});
}

TEST(OpenVinoRatio, SkipsNoMatrixForALaterOneThatWouldFit) {
  // qkv, 0.3, would fit after gate and up; o, 0.1, would fit after that.
  const std::vector<float> errors = {2e-6F, 1e-6F, 3e-6F, 0.5e-6F};
  EXPECT_EQ(FourBitMatrices(MakePlan(kTenths, Options("INT4_SYM", 0.6), errors)), Names{"gate"});
}

TEST(OpenVinoRatio, KeepsTheOrderOfTheModelAmongEqualErrors) {
  EXPECT_EQ(FourBitMatrices(MakePlanOfEqualErrors(kTenths, Options("INT4_SYM", 0.5))),
            (Names{"qkv", "o"}));
}

TEST(OpenVinoRatio, OfATiedModelIsOfTheSameMatrices) {
  const std::vector<float> errors = {1e-6F, 3e-6F, 4e-6F, 2e-6F};
  EXPECT_EQ(FourBitMatrices(MakePlan(kTiedTenths, Options("INT4_SYM", 0.75), errors)),
            (Names{"gate", "o", "down"}));
}

TEST(OpenVinoRatio, IsOfWhatRulesLeave) {
  // qkv, gate and up and down are 9 of 10; without rules o would be the first.
  const PlanOptions options =
      WithRules(Options("INT4_SYM", 0.5), {{"o_proj", "INT4_ASYM"}, {"lm_head", "F16"}});
  const openvino::GraphPlan plan = MakePlan(kTenths, options, {1e-6F, 4e-6F, 2e-6F});
  EXPECT_EQ(NameOf(plan, Layer(0, "mlp.gate_up_proj")), "int4 g128");  // 4 of 9
  EXPECT_EQ(NameOf(plan, Layer(0, "mlp.down_proj")), "int8 row asym");
  EXPECT_EQ(NameOf(plan, Layer(0, "self_attn.o_proj")), "int4 g128 asym");
  EXPECT_EQ(NameOf(plan, kHead), "F16");
  EXPECT_EQ(NameOf(plan, kEmbedding), "int8 row asym");
}

TEST(OpenVinoRatio, IsSixTenthsByDefaultAndSaysWhy) {
  const openvino::GraphPlan plan =
      MakePlan(kTenths, Options("INT4_SYM"), {1e-6F, 3e-6F, 4e-6F, 2e-6F});
  EXPECT_EQ(FourBitMatrices(plan), (Names{"gate", "o"}));
  EXPECT_EQ(plan.ratio, 0.6);
  ASSERT_EQ(plan.decisions.size(), 1U);
  EXPECT_EQ(plan.decisions[0].subject, "ratio");
  EXPECT_EQ(plan.decisions[0].value, "0.6");
  EXPECT_EQ(plan.decisions[0].reason,
            "2 of 4 matrices of the layers, 50.0 % of their weights, in INT4_SYM; ranked by their "
            "INT8_ASYM error, for which 1.25 MiB of weights were read");
  EXPECT_EQ(LineOf(plan, Layer(0, "self_attn.o_proj")).reason,
            "ratio 0.6: among those that 8 bits serve worst");
  EXPECT_EQ(LineOf(plan, Layer(0, "mlp.down_proj")).reason, "ratio 0.6: 8 bits serve it better");
  EXPECT_EQ(LineOf(plan, kEmbedding).reason, "INT4_SYM: embedding and head keep 8 bits");
}

TEST(OpenVinoRatio, NeedsTheErrors) {
  EXPECT_EQ(Thrown([] { MakePlan(kTenths, Options("INT4_SYM"), {1e-6F}); }).first,
            ErrorCode::kInternal);
}

// --- rules -----------------------------------------------------------------------------------

TEST(OpenVinoPlan, TakesRules) {
  const openvino::GraphPlan plan = MakePlan(
      kPhi4Mini, WithRules(Options("F16"), {{"down", "int4_asym"}, {"lm_head", "INT8_SYM"}}));
  EXPECT_EQ(NameOf(plan, Layer(3, "mlp.down_proj")), "int4 g128 asym");
  EXPECT_EQ(LineOf(plan, Layer(3, "mlp.down_proj")).reason, "rule 'down=int4_asym'");
  EXPECT_EQ(NameOf(plan, kEmbedding), "int8 row");
  EXPECT_EQ(LineOf(plan, kEmbedding).reason, "rule 'lm_head=INT8_SYM', tied: the output head too");
  EXPECT_EQ(NameOf(plan, Layer(3, "mlp.gate_up_proj")), "F16");
  EXPECT_EQ(plan.group_size, 128U);
}

TEST(OpenVinoPlan, RefusesRulesOfOtherTypes) {
  EXPECT_EQ(Refusal(WithRules(Options("F16"), {{"down", "Q4_K"}})),
            Refused(ErrorCode::kUsage,
                    "rule 'down=Q4_K': unknown tensor type (the tensor types are F32, F16, BF16, "
                    "INT8_ASYM, INT8_SYM, INT4_ASYM, INT4_SYM)"));
}

// --- shapes ----------------------------------------------------------------------------------

TEST(OpenVinoPlan, KeepsEightBitsWhereGroupsDoNotFit) {
  PhiModel phi({320, 512, 1, 4, 4, 1000, 0, false});
  const openvino::GraphPlan plan = MakePlan(phi, Options("INT4_SYM", 1.0), {});
  const PlanLine& o = LineOf(plan, Layer(0, "self_attn.o_proj"));
  EXPECT_EQ(EncodingName(o.encoding), "int8 row asym");
  EXPECT_TRUE(o.is_fallback);
  EXPECT_EQ(o.reason, "row of 320 is not a multiple of 128: INT4_SYM -> INT8_ASYM");
  EXPECT_EQ(NameOf(plan, Layer(0, "mlp.down_proj")), "int4 g128");
  EXPECT_THAT(phi.warnings, ::testing::SizeIs(3));
  EXPECT_EQ(phi.warnings[1], "tensor 'model.layers.0.self_attn.o_proj.weight': " + o.reason);

  PlanOptions strict = Options("INT4_SYM", 1.0);
  strict.strict_types = true;
  EXPECT_EQ(Thrown([&] { MakePlan(phi, strict, {}); }),
            Refused(ErrorCode::kUnsupported,
                    "tensor 'model.layers.0.self_attn.qkv_proj.weight': row of 320 is not a "
                    "multiple of 128: INT4_SYM -> INT8_ASYM (--strict-types forbids fallbacks)"));
}

TEST(OpenVinoPlan, KeepsEightBitsInOddRows) {
  PhiModel phi(kTenths);
  phi.model.tensors[6].shape = {256, 511};  // down
  const openvino::GraphPlan plan = MakePlan(phi, WithGroup(Options("INT4_ASYM", 1.0), 0), {});
  EXPECT_EQ(NameOf(plan, Layer(0, "self_attn.o_proj")), "int4 row asym");
  EXPECT_EQ(LineOf(plan, Layer(0, "mlp.down_proj")).reason,
            "row of 511 is not a multiple of 2: INT4_ASYM -> INT8_ASYM");
}

TEST(OpenVinoPlan, TakesGroups) {
  const openvino::GraphPlan plan = MakePlan(kPhi4, WithGroup(Options("INT4_ASYM", 1.0), 64));
  EXPECT_EQ(NameOf(plan, Layer(7, "mlp.down_proj")), "int4 g64 asym");
  EXPECT_EQ(plan.group_size, 64U);
  EXPECT_EQ(
      NameOf(MakePlan(kPhi4, WithGroup(Options("INT4_SYM", 1.0), 0)), Layer(7, "mlp.down_proj")),
      "int4 row");
}

// --- refusals --------------------------------------------------------------------------------

TEST(OpenVinoPlan, RefusesWhatContradictsTheType) {
  using enum ErrorCode;
  EXPECT_EQ(Refusal(WithGroup(Options("INT8_ASYM"), 128)),
            Refused(kUsage, "--group-size: type INT8_ASYM has no groups"));
  EXPECT_EQ(Refusal(WithGroup(Options("F16"), 128)),
            Refused(kUsage, "--group-size: type F16 has no groups"));
  EXPECT_NO_THROW(
      MakePlan(kPhi4, WithRules(WithGroup(Options("F16"), 64), {{"down", "INT4_SYM"}})));
  EXPECT_EQ(Refusal(WithGroup(Options("INT4_SYM"), 33)),
            Refused(kUsage, "--group-size 33: OpenVINO has even numbers from 4, and 'row'"));
  EXPECT_EQ(Refusal(WithGroup(Options("INT4_SYM"), 2)).first, kUsage);
  EXPECT_EQ(Refusal(Options("INT8_SYM", 0.5)),
            Refused(kUsage, "--ratio: type INT8_SYM has no 4-bit layers"));
  EXPECT_EQ(Refusal(Options("F32", 1.0)), Refused(kUsage, "--ratio: type F32 has no 4-bit layers"));
  for (const double ratio : {0.0, -0.5, 1.01, std::numeric_limits<double>::quiet_NaN()})
    EXPECT_EQ(Refusal(Options("INT4_SYM", ratio)).first, kUsage) << ratio;
  EXPECT_EQ(
      Refusal(Options("INT4_SYM", 1.5)),
      Refused(kUsage,
              "--ratio: '1.5' is not a number above 0 and at most 1 (--precision int8 is what 0 "
              "would be)"));
  PlanOptions options = Options("INT8_ASYM");
  SetSymmetric(options, true);
  EXPECT_EQ(Refusal(options), Refused(kUsage, "--sym contradicts type INT8_ASYM"));
  options.type = "INT4_SYM";
  SetSymmetric(options, false);
  EXPECT_EQ(Refusal(options), Refused(kUsage, "--asym contradicts type INT4_SYM"));
  options.type = "BF16";
  EXPECT_EQ(Refusal(options), Refused(kUsage, "--sym, --asym: type BF16 has no integer codes"));
  options.type = "int8_asym";
  EXPECT_NO_THROW(MakePlan(kPhi35Mini, options));
}

// --- names -----------------------------------------------------------------------------------

TEST(OpenVinoTypes, DescriptionsTellThePlansBitsLargestFirst) {
  double previous = 100;
  for (const TypeName& type : TypeNames("openvino")) {
    const double bits = std::stod(std::string(type.description));
    const openvino::GraphPlan plan =
        MakePlanOfEqualErrors(kPhi35Mini, Options(std::string(type.name)));
    // Which matrices come first decides how near the ratio the last one ends: within one of the
    // largest, 1.4 % of the layers' weights, which have 4 bits more or less.
    const double tolerance = type.name.starts_with("INT4") ? 0.014 * 4 : 0.005;
    EXPECT_NEAR(bits, plan.bits_per_weight(), tolerance) << type.name;
    EXPECT_LE(bits, previous) << type.name;
    previous = bits;
  }
}

TEST(OpenVinoTypes, TakeAnyCase) {
  const auto parse = [](std::string_view name) { return ParseType("openvino", name); };
  EXPECT_EQ(parse("int4_sym"), "INT4_SYM");
  EXPECT_EQ(parse("bf16"), "BF16");
  const std::string hint = " (`phiq profiles --types` lists the types)";
  EXPECT_EQ(Thrown([&] { parse("INT4_SIM"); }),
            Refused(ErrorCode::kUsage, "unknown type 'INT4_SIM', did you mean 'INT4_SYM'?" + hint));
  EXPECT_EQ(Thrown([&] { parse("Q4_K_M"); }),
            Refused(ErrorCode::kUsage, "unknown type 'Q4_K_M'" + hint));
  for (const char* name : {"NF4", "nvfp4", "MXFP4", "CB4", "CODEBOOK"})
    EXPECT_EQ(Thrown([&] { parse(name); }).first, ErrorCode::kUnsupported) << name;
  EXPECT_EQ(Thrown([&] { parse("nf4"); }).second,
            "type NF4 is not written: of NNCF's modes this version has the integer ones of 8 and 4 "
            "bits" +
                hint);
}

TEST(OpenVinoTypes, AreThereForEveryPrecision) {
  EXPECT_EQ(TypeOfPrecision("openvino", Precision::kInt4), "INT4_SYM");
  EXPECT_EQ(TypeOfPrecision("openvino", Precision::kInt8), "INT8_ASYM");
  EXPECT_EQ(TypeOfPrecision("openvino", Precision::kFp16), "F16");
  EXPECT_EQ(TypeOfPrecision("openvino", Precision::kBf16), "BF16");
  EXPECT_EQ(TypeOfPrecision("openvino", Precision::kFp32), "F32");
}

TEST(OpenVinoTypes, HaveSiblings) {
  EXPECT_EQ(openvino::TypeWith("INT4_SYM", false), "INT4_ASYM");
  EXPECT_EQ(openvino::TypeWith("int4_asym", true), "INT4_SYM");
  EXPECT_EQ(openvino::TypeWith("INT8_ASYM", true), "INT8_SYM");
  EXPECT_EQ(openvino::TypeWith("INT8_ASYM", false), "INT8_ASYM");
  EXPECT_EQ(Thrown([] { openvino::TypeWith("F16", true); }),
            Refused(ErrorCode::kUsage, "type F16 has no integer codes"));
}

}  // namespace
}  // namespace phiq
