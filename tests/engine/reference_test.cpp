// The engine against transformers (tests/data/PROVENANCE.d/house.md): logits of both tiny models
// with short and long rotary factors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "convert/open_model.h"
#include "engine/forward.h"
#include "engine/product.h"
#include "testing/test_data.h"

namespace phiq::engine {
namespace {

namespace fs = std::filesystem;

// Reads reference/logits.safetensors with nothing of ours.
class ReferenceFile {
 public:
  explicit ReferenceFile(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    std::uint64_t n_header = 0;
    std::memcpy(&n_header, bytes_.data(), sizeof(n_header));
    header_ = nlohmann::json::parse(bytes_.substr(sizeof(n_header), n_header));
    data_ = sizeof(n_header) + n_header;
  }
  template <typename T>
  std::vector<T> Get(const std::string& name) const {
    const auto begin = header_.at(name).at("data_offsets")[0].get<std::size_t>();
    const auto end = header_.at(name).at("data_offsets")[1].get<std::size_t>();
    std::vector<T> values((end - begin) / sizeof(T));
    std::memcpy(values.data(), bytes_.data() + data_ + begin, end - begin);
    return values;
  }

 private:
  std::string bytes_;
  nlohmann::json header_;
  std::size_t data_ = 0;
};

class ReferenceLogits : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(ReferenceLogits, AreReached) {
  const auto [model_name, case_name] = GetParam();
  const fs::path folder = fs::path(kTestData) / model_name;
  const ReferenceFile reference(folder / "reference" / "logits.safetensors");
  const std::string name = case_name;
  const std::vector<std::uint32_t> ids = reference.Get<std::uint32_t>(name + ".ids");
  const std::vector<std::int32_t> kept = reference.Get<std::int32_t>(name + ".positions");
  const std::vector<float> expected = reference.Get<float>(name + ".logits");
  ASSERT_FALSE(kept.empty());

  const auto stored = OpenStoredModel(folder.string(), [](const Warning&) {});
  const ForwardModel model(*stored, static_cast<std::uint32_t>(ids.size()));
  ForwardPass pass({.threads = 2});
  Matrix hidden;
  pass.Embed(model, ids, hidden);
  for (std::uint32_t layer = 0; layer < model.config().n_layers; ++layer)
    pass.RunLayer(model, static_cast<std::int32_t>(layer), hidden);
  Matrix x;
  pass.NormalizeOutput(model, hidden, std::vector<std::size_t>(kept.begin(), kept.end()), x);

  const std::size_t vocab_size = model.config().vocab_size;
  ASSERT_EQ(expected.size(), kept.size() * vocab_size);
  std::vector<float> logits(expected.size());
  ForEachTile(pass.runner(), model.weights(), {TensorRole::kOutputHead},
              ShapeOf(model.config(), TensorRole::kOutputHead),
              [&](std::size_t first_row, std::span<const float> rows, unsigned) {
                MultiplyByRows(x.values.data(), x.n_rows, x.n_columns, rows.data(),
                               rows.size() / x.n_columns, logits.data() + first_row, vocab_size);
              });
  if (const std::span<const float> bias = model.head_bias(); !bias.empty()) {
    for (std::size_t i = 0; i < logits.size(); ++i) logits[i] += bias[i % vocab_size];
  }
  float largest = 0;
  for (std::size_t i = 0; i < logits.size(); ++i)
    largest = std::max(largest, std::abs(logits[i] - expected[i]));
  // Logits reach 25; float32 engines that sum in another order differ by some 3e-5.
  EXPECT_LE(largest, 2e-4F);
  EXPECT_GT(largest, 0.0F);  // two programs never agree to the last bit: something was compared
}

INSTANTIATE_TEST_SUITE_P(
    , ReferenceLogits,
    testing::Combine(testing::Values("phi35-tiny", "phi4mini-tiny", "phimoe-tiny"),
                     testing::Values("short", "at_limit", "over_limit", "long")),
    [](const auto& names) {
      std::string name = std::string(std::get<0>(names.param)) + "_" + std::get<1>(names.param);
      std::ranges::replace(name, '-', '_');
      return name;
    });

}  // namespace
}  // namespace phiq::engine
