// Rows of a weight across the pieces that hold it.
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "formats/small_model.h"
#include "stored/stored_model.h"

namespace phiq {
namespace {

// A model of invented pieces: element c of row r of piece p is 100 p + 10 r + c.
class FakeModel : public StoredModel {
 public:
  // One layer, hidden 4, two heads of 2 with one for keys, intermediate 3, vocabulary 2.
  FakeModel() : StoredModel("fake.model") {
    config_.vocab_size = 2;
    config_.hidden_size = 4;
    config_.intermediate_size = 3;
    config_.n_layers = 1;
    config_.n_heads = 2;
    config_.n_kv_heads = 1;
    config_.head_dim = 2;
    config_.tie_word_embeddings = true;
    using enum TensorRole;
    config_.architecture = "Phi3ForCausalLM";
    Add("embed", kTokenEmbedding, -1, 0, 2, 4);
    Add("norm 1", kAttentionNorm, 0, 0, 1, 4);
    Add("k", kAttentionQkv, 0, 4, 2, 4);  // out of order
    Add("q", kAttentionQkv, 0, 0, 4, 4);
    Add("v", kAttentionQkv, 0, 6, 2, 4);
    Add("o", kAttentionOutput, 0, 0, 4, 4);
    Add("norm 2", kMlpNorm, 0, 0, 1, 4);
    Add("gate up", kMlpGateUp, 0, 0, 6, 4);
    Add("down", kMlpDown, 0, 0, 4, 3);
    Add("norm", kOutputNorm, -1, 0, 1, 4);
  }

  void Add(std::string name, TensorRole role, std::int32_t layer, std::uint64_t first_row,
           std::uint64_t n_rows, std::uint64_t row_elements) {
    StoredPiece piece;
    piece.name = std::move(name);
    piece.role = role;
    piece.layer = layer;
    piece.first_row = first_row;
    piece.n_rows = n_rows;
    piece.row_elements = row_elements;
    piece.type = "F32";
    piece.encoding = GgmlType::kF32;
    pieces_.push_back(std::move(piece));
  }
  StoredPiece& operator[](std::size_t i) { return pieces_[i]; }
  void Remove(std::size_t i) { pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(i)); }
  void SetConfig(const ModelConfig& config) { config_ = config; }
  void PlaceNan(std::size_t piece, std::size_t row) { nan_ = {piece, row}; }

  std::string_view kind() const noexcept override { return "fake"; }
  const ModelConfig& config() const noexcept override { return config_; }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec&,
                std::span<float> out) const override {
    const std::size_t n = pieces_[piece].row_elements;
    ASSERT_EQ(out.size(), n_rows * n);
    ASSERT_LE(first_row + n_rows, pieces_[piece].n_rows);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::size_t row = first_row + i / n;
      out[i] = static_cast<float>(100 * piece + 10 * row + i % n);
      if (std::pair(piece, row) == nan_ && i % n == 1)
        out[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  void ReadRotary(std::uint64_t, std::span<float>, std::span<float>) const override {}
  Tokenizer ReadTokenizer(const WarningFn&) const override { return {}; }
  void CheckUnchanged() const override {}

 private:
  ModelConfig config_;
  std::vector<StoredPiece> pieces_;
  std::pair<std::size_t, std::size_t> nan_ = {SIZE_MAX, 0};
};

std::pair<ErrorCode, std::string> OpenError(const FakeModel& model) {
  return testing::Thrown([&] { const WeightIndex index(model); });
}

using Refusal = std::pair<ErrorCode, std::string>;

TEST(WeightIndex, ReadsAcrossPieces) {
  const FakeModel model;
  const WeightIndex index(model);
  RowCodec codec;
  std::vector<float> rows(4 * 4);  // rows 3 to 6 of qkv: the last of q, k, the first of v
  index.ReadRows({TensorRole::kAttentionQkv, 0}, 3, 4, codec, rows);
  EXPECT_EQ(rows, (std::vector<float>{330, 331, 332, 333, 200, 201, 202, 203,  //
                                      210, 211, 212, 213, 400, 401, 402, 403}));
}

TEST(WeightIndex, OrdersThePiecesOfAWeight) {
  const FakeModel model;
  const WeightIndex index(model);
  const auto parts = index.PartsOf({TensorRole::kAttentionQkv, 0});
  ASSERT_EQ(parts.size(), 3U);
  EXPECT_EQ(parts[0].piece, 3U);
  EXPECT_EQ(parts[1].piece, 2U);
  EXPECT_EQ(parts[1].first_row, 4U);
  EXPECT_EQ(parts[2].n_rows, 2U);
}

TEST(WeightIndex, GivesATiedModelItsEmbeddingAsHead) {
  const FakeModel model;
  const WeightIndex index(model);
  RowCodec codec;
  std::vector<float> row(4);
  index.ReadRows({TensorRole::kOutputHead}, 1, 1, codec, row);
  EXPECT_EQ(row, (std::vector<float>{10, 11, 12, 13}));
}

TEST(WeightIndex, RefusesAMissingWeight) {
  FakeModel model;
  model.Remove(5);
  EXPECT_EQ(OpenError(model),
            Refusal(ErrorCode::kBadData,
                    "fake.model: model.layers.0.self_attn.o_proj.weight is missing"));
}

TEST(WeightIndex, RefusesAMissingHeadOfAnUntiedModel) {
  FakeModel model;
  ModelConfig config = model.config();
  config.tie_word_embeddings = false;
  model.SetConfig(config);
  EXPECT_EQ(OpenError(model),
            Refusal(ErrorCode::kBadData, "fake.model: lm_head.weight is missing"));
}

TEST(WeightIndex, RefusesAMissingPart) {
  FakeModel model;
  model.Remove(2);  // k
  EXPECT_EQ(OpenError(model), Refusal(ErrorCode::kBadData,
                                      "fake.model: model.layers.0.self_attn.qkv_proj.weight is "
                                      "missing from row 4 of 8 on"));
}

TEST(WeightIndex, RefusesRowsThatAreStoredTwice) {
  FakeModel model;
  model.Add("second", TensorRole::kMlpDown, 0, 2, 2, 3);
  EXPECT_EQ(OpenError(model), Refusal(ErrorCode::kBadData,
                                      "fake.model: tensor 'second': row 2 of "
                                      "model.layers.0.mlp.down_proj.weight is stored twice"));
}

TEST(WeightIndex, RefusesAnotherShape) {
  for (const auto& [n_rows, row_elements] : {std::pair(4, 4), {5, 3}}) {
    FakeModel model;
    model[8].n_rows = static_cast<std::uint64_t>(n_rows);
    model[8].row_elements = static_cast<std::uint64_t>(row_elements);
    EXPECT_EQ(OpenError(model),
              Refusal(ErrorCode::kBadData,
                      "fake.model: tensor 'down': is " + std::to_string(n_rows) + " x " +
                          std::to_string(row_elements) +
                          ", from row 0 of model.layers.0.mlp.down_proj.weight, which has 4 x 3"));
  }
}

TEST(WeightIndex, RefusesALayerThatTheModelLacks) {
  FakeModel model;
  model.Add("more", TensorRole::kMlpDown, 1, 0, 4, 3);
  EXPECT_EQ(
      OpenError(model),
      Refusal(ErrorCode::kBadData, "fake.model: tensor 'more': layer 1 of a model with 1 layers"));
}

TEST(WeightIndex, NamesTheFirstNan) {
  FakeModel model;
  model[2].encoding = GgmlType::kQ8_0;
  model[2].type = "Q8_0";
  model.PlaceNan(2, 1);
  const WeightIndex index(model);
  RowCodec codec;
  std::vector<float> rows(8 * 4);
  EXPECT_EQ(
      testing::Thrown([&] { index.ReadRows({TensorRole::kAttentionQkv, 0}, 0, 8, codec, rows); }),
      Refusal(ErrorCode::kNumeric,
              "fake.model: tensor 'k': Q8_0 decodes to nan (row 1, column 1, block 1)"));
}

}  // namespace
}  // namespace phiq
