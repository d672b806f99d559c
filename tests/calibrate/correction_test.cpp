// The algebra of the target correction against its definition, in double.
#include "calibrate/correction.h"

#include <gtest/gtest.h>

#include <Eigen/Dense>
#include <algorithm>
#include <cstddef>
#include <random>
#include <vector>

#include "engine/memory_model.h"
#include "testing/every_target.h"

namespace phiq::calibrate {
namespace {

using Double = Eigen::MatrixXd;
using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Index Index(std::size_t i) { return static_cast<Eigen::Index>(i); }

Double AsDouble(std::span<const float> values, std::size_t n_columns) {
  return Eigen::Map<const Floats>(values.data(), Index(values.size() / n_columns), Index(n_columns))
      .cast<double>();
}
Double AsDouble(const engine::Matrix& m) { return AsDouble(m.values, m.n_columns); }

// Tokens of a model, and of the same model with some loss: x~ is x less a tenth of a neighbour, and
// noise.
struct Streams {
  engine::Matrix plain, quantized;  // [n_tokens, n]
  engine::Matrix h, d;              // the moments of the header
};

Streams MakeStreams(std::size_t n, std::size_t n_tokens, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Streams streams;
  engine::Matrix difference;
  for (engine::Matrix* m : {&streams.plain, &streams.quantized, &difference})
    m->Resize(n_tokens, n);
  for (std::size_t t = 0; t < n_tokens; ++t) {
    const std::span<float> x = streams.plain.Row(t);
    float last = 0;
    for (float& v : x) last = v = 0.6F * last + normal(random);
    for (std::size_t c = 0; c < n; ++c) {
      const float less = 0.1F * x[(c + 1) % n] + 0.1F * normal(random);
      streams.quantized.Row(t)[c] = x[c] - less;
      difference.Row(t)[c] = less;
    }
  }
  for (engine::Matrix* m : {&streams.h, &streams.d}) {
    m->Resize(n, n);
    std::ranges::fill(m->values, 0.0F);
  }
  engine::AddMoments({}, streams.quantized.values.data(), n, n_tokens, streams.h);
  engine::AddCrossMoments({}, difference.values.data(), streams.quantized.values.data(), n,
                          n_tokens, streams.d);
  for (engine::Matrix* m : {&streams.h, &streams.d})
    for (float& v : m->values) v /= static_cast<float>(n_tokens);
  return streams;
}

Double Symmetric(const engine::Matrix& h) { return AsDouble(h).selfadjointView<Eigen::Upper>(); }

Double Damped(const engine::Matrix& h) {
  Double a = Symmetric(h);
  a.diagonal().array() += 0.1 * a.diagonal().mean();
  return a;
}

class Corrections : public ::testing::TestWithParam<std::size_t> {};

// M A = D. The condition of A is below 1 + 10 * (its largest eigenvalue, here 8, over the mean of
// its diagonal), about 100; sums have up to n terms.
TEST_P(Corrections, SolveForTheMoments) {
  const std::size_t n = GetParam();
  Streams streams = MakeStreams(n, 2 * n + 8, 1);
  const Double a = Damped(streams.h), d = AsDouble(streams.d);
  const Double upper = Symmetric(streams.h);
  ASSERT_TRUE(MakeCorrection({.threads = 2}, streams.h, streams.d));
  const Double rest = AsDouble(streams.d) * a - d;
  EXPECT_LE(rest.cwiseAbs().maxCoeff(),
            100 * static_cast<double>(n + 1) * 0x1p-24 * d.cwiseAbs().maxCoeff());
  EXPECT_EQ(AsDouble(streams.h), upper);  // whole, and as it was
}

INSTANTIATE_TEST_SUITE_P(, Corrections, ::testing::Values(1, 5, 128, 200, 300),
                         ::testing::PrintToStringParamName());

// On tokens that the moments are of and on others.
TEST(Correction, BringsOutputsNearer) {
  constexpr std::size_t kN = 60, kRows = 10;
  Streams streams = MakeStreams(kN, 2000, 2);
  const Streams others = MakeStreams(kN, 500, 3);
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  std::vector<float> w(kRows * kN), moved(w.size());
  for (float& v : w) v = normal(random);
  ASSERT_TRUE(MakeCorrection({}, streams.h, streams.d));
  const auto error = [&](const Streams& of, std::span<const float> weights) {
    const Double wanted = AsDouble(of.plain) * AsDouble(w, kN).transpose();
    return (wanted - AsDouble(of.quantized) * AsDouble(weights, kN).transpose()).squaredNorm();
  };
  const CorrectionBlock blocks[] = {{0, &streams.d}};
  CorrectRows(blocks, kCorrectionShare, w, kN, moved);
  EXPECT_LT(error(streams, moved), 0.8 * error(streams, w));
  EXPECT_LT(error(others, moved), 0.8 * error(others, w));
  // Nothing is nearer than the fit, and with what A adds it is close to it.
  std::vector<float> whole(w.size());
  CorrectRows(blocks, 1.0F, w, kN, whole);
  EXPECT_LT(error(streams, whole), error(streams, moved));
}

TEST(Correction, IsZeroWhereNothingWasLost) {
  Streams streams = MakeStreams(20, 100, 5);
  std::ranges::fill(streams.d.values, 0.0F);
  ASSERT_TRUE(MakeCorrection({}, streams.h, streams.d));
  const std::vector<float> w(3 * 20, 0.7F);
  std::vector<float> moved(w.size());
  const CorrectionBlock blocks[] = {{0, &streams.d}};
  CorrectRows(blocks, 0.5F, w, 20, moved);
  EXPECT_EQ(moved, w);
}

TEST(Correction, OfNoInputsIsRefused) {
  Streams streams = MakeStreams(20, 100, 6);
  std::ranges::fill(streams.h.values, 0.0F);
  const engine::Matrix d = streams.d;
  EXPECT_FALSE(MakeCorrection({}, streams.h, streams.d));
  EXPECT_EQ(streams.d.values, d.values);
}

// w + share * w m, in the columns of each block; rows by themselves give the same bits.
TEST(Correction, OfRowsIsTheirProduct) {
  constexpr std::size_t kN = 50, kFirst = 8, kBlock = 30, kSecond = 38, kNarrow = 12, kRows = 9;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  engine::Matrix m, narrow;
  m.Resize(kBlock, kBlock);
  narrow.Resize(kNarrow, kNarrow);
  for (engine::Matrix* block : {&m, &narrow})
    for (float& v : block->values) v = normal(random);
  const CorrectionBlock blocks[] = {{kFirst, &m}, {kSecond, &narrow}};
  std::vector<float> w(kRows * kN), moved(w.size());
  for (float& v : w) v = normal(random);
  CorrectRows(blocks, 0.5F, w, kN, moved);
  Double wanted = AsDouble(w, kN);
  wanted.middleCols(kFirst, kBlock) += 0.5 * wanted.middleCols(kFirst, kBlock) * AsDouble(m);
  wanted.middleCols(kSecond, kNarrow) +=
      0.5 * wanted.middleCols(kSecond, kNarrow) * AsDouble(narrow);
  // A chain of 30 products of some 1 x 1.
  EXPECT_LE((wanted - AsDouble(moved, kN)).cwiseAbs().maxCoeff(), 32 * 0x1p-24 * 30);
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const phiq::testing::ChosenTarget chosen(target);
    for (std::size_t r = 0; r < kRows; ++r) {
      std::vector<float> alone(kN);
      CorrectRows(blocks, 0.5F, std::span(w).subspan(r * kN, kN), kN, alone);
      EXPECT_TRUE(std::ranges::equal(alone, std::span(moved).subspan(r * kN, kN)));
    }
  }
}

// Against the same in double, over a weight of several tiles and two blocks of columns.
TEST(Correction, PaysWhereOutputsOfHeldBackVectorsComeNearer) {
  using phiq::testing::MemoryModel;
  const MemoryModel model(phiq::testing::SmallConfig(), 8);
  const WeightIndex weights(model);
  constexpr WeightId kWeight = {TensorRole::kMlpGateUp, 1};
  constexpr std::size_t kN = 24, kRows = 600, kBlock = 16;
  const Double w = AsDouble(model.Weights(kWeight.role, kWeight.layer), kN);
  ASSERT_EQ(w.rows(), Index(kRows));
  const Streams streams = MakeStreams(kN, 40, 9);
  Probe probe;
  probe.held_back = streams.quantized;
  probe.held_back_lacks = streams.plain;
  for (std::size_t i = 0; i < streams.plain.values.size(); ++i)
    probe.held_back_lacks.values[i] -= streams.quantized.values[i];
  std::mt19937 random(10);
  std::normal_distribution<float> normal(0, 0.1F);
  engine::Matrix m, rest;
  m.Resize(kBlock, kBlock);
  rest.Resize(kN - kBlock, kN - kBlock);
  for (engine::Matrix* block : {&m, &rest})
    for (float& v : block->values) v = normal(random);
  const CorrectionBlock blocks[] = {{0, &m}, {kBlock, &rest}};
  Double whole = Double::Zero(Index(kN), Index(kN));
  whole.topLeftCorner(Index(kBlock), Index(kBlock)) = AsDouble(m);
  whole.bottomRightCorner(Index(kN - kBlock), Index(kN - kBlock)) = AsDouble(rest);
  const auto error = [&](double share) {
    const Double moved = w + share * w * whole;
    return (AsDouble(streams.plain) * w.transpose() -
            AsDouble(streams.quantized) * moved.transpose())
        .squaredNorm();
  };
  // All rows, as those of two weights that share the input.
  const engine::WeightRows of[] = {{kWeight, 0, 1, kN}, {kWeight, 1, kRows - 1, kN}};
  const CorrectionErrors found =
      MeasureCorrection({.threads = 2}, weights, of, probe, blocks, 0.5F);
  // Chains of some 24 terms.
  EXPECT_NEAR(found.without, error(0), 1e-5 * error(0));
  EXPECT_NEAR(found.with, error(0.5), 1e-5 * error(0.5));
  EXPECT_EQ(found.pays(), error(0.5) < error(0));
}

}  // namespace
}  // namespace phiq::calibrate
