// Error feedback in every encoding that has scales: what is stored is decoded again, and judged in
// double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "calibrate/factor.h"
#include "kernels/encoding_testing.h"
#include "kernels/grid.h"
#include "quantize/search.h"
#include "testing/every_target.h"

namespace phiq {
namespace {

std::vector<Encoding> Encodings() {
  std::vector<Encoding> all;
  for (const GgmlTypeInfo& info : GgmlTypes())
    if (info.block_size > 1) all.emplace_back(info.type);
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {true, false}) {
      all.emplace_back(Integers(bits, symmetric, 32));
      all.emplace_back(Integers(bits, symmetric, 128, ScaleType::kF16));
      all.emplace_back(SignedIntegers(bits, symmetric, 64, ScaleType::kF16));
      all.emplace_back(SignedIntegers(bits, symmetric, 0, ScaleType::kF16));
    }
  }
  all.emplace_back(Integers(4, kSymmetric, 48));   // windows of 240 columns
  all.emplace_back(Integers(4, kSymmetric, 512));  // two windows to a group
  for (const int bits : {2, 4, 8}) all.emplace_back(Affine(bits, 64, FloatType::kBF16));
  for (const GroupEncoding& floats : {kMxfp4, kMxfp8, kNvfp4}) all.emplace_back(floats);
  return all;
}

std::string NameOf(const ::testing::TestParamInfo<Encoding>& info) {
  if (const GgmlType* type = std::get_if<GgmlType>(&info.param))
    return std::string(GetGgmlTypeInfo(*type).name);
  const GroupEncoding& groups = std::get<GroupEncoding>(info.param);
  std::string name = EncodingName(info.param) + (IsSigned(groups.code) ? " signed" : "");
  std::ranges::replace(name, ' ', '_');
  return name;
}

bool HasTwoLevels(const Encoding& encoding) {
  const GgmlType* type = std::get_if<GgmlType>(&encoding);
  return type != nullptr && GetGgmlTypeInfo(*type).block_size > 32;
}

// Inputs, and what methods are told of them. Columns go together in part, as those of models do,
// and are of very different sizes.
struct Inputs {
  std::size_t n;
  engine::Matrix h;  // [n, n], whole, of mean 1 on the diagonal
  engine::Matrix u;
  std::vector<float> squares;
  std::vector<FactorBlock> blocks;

  InputStats Stats() const { return {squares, blocks}; }
};

Inputs MakeInputs(std::size_t n, float shrink, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const std::size_t n_causes = n / 8, n_tokens = 2 * n;
  std::vector<float> mix(n_causes * n), sizes(n), x(n_tokens * n, 0.0F), causes(n_causes);
  for (float& v : mix) v = normal(random);
  for (float& v : sizes) v = std::exp(0.7F * normal(random));
  for (std::size_t t = 0; t < n_tokens; ++t) {
    for (float& v : causes) v = normal(random);
    for (std::size_t c = 0; c < n; ++c) {
      float sum = normal(random);
      for (std::size_t i = 0; i < n_causes; i += 4) sum += causes[i] * mix[i * n + c];
      x[t * n + c] = sum * sizes[c];
    }
  }
  Inputs inputs;
  inputs.n = n;
  inputs.h.Resize(n, n);
  std::ranges::fill(inputs.h.values, 0.0F);
  engine::AddMoments({}, x.data(), n, n_tokens, inputs.h);
  engine::MirrorToLower(inputs.h);
  float sum = 0;
  for (std::size_t c = 0; c < n; ++c) sum += inputs.h.Row(c)[c] / static_cast<float>(n);
  for (float& v : inputs.h.values) v /= sum;
  for (std::size_t c = 0; c < n; ++c) inputs.squares.push_back(inputs.h.Row(c)[c]);
  inputs.u = inputs.h;
  if (!calibrate::FactorMoments({}, shrink, inputs.u)) throw std::logic_error("no factor");
  inputs.blocks = {{0, n, inputs.u.values}};
  return inputs;
}

const Inputs& Correlated() {
  static const Inputs inputs = MakeInputs(512, 0.2F);
  return inputs;
}
const Inputs& Uncorrelated() {
  static const Inputs inputs = MakeInputs(512, 1.0F);
  return inputs;
}

// The arrays of rows, one behind the other.
std::vector<Bytes> Encode(const Encoding& encoding, std::span<const float> x, std::size_t n,
                          const InputStats& stats, const Method& method = kFeedback) {
  std::vector<Bytes> arrays;
  std::vector<std::span<std::byte>> spans;
  for (std::size_t i = 0; i < ArrayCount(encoding); ++i)
    arrays.emplace_back(ArrayRowBytes(encoding, i, n) * (x.size() / n));
  for (Bytes& array : arrays) spans.emplace_back(array);
  method.quantize(encoding, x, n, stats, spans);
  return arrays;
}

std::vector<float> Decode(const Encoding& encoding, const std::vector<Bytes>& arrays,
                          std::size_t n) {
  std::vector<float> y(n);
  RowCodec().Decode(encoding, std::vector<std::span<const std::byte>>(arrays.begin(), arrays.end()),
                    y);
  return y;
}

// (x - y) h transposed(x - y): the mean square of what the product loses.
double OutputError(const Inputs& inputs, std::span<const float> x, std::span<const float> y) {
  double sum = 0;
  for (std::size_t r = 0; r < inputs.n; ++r) {
    double row = 0;
    for (std::size_t c = 0; c < inputs.n; ++c)
      row += double{inputs.h.Row(r)[c]} * (double{x[c]} - y[c]);
    sum += (double{x[r]} - y[r]) * row;
  }
  return sum;
}

double WeightError(std::span<const float> h, std::span<const float> x, std::span<const float> y) {
  double sum = 0;
  for (std::size_t c = 0; c < x.size(); ++c)
    sum += double{h[c]} * (double{x[c]} - y[c]) * (double{x[c]} - y[c]);
  return sum;
}

std::vector<float> SearchedRow(const Encoding& encoding, std::span<const float> x,
                               std::span<const float> squares) {
  std::vector<Bytes> arrays;
  for (std::size_t i = 0; i < ArrayCount(encoding); ++i)
    arrays.emplace_back(ArrayRowBytes(encoding, i, x.size()));
  QuantizeSearchedRows(encoding, x, x.size(), ImportanceOf(squares),
                       std::vector<std::span<std::byte>>(arrays.begin(), arrays.end()));
  return Decode(encoding, arrays, x.size());
}

class Feedback : public ::testing::TestWithParam<Encoding> {
 protected:
  const Encoding& encoding_ = GetParam();
  std::mt19937 rng_{5};
};
// Blocks hold scales among their codes.
class FeedbackOfGroups : public Feedback {};
// Those that can be cut at column 512.
class FeedbackOfHalves : public Feedback {};

template <typename Has>
std::vector<Encoding> EncodingsThat(const Has& has) {
  std::vector<Encoding> some = Encodings();
  std::erase_if(some, [&](const Encoding& encoding) { return !has(encoding); });
  return some;
}

TEST_P(Feedback, IsTheSearchWhereColumnsDoNotGoTogether) {
  const Inputs& inputs = Uncorrelated();
  for (unsigned row = 0; row < 4; ++row) {
    const std::vector<float> x = GaussianWeights(inputs.n, row);
    const std::vector<float> searched = SearchedRow(encoding_, x, inputs.squares);
    const std::vector<float> fed =
        Decode(encoding_, Encode(encoding_, x, inputs.n, inputs.Stats()), inputs.n);
    if (!HasTwoLevels(encoding_)) {
      EXPECT_EQ(fed, searched);
    } else {
      // The loop judges indices with 0.002 of the mean square added to each column, and tries those
      // around the nearest of the last search only.
      EXPECT_LE(WeightError(inputs.squares, x, fed),
                1.05 * WeightError(inputs.squares, x, searched));
    }
  }
}

TEST_P(Feedback, LowersTheErrorOfProducts) {
  const Inputs& inputs = Correlated();
  double searched = 0, weighted = 0, fed = 0;
  for (unsigned row = 0; row < 8; ++row) {
    const std::vector<float> x = GaussianWeights(inputs.n, row);
    const auto error = [&](const Method& method) {
      return OutputError(
          inputs, x,
          Decode(encoding_, Encode(encoding_, x, inputs.n, inputs.Stats(), method), inputs.n));
    };
    searched += error(kSearch);
    weighted += error(kImatrix);
    fed += error(kFeedback);
  }
  EXPECT_LT(fed, 0.5 * searched);
  EXPECT_LT(fed, 0.6 * weighted);
}

// Of what is decoded alone: e is (x - y) inverse(U), and each column's value is the nearest to
// what the errors before it have made of its weight. All values of an encoding of groups are had
// by decoding rows of one code.
TEST_P(FeedbackOfGroups, TakesTheNearestCodeOfWhatIsMadeUpFor) {
  const GroupEncoding* groups = std::get_if<GroupEncoding>(&encoding_);
  ASSERT_NE(groups, nullptr);
  const Inputs& inputs = Correlated();
  const std::size_t n = inputs.n;
  const std::vector<float> x = GaussianWeights(n, 9);
  std::vector<Bytes> arrays = Encode(encoding_, x, n, inputs.Stats());
  const std::vector<float> y = Decode(encoding_, arrays, n);
  const int bits = BitsOf(groups->code);
  std::vector<std::vector<float>> values;
  const std::size_t n_codes = arrays[0].size() * 8 / static_cast<std::size_t>(bits);
  for (int code = 0; code < 1 << bits; ++code) {
    PackBits(bits, std::vector<std::uint8_t>(n_codes, static_cast<std::uint8_t>(code)), arrays[0]);
    values.push_back(Decode(encoding_, arrays, n));
  }
  std::vector<double> w(x.begin(), x.end());
  for (std::size_t j = 0; j < n; ++j) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const std::vector<float>& value : values)
      if (std::isfinite(value[j])) nearest = std::min(nearest, std::abs(w[j] - value[j]));
    // The loop has w in float32: sums of up to n terms, each of which rounds to 2^-24 of weights
    // that are some 0.1 large. 1e-5 is a 300th of the finest step here and 20 such sums.
    const bool is_fine = bits == 8 && !IsFloat(groups->code);
    ASSERT_LE(std::abs(w[j] - y[j]), nearest + (is_fine ? 2e-6 : 1e-5)) << j;
    const double e = (w[j] - y[j]) / inputs.u.Row(j)[j];
    for (std::size_t k = j + 1; k < n; ++k) w[k] -= e * inputs.u.Row(j)[k];
  }
}

TEST_P(Feedback, KnowsNoOtherRows) {
  const Inputs& inputs = Correlated();
  constexpr std::size_t kRows = kFeedbackRows + 5;
  std::vector<float> x;
  for (std::size_t r = 0; r < kRows; ++r) {
    const std::vector<float> row = MixedRow(rng_, inputs.n);
    x.insert(x.end(), row.begin(), row.end());
  }
  const std::vector<Bytes> together = Encode(encoding_, x, inputs.n, inputs.Stats());
  for (const std::size_t row : {std::size_t{0}, std::size_t{77}, kRows - 1}) {
    const std::vector<Bytes> alone =
        Encode(encoding_, std::span(x).subspan(row * inputs.n, inputs.n), inputs.n, inputs.Stats());
    for (std::size_t a = 0; a < alone.size(); ++a) {
      const auto of_row = std::span(together[a]).subspan(row * alone[a].size(), alone[a].size());
      ASSERT_TRUE(std::ranges::equal(of_row, alone[a])) << "row " << row << " array " << a;
    }
  }
}

TEST_P(Feedback, IsTheSameOnEveryInstructionSet) {
  const Inputs& inputs = Correlated();
  std::vector<float> x;
  for (std::size_t r = 0; r < 3; ++r) {
    const std::vector<float> row = MixedRow(rng_, inputs.n);
    x.insert(x.end(), row.begin(), row.end());
  }
  const std::vector<Bytes> expected = Encode(encoding_, x, inputs.n, inputs.Stats());
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const testing::ChosenTarget chosen(target);
    EXPECT_EQ(Encode(encoding_, x, inputs.n, inputs.Stats()), expected) << hwy::TargetName(target);
  }
}

// Two blocks whose inputs do not go together are as two weights.
TEST_P(FeedbackOfHalves, TakesTheFactorInBlocks) {
  const Inputs& inputs = Correlated();
  const std::size_t n = inputs.n;
  std::vector<float> squares = inputs.squares;
  squares.insert(squares.end(), inputs.squares.begin(), inputs.squares.end());
  const std::vector<FactorBlock> blocks = {{0, n, inputs.u.values}, {n, n, inputs.u.values}};
  const std::vector<float> x = GaussianWeights(2 * n, 10);
  const std::vector<float> both =
      Decode(encoding_, Encode(encoding_, x, 2 * n, {squares, blocks}), 2 * n);
  for (const std::size_t begin : {std::size_t{0}, n}) {
    const std::vector<float> one =
        Decode(encoding_, Encode(encoding_, std::span(x).subspan(begin, n), n, inputs.Stats()), n);
    EXPECT_TRUE(std::ranges::equal(std::span(both).subspan(begin, n), one)) << begin;
  }
}

TEST_P(Feedback, KeepsZeros) {
  const std::vector<float> zeros(512);
  EXPECT_EQ(Decode(encoding_, Encode(encoding_, zeros, 512, Correlated().Stats()), 512), zeros);
}

// What a search can hold stays finite: outliers, constants, weights of all sizes.
TEST_P(Feedback, StaysFiniteWhereTheSearchDoes) {
  const Inputs& inputs = Correlated();
  std::vector<std::vector<float>> rows;
  for (int i = 0; i < 16; ++i) rows.push_back(MixedRow(rng_, inputs.n));
  for (const float size : {1e-45F, 1e-39F, 1e-30F, 1e-15F, 6e-8F, 6e4F, 1e9F, 1e19F, 9e37F}) {
    std::vector<float> x = GaussianWeights(inputs.n, 11, 0.3F);
    for (float& v : x) v = std::clamp(v, -1.0F, 1.0F) * size;
    rows.push_back(x);
  }
  rows.emplace_back(inputs.n, 0.25F);
  rows.push_back(GaussianWeights(inputs.n, 12));
  rows.back()[100] = 1e4F;
  for (const std::vector<float>& x : rows) {
    const std::vector<float> searched = SearchedRow(encoding_, x, inputs.squares);
    if (!std::ranges::all_of(searched, [](float v) { return std::isfinite(v); })) continue;
    const std::vector<float> fed =
        Decode(encoding_, Encode(encoding_, x, inputs.n, inputs.Stats()), inputs.n);
    ASSERT_TRUE(std::ranges::all_of(fed, [](float v) { return std::isfinite(v); })) << x[0];
    // Where scales are halves, steps of 2^-24 in 512 columns that go together are lost at worst.
    const std::vector<float> zeros(inputs.n);
    EXPECT_LE(OutputError(inputs, x, fed), OutputError(inputs, x, zeros) + 1e-11) << x[0];
  }
}

// A column that no token touched, and one that is a thousand times larger than the others.
TEST_P(Feedback, TakesUnusedAndMassiveColumns) {
  Inputs inputs = MakeInputs(512, 0.2F);
  inputs.u = inputs.h;
  for (std::size_t c = 0; c < inputs.n; ++c) {
    for (const std::size_t column : {std::size_t{7}, std::size_t{300}}) {
      const float factor = column == 7 ? 0.0F : c == column ? 1e6F : 1e3F;
      inputs.u.Row(column)[c] *= factor;
      if (c != column) inputs.u.Row(c)[column] *= factor;
    }
  }
  inputs.h = inputs.u;
  for (std::size_t c = 0; c < inputs.n; ++c) inputs.squares[c] = inputs.h.Row(c)[c];
  ASSERT_TRUE(calibrate::FactorMoments({}, 0.2F, inputs.u));
  const std::vector<float> x = GaussianWeights(inputs.n, 13);
  const std::vector<float> fed =
      Decode(encoding_, Encode(encoding_, x, inputs.n, inputs.Stats()), inputs.n);
  const std::vector<float> searched = SearchedRow(encoding_, x, inputs.squares);
  EXPECT_LT(OutputError(inputs, x, fed), OutputError(inputs, x, searched));
  for (std::size_t c = 0; c < inputs.n; ++c) EXPECT_LE(std::abs(fed[c]), 1.0F) << c;
}

INSTANTIATE_TEST_SUITE_P(, Feedback, ::testing::ValuesIn(Encodings()), NameOf);
INSTANTIATE_TEST_SUITE_P(, FeedbackOfGroups,
                         ::testing::ValuesIn(EncodingsThat([](const Encoding& encoding) {
                           return std::holds_alternative<GroupEncoding>(encoding);
                         })),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(, FeedbackOfHalves,
                         ::testing::ValuesIn(EncodingsThat([](const Encoding& encoding) {
                           const std::size_t block_size = BlockSize(encoding, 1024);
                           return block_size <= 256 && 512 % block_size == 0;
                         })),
                         NameOf);

TEST(FeedbackMethod, FillsAllButFloats) {
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kF16, GgmlType::kBF16})
    EXPECT_FALSE(kFeedback.fills(type));
  for (const Encoding& encoding : Encodings()) EXPECT_TRUE(kFeedback.fills(encoding));
  EXPECT_EQ(kFeedback.needs, Needs::kMoments);
}

// Groups that do not divide a row, a row of one group, a row shorter than a window.
TEST(FeedbackMethod, TakesRowsOfAnyLength) {
  for (const std::size_t n : {std::size_t{33}, std::size_t{100}, std::size_t{300}}) {
    const Inputs inputs = MakeInputs(n, 0.2F);
    for (const std::size_t group_size : {std::size_t{0}, std::size_t{32}, std::size_t{48}}) {
      const Encoding encoding = Integers(4, kSymmetric, group_size);
      double fed = 0, searched = 0;
      for (unsigned row = 0; row < 16; ++row) {
        const std::vector<float> x = GaussianWeights(n, row);
        fed += OutputError(inputs, x, Decode(encoding, Encode(encoding, x, n, inputs.Stats()), n));
        searched += OutputError(inputs, x, SearchedRow(encoding, x, inputs.squares));
      }
      EXPECT_LT(fed, 0.8 * searched) << n << " " << group_size;
    }
  }
}

}  // namespace
}  // namespace phiq
