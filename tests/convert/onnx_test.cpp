// ONNX folders from Convert to Verify, alone and beside a GGUF file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "phiq/convert.h"
#include "phiq/inspect.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using testing::TempFolder;
using Files = std::map<std::string, std::string>;  // name -> content

const fs::path kData = kTestData;

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

Files ReadFolder(const fs::path& folder) {
  Files files;
  for (const auto& entry : fs::directory_iterator(folder))
    files[entry.path().filename().string()] = ReadBytes(entry.path());
  return files;
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

PlanOptions Target(const std::string& format, std::string type) {
  PlanOptions target;
  target.format = format;
  target.type = std::move(type);
  return target;
}
PlanOptions Onnx(std::string type) { return Target("onnx", std::move(type)); }
PlanOptions Gguf(std::string type) { return Target("gguf", std::move(type)); }
PlanOptions Dynamic() {
  PlanOptions target = Onnx("int8");
  target.knobs["activations"] = "dynamic";
  return target;
}

ConvertOptions Options(const fs::path& model, const fs::path& output,
                       std::vector<PlanOptions> targets) {
  ConvertOptions options;
  options.model = model.string();
  options.output = output.string();
  options.targets = std::move(targets);
  options.fsync = false;
  options.threads = 2;
  return options;
}

std::pair<ErrorCode, std::string> Thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::kNo, ""};
}

// --- several targets -------------------------------------------------------------------------

TEST(ConvertSeveral, GivesTheBytesOfSingleRuns) {
  for (const std::string model : {"phi35-tiny", "phi4mini-tiny"}) {
    for (const auto& [gguf, onnx] : {std::pair(Gguf("Q4_0"), Onnx("int4")),
                                     {Gguf("F16"), Onnx("fp32")},
                                     {Gguf("Q8_0"), Dynamic()}}) {
      SCOPED_TRACE(model + " " + onnx.type);
      const TempFolder temp;
      const ConvertReport of_gguf =
          Convert(Options(kData / model, temp.path() / "one.gguf", {gguf}), {});
      const ConvertReport of_onnx =
          Convert(Options(kData / model, temp.path() / "one", {onnx}), {});
      const ConvertReport of_both =
          Convert(Options(kData / model, temp.path() / "both", {gguf, onnx}), {});
      const bool is_dynamic = onnx.knobs.contains("activations");
      const std::string folder = model + "-onnx-" + onnx.type + (is_dynamic ? "-dynamic" : "");
      const std::string file = model + "-" + gguf.type + ".gguf";
      EXPECT_THAT(NamesIn(temp.path() / "both"), ::testing::UnorderedElementsAre(folder, file));
      EXPECT_TRUE(ReadBytes(temp.path() / "both" / file) == ReadBytes(temp.path() / "one.gguf"));
      EXPECT_TRUE(ReadFolder(temp.path() / "both" / folder) == ReadFolder(temp.path() / "one"));
      EXPECT_EQ(of_both.source_bytes, of_gguf.source_bytes);  // each weight is read once
      EXPECT_EQ(of_both.source_bytes, of_onnx.source_bytes);
      ASSERT_EQ(of_both.planned.outputs.size(), 2U);
      // The sums of squares are added in other pieces: 10^4 roundings of 2^-53 at most.
      ASSERT_EQ(of_both.relative_rmse.size(), 2U);
      EXPECT_NEAR(of_both.relative_rmse[0], of_gguf.relative_rmse[0], 1e-12);
      EXPECT_NEAR(of_both.relative_rmse[1], of_onnx.relative_rmse[0], 1e-12);
    }
  }
}

TEST(ConvertSeveral, ReadsEachWeightOnce) {
  const TempFolder temp;
  // 4,491,520 and 3,688,704 weights of two bytes, summed from the headers by a script.
  for (const auto& [model, n_weights] :
       {std::pair("phi35-tiny", 4'491'520U), {"phi4mini-tiny", 3'688'704U}}) {
    const ConvertReport report =
        Convert(Options(kData / model, temp.path() / model,
                        {Onnx("int8"), Gguf("Q8_0"), Onnx("k_quant_last")}),
                {});
    EXPECT_EQ(report.source_bytes, 2U * n_weights);
  }
}

TEST(ConvertSeveral, LeavesNothingWhenOneCannotBeWritten) {
  const TempFolder temp;
  const fs::path out = temp.path() / "out";
  fs::create_directory(out);
  fs::create_directory(out / "phi35-tiny-onnx-int4");
  std::ofstream(out / "phi35-tiny-onnx-int4" / "mine.txt") << "keep";
  ConvertOptions options = Options(kData / "phi35-tiny", out, {Gguf("Q8_0"), Onnx("int4")});
  EXPECT_EQ(Thrown([&] { Convert(options, {}); }).first, ErrorCode::kOutput);
  options.force = true;
  const auto [code, text] = Thrown([&] { Convert(options, {}); });
  EXPECT_EQ(code, ErrorCode::kOutput);
  EXPECT_EQ(text, (out / "phi35-tiny-onnx-int4").string() +
                      ": not replaced: it holds files that do not belong to such an output: "
                      "'mine.txt' (move them "
                      "away, or choose another -o)");
  EXPECT_THAT(NamesIn(out), ElementsAre("phi35-tiny-onnx-int4"));
  EXPECT_THAT(NamesIn(out / "phi35-tiny-onnx-int4"), ElementsAre("mine.txt"));
}

TEST(ConvertSeveral, LeavesNoNewFolderWhenItFails) {
  const TempFolder temp;
  Hooks hooks;
  hooks.stop_requested = [] { return true; };
  const ConvertOptions options =
      Options(kData / "phi35-tiny", temp.path() / "new", {Gguf("Q8_0"), Onnx("int4")});
  EXPECT_EQ(Thrown([&] { Convert(options, hooks); }).first, ErrorCode::kInterrupted);
  EXPECT_THAT(NamesIn(temp.path()), IsEmpty());
}

TEST(ConvertSeveral, RefusesWhatOnlyGgufCanDo) {
  const TempFolder temp;
  const std::vector<PlanOptions> both = {Gguf("F16"), Onnx("fp16")};
  ConvertOptions options = Options(kData / "phi35-tiny", temp.path() / "out", both);
  options.targets[1].knobs["split-max-size"] = "1M";
  EXPECT_EQ(Thrown([&] { Convert(options, {}); }),
            std::pair(ErrorCode::kUsage,
                      std::string("--split-max-size: not an option of onnx; gguf has it")));
  options = Options(kData / "phi35-tiny", temp.path() / "out", both);
  options.overflow = OverflowPolicy::kF32;
  EXPECT_EQ(
      Thrown([&] { Convert(options, {}); }),
      std::pair(
          ErrorCode::kUsage,
          std::string("--overflow f32: ONNX cannot keep one tensor in F32 (--overflow clamp, or "
                      "a precision that computes in float32)")));
  for (const std::vector<PlanOptions>& targets : {both, {Onnx("fp16")}}) {
    options = Options(kData / "phi35-tiny", "-", targets);
    const auto [code, text] = Thrown([&] { Convert(options, {}); });
    EXPECT_EQ(code, ErrorCode::kUsage);
    EXPECT_THAT(text, StartsWith("-o -: only one output that is a file can go to standard output"));
  }
  EXPECT_THAT(NamesIn(temp.path()), IsEmpty());
}

// --- one folder ------------------------------------------------------------------------------

TEST(ConvertOnnx, GivesTheSameBytesForAnyThreadsAndMemory) {
  for (const PlanOptions& target :
       {Onnx("fp32"), Onnx("fp16"), Onnx("int4"), Onnx("k_quant_mixed"), Dynamic()}) {
    SCOPED_TRACE(target.type);
    const TempFolder temp;
    ConvertOptions options = Options(kData / "phi4mini-tiny", temp.path() / "out", {target});
    options.threads = 1;
    Convert(options, {});
    const Files one = ReadFolder(temp.path() / "out");
    options.force = true;
    for (const unsigned threads : {2U, 7U}) {
      options.threads = threads;
      Convert(options, {});
      EXPECT_TRUE(ReadFolder(temp.path() / "out") == one) << threads;
    }
    options.threads = 1;
    options.memory_limit_bytes = 32 << 20;  // the smallest chunks are 16384 weights
    const ConversionPlan plan = PlanOutput(options, {});
    EXPECT_LE(plan.peak_memory_bytes, 32U << 20);
    Convert(options, {});
    EXPECT_TRUE(ReadFolder(temp.path() / "out") == one);
  }
}

TEST(ConvertOnnx, WritesExactlyThePlannedFiles) {
  const TempFolder temp;
  const ConvertOptions options = Options(kData / "phi35-tiny", temp.path() / "out", {Onnx("int8")});
  const OutputPlan plan = PlanOutput(options, {}).outputs.at(0);
  EXPECT_FALSE(fs::exists(temp.path() / "out"));
  Convert(options, {});
  std::uint64_t sum = 0;
  for (const PlannedFile& file : plan.files) {
    EXPECT_EQ(file.size_bytes, fs::file_size(file.path)) << file.path;
    sum += file.size_bytes;
  }
  EXPECT_EQ(plan.output_bytes, sum);
  EXPECT_EQ(plan.files.size(), NamesIn(temp.path() / "out").size());
}

TEST(ConvertOnnx, ReplacesAFolderOfItsOwnOnlyByForce) {
  const TempFolder temp;
  const fs::path out = temp.path() / "out";
  ConvertOptions options = Options(kData / "phi35-tiny", out, {Onnx("int8")});
  Convert(options, {});
  const Files before = ReadFolder(out);
  options.targets = {Onnx("int4")};
  EXPECT_EQ(Thrown([&] { Convert(options, {}); }).first, ErrorCode::kOutput);
  EXPECT_TRUE(ReadFolder(out) == before);
  options.force = true;
  std::ofstream(out / "notes.md") << "mine";
  EXPECT_EQ(
      Thrown([&] { Convert(options, {}); }).second,
      out.string() +
          ": not replaced: it holds files that do not belong to such an output: 'notes.md' (move "
          "them away, or choose another -o)");
  fs::remove(out / "notes.md");
  EXPECT_TRUE(ReadFolder(out) == before);
  Convert(options, {});
  EXPECT_FALSE(ReadFolder(out) == before);
  EXPECT_THAT(NamesIn(temp.path()), ElementsAre("out"));
  // Files of the older model are gone with it.
  options.model = (kData / "phi4mini-tiny").string();
  Convert(options, {});
  EXPECT_FALSE(fs::exists(out / "tokenizer.model"));
  EXPECT_TRUE(fs::exists(out / "vocab.json"));
}

TEST(ConvertOnnx, LeavesNothingWhenStopped) {
  const TempFolder temp;
  Hooks hooks;
  int n_asked = 0;
  hooks.stop_requested = [&] { return ++n_asked > 1; };
  ConvertOptions options = Options(kData / "phi35-tiny", temp.path() / "out", {Onnx("fp32")});
  options.threads = 1;
  options.memory_limit_bytes = 32 << 20;
  const auto [code, text] = Thrown([&] { Convert(options, hooks); });
  if (code != ErrorCode::kNo) {  // a fast machine is done before the second question
    EXPECT_EQ(code, ErrorCode::kInterrupted);
    EXPECT_THAT(NamesIn(temp.path()), IsEmpty());
  }
  hooks.stop_requested = [] { return true; };
  options.force = true;
  options.output = (temp.path() / "other").string();
  EXPECT_EQ(Thrown([&] { Convert(options, hooks); }).first, ErrorCode::kInterrupted);
  EXPECT_FALSE(fs::exists(temp.path() / "other"));
}

TEST(ConvertOnnx, NeverWritesIntoTheInput) {
  const TempFolder temp;
  fs::copy(kData / "phi35-tiny", temp.path() / "model");
  fs::create_directory_symlink(temp.path() / "model", temp.path() / "link");
  const std::vector<std::string> before = NamesIn(temp.path() / "model");
  for (const char* name : {"model", "link", "model/", "./model"}) {
    ConvertOptions options = Options(temp.path() / "model", temp.path() / name, {Onnx("int4")});
    options.force = true;
    const auto [code, text] = Thrown([&] { Convert(options, {}); });
    EXPECT_EQ(code, ErrorCode::kUsage) << name;
    EXPECT_THAT(text, ::testing::HasSubstr("the output is the same folder as the input")) << name;
  }
  EXPECT_EQ(NamesIn(temp.path() / "model"), before);
}

// --- NaN and overflow ------------------------------------------------------------------------

constexpr const char* kDown = "model.layers.0.mlp.down_proj.weight";

// phi35-tiny with one bf16 weight of a layer's down_proj replaced.
void CopyWithWeight(const fs::path& folder, std::size_t index, std::uint16_t bits) {
  fs::create_directory(folder);
  for (const auto& entry : fs::directory_iterator(kData / "phi35-tiny"))
    if (entry.is_regular_file()) fs::copy_file(entry.path(), folder / entry.path().filename());
  const fs::path path = folder / "model.safetensors";
  std::string bytes = ReadBytes(path);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  const std::size_t at =
      8 + header_bytes + header[kDown]["data_offsets"][0].get<std::size_t>() + 2 * index;
  std::memcpy(bytes.data() + at, &bits, 2);
  fs::permissions(path, fs::perms::owner_all);
  std::ofstream(path, std::ios::binary) << bytes;
}

::onnx::ModelProto Proto(const fs::path& folder) {
  ::onnx::ModelProto proto;
  if (!proto.ParseFromString(ReadBytes(folder / "model.onnx")))
    throw std::runtime_error("no model");
  return proto;
}

struct Place {
  std::size_t offset = 0, length = 0;
};
Place PlaceOf(const ::onnx::ModelProto& proto, std::string_view name) {
  for (const auto& tensor : proto.graph().initializer()) {
    if (tensor.name() != name) continue;
    return {std::stoull(tensor.external_data(1).value()),
            std::stoull(tensor.external_data(2).value())};
  }
  throw std::out_of_range(std::string(name));
}
std::string BytesOf(const fs::path& folder, std::string_view name) {
  const Place place = PlaceOf(Proto(folder), name);
  return ReadBytes(folder / "model.onnx.data").substr(place.offset, place.length);
}

// down_proj of phi35-tiny is [256, 768]; as a MatMul's weight [768, 256].
constexpr std::size_t kRow = 3, kColumn = 700, kIndex = kRow * 768 + kColumn;
constexpr std::size_t kStored = kColumn * 256 + kRow;

TEST(ConvertOnnx, StopsAtHalfOverflowOrClamps) {
  const TempFolder temp;
  CopyWithWeight(temp.path() / "model", kIndex, 0xC789);  // -70144
  ConvertOptions options = Options(temp.path() / "model", temp.path() / "out", {Onnx("fp16")});
  EXPECT_EQ(
      Thrown([&] { Convert(options, {}); }),
      std::pair(ErrorCode::kNumeric,
                (temp.path() / "model" / "model.safetensors").string() + ": tensor '" + kDown +
                    "': weight 3004 is -70144, beyond the largest F16 value 65504 (--overflow "
                    "clamp, or a type that computes in float32)"));
  EXPECT_THAT(NamesIn(temp.path()), ElementsAre("model"));

  std::vector<std::string> warnings;
  Hooks hooks;
  hooks.warn = [&](const Warning& warning) { warnings.push_back(warning.text); };
  options.overflow = OverflowPolicy::kClamp;
  const ConvertReport report = Convert(options, hooks);
  EXPECT_EQ(report.n_clamped, 1U);
  EXPECT_THAT(warnings, ElementsAre("--overflow clamp: 1 weights became +-65504"));
  const std::string bytes =
      BytesOf(temp.path() / "out", "model.layers.0.mlp.down_proj.MatMul.weight");
  EXPECT_EQ(bytes.substr(2 * kStored, 2), "\xFF\xFB");  // 0xFBFF: -65504
  const std::string source = (temp.path() / "model").string();
  EXPECT_THAT(Verify({(temp.path() / "out").string(), source, {}, 0}, {}).problems, IsEmpty());

  // Other floats have no such limit.
  options = Options(temp.path() / "model", temp.path() / "wide", {Onnx("fp32")});
  EXPECT_EQ(Convert(options, {}).n_clamped, 0U);
  const std::string wide =
      BytesOf(temp.path() / "wide", "model.layers.0.mlp.down_proj.MatMul.weight");
  float stored = 0;
  std::memcpy(&stored, wide.data() + 4 * kStored, 4);
  EXPECT_EQ(stored, -70144.0F);
}

// --overflow f32 is no way out when one of the formats lacks it.
TEST(ConvertSeveral, HintsAtWhatAllTargetsCanDo) {
  const TempFolder temp;
  CopyWithWeight(temp.path() / "model", kIndex, 0xC789);
  const auto hint = [&](std::vector<PlanOptions> targets) {
    const std::string text =
        Thrown([&] {
          Convert(Options(temp.path() / "model", temp.path() / "out", std::move(targets)), {});
        }).second;
    return text.substr(std::min(text.size(), text.find(" (--overflow")));
  };
  EXPECT_EQ(hint({Gguf("F16"), Onnx("fp16")}),
            " (--overflow clamp, or a type that computes in float32)");
  EXPECT_EQ(hint({Gguf("F16")}),
            " (--overflow clamp or --overflow f32, or another type such as BF16)");
}

TEST(ConvertOnnx, StopsAtNanOrMakesItZero) {
  const TempFolder temp;
  CopyWithWeight(temp.path() / "model", kIndex, 0x7FC0);
  for (const PlanOptions& target :
       {Onnx("fp32"), Onnx("fp16"), Onnx("int8"), Onnx("k_quant_mixed"), Dynamic()}) {
    SCOPED_TRACE(target.type);
    ConvertOptions options = Options(temp.path() / "model", temp.path() / "out", {target});
    const auto [code, text] = Thrown([&] { Convert(options, {}); });
    EXPECT_EQ(code, ErrorCode::kNumeric);
    EXPECT_THAT(text, ::testing::HasSubstr("index 3004 (row 3, column 700)"));
    EXPECT_THAT(NamesIn(temp.path()), ElementsAre("model"));

    options.nan = NanPolicy::kZero;
    options.output = (temp.path() / "model-out").string();
    options.force = true;
    EXPECT_EQ(Convert(options, {}).n_nan_zeroed, 1U);
    EXPECT_THAT(Verify({options.output, options.model, {}, 0}, {}).problems, IsEmpty());
    if (target.type == "fp32") {
      EXPECT_EQ(BytesOf(options.output, "model.layers.0.mlp.down_proj.MatMul.weight")
                    .substr(4 * kStored, 4),
                std::string(4, '\0'));
    }
    fs::remove_all(options.output);
  }
}

// --- verify ----------------------------------------------------------------------------------

std::vector<std::string> Problems(const fs::path& folder, const std::string& model) {
  return Verify({folder.string(), (kData / model).string(), {}, 2}, {}).problems;
}

// Providers, an old runtime, other encodings and rules.
std::vector<PlanOptions> Variants() {
  std::vector<PlanOptions> targets;
  for (const char* ep : {"cuda", "dml", "webgpu"}) {
    targets.push_back(Onnx("int4"));
    targets.back().knobs["ep"] = ep;
  }
  targets.push_back(Onnx("int4"));
  targets.back().knobs["min-onnxruntime"] = "1.20";
  targets.push_back(Onnx("int4"));
  targets.back().knobs["asym"] = "";
  targets.back().knobs["group-size"] = "16";
  targets.back().knobs["accuracy-level"] = "1";
  targets.back().knobs["max-length"] = "77";
  targets.push_back(Onnx("int8"));
  targets.back().tensor_rules = {{"embed", "int4"}, {"layers.2", "float"}};
  return targets;
}

TEST(VerifyOnnx, AcceptsWhatConvertWrote) {
  for (const std::string model : {"phi35-tiny", "phi4mini-tiny"}) {
    std::vector<PlanOptions> targets = {Dynamic()};
    for (const TypeName& type : TypeNames("onnx")) targets.push_back(Onnx(std::string(type.name)));
    // Sanitizers make this slow: what follows is tried on the tied model, which has more forms.
    const bool is_tied = model == "phi4mini-tiny";
    for (const PlanOptions& target : is_tied ? Variants() : std::vector<PlanOptions>())
      targets.push_back(target);
    for (const PlanOptions& target : targets) {
      SCOPED_TRACE(model + " " + target.type);
      const TempFolder temp;
      Convert(Options(kData / model, temp.path() / "out", {target}), {});
      EXPECT_THAT(Problems(temp.path() / "out", model), IsEmpty());
    }
  }
}

// A folder to be broken in one way.
class BrokenFolder : public ::testing::Test {
 protected:
  void Make(const PlanOptions& target, const std::string& model = "phi35-tiny") {
    model_ = model;
    ConvertOptions options = Options(kData / model, out(), {target});
    options.force = true;
    Convert(options, {});
    // What is found is found by comparing with the checkpoint.
    fs::remove(out() / "phiq.json");
  }
  fs::path out() const { return temp_.path() / "out"; }
  std::vector<std::string> Found() const { return Problems(out(), model_); }
  void Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(out() / name, std::ios::binary) << bytes;
  }
  void EditJson(const std::string& name, const std::function<void(nlohmann::json&)>& edit) const {
    nlohmann::json json = nlohmann::json::parse(ReadBytes(out() / name));
    edit(json);
    Write(name, json.dump(4));
  }
  void EditModel(const std::function<void(::onnx::ModelProto&)>& edit) const {
    ::onnx::ModelProto proto = Proto(out());
    edit(proto);
    Write("model.onnx", proto.SerializeAsString());
  }
  void EditGraph(const std::function<void(::onnx::GraphProto&)>& edit) const {
    EditModel([&](::onnx::ModelProto& proto) { edit(*proto.mutable_graph()); });
  }
  void EditData(const std::function<void(std::string&)>& edit) const {
    std::string data = ReadBytes(out() / "model.onnx.data");
    edit(data);
    Write("model.onnx.data", data);
  }

 private:
  TempFolder temp_;
  std::string model_;
};

constexpr const char* kUp = "model.layers.2.mlp.up_proj.MatMul.weight";

// Codes and zero points of asymmetric weights are left out: their bound is the largest weight of
// the block, which one of them alone need not pass.
TEST_F(BrokenFolder, NamesTheWeightWithAChangedByte) {
  struct Change {
    PlanOptions target;
    std::string array;
    unsigned char flip;
    std::size_t byte;
  };
  const std::string up = kUp;
  for (const auto& [target, array, flip, byte] : {Change{Onnx("fp32"), up, 0x40, 4003},
                                                  {Onnx("fp16"), up, 0x40, 2001},
                                                  {Onnx("int8"), up + "_Q8", 0x80, 500},
                                                  {Onnx("int4"), up + "_Q4", 0x80, 500},
                                                  {Onnx("int4"), up + "_scales", 0x01, 403},
                                                  {Onnx("k_quant_last"), up + "_scale", 0x01, 403},
                                                  {Dynamic(), up + "_quantized", 0x80, 500},
                                                  {Dynamic(), up + "_scale", 0x01, 403}}) {
    SCOPED_TRACE(target.type + " " + array);
    Make(target);
    const Place place = PlaceOf(Proto(out()), array);
    EditData([&](std::string& data) { data[place.offset + byte] ^= static_cast<char>(flip); });
    const std::vector<std::string> found = Found();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_TRUE(found[0].starts_with("tensor '" + up + "': ")) << found[0];
  }
}

TEST_F(BrokenFolder, NamesBothWeightsWhoseScalesAreExchanged) {
  Make(Onnx("int4"));
  const std::string gate = "model.layers.2.mlp.gate_proj.MatMul.weight";
  const Place a = PlaceOf(Proto(out()), gate + "_scales"),
              b = PlaceOf(Proto(out()), std::string(kUp) + "_scales");
  ASSERT_EQ(a.length, b.length);
  EditData([&](std::string& data) {
    std::swap_ranges(data.begin() + static_cast<std::ptrdiff_t>(a.offset),
                     data.begin() + static_cast<std::ptrdiff_t>(a.offset + a.length),
                     data.begin() + static_cast<std::ptrdiff_t>(b.offset));
  });
  const std::vector<std::string> found = Found();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_TRUE(found[0].starts_with("tensor '" + gate + "'"));
  EXPECT_TRUE(found[1].starts_with("tensor '" + std::string(kUp) + "'"));
}

// Gate and up have one shape: reading one as the other breaks no rule of the format.
TEST_F(BrokenFolder, NamesNodesThatReadEachOthersWeights) {
  Make(Onnx("fp16"));
  EditGraph([](::onnx::GraphProto& graph) {
    ::onnx::NodeProto *gate = nullptr, *up = nullptr;
    for (::onnx::NodeProto& node : *graph.mutable_node()) {
      if (node.name() == "/model/layers.2/mlp/gate_proj/MatMul") gate = &node;
      if (node.name() == "/model/layers.2/mlp/up_proj/MatMul") up = &node;
    }
    std::swap(*gate->mutable_input(1), *up->mutable_input(1));
  });
  const std::vector<std::string> found = Found();
  EXPECT_THAT(found,
              ::testing::Contains("node '/model/layers.2/mlp/gate_proj/MatMul' differs from what "
                                  "the source gives"));
}

void EditAttribute(::onnx::GraphProto& graph, std::string_view node_name, std::string_view name,
                   const std::function<void(::onnx::AttributeProto&)>& edit) {
  for (::onnx::NodeProto& node : *graph.mutable_node()) {
    if (node.name() != node_name) continue;
    for (::onnx::AttributeProto& attribute : *node.mutable_attribute())
      if (attribute.name() == name) return edit(attribute);
  }
  throw std::out_of_range(std::string(node_name));
}

TEST_F(BrokenFolder, NamesANodeWithAChangedAttribute) {
  const std::string norm = "/model/layers.1/input_layernorm/SkipLayerNorm";
  Make(Onnx("int4"));
  EditGraph([&](::onnx::GraphProto& graph) {
    EditAttribute(graph, norm, "epsilon", [](auto& attribute) { attribute.set_f(1e-6F); });
  });
  EXPECT_THAT(Found(), ElementsAre("node '" + norm + "' differs from what the source gives"));
  const std::string attention = "/model/layers.3/attn/GroupQueryAttention";
  Make(Onnx("int8"));
  EditGraph([&](::onnx::GraphProto& graph) {
    EditAttribute(graph, attention, "num_heads", [](auto& attribute) { attribute.set_i(8); });
  });
  EXPECT_THAT(Found(), ElementsAre("node '" + attention + "' differs from what the source gives"));
  // The limit at which the tables change.
  Make(Onnx("fp32"), "phi4mini-tiny");
  EditGraph([](::onnx::GraphProto& graph) {
    EditAttribute(graph, "/model/constant_nodes/INT64/512", "value", [](auto& attribute) {
      std::string raw(8, '\0');
      raw[1] = 4;
      attribute.mutable_t()->set_raw_data(raw);
    });
  });
  EXPECT_THAT(
      Found(),
      ElementsAre("node '/model/constant_nodes/INT64/512' differs from what the source gives"));
}

TEST_F(BrokenFolder, NamesAMissingNode) {
  Make(Onnx("int4"));
  EditGraph([](::onnx::GraphProto& graph) {
    auto* nodes = graph.mutable_node();
    for (int i = 0; i < nodes->size(); ++i) {
      if (nodes->Get(i).name() != "/model/layers.0/mlp/act_fn/Mul") continue;
      nodes->DeleteSubrange(i, 1);
      return;
    }
  });
  EXPECT_THAT(Found(), ::testing::Contains("node '/model/layers.0/mlp/act_fn/Mul' is missing"));
}

TEST_F(BrokenFolder, NamesWhatStandsAroundTheGraph) {
  Make(Onnx("int4"));
  EditModel([](::onnx::ModelProto& model) {
    model.set_ir_version(14);
    model.mutable_opset_import(0)->set_version(26);
    model.add_functions()->set_name("MatMulNBits");
    ::onnx::TensorProto& extra = *model.mutable_graph()->add_initializer();
    extra.set_name("extra");
    extra.set_data_type(1);
    extra.add_dims(1);
    extra.set_raw_data(std::string(4, '\0'));
  });
  const std::vector<std::string> found = Found();
  EXPECT_THAT(found, ::testing::Contains("ir_version is 14, wanted 10"));
  EXPECT_THAT(found, ::testing::Contains("the operator sets are not those that phiq writes"));
  EXPECT_THAT(found, ::testing::Contains("1 local functions, wanted none"));
  EXPECT_THAT(found, ::testing::Contains("57 initializers, wanted 56"));
}

TEST_F(BrokenFolder, NamesATokenizerFileThatTheSourceLacks) {
  Make(Onnx("int4"));
  Write("chat_template.jinja", "{{ other }}");
  EXPECT_THAT(Found(), ::testing::Contains("chat_template.jinja has no counterpart in the source"));
}

TEST_F(BrokenFolder, NamesNodesOutputsAndInputsThatAreTooMany) {
  Make(Onnx("int4"));
  EditGraph([](::onnx::GraphProto& graph) {
    ::onnx::NodeProto& node = *graph.add_node();
    node.set_name("/extra");
    node.set_op_type("Identity");
    node.add_input("logits");
    node.add_output("more");
    graph.add_output()->set_name("more");
    graph.mutable_input(2)->mutable_type()->mutable_tensor_type()->set_elem_type(10);
  });
  const std::vector<std::string> found = Found();
  EXPECT_THAT(found, ::testing::Contains("node '/extra' has no counterpart in the source"));
  EXPECT_THAT(found, ::testing::Contains("graph output 'more' has no counterpart in the source"));
  EXPECT_THAT(
      found, ::testing::Contains("graph input 'past_key_values.0.key' differs from what the source "
                                 "gives"));
}

TEST_F(BrokenFolder, NamesAChangedTable) {
  Make(Onnx("fp32"));
  const Place place = PlaceOf(Proto(out()), "model.rope.sin_cache_large");
  EditData([&](std::string& data) { data[place.offset + 4 * 32 * 1000 + 3] ^= 0x40; });
  const std::vector<std::string> found = Found();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_THAT(found[0], ::testing::HasSubstr("model.rope.sin_cache_large"));
}

TEST_F(BrokenFolder, NamesAChangedTokenizerFile) {
  Make(Onnx("int4"));
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json"}) {
    const std::string before = ReadBytes(out() / name);
    Write(name, before + "\n");
    EXPECT_THAT(Found(), ElementsAre(std::string(name) + " differs from what the source gives"));
    fs::remove(out() / name);
    EXPECT_THAT(Found(), ElementsAre(std::string(name) + " is missing"));
    Write(name, before);
  }
  EXPECT_THAT(Found(), IsEmpty());
}

TEST_F(BrokenFolder, NamesAChangedEndList) {
  Make(Onnx("int4"));
  EditJson("genai_config.json", [](nlohmann::json& json) {
    json["model"]["eos_token_id"] = {2049, 2048};
  });
  EXPECT_THAT(
      Found(),
      ElementsAre("genai_config.json: model.eos_token_id differs from what the source gives"));
  EditJson("genai_config.json", [](nlohmann::json& json) { json["model"].erase("eos_token_id"); });
  EXPECT_THAT(
      Found(),
      ElementsAre("genai_config.json: model.eos_token_id differs from what the source gives"));
}

TEST_F(BrokenFolder, NamesAChangedDecoder) {
  Make(Onnx("int4"));
  EditJson("genai_config.json",
           [](nlohmann::json& json) { json["model"]["decoder"]["head_size"] = 32; });
  EXPECT_THAT(Found(),
              ElementsAre("genai_config.json: model.decoder differs from what the source gives"));
}

// Keys that the runtime would act upon, or refuse.
TEST_F(BrokenFolder, NamesAnAddedKeyOfTheModel) {
  Make(Onnx("int4"));
  EditJson("genai_config.json",
           [](nlohmann::json& json) { json["model"]["tokenizer_dir"] = "elsewhere"; });
  EXPECT_THAT(
      Found(),
      ElementsAre("genai_config.json: model.tokenizer_dir has no counterpart in the source"));
}

TEST_F(BrokenFolder, MayBeTuned) {
  Make(Onnx("int4"));
  EditJson("genai_config.json", [](nlohmann::json& json) {
    json["search"]["max_length"] = 131072;
    json["search"]["temperature"] = 0.5;
    json["search"]["random_seed"] = 7;
    json["model"]["decoder"]["session_options"]["intra_op_num_threads"] = 3;
  });
  EXPECT_THAT(Found(), IsEmpty());
}

TEST_F(BrokenFolder, IsNotVerifiedAgainstAnotherModel) {
  Make(Onnx("int4"));
  EXPECT_FALSE(Problems(out(), "phi4mini-tiny").empty());
  Make(Dynamic(), "phi4mini-tiny");
  EXPECT_FALSE(Problems(out(), "phi35-tiny").empty());
}

}  // namespace
}  // namespace phiq
