// The plans and weights of OpenVINO folders against what NNCF made of the tiny checkpoints
// (tools/goldens_openvino.py): which matrix gets which type, and every stored byte.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "convert/open_model.h"
#include "convert/rows.h"
#include "convert/score.h"
#include "kernels/bits.h"
#include "phiq/encoding.h"
#include "phiq/plan.h"
#include "phiq/text.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Bytes = std::vector<std::byte>;

const fs::path kData = kTestData;

Json ReadJson(const fs::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path.string());
  return Json::parse(in);
}

class OpenVinoGolden : public testing::TestWithParam<const char*> {
 protected:
  Plan PlanFor(const PlanOptions& options, unsigned threads = 2) const {
    const std::vector<Question> ranked = QuestionsOf(source_.model, options);
    const Measured scores = Answer(source_, ranked, {}, threads, {});
    return *PlanTarget(source_.model, options, nullptr, scores.answers);
  }

  SourceModel source_ = OpenSourceModel(LocateCheckpoint((kData / GetParam()).string(), nullptr),
                                        {}, [](const Warning&) {});
};

PlanOptions Options(std::string type) {
  PlanOptions options;
  options.format = "openvino";
  options.type = std::move(type);
  return options;
}

// The type of a golden constant, its shape and its digest, as an array of the line has them.
struct Constant {
  std::string type;
  std::vector<std::uint64_t> shape;
  std::string sha256;

  bool operator==(const Constant&) const = default;
};
void PrintTo(const Constant& constant, std::ostream* out) {
  *out << constant.type << " " << Json(constant.shape) << " " << constant.sha256;
}

// 4-bit codes of rows that end in a byte of their own, as one run.
Bytes Flat(const Bytes& rows, std::size_t n_rows, std::size_t row_items) {
  std::vector<std::uint8_t> codes(n_rows * row_items);
  const std::size_t row_bytes = (row_items + 1) / 2;
  for (std::size_t r = 0; r < n_rows; ++r)
    UnpackBits(4, std::span(rows).subspan(r * row_bytes, row_bytes),
               std::span(codes).subspan(r * row_items, row_items));
  Bytes flat((codes.size() + 1) / 2);
  PackBits(4, codes, flat);
  return flat;
}

std::string Digest(const Bytes& bytes) {
  return Sha256Hex({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

// The constants that a line becomes, by name.
std::map<std::string, Constant> ConstantsOf(const SourceModel& source, const PlanLine& line) {
  const GroupEncoding& groups = std::get<GroupEncoding>(line.encoding);
  const int bits = BitsOf(groups.code);
  const std::size_t n = line.row_elements();
  const std::size_t n_rows = line.n_rows();
  const std::size_t n_groups = GroupCount(groups, n);
  LineReader reader(source);
  const std::span<const float> weights = reader.Read(line, {0, 0, n_rows});
  std::vector<Bytes> arrays;
  for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a)
    arrays.emplace_back(n_rows * ArrayRowBytes(line.encoding, a, n));
  line.method->quantize(line.encoding, weights, n, {},
                        std::vector<std::span<std::byte>>(arrays.begin(), arrays.end()));
  std::vector<std::uint64_t> shape = {n_rows, n};
  std::vector<std::uint64_t> group_shape = {n_rows, 1};
  if (groups.group_size != 0) {
    shape = {n_rows, n_groups, groups.group_size};
    group_shape = {n_rows, n_groups, 1};
  }
  const std::string type = fmt::format("{}{}", IsSigned(groups.code) ? "i" : "u", bits);
  std::map<std::string, Constant> constants;
  constants[line.name] = {type, shape, Digest(arrays[0])};
  constants[line.name + "/scale"] = {"f16", group_shape, Digest(arrays[1])};
  std::uint64_t size_bytes = arrays[0].size() + arrays[1].size();
  if (arrays.size() == 3) {
    if (bits == 4) arrays[2] = Flat(arrays[2], n_rows, n_groups);
    constants[line.name + "/zero_point"] = {type, group_shape, Digest(arrays[2])};
    size_bytes += arrays[2].size();
  }
  EXPECT_EQ(line.size_bytes, size_bytes) << line.name;
  return constants;
}

TEST_P(OpenVinoGolden, HasEveryByteOfNncf) {
  const Json builds =
      ReadJson(kData / "golden/openvino/weights" / (std::string(GetParam()) + ".json"));
  ASSERT_EQ(builds.size(), 13U);
  for (const auto& [name, build] : builds.items()) {
    SCOPED_TRACE(name);
    PlanOptions options = Options(build["mode"]);
    const bool is_int4 = options.type.starts_with("int4");
    if (is_int4) {
      options.knobs["ratio"] = fmt::format("{}", build["ratio"].get<double>());
      const int group_size = build["group_size"];
      options.knobs["group-size"] = group_size < 0 ? "row" : fmt::format("{}", group_size);
    }
    std::map<std::string, Constant> expected;
    for (const auto& [constant, facts] : build["constants"].items())
      expected[constant] = {facts["type"], facts["shape"], facts["sha256"]};
    std::map<std::string, Constant> found;
    const Plan plan = PlanFor(options);
    for (const PlanLine& line : plan.lines) {
      if (IsNorm(line.role)) continue;
      found.merge(ConstantsOf(source_, line));
    }
    EXPECT_EQ(found, expected);
  }
}

TEST_P(OpenVinoGolden, GivesFourBitsToTheMatricesOfNncf) {
  const Json ratios =
      ReadJson(kData / "golden/openvino/ratios" / (std::string(GetParam()) + ".json"));
  ASSERT_EQ(ratios.size(), 15U);
  for (const auto& [ratio, names] : ratios.items()) {
    PlanOptions options = Options("INT4_SYM");
    options.knobs["ratio"] = fmt::format("{}", std::stod(ratio));
    std::set<std::string> found;
    for (const PlanLine& line : PlanFor(options).lines) {
      if (EncodingName(line.encoding) == "int4 g128") found.insert(line.name);
    }
    EXPECT_EQ(found, names.get<std::set<std::string>>()) << "ratio " << ratio;
  }
}

TEST_P(OpenVinoGolden, ScoresAlikeWithAnyNumberOfThreads) {
  const std::vector<Question> ranked = QuestionsOf(source_.model, Options("INT4_SYM"));
  ASSERT_EQ(ranked.size(), 16U);
  const Measured once = Answer(source_, ranked, {}, 1, {});
  EXPECT_THAT(once.answers, testing::Each(testing::Gt(0.0F)));
  for (const unsigned threads : {2U, 7U}) {
    ConvertOptions options;
    options.memory_limit_bytes = threads << 20;
    EXPECT_EQ(Answer(source_, ranked, options, threads, {}).answers, once.answers);
  }
  // Two bytes a weight.
  std::uint64_t n_weights = 0;
  for (const Question& question : ranked)
    n_weights += source_.model.tensors[question.tensor].n_elements();
  EXPECT_EQ(once.bytes_read, 2 * n_weights);
}

TEST_P(OpenVinoGolden, StopsScoringWhenAsked) {
  const std::vector<Question> ranked = QuestionsOf(source_.model, Options("INT4_ASYM"));
  Hooks hooks;
  hooks.stop_requested = [] { return true; };
  try {
    Answer(source_, ranked, {}, 1, hooks);
    ADD_FAILURE() << "did not stop";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
}

INSTANTIATE_TEST_SUITE_P(, OpenVinoGolden, testing::Values("phi35-tiny", "phi4mini-tiny"),
                         [](const auto& model) {
                           return std::string(model.param) == "phi35-tiny" ? "Phi35" : "Phi4Mini";
                         });

}  // namespace
}  // namespace phiq
