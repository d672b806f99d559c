// Adapters merged by PEFT itself, row by row.
#include "stored/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "stored/checkpoint_model.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

const std::string kData = kTestData;
const std::string kGolden = kData + "/golden/adapters/";
const WarningFn kSilent = [](const Warning&) {};

std::unique_ptr<StoredModel> OpenTiny(std::vector<std::string> adapters = {}) {
  return OpenCheckpointModel(LocateCheckpoint(kData + "/phi35-tiny", kSilent),
                             {{}, std::move(adapters)}, kSilent);
}

std::vector<float> RowsOf(const StoredModel& model, WeightId id, std::uint64_t first_row,
                          std::uint64_t n_rows) {
  std::vector<float> rows(n_rows * ShapeOf(model.config(), id.role).row_elements);
  RowCodec codec;
  WeightIndex(model).ReadRows(id, first_row, n_rows, codec, rows);
  return rows;
}

struct Merge {
  const char* golden;
  std::vector<std::string> adapters;
  int rank;      // the largest
  double scale;  // the largest
};

void PrintTo(const Merge& merge, std::ostream* out) { *out << merge.golden; }

class MergedByPeft : public testing::TestWithParam<Merge> {};

TEST_P(MergedByPeft, HasTheSameWeights) {
  const Merge& merge = GetParam();
  std::vector<std::string> paths;
  for (const std::string& adapter : merge.adapters) paths.push_back(kGolden + adapter);
  const std::unique_ptr<StoredModel> merged = OpenTiny(paths);
  const Checkpoint golden =
      OpenCheckpoint(LocateCheckpoint(kGolden + merge.golden + ".safetensors", kSilent), kSilent);
  // Numbers of the adapters are below 0.25 (five times their deviation). A sum of r products of
  // such, r roundings of at most 2^-24 of it each whatever their order, its scaling and the last
  // sum: both results are so near to the true one.
  const double largest = merge.rank * 0.25 * 0.25 * merge.scale;
  const double bound = 2 * (merge.rank + 2) * 0x1p-24 * (largest + 1);
  std::size_t n_rows = 0;
  for (const SourceTensor& tensor : golden.tensors()) {
    const std::size_t colon = tensor.name.find(':');
    const std::optional<WeightId> id = FindWeight(tensor.name.substr(0, colon));
    ASSERT_TRUE(id.has_value()) << tensor.name;
    const std::uint64_t first_row = std::stoull(tensor.name.substr(colon + 1));
    std::vector<float> wanted(tensor.n_elements());
    golden.Read(tensor, 0, std::as_writable_bytes(std::span(wanted)));
    const std::vector<float> found = RowsOf(*merged, *id, first_row, tensor.shape[0]);
    ASSERT_EQ(found.size(), wanted.size());
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
      worst = std::max(worst, std::abs(double{found[i]} - double{wanted[i]}));
    EXPECT_LE(worst, bound) << tensor.name;
    // Merging does something that is far beyond rounding.
    const std::vector<float> before = RowsOf(*OpenTiny(), *id, first_row, tensor.shape[0]);
    EXPECT_NE(found, before) << tensor.name;
    n_rows += tensor.shape[0];
  }
  EXPECT_GT(n_rows, 10U);
}

INSTANTIATE_TEST_SUITE_P(
    , MergedByPeft,
    testing::Values(Merge{"plain", {"plain"}, 4, 8.0 / 4},
                    Merge{"patterns", {"patterns"}, 3, 16 / std::sqrt(3.0)},
                    Merge{"split", {"split"}, 3, 6.0 / 3},
                    Merge{"both", {"plain", "patterns"}, 7, 16 / std::sqrt(3.0)}));

TEST(Adapter, LeavesOtherWeightsAsTheyAre) {
  const std::unique_ptr<StoredModel> plain = OpenTiny(), merged = OpenTiny({kGolden + "plain"});
  std::size_t n_changed = 0;
  for (const WeightInfo& weight : WeightsOf(plain->config())) {
    const bool is_changed = RowsOf(*merged, weight.id, 0, weight.shape.n_rows) !=
                            RowsOf(*plain, weight.id, 0, weight.shape.n_rows);
    EXPECT_EQ(is_changed, !IsNorm(weight.id.role) && (weight.id.layer == 0 || weight.id.layer == 3))
        << weight.name;
    n_changed += is_changed ? 1 : 0;
  }
  EXPECT_EQ(n_changed, 8U);
  for (std::size_t i = 0; i < merged->pieces().size(); ++i)
    EXPECT_EQ(merged->HasRawRows(i), merged->pieces()[i].type == "BF16");
}

TEST(Adapter, GivesTheSameRowsWhateverIsReadAtOnce) {
  const std::unique_ptr<StoredModel> merged = OpenTiny({kGolden + "split"});
  const WeightId id = {TensorRole::kAttentionQkv, 2};
  const std::vector<float> whole = RowsOf(*merged, id, 0, 768);
  for (std::uint64_t row = 0; row < 768; row += 100) {
    const std::uint64_t n = std::min<std::uint64_t>(100, 768 - row);
    const std::vector<float> some = RowsOf(*merged, id, row, n);
    EXPECT_TRUE(std::ranges::equal(some, std::span(whole).subspan(row * 256, n * 256))) << row;
  }
  // Only q and v were trained.
  const std::vector<float> before = RowsOf(*OpenTiny(), id, 256, 256);
  EXPECT_TRUE(std::ranges::equal(before, std::span(whole).subspan(256 * 256, 256 * 256)));
}

}  // namespace
}  // namespace phiq
