// How fast single kernels are, on each instruction set of this processor:
// weights and bytes read in a CPU second, beside memcpy of the same weights.
// tools/bench --kernels makes a table of it.
//
// Before a kernel is measured, what it writes is compared with what the
// plainest instruction set writes: a row that is fast and wrong is an error.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/half.h"
#include "engine/product.h"
#include "phiq/encoding.h"
#include "phiq/quantize.h"
#include "testing/every_target.h"

namespace phiq {
namespace {

using testing::ChosenTarget;

// 64 rows of Phi-3.5-mini's width: 0.8 MB of floats, more than the second-level
// cache, as rows are when they come from a file.
constexpr std::size_t kRows = 64;
constexpr std::size_t kColumns = 3072;
constexpr std::size_t kWeights = kRows * kColumns;

// Gaussian, of bf16's values, as checkpoints have them.
const std::vector<float> &Weights() {
  static const std::vector<float> weights = [] {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> values(kWeights);
    std::ranges::generate(values, [&] {
      std::uint32_t bits = 0;
      const float value = normal(random);
      std::memcpy(&bits, &value, sizeof(bits));
      bits &= 0xFFFF0000;
      float cut = 0;
      std::memcpy(&cut, &bits, sizeof(cut));
      return cut;
    });
    return values;
  }();
  return weights;
}

struct Encoded {
  std::array<std::vector<std::byte>, kMaxArrays> arrays;
  std::vector<std::span<std::byte>> spans;

  explicit Encoded(const Encoding &encoding) {
    for (std::size_t i = 0; i < ArrayCount(encoding); ++i) {
      arrays[i].resize(kRows * ArrayRowBytes(encoding, i, kColumns));
      spans.emplace_back(arrays[i]);
    }
  }
};

struct Case {
  std::string name;
  Encoding encoding;
  const Method *method;
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  using enum GgmlType;
  for (const GgmlType type :
       {kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K,
        kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS}) {
    cases.push_back({EncodingName(type), type, &kGgml});
  }
  const auto add_integer = [&](std::string name, const IntegerSpec &spec,
                               const Method &method) {
    cases.push_back({std::move(name), IntegerEncoding{spec, false}, &method});
  };
  add_integer("onnx int4 default", {4, true, 32, FloatType::kF32}, kMlas);
  add_integer("onnx int8 default", {8, true, 32, FloatType::kF32}, kMlas);
  add_integer("onnx int4 rtn", {4, true, 32, FloatType::kF32}, kRtn);
  add_integer("onnx int4 k_quant", {4, false, 32, FloatType::kF32}, kKQuant);
  add_integer("onnx int4 gather", {4, true, 32, FloatType::kF32}, kGather);
  add_integer("openvino int4 g128", {4, true, 128, FloatType::kF16}, kNncf);
  add_integer("openvino int8 row", {8, false, 0, FloatType::kF16}, kNncf);
  const Method &mlx = MlxMethod(MlxRounding::kCpu);
  for (const int bits : {4, 8}) {
    const MlxEncoding affine = {MlxMode::kAffine, bits, 64, FloatType::kBF16};
    cases.push_back(
        {"mlx affine " + std::to_string(bits) + " bit", affine, &mlx});
  }
  for (const MlxMode mode :
       {MlxMode::kMxfp4, MlxMode::kMxfp8, MlxMode::kNvfp4}) {
    cases.push_back({"mlx " + std::string(MlxModeName(mode)),
                     MlxFloatEncoding(mode, FloatType::kBF16), &mlx});
  }
  return cases;
}

void CountWeights(benchmark::State &state, std::size_t bytes) {
  const auto n = static_cast<std::size_t>(state.iterations());
  state.SetItemsProcessed(static_cast<std::int64_t>(n * kWeights));
  state.SetBytesProcessed(static_cast<std::int64_t>(n * bytes));
}

void Copy(benchmark::State &state) {
  std::vector<float> out(kWeights);
  for (auto _ : state) {
    std::memcpy(out.data(), Weights().data(), kWeights * sizeof(float));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountWeights(state, kWeights * sizeof(float));
}

void Encode(benchmark::State &state, const Case &what, std::int64_t target) {
  const auto encode = [&](Encoded &out) {
    what.method->quantize(what.encoding, Weights(), kColumns, out.spans);
  };
  Encoded expected(what.encoding);
  Encoded out(what.encoding);
  {
    const ChosenTarget plain(HWY_SCALAR);
    encode(expected);
  }
  const ChosenTarget chosen(target);
  encode(out);
  if (out.arrays != expected.arrays) {
    state.SkipWithError("other bytes than the plain loops");
    return;
  }
  for (auto _ : state)
    encode(out);
  CountWeights(state, kWeights * sizeof(float));
}

void Decode(benchmark::State &state, const Case &what, std::int64_t target) {
  Encoded encoded(what.encoding);
  what.method->quantize(what.encoding, Weights(), kColumns, encoded.spans);
  RowCodec codec;
  const auto decode = [&](std::vector<float> &out) {
    for (std::size_t r = 0; r < kRows; ++r) {
      std::vector<std::span<const std::byte>> row;
      for (std::size_t i = 0; i < encoded.spans.size(); ++i) {
        const std::size_t bytes = ArrayRowBytes(what.encoding, i, kColumns);
        row.emplace_back(encoded.spans[i].subspan(r * bytes, bytes));
      }
      codec.Decode(what.encoding, row,
                   std::span(out).subspan(r * kColumns, kColumns));
    }
  };
  std::vector<float> expected(kWeights);
  std::vector<float> out(kWeights);
  {
    const ChosenTarget plain(HWY_SCALAR);
    decode(expected);
  }
  const ChosenTarget chosen(target);
  decode(out);
  if (out != expected) {
    state.SkipWithError("other weights than the plain loops");
    return;
  }
  for (auto _ : state)
    decode(out);
  CountWeights(state, kRows * EncodedRowBytes(what.encoding, kColumns));
}

// The engine's product of 256 tokens with the rows; items are weights times
// tokens, two operations each.
void MultiplyTokens(benchmark::State &state, std::int64_t target) {
  constexpr std::size_t kTokens = 256;
  const ChosenTarget chosen(target);
  std::vector<float> x(kTokens * kColumns, 1.0F);
  std::vector<float> y(kTokens * kRows);
  for (auto _ : state) {
    engine::MultiplyByRows(x.data(), kTokens, kColumns, Weights().data(), kRows,
                           y.data(), kRows);
    benchmark::DoNotOptimize(y.data());
  }
  const auto n = static_cast<std::size_t>(state.iterations());
  state.SetItemsProcessed(static_cast<std::int64_t>(n * kWeights * kTokens));
  state.SetBytesProcessed(
      static_cast<std::int64_t>(n * kWeights * sizeof(float)));
}

void RegisterAll() {
  benchmark::RegisterBenchmark("memcpy/-", Copy);
  static const std::vector<Case> cases = Cases();
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string suffix = std::string("/") + hwy::TargetName(target);
    for (const Case &what : cases) {
      benchmark::RegisterBenchmark((what.name + suffix).c_str(), Encode, what,
                                   target);
      benchmark::RegisterBenchmark((what.name + " decoded" + suffix).c_str(),
                                   Decode, what, target);
    }
    benchmark::RegisterBenchmark(("product with 256 tokens" + suffix).c_str(),
                                 MultiplyTokens, target);
  }
}

} // namespace
} // namespace phiq

int main(int argc, char **argv) {
  phiq::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv))
    return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
