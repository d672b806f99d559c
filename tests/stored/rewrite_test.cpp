// A model over a model: what a checkpoint stores whole is read as if it were split, and the same
// weights come out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "stored/checkpoint_model.h"
#include "stored/stored_model.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

const WarningFn kSilent = [](const Warning&) {};

std::unique_ptr<StoredModel> OpenTiny() {
  return OpenCheckpointModel(LocateCheckpoint(std::string(kTestData) + "/phi35-tiny", kSilent), {},
                             kSilent);
}

// Gate and up as tensors of their own, the second first; all norms twice as large.
class Rewritten final : public StoredModel {
 public:
  explicit Rewritten(std::unique_ptr<StoredModel> source)
      : StoredModel("rewritten"), source_(std::move(source)) {
    for (std::size_t i = 0; i < source_->pieces().size(); ++i) {
      const StoredPiece& piece = source_->pieces()[i];
      if (piece.role != TensorRole::kMlpGateUp) {
        Add(piece, i, 0, piece.n_rows);
        continue;
      }
      Add(piece, i, piece.n_rows / 2, piece.n_rows / 2);
      Add(piece, i, 0, piece.n_rows / 2);
    }
  }

  std::string_view kind() const noexcept override { return "rewritten"; }
  const ModelConfig& config() const noexcept override { return source_->config(); }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return source_->name(); }
  const SideFiles& side_files() const noexcept override { return source_->side_files(); }
  bool HasRawRows(std::size_t piece) const noexcept override {
    return !IsNorm(pieces_[piece].role);
  }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    source_->ReadRawRows(from_[piece], pieces_[piece].first_row + first_row, n_rows, out);
  }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    source_->ReadRows(from_[piece], pieces_[piece].first_row + first_row, n_rows, codec, out);
    if (!IsNorm(pieces_[piece].role)) return;
    for (float& w : out) w *= 2.0F;
  }
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    source_->ReadRotary(n_positions, cosines, sines);
  }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return source_->ReadTokenizer(warn);
  }
  void CheckUnchanged() const override { source_->CheckUnchanged(); }

 private:
  void Add(StoredPiece piece, std::size_t from, std::uint64_t first_row, std::uint64_t n_rows) {
    piece.first_row = first_row;
    piece.n_rows = n_rows;
    pieces_.push_back(std::move(piece));
    from_.push_back(from);
  }

  const std::unique_ptr<StoredModel> source_;
  std::vector<StoredPiece> pieces_;
  std::vector<std::size_t> from_;  // of each piece: that of source_
};

TEST(Rewrite, GivesTheWeightsOfTheModelBelow) {
  const std::unique_ptr<StoredModel> tiny = OpenTiny();
  const WeightIndex plain(*tiny);
  const Rewritten rewritten(OpenTiny());
  const WeightIndex index(rewritten);
  RowCodec codec;
  for (const WeightInfo& weight : WeightsOf(tiny->config())) {
    const WeightId& id = weight.id;
    const WeightShape& shape = weight.shape;
    std::vector<float> wanted(shape.n_rows * shape.row_elements), found(wanted.size());
    plain.ReadRows(id, 0, shape.n_rows, codec, wanted);
    index.ReadRows(id, 0, shape.n_rows, codec, found);
    if (IsNorm(id.role))
      for (float& w : wanted) w *= 2.0F;
    EXPECT_EQ(found, wanted) << weight.name;
    EXPECT_EQ(index.PartsOf(id).size(), id.role == TensorRole::kMlpGateUp ? 2U : 1U);
  }
}

TEST(Rewrite, IsDescribedAsTheModelBelow) {
  const std::unique_ptr<StoredModel> tiny = OpenTiny();
  const Model wanted = ModelOf(*tiny, WeightIndex(*tiny), kSilent);
  const Rewritten rewritten(OpenTiny());
  const Model found = ModelOf(rewritten, WeightIndex(rewritten), kSilent);
  EXPECT_EQ(found.name, "phi35-tiny");
  EXPECT_EQ(found.tokenizer.vocab, wanted.tokenizer.vocab);
  ASSERT_EQ(found.tensors.size(), wanted.tensors.size());
  for (std::size_t i = 0; i < wanted.tensors.size(); ++i) {
    EXPECT_EQ(found.tensors[i].name, wanted.tensors[i].name);
    EXPECT_EQ(found.tensors[i].shape, wanted.tensors[i].shape);
    EXPECT_EQ(found.tensors[i].dtype, DType::kBF16);
  }
  EXPECT_TRUE(rewritten.side_files().ReadFile("config.json", 1 << 20).has_value());
}

TEST(StoredCheckpoint, GivesItsBytesUnchanged) {
  const std::unique_ptr<StoredModel> tiny = OpenTiny();
  const std::size_t down = static_cast<std::size_t>(
      std::ranges::find(tiny->pieces(), TensorRole::kMlpDown, &StoredPiece::role) -
      tiny->pieces().begin());
  const std::size_t n = tiny->pieces()[down].row_elements;
  ASSERT_TRUE(tiny->HasRawRows(down));
  std::vector<std::byte> bytes(3 * n * 2);  // BF16
  tiny->ReadRawRows(down, 5, 3, bytes);
  std::vector<float> floats(3 * n);
  RowCodec codec;
  tiny->ReadRows(down, 5, 3, codec, floats);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    // The upper half of a float.
    const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
    ASSERT_EQ(bits & 0xFFFFU, 0U);
    ASSERT_EQ(bits >> 16,
              static_cast<unsigned>(bytes[2 * i]) | static_cast<unsigned>(bytes[2 * i + 1]) << 8);
  }
}

}  // namespace
}  // namespace phiq
