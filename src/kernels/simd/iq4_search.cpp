// IQ4_NL and IQ4_XS: SearchScale (kernels/ggml_iq4.cpp) for a batch of sub-blocks at once, one in
// each lane.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/iq4_search.cpp"
#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "kernels/ggml_blocks.h"
#include "kernels/ggml_plain.h"
#include "kernels/ggml_scales.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/simd/ggml.h"
#include "kernels/simd/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

template <typename Block>
void EncodeIq4(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodePlain<Block>(x, n_blocks, out);
}

#else

constexpr std::size_t kRun = 32;
constexpr std::size_t kSize = kRun * kBatch;

// Half way between entries i and i + 1 of the table.
constexpr float Midpoint(std::size_t i) {
  return 0.5F * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]);
}
constexpr float Value(std::size_t i) { return static_cast<float>(kIq4Values[i]); }

// The index of the nearest entry, the upper one on ties and 0 for NaN, as its four bits: each says
// on which side of a midpoint the number is, and with those before it which midpoint is next.
struct Entry {
  FloatMask bit3, bit2, bit1, bit0;
};

#if HWY_TARGET <= HWY_AVX2

// A register holds eight entries: those of a binary search's last two steps, and the values of even
// and of odd indices.
class Table {
 public:
  Table() {
    alignas(64) float third[kLanes], fourth[kLanes], even[kLanes], odd[kLanes];
    for (std::size_t i = 0; i < kLanes; ++i) {
      third[i] = Midpoint(2 * (i % 8 & 6U) + 1);
      fourth[i] = Midpoint(2 * (i % 8));
      even[i] = Value(2 * (i % 8));
      odd[i] = Value(2 * (i % 8) + 1);
    }
    third_ = Load(third);
    fourth_ = Load(fourth);
    even_ = Load(even);
    odd_ = Load(odd);
  }

  // The entry, and in `position` its index without bit 0.
  HWY_INLINE Entry Nearest(F v, I& position) const {
    Entry entry;
    entry.bit3 = hn::Ge(v, Set(Midpoint(7)));
    entry.bit2 = hn::Ge(v, hn::IfThenElse(entry.bit3, Set(Midpoint(11)), Set(Midpoint(3))));
    position = hn::Or(Bit(entry.bit3, 4), Bit(entry.bit2, 2));
    entry.bit1 = hn::Ge(v, Look(third_, position));
    position = hn::Or(position, Bit(entry.bit1, 1));
    entry.bit0 = hn::Ge(v, Look(fourth_, position));
    return entry;
  }
  HWY_INLINE F NearestValue(F v) const {
    I position;
    const Entry entry = Nearest(v, position);
    return hn::IfThenElse(entry.bit0, Look(odd_, position), Look(even_, position));
  }
  HWY_INLINE I NearestIndex(F v) const {
    I position;
    const Entry entry = Nearest(v, position);
    return hn::Or(hn::ShiftLeft<1>(position), Bit(entry.bit0, 1));
  }

 private:
  static HWY_INLINE I Bit(FloatMask mask, std::int32_t value) {
    return hn::IfThenElseZero(hn::RebindMask(Ints(), mask), hn::Set(Ints(), value));
  }
  static HWY_INLINE F Look(F table, I position) {
    return hn::TableLookupLanes(table, hn::IndicesFromVec(Floats(), position));
  }

  F third_, fourth_, even_, odd_;
};

#else

// Registers of four entries are no table: a tree of choices.
class Table {
 public:
  HWY_INLINE F NearestValue(F v) const {
    const Entry entry = Nearest(v);
    return hn::IfThenElse(entry.bit0,
                          Choose(entry, Value(1), Value(3), Value(5), Value(7), Value(9), Value(11),
                                 Value(13), Value(15)),
                          Choose(entry, Value(0), Value(2), Value(4), Value(6), Value(8), Value(10),
                                 Value(12), Value(14)));
  }
  HWY_INLINE I NearestIndex(F v) const {
    const Entry entry = Nearest(v);
    return hn::Or(hn::Or(Bit(entry.bit3, 8), Bit(entry.bit2, 4)),
                  hn::Or(Bit(entry.bit1, 2), Bit(entry.bit0, 1)));
  }

 private:
  static HWY_INLINE I Bit(FloatMask mask, std::int32_t value) {
    return hn::IfThenElseZero(hn::RebindMask(Ints(), mask), hn::Set(Ints(), value));
  }
  static HWY_INLINE F Choose(const Entry& entry, float v0, float v1, float v2, float v3) {
    return hn::IfThenElse(entry.bit3, hn::IfThenElse(entry.bit2, Set(v3), Set(v2)),
                          hn::IfThenElse(entry.bit2, Set(v1), Set(v0)));
  }
  static HWY_INLINE F Choose(const Entry& entry, float v0, float v1, float v2, float v3, float v4,
                             float v5, float v6, float v7) {
    return hn::IfThenElse(entry.bit1, Choose(entry, v1, v3, v5, v7), Choose(entry, v0, v2, v4, v6));
  }
  HWY_INLINE Entry Nearest(F v) const {
    Entry entry;
    entry.bit3 = hn::Ge(v, Set(Midpoint(7)));
    entry.bit2 = hn::Ge(v, hn::IfThenElse(entry.bit3, Set(Midpoint(11)), Set(Midpoint(3))));
    entry.bit1 = hn::Ge(v, Choose(entry, Midpoint(1), Midpoint(5), Midpoint(9), Midpoint(13)));
    entry.bit0 = hn::Ge(v, Choose(entry, Midpoint(0), Midpoint(2), Midpoint(4), Midpoint(6),
                                  Midpoint(8), Midpoint(10), Midpoint(12), Midpoint(14)));
    return entry;
  }
};

#endif

// A batch in columns: element e of lane l at [e * kBatch + l].
struct Columns {
  alignas(64) float x[kSize], weight[kSize];
};

struct Sums {
  F xq[kSide], qq[kSide];
};

HWY_INLINE void FitCodes(const Columns& columns, const Table& table, const F* inv, Sums& sums) {
  for (std::size_t k = 0; k < kSide; ++k) sums.xq[k] = sums.qq[k] = Set(0.0F);
  for (std::size_t i = 0; i < kSize; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const F x = Load(columns.x + i + k * kLanes);
      const F value = table.NearestValue(hn::Mul(inv[k], x));
      const F weighted = hn::Mul(Load(columns.weight + i + k * kLanes), value);
      sums.xq[k] = hn::Add(sums.xq[k], hn::Mul(weighted, x));
      sums.qq[k] = hn::Add(sums.qq[k], hn::Mul(weighted, value));
    }
  }
}

// SearchScale for every lane. False: some weight is too large to be searched.
bool Search(Columns& columns, const Table& table, float* scales) {
  const F zero = Set(0.0F);
  F amax[kSide], extreme[kSide];
  for (std::size_t k = 0; k < kSide; ++k) amax[k] = extreme[k] = zero;
  for (std::size_t i = 0; i < kSize; i += kBatch) {
    for (std::size_t k = 0; k < kSide; ++k) {
      const F x = Load(columns.x + i + k * kLanes);
      const F magnitude = hn::Abs(x);
      extreme[k] = hn::IfThenElse(hn::Gt(magnitude, amax[k]), x, extreme[k]);
      amax[k] = hn::Max(magnitude, amax[k]);
      Store(hn::Mul(x, x), columns.weight + i + k * kLanes);
    }
  }
  FloatMask in_range = hn::Le(zero, zero);
  FloatMask is_negligible[kSide];
  F inv[kSide], scale[kSide], best_gain[kSide];
  const F lowest = Set(Value(0));
  for (std::size_t k = 0; k < kSide; ++k) {
    in_range = hn::And(in_range, hn::Le(amax[k], Set(kLargestSearched)));
    is_negligible[k] = hn::Lt(amax[k], Set(kNegligible));
    extreme[k] = hn::IfThenElse(is_negligible[k], Set(1.0F), extreme[k]);
    inv[k] = hn::Div(Set(1.0F), hn::Div(hn::Neg(extreme[k]), lowest));
  }
  if (!hn::AllTrue(Floats(), in_range)) return false;
  Sums sums;
  FitCodes(columns, table, inv, sums);
  for (std::size_t k = 0; k < kSide; ++k) {
    scale[k] = hn::Div(sums.xq[k], sums.qq[k]);
    best_gain[k] = hn::Mul(scale[k], sums.xq[k]);
  }
  for (int step = -7; step <= 7; ++step) {
    const F divisor = Set(static_cast<float>(step) + Value(0));
    for (std::size_t k = 0; k < kSide; ++k) inv[k] = hn::Div(divisor, extreme[k]);
    FitCodes(columns, table, inv, sums);
    for (std::size_t k = 0; k < kSide; ++k) {
      const F xq = sums.xq[k], qq = sums.qq[k];
      const FloatMask is_better =
          hn::And(hn::Gt(qq, zero), hn::Gt(hn::Mul(xq, xq), hn::Mul(best_gain[k], qq)));
      const F new_scale = hn::Div(xq, qq);
      scale[k] = hn::IfThenElse(is_better, new_scale, scale[k]);
      best_gain[k] = hn::IfThenElse(is_better, hn::Mul(new_scale, xq), best_gain[k]);
    }
  }
  for (std::size_t k = 0; k < kSide; ++k)
    Store(hn::IfThenElse(is_negligible[k], zero, scale[k]), scales + k * kLanes);
  return true;
}

// The codes of 32 weights: elements i and i + 16 share a byte.
HWY_INLINE void EncodeCodes(const Table& table, const float* x, float inv_scale, std::uint8_t* q) {
  const F inv = Set(inv_scale);
  for (std::size_t i = 0; i < 16; i += kLanes) {
    const I low = table.NearestIndex(hn::Mul(inv, Load(x + i)));
    const I high = table.NearestIndex(hn::Mul(inv, Load(x + i + 16)));
    StoreBytes(hn::Or(low, hn::ShiftLeft<4>(high)), q + i);
  }
}

HWY_INLINE void Encode(const Table& table, const float* x, const float* scales,
                       BlockIQ4_NL& block) {
  block.d = FloatToFp16(scales[0]);
  EncodeCodes(table, x, InverseOrZero(scales[0]), block.q);
}

HWY_INLINE void Encode(const Table& table, const float* x, const float* scales,
                       BlockIQ4_XS& block) {
  std::array<float, 8> stored;
  StoreIq4Scales(std::span<const float, 8>(scales, 8), block, stored);
  for (std::size_t j = 0; j < 8; ++j)
    EncodeCodes(table, x + kRun * j, InverseOrZero(stored[j]), block.q + 16 * j);
}

template <typename Block>
void EncodeIq4(const Weights& x, std::size_t n_blocks, std::byte* out) {
  alignas(64) float scales[kBatch];
  Columns columns;
  const Table table;
  const auto search = [&]() HWY_ATTR { return Search(columns, table, scales); };
  const auto encode = [&](const float* rows, std::size_t lane, Block& block)
                          HWY_ATTR { Encode(table, rows, scales + lane, block); };
  EncodeBatches<Block, kRun>(x, n_blocks, out, columns.x, search, encode);
}

#endif

void EncodeIQ4_NL(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeIq4<BlockIQ4_NL>(x, n_blocks, out);
}
void EncodeIQ4_XS(const Weights& x, std::size_t n_blocks, std::byte* out) {
  EncodeIq4<BlockIQ4_XS>(x, n_blocks, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(EncodeIQ4_NL);
HWY_EXPORT(EncodeIQ4_XS);
}  // namespace

namespace simd {

void EncodeIQ4_NL(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeIQ4_NL)(x, n_blocks, out);
}
void EncodeIQ4_XS(const Weights& x, std::size_t n_blocks, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(EncodeIQ4_XS)(x, n_blocks, out);
}

}  // namespace simd
}  // namespace phiq
#endif
