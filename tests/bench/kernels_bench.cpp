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

#include "engine/product.h"
#include "kernels/float_type.h"
#include "phiq/encoding.h"
#include "phiq/quantize.h"
#include "testing/every_target.h"

namespace phiq {
namespace {

using testing::ChosenTarget;

// 64 rows of Phi-3.5-mini's width: 0.4 MB of bf16, about what a thread converts at once.
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

// The same as a checkpoint has them: what encoders begin with.
RawRows Halves() {
  static const std::vector<std::byte> halves = [] {
    std::vector<std::byte> bytes(kWeights * sizeof(std::uint16_t));
    for (std::size_t i = 0; i < kWeights; ++i) StoreFloat(FloatType::kBF16, Weights()[i], bytes, i);
    return bytes;
  }();
  return {FloatType::kBF16, halves};
}

// Statistics of inputs: uneven squares, and a factor of neighbours that go together.
InputStats Stats() {
  static const std::vector<float> squares = [] {
    std::vector<float> values(kColumns);
    for (std::size_t c = 0; c < kColumns; ++c) values[c] = 1.0F + static_cast<float>(c % 7);
    return values;
  }();
  static const std::vector<float> factor = [] {
    std::vector<float> u(kColumns * kColumns);
    for (std::size_t r = 0; r < kColumns; ++r)
      for (std::size_t c = r; c < kColumns; ++c)
        u[r * kColumns + c] = 1.0F / static_cast<float>((1 + c - r) * (1 + c - r));
    return u;
  }();
  static const FactorBlock block = {0, kColumns, factor};
  return {squares, {&block, 1}};
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
  for (const GgmlType type : {kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ2_K, kQ3_K, kQ4_K,
                              kQ5_K, kQ6_K, kIQ4_NL, kIQ4_XS}) {
    cases.push_back({EncodingName(type), type, &kGgml});
  }
  const auto add_groups = [&](std::string name, const GroupEncoding &groups, const Method &method) {
    cases.push_back({std::move(name), groups, &method});
  };
  using enum Code;
  add_groups("onnx int4 default", {kU4, 32, ScaleType::kF32, Offset::kMiddle}, kMlas);
  add_groups("onnx int8 default", {kU8, 32, ScaleType::kF32, Offset::kMiddle}, kMlas);
  add_groups("onnx int4 rtn", {kU4, 32, ScaleType::kF32, Offset::kMiddle}, kRtn);
  add_groups("onnx int4 k_quant", {kU4, 32, ScaleType::kF32, Offset::kZeroPoint}, kKQuant);
  add_groups("onnx int4 gather", {kU4, 32, ScaleType::kF32, Offset::kMiddle}, kGather);
  add_groups("openvino int4 g128", {kU4, 128, ScaleType::kF16, Offset::kMiddle}, kNncf);
  add_groups("openvino int8 row", {kU8, 0, ScaleType::kF16, Offset::kZeroPoint}, kNncf);
  const Method &mlx = MlxMethod(MlxRounding::kCpu, FloatType::kBF16);
  for (const Code code : {kU4, kU8}) {
    const GroupEncoding affine = {code, 64, ScaleType::kBF16, Offset::kBias};
    add_groups("mlx " + EncodingName(affine), affine, mlx);
  }
  for (const GroupEncoding &floats : {kMxfp4, kMxfp8, kNvfp4})
    add_groups("mlx " + EncodingName(floats), floats, mlx);
  for (const Method *method : {&kSearch, &kFeedback}) {
    const auto add = [&](const Encoding &encoding) {
      cases.push_back({std::string(method->name) + " " + EncodingName(encoding), encoding, method});
    };
    for (const GgmlType type : {kQ8_0, kQ4_0, kQ4_1, kQ2_K, kQ3_K, kQ4_K, kQ6_K, kIQ4_XS})
      add(type);
    add(GroupEncoding{kU4, 32, ScaleType::kF32, Offset::kMiddle});
    add(GroupEncoding{kU4, 32, ScaleType::kF32, Offset::kZeroPoint});
    add(GroupEncoding{kI8, 0, ScaleType::kF16, Offset::kNone});
    add(GroupEncoding{kU4, 64, ScaleType::kBF16, Offset::kBias});
    add(kMxfp4);
  }
  return cases;
}

void CountWeights(benchmark::State &state, std::size_t bytes) {
  const auto n = static_cast<std::size_t>(state.iterations());
  state.SetItemsProcessed(static_cast<std::int64_t>(n * kWeights));
  state.SetBytesProcessed(static_cast<std::int64_t>(n * bytes));
}

void Copy(benchmark::State &state) {
  const RawRows halves = Halves();
  std::vector<std::byte> out(halves.bytes.size());
  for (auto _ : state) {
    std::memcpy(out.data(), halves.bytes.data(), out.size());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountWeights(state, out.size());
}

void Encode(benchmark::State &state, const Case &what, std::int64_t target) {
  const auto encode = [&](Encoded &out) {
    what.method->quantize(what.encoding, Halves(), kColumns, Stats(), out.spans);
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
  for (auto _ : state) encode(out);
  CountWeights(state, Halves().bytes.size());
}

void Decode(benchmark::State &state, const Case &what, std::int64_t target) {
  Encoded encoded(what.encoding);
  what.method->quantize(what.encoding, Halves(), kColumns, Stats(), encoded.spans);
  RowCodec codec;
  const auto decode = [&](std::vector<float> &out) {
    for (std::size_t r = 0; r < kRows; ++r) {
      std::vector<std::span<const std::byte>> row;
      for (std::size_t i = 0; i < encoded.spans.size(); ++i) {
        const std::size_t bytes = ArrayRowBytes(what.encoding, i, kColumns);
        row.emplace_back(encoded.spans[i].subspan(r * bytes, bytes));
      }
      codec.Decode(what.encoding, row, std::span(out).subspan(r * kColumns, kColumns));
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
  for (auto _ : state) decode(out);
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
    engine::MultiplyByRows(x.data(), kTokens, kColumns, Weights().data(), kRows, y.data(), kRows);
    benchmark::DoNotOptimize(y.data());
  }
  const auto n = static_cast<std::size_t>(state.iterations());
  state.SetItemsProcessed(static_cast<std::int64_t>(n * kWeights * kTokens));
  state.SetBytesProcessed(static_cast<std::int64_t>(n * kWeights * sizeof(float)));
}

void RegisterAll() {
  benchmark::RegisterBenchmark("memcpy/-", Copy);
  static const std::vector<Case> cases = Cases();
  for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string suffix = std::string("/") + hwy::TargetName(target);
    for (const Case &what : cases) {
      benchmark::RegisterBenchmark((what.name + suffix).c_str(), Encode, what, target);
      benchmark::RegisterBenchmark((what.name + " decoded" + suffix).c_str(), Decode, what, target);
    }
    benchmark::RegisterBenchmark(("product with 256 tokens" + suffix).c_str(), MultiplyTokens,
                                 target);
  }
}

}  // namespace
}  // namespace phiq

int main(int argc, char **argv) {
  phiq::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
