// Plain floats: from one type to another, and the largest of them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/floats.cpp"
#include "kernels/simd/floats.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "base/finite.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace pairs {
namespace {

// One number after the other: the definition, and what is left over.
void ConvertPlain(const Weights& x, std::size_t n, FloatType type, std::byte* out) {
  const std::span<const std::byte> in(x.data, n * FloatBytes(x.type));
  const std::span<std::byte> to(out, n * FloatBytes(type));
  for (std::size_t i = 0; i < n; ++i) StoreFloat(type, LoadFloat(x.type, in, i), to, i);
}

std::uint32_t LargestPlain(const Weights& x, std::size_t n) {
  const std::span<const std::byte> in(x.data, n * FloatBytes(x.type));
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(LoadFloat(x.type, in, i));
    largest = std::max(largest, bits & 0x7FFFFFFFU);
  }
  return largest;
}

// Running sums of every eighth weight.
constexpr std::size_t kSums = 8;

double SquaredError(std::uint8_t code, int zero_point, float scale, float x) {
  const float error = static_cast<float>(code - zero_point) * scale - x;
  return static_cast<double>(error * error);
}

// `sums`: of the n_done first weights, a multiple of kSums.
double TotalWithRest(double* sums, std::size_t n_done, std::span<const std::uint8_t> codes,
                     int zero_point, float scale, const float* x) {
  for (std::size_t i = n_done; i < codes.size(); ++i)
    sums[0] += SquaredError(codes[i], zero_point, scale, x[i]);
  return std::accumulate(sums, sums + kSums, 0.0);
}

#if HWY_TARGET == HWY_SCALAR

double SumSquaredErrors(std::span<const std::uint8_t> codes, int zero_point, float scale,
                        const float* x) {
  double sums[kSums] = {};
  std::size_t i = 0;
  for (; i + kSums <= codes.size(); i += kSums)
    for (std::size_t s = 0; s < kSums; ++s)
      sums[s] += SquaredError(codes[i + s], zero_point, scale, x[i + s]);
  return TotalWithRest(sums, i, codes, zero_point, scale, x);
}

void ConvertFloats(const Weights& x, std::size_t n, FloatType type, std::byte* out) {
  ConvertPlain(x, n, type, out);
}

std::uint32_t LargestMagnitudeBits(const Weights& x, std::size_t n) { return LargestPlain(x, n); }

#else

// 2 * kLanes numbers.
template <FloatType kType>
HWY_INLINE void StorePair(Pair v, std::byte* out) {
  if constexpr (kType == FloatType::kF32) {
    const F low = hn::InterleaveLower(Floats(), v.even, v.odd);
    const F high = hn::InterleaveUpper(Floats(), v.even, v.odd);
    float* const to = reinterpret_cast<float*>(out);
    if constexpr (kLanes == 4) {
      hn::StoreU(low, Floats(), to);
      hn::StoreU(high, Floats(), to + kLanes);
    } else {
      hn::StoreU(hn::ConcatLowerLower(Floats(), high, low), Floats(), to);
      hn::StoreU(hn::ConcatUpperUpper(Floats(), high, low), Floats(), to + kLanes);
    }
  } else {
    W words;
    if constexpr (kType == FloatType::kF16) {
      words = hn::Or(FloatsToHalves(v.even), hn::ShiftLeft<16>(FloatsToHalves(v.odd)));
    } else {
      words = hn::Or(hn::ShiftRight<16>(FloatsToHighBf16(v.even)),
                     hn::And(FloatsToHighBf16(v.odd), hn::Set(Words(), 0xFFFF0000U)));
    }
    hn::StoreU(words, Words(), reinterpret_cast<std::uint32_t*>(out));
  }
}

template <FloatType kFrom, FloatType kTo>
void Convert(const std::byte* x, std::size_t n, std::byte* out) {
  constexpr std::size_t kStep = 2 * kLanes;
  std::size_t i = 0;
#if HWY_TARGET <= HWY_AVX2
  if constexpr (kTo == FloatType::kF16) {
    const hn::Rebind<hwy::float16_t, Floats> df16;
    const hn::Rebind<std::uint16_t, Floats> d16;
    for (; i + kLanes <= n; i += kLanes) {
      const std::byte* const p = x + i * FloatBytes(kFrom);
      F v;
      if constexpr (kFrom == FloatType::kF32) {
        v = hn::LoadU(Floats(), reinterpret_cast<const float*>(p));
      } else {
        const auto halves = hn::LoadU(d16, reinterpret_cast<const std::uint16_t*>(p));
        v = FromBits(hn::ShiftLeft<16>(hn::PromoteTo(Words(), halves)));
      }
      hn::StoreU(hn::BitCast(d16, hn::DemoteTo(df16, v)), d16,
                 reinterpret_cast<std::uint16_t*>(out + 2 * i));
    }
  }
#endif
  for (; i + kStep <= n; i += kStep)
    StorePair<kTo>(LoadPair<kFrom>(x + i * FloatBytes(kFrom)), out + i * FloatBytes(kTo));
  ConvertPlain({kFrom, x + i * FloatBytes(kFrom)}, n - i, kTo, out + i * FloatBytes(kTo));
}

template <FloatType kFrom>
void ConvertFrom(const std::byte* x, std::size_t n, FloatType type, std::byte* out) {
  if (type == kFrom) {
    if (n > 0) std::memcpy(out, x, n * FloatBytes(kFrom));
    return;
  }
  switch (type) {
    case FloatType::kF32:
      if constexpr (kFrom != FloatType::kF32) Convert<kFrom, FloatType::kF32>(x, n, out);
      return;
    case FloatType::kF16:
      if constexpr (kFrom != FloatType::kF16) Convert<kFrom, FloatType::kF16>(x, n, out);
      return;
    case FloatType::kBF16:
      if constexpr (kFrom != FloatType::kBF16) Convert<kFrom, FloatType::kBF16>(x, n, out);
      return;
  }
}

void ConvertFloats(const Weights& x, std::size_t n, FloatType type, std::byte* out) {
  switch (x.type) {
    case FloatType::kF32:
      return ConvertFrom<FloatType::kF32>(x.data, n, type, out);
    case FloatType::kF16:
      return ConvertFrom<FloatType::kF16>(x.data, n, type, out);
    case FloatType::kBF16:
      return ConvertFrom<FloatType::kBF16>(x.data, n, type, out);
  }
}

// The largest of n numbers without their signs, as the integers that their bits are; magnitudes
// compare as those do. T: as wide as a number.
template <typename T>
T LargestBits(const std::byte* x, std::size_t n) {
  const hn::Repartition<T, Floats> d;
  constexpr std::size_t kStep = kLanes * sizeof(float) / sizeof(T);
  const auto no_sign = hn::Set(d, std::numeric_limits<T>::max());
  const auto load = [&](std::size_t i) HWY_ATTR {
    return hn::And(hn::LoadU(d, reinterpret_cast<const T*>(x) + i), no_sign);
  };
  auto largest = hn::Zero(d);
  auto other = hn::Zero(d);
  std::size_t i = 0;
  for (; i + 2 * kStep <= n; i += 2 * kStep) {
    largest = hn::Max(largest, load(i));
    other = hn::Max(other, load(i + kStep));
  }
  alignas(32) T lanes[kStep];
  hn::Store(hn::Max(largest, other), d, lanes);
  return *std::max_element(lanes, lanes + kStep);
}

std::uint32_t LargestMagnitudeBits(const Weights& x, std::size_t n) {
  const std::size_t n_whole = n - n % (4 * kLanes);
  const std::uint32_t rest = LargestPlain(x.From(n_whole), n - n_whole);
  if (x.type == FloatType::kF32) {
    const auto bits = static_cast<std::uint32_t>(LargestBits<std::int32_t>(x.data, n_whole));
    return std::max(rest, bits);
  }
  const auto bits = static_cast<std::uint16_t>(LargestBits<std::int16_t>(x.data, n_whole));
  const float value = x.type == FloatType::kF16 ? Fp16ToFloat(bits) : Bf16ToFloat(bits);
  return std::max(rest, std::bit_cast<std::uint32_t>(value));
}

double SumSquaredErrors(std::span<const std::uint8_t> codes, int zero_point, float scale,
                        const float* x) {
  const hn::CappedTag<double, 4> d;
  const hn::Rebind<float, hn::CappedTag<double, 4> > df;
  const hn::Rebind<std::int32_t, hn::CappedTag<double, 4> > di;
  const hn::Rebind<std::uint8_t, hn::CappedTag<double, 4> > d8;
  constexpr std::size_t kStep = hn::MaxLanes(d);
  constexpr std::size_t kVectors = kSums / kStep;
  const auto zero = hn::Set(di, zero_point);
  const auto factor = hn::Set(df, scale);
  hn::Vec<decltype(d)> vectors[kVectors];
  for (auto& vector : vectors) vector = hn::Zero(d);
  std::size_t i = 0;
  for (; i + kSums <= codes.size(); i += kSums) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t first = i + v * kStep;
      const auto code = hn::PromoteTo(di, hn::LoadU(d8, codes.data() + first));
      const auto value = hn::Mul(hn::ConvertTo(df, hn::Sub(code, zero)), factor);
      const auto error = hn::Sub(value, hn::LoadU(df, x + first));
      vectors[v] = hn::Add(vectors[v], hn::PromoteTo(d, hn::Mul(error, error)));
    }
  }
  alignas(32) double sums[kSums];
  for (std::size_t v = 0; v < kVectors; ++v) hn::Store(vectors[v], d, sums + v * kStep);
  return TotalWithRest(sums, i, codes, zero_point, scale, x);
}

#endif

}  // namespace
}  // namespace pairs

namespace {
using pairs::ConvertFloats;
using pairs::LargestMagnitudeBits;
using pairs::SumSquaredErrors;
}  // namespace

}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(ConvertFloats);
HWY_EXPORT(LargestMagnitudeBits);
HWY_EXPORT(SumSquaredErrors);
}  // namespace

namespace simd {

void ConvertFloats(const Weights& x, std::size_t n, FloatType type, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(ConvertFloats)(x, n, type, out);
}

float LargestMagnitude(const Weights& x, std::size_t n) {
  return std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(LargestMagnitudeBits)(x, n));
}

std::size_t FirstNonFinite(std::span<const float> x) {
  const bool are_finite = IsFinite(LargestMagnitude(Weights(x.data()), x.size()));
  return are_finite ? x.size() : phiq::FirstNonFinite(x);
}

double SumSquaredErrors(std::span<const std::uint8_t> codes, int zero_point, float scale,
                        std::span<const float> x) {
  return HWY_DYNAMIC_DISPATCH(SumSquaredErrors)(codes, zero_point, scale, x.data());
}

}  // namespace simd
}  // namespace phiq
#endif
