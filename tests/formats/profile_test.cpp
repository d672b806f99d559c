// Profiles, formats, precisions, and what they mean together.
#include "phiq/profile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "plan/phi_model.h"

namespace phiq {
namespace {

using testing::Thrown;
using enum Precision;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The only target.
PlanOptions Resolve(const Profile* profile, std::optional<std::string> format,
                    std::optional<Precision> precision, std::optional<std::string> type) {
  TargetRequest request;
  request.profile = profile;
  if (format) request.formats = {*format};
  request.precision = precision;
  if (type) request.knobs = {{"type", *type, ""}};
  return ResolveTargets(request).at(0);
}

std::string TypeFor(const Profile* profile, std::optional<Precision> precision) {
  return Resolve(profile, std::nullopt, precision, std::nullopt).type;
}

TEST(Profiles, ListsTheBuiltinOnes) {
  ASSERT_EQ(BuiltinProfiles().size(), 8U);
  const Profile& iot = BuiltinProfiles()[1];
  EXPECT_EQ(iot.name, "iot");
  EXPECT_EQ(iot.format, "gguf");
  EXPECT_EQ(iot.default_precision, kInt4);
  EXPECT_THAT(iot.allowed, ElementsAre(kInt4, kInt8));
  EXPECT_EQ(iot.type, std::nullopt);
  EXPECT_EQ(BuiltinProfiles()[3].name, "ai-pc-intel");
  EXPECT_EQ(BuiltinProfiles()[4].name, "ai-pc-nvidia");
  EXPECT_EQ(BuiltinProfiles()[4].knobs.at("ep"), "cuda");
  EXPECT_EQ(BuiltinProfiles()[5].name, "apple");
  EXPECT_EQ(BuiltinProfiles()[5].format, "mlx");
  EXPECT_EQ(BuiltinProfiles()[6].name, "mobile-litert");
  EXPECT_EQ(BuiltinProfiles()[6].format, "litert");
  EXPECT_EQ(BuiltinProfiles()[7].name, "pytorch");
  EXPECT_EQ(BuiltinProfiles()[7].format, "torch");
}

TEST(Profiles, WalksTheTable) {
  struct Row {
    const char* name;
    Precision precision;
    std::set<Precision> allowed;
    const char* allows = "";  // as the message lists them
  };
  const Row table[] = {
      {"mobile", kInt4, {kInt4, kInt8}, "int4, int8"},
      {"iot", kInt4, {kInt4, kInt8}, "int4, int8"},
      {"ai-pc", kInt8, {kInt8, kInt4, kFp16, kFp32}, "int8, int4, fp16, fp32"},
      {"ai-pc-intel", kInt8, {kInt4, kInt8, kFp16, kFp32}, "int4, int8, fp16, fp32"},
      {"ai-pc-nvidia", kFp16, {kInt4, kInt8, kFp16}, "int4, int8, fp16"},
      {"apple", kInt4, {kInt4, kInt8, kFp16, kBf16, kFp32}, "int4, int8, fp16, bf16, fp32"},
      {"mobile-litert", kInt4, {kInt4, kInt8, kFp32}, "int4, int8, fp32"},
      {"pytorch", kInt4, {kInt4, kInt8}, "int4, int8"},
  };
  for (const Row& row : table) {
    SCOPED_TRACE(row.name);
    const Profile profile = LoadProfile(row.name);
    EXPECT_EQ(TypeFor(&profile, std::nullopt), TypeFor(&profile, row.precision));
    for (const Precision precision : {kInt4, kInt8, kFp16, kBf16, kFp32}) {
      if (row.allowed.contains(precision)) {
        EXPECT_NO_THROW(TypeFor(&profile, precision));
      } else {
        EXPECT_EQ(Thrown([&] { TypeFor(&profile, precision); }),
                  std::pair(ErrorCode::kUsage,
                            fmt::format("profile '{}' does not allow precision {} (it allows {})",
                                        row.name, PrecisionName(precision), row.allows)));
      }
    }
  }
}

TEST(Profiles, SuggestsForMisspeltNames) {
  const std::string hint = " (`phiq profiles` lists them; a file's name ends in .json or has a /)";
  EXPECT_EQ(Thrown([] { LoadProfile("mobil"); }),
            std::pair(ErrorCode::kUsage, "unknown profile 'mobil', did you mean 'mobile'?" + hint));
  EXPECT_EQ(Thrown([] { LoadProfile("toaster"); }),
            std::pair(ErrorCode::kUsage, "unknown profile 'toaster'" + hint));
}

TEST(Formats, AreSixWords) {
  EXPECT_THAT(FormatNames(),
              ElementsAre("gguf", "onnx", "openvino", "mlx", "litert", "torch", "safetensors"));
  EXPECT_NO_THROW(CheckFormatName("openvino"));
  EXPECT_EQ(
      Thrown([] { CheckFormatName("guff"); }),
      std::pair(ErrorCode::kUsage,
                std::string("unknown format 'guff' (formats: gguf, onnx, openvino, mlx, litert, "
                            "torch, safetensors)")));
  EXPECT_EQ(Thrown([] { CheckFormatName("ggu"); }).second,
            "unknown format 'ggu', did you mean 'gguf'? (formats: gguf, onnx, openvino, mlx, "
            "litert, torch, safetensors)");
  EXPECT_EQ(FormatTitle("openvino"), "OpenVINO");
}

TEST(Precisions, AreFiveWords) {
  for (const char* name : {"int4", "int8", "fp16", "bf16", "fp32"}) {
    EXPECT_EQ(PrecisionName(ParsePrecision(name)), name);
  }
  EXPECT_EQ(
      Thrown([] { ParsePrecision("int5"); }),
      std::pair(ErrorCode::kUsage,
                std::string("unknown precision 'int5', did you mean 'int4'? (precisions: int4, "
                            "int8, fp16, bf16, fp32)")));
}

TEST(Target, IsGgufInt4WhenNothingIsSaid) {
  const PlanOptions target = Resolve(nullptr, std::nullopt, std::nullopt, std::nullopt);
  EXPECT_EQ(target.format, "gguf");
  EXPECT_EQ(target.type, "Q4_K_M");
}

TEST(Target, TakesPrecisionOrTypeWithoutAProfile) {
  EXPECT_EQ(TypeFor(nullptr, kBf16), "BF16");
  EXPECT_EQ(Resolve(nullptr, "gguf", std::nullopt, "q5_k").type, "Q5_K_M");
}

TEST(Target, RefusesPrecisionWithType) {
  EXPECT_EQ(Thrown([] { Resolve(nullptr, std::nullopt, kInt4, "Q4_K_M"); }),
            std::pair(ErrorCode::kUsage,
                      std::string("--precision and --type contradict each other (a type says the "
                                  "precision: give one of the two)")));
}

TEST(Target, RefusesAFormatThatIsNotTheProfiles) {
  const Profile iot = LoadProfile("iot");
  EXPECT_EQ(Resolve(&iot, "gguf", std::nullopt, std::nullopt).type, "Q4_K_M");
  EXPECT_EQ(Thrown([&] { Resolve(&iot, "mlx", std::nullopt, std::nullopt); }),
            std::pair(ErrorCode::kUsage,
                      std::string("--format mlx contradicts profile 'iot', which is gguf")));
}

TEST(Target, LetsATypePassTheProfile) {
  const Profile iot = LoadProfile("iot");
  EXPECT_EQ(Resolve(&iot, std::nullopt, std::nullopt, "q6_k").type, "Q6_K");
  EXPECT_EQ(Thrown([&] { Resolve(&iot, std::nullopt, std::nullopt, "IQ2_XS"); }).first,
            ErrorCode::kUnsupported);
}

class ProfileFile : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "phiq-profile-" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json";
  }
  void TearDown() override { std::filesystem::remove(path_); }

  Profile Load(std::string_view text) {
    std::ofstream(path_, std::ios::binary) << text;
    return LoadProfile(path_);
  }
  // What the file's fault is, without the path.
  std::string Fault(std::string_view text, ErrorCode code = ErrorCode::kBadData) {
    const auto [thrown_code, what] = Thrown([&] { Load(text); });
    EXPECT_EQ(thrown_code, code) << what;
    EXPECT_THAT(what, ::testing::StartsWith(path_ + ": "));
    return what.substr(std::min(what.size(), path_.size() + 2));
  }
  std::string path_;
};

TEST_F(ProfileFile, SetsEveryKey) {
  const Profile profile = Load(R"({"name": "kiosk", "description": "our board", "format": "gguf",
      "precision": "int8", "allow": ["int4", "int8", "fp16"], "type": "q6_k"})");
  EXPECT_EQ(profile.name, "kiosk");
  EXPECT_EQ(profile.description, "our board");
  EXPECT_EQ(profile.format, "gguf");
  EXPECT_EQ(profile.default_precision, kInt8);
  EXPECT_THAT(profile.allowed, ElementsAre(kInt4, kInt8, kFp16));
  EXPECT_EQ(profile.type, "Q6_K");
  EXPECT_EQ(TypeFor(&profile, std::nullopt), "Q6_K");  // its own type
  EXPECT_EQ(TypeFor(&profile, kInt4), "Q4_K_M");       // unless a precision is asked for
  EXPECT_EQ(Thrown([&] { TypeFor(&profile, kFp32); }).first, ErrorCode::kUsage);
}

TEST_F(ProfileFile, NeedsFormatAndPrecisionOnly) {
  const Profile profile = Load(R"({"format": "gguf", "precision": "fp16"})");
  EXPECT_EQ(profile.name, std::filesystem::path(path_).stem().string());
  EXPECT_EQ(profile.description, "");
  EXPECT_THAT(profile.allowed, ElementsAre(kFp16));
  EXPECT_EQ(TypeFor(&profile, std::nullopt), "F16");
  EXPECT_EQ(Fault(R"({"precision": "int4"})"), "the profile lacks 'format'");
  EXPECT_EQ(Fault(R"({"format": "gguf"})"), "the profile lacks 'precision'");
}

TEST_F(ProfileFile, RefusesUnknownKeysNamingTheKnown) {
  EXPECT_EQ(Fault(R"({"format": "gguf", "precision": "int4", "presicion": "int8"})"),
            "unknown key 'presicion' (a profile has name, description, format, precision, allow, "
            "type, and options of its format such as group-size)");
}

TEST_F(ProfileFile, RefusesWrongValues) {
  EXPECT_EQ(Fault("[]"), "a profile is a JSON object");
  EXPECT_THAT(Fault("{"), HasSubstr("not valid UTF-8 JSON"));
  EXPECT_EQ(Fault(R"({"format": "gguf", "precision": 4})"), "'precision' is 4, needs a string");
  EXPECT_THAT(Fault(R"({"format": "gguf", "precision": "int5"})"),
              HasSubstr("'precision': unknown precision 'int5', did you mean 'int4'?"));
  EXPECT_THAT(Fault(R"({"format": "ggfu", "precision": "int4"})"),
              HasSubstr("'format': unknown format 'ggfu'"));
  EXPECT_THAT(Fault(R"({"format": "gguf", "precision": "int4", "type": "Q9"})"),
              HasSubstr("'type': unknown type 'Q9'"));
  for (const char* allow : {"[]", "4", "{}", "null", R"(["int4", 8])"}) {
    EXPECT_EQ(
        Fault(R"({"format": "gguf", "precision": "int4", "allow": )" + std::string(allow) + "}"),
        "'allow' needs to be a list of precisions, at least one");
  }
  EXPECT_THAT(Fault(R"({"format": "gguf", "precision": "int4", "allow": ["int4", "int3"]})"),
              HasSubstr("'allow': unknown precision 'int3'"));
  EXPECT_EQ(Fault(R"({"format": "gguf", "precision": "fp32", "allow": ["int4"]})"),
            "'precision' is fp32, which 'allow' lacks");
}

TEST_F(ProfileFile, RefusesWhatIsNotWritten) {
  EXPECT_THAT(
      Fault(R"({"format": "gguf", "precision": "int4", "type": "IQ1_S"})", ErrorCode::kUnsupported),
      HasSubstr("importance matrix"));
}

TEST_F(ProfileFile, TakesOptionsOfItsFormat) {
  const Profile profile =
      Load(R"({"format": "onnx", "precision": "int4", "ep": "webgpu", "group-size": 64})");
  const PlanOptions target = Resolve(&profile, std::nullopt, std::nullopt, std::nullopt);
  EXPECT_THAT(target.knobs, ElementsAre(std::pair("ep", "webgpu"), std::pair("group-size", "64")));
  EXPECT_EQ(Load(ProfileToJson(profile)).knobs, profile.knobs);
  EXPECT_EQ(Fault(R"({"format": "gguf", "precision": "int4", "ep": "cpu"})"),
            "'ep': --ep: not an option of gguf; onnx has it");
  EXPECT_EQ(Fault(R"({"format": "onnx", "precision": "int4", "ep": "cude"})"),
            "'ep': --ep: 'cude' is not one of cpu, cuda, dml, webgpu (did you mean 'cuda'?)");
  EXPECT_EQ(Fault(R"({"format": "onnx", "precision": "int4", "ep": [1]})"),
            "'ep' is [1], needs a string or a number");
}

// --- options of several formats ----------------------------------------------------------------

std::vector<PlanOptions> ResolveFor(std::vector<std::string> formats,
                                    std::vector<KnobValue> knobs) {
  TargetRequest request;
  request.formats = std::move(formats);
  request.knobs = std::move(knobs);
  return ResolveTargets(request);
}

TEST(Knobs, AreGivenToEveryFormat) {
  const auto targets = ResolveFor({"onnx", "mlx"}, {{"group-size", "64", ""}});
  ASSERT_EQ(targets.size(), 2U);
  for (const PlanOptions& target : targets) EXPECT_EQ(target.knobs.at("group-size"), "64");
}

TEST(Knobs, AreGivenToOneFormat) {
  const auto targets = ResolveFor(
      {"gguf", "onnx", "mlx"},
      {{"group-size", "32", "mlx"}, {"group-size", "64", "onnx"}, {"method", "rtn", "onnx"}});
  EXPECT_TRUE(targets[0].knobs.empty());
  EXPECT_EQ(targets[1].knobs.at("group-size"), "64");
  EXPECT_EQ(targets[1].method, "rtn");
  EXPECT_EQ(targets[2].knobs.at("group-size"), "32");
  EXPECT_EQ(targets[2].method, "reference");
}

TEST(Knobs, OfOneFormatWinOverThoseOfAll) {
  const auto targets =
      ResolveFor({"onnx", "mlx"}, {{"group-size", "128", "mlx"}, {"group-size", "64", ""}});
  EXPECT_EQ(targets[0].knobs.at("group-size"), "64");
  EXPECT_EQ(targets[1].knobs.at("group-size"), "128");
}

TEST(Knobs, ThatAFormatLacksAreRefused) {
  const auto refusal = [](std::vector<std::string> formats, std::vector<KnobValue> knobs) {
    return Thrown([&] { ResolveFor(std::move(formats), std::move(knobs)); }).second;
  };
  EXPECT_EQ(
      refusal({"onnx", "gguf"}, {{"max-length", "64", ""}}),
      "--max-length: not an option of gguf; onnx and litert have it (with several formats --OPTION "
      "FORMAT=VALUE gives an option to one of them)");
  EXPECT_EQ(refusal({"gguf"}, {{"group-size", "64", ""}}),
            "--group-size: not an option of gguf; onnx, openvino, mlx, litert and torch have it "
            "(in GGUF --type "
            "decides it)");
  EXPECT_EQ(refusal({"mlx"}, {{"method", "rtn", ""}}),
            "--method rtn: not an option of mlx; onnx has it");
  EXPECT_EQ(refusal({"mlx"}, {{"method", "best", ""}}),
            "--method: 'best' is not one of reference, search, imatrix, feedback, rtn, k_quant");
  EXPECT_EQ(refusal({"mlx"}, {{"no-such", "1", ""}}),
            "--no-such: not an option of mlx; no format has it");
  EXPECT_EQ(refusal({"onnx", "mlx"}, {{"group-size", "64", "gguf"}}),
            "--group-size gguf=...: gguf is none of the formats that are written");
  EXPECT_EQ(refusal({"onnx"}, {{"group-size", "64", ""}, {"group-size", "32", ""}}),
            "--group-size: given more than once");
  EXPECT_EQ(refusal({"onnx"}, {{"sym", "", ""}, {"asym", "", ""}}), "--sym: contradicts --asym");
}

TEST(Knobs, TypesAreGivenToOneFormatEach) {
  const auto targets =
      ResolveFor({"gguf", "mlx", "onnx"}, {{"type", "q6_k", "gguf"}, {"type", "mxfp4", "mlx"}});
  EXPECT_EQ(targets[0].type, "Q6_K");
  EXPECT_EQ(targets[1].type, "mxfp4");
  EXPECT_EQ(targets[2].type, "int4");
  EXPECT_EQ(Thrown([] {
              ResolveFor({"gguf", "mlx"}, {{"type", "F16", ""}});
            }).second,
            "--type: each format has types of its own (use --precision, or --type gguf=NAME)");
}

TEST_F(ProfileFile, IsMissing) {
  EXPECT_EQ(Thrown([&] { LoadProfile(path_); }).first, ErrorCode::kInput);
  EXPECT_EQ(Thrown([] { LoadProfile("none/iot"); }).first, ErrorCode::kInput);
  EXPECT_EQ(Thrown([] { LoadProfile("none.json"); }).first, ErrorCode::kInput);
}

TEST_F(ProfileFile, ReadsWhatIsPrinted) {
  const Profile iot = LoadProfile("iot");
  EXPECT_EQ(ProfileToJson(iot), R"({
  "name": "iot",
  "description": "Arm and x86 boards, llama.cpp",
  "format": "gguf",
  "precision": "int4",
  "allow": [
    "int4",
    "int8"
  ]
})");
  const Profile read = Load(ProfileToJson(iot));
  EXPECT_EQ(read.name, iot.name);
  EXPECT_EQ(read.description, iot.description);
  EXPECT_EQ(read.allowed, iot.allowed);
  EXPECT_EQ(read.type, iot.type);
}

}  // namespace
}  // namespace phiq
