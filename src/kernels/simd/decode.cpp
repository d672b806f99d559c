// Blocks and groups back to weights. These are the plain loops, which compilers make SIMD of: for
// the least that a processor may have, and again for each instruction set. A product of scales is
// rounded before it meets the code, as in llama.cpp.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/decode.cpp"
#include "kernels/simd/decode.h"

#include <algorithm>
#include <cstring>

#include "base/half.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_pack.h"
#include "kernels/simd/foreach_target.h"
#include "kernels/small_floats.h"
// Last.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace phiq {
namespace HWY_NAMESPACE {
namespace {

float ToFloat(int code) noexcept { return static_cast<float>(code); }

// Inner loops below have one shift and one scale each, and bytes one behind the other: compilers
// make SIMD of them.

// The codes of 32 weights in 16 bytes, element i + 16 in the high nibble of byte i.
template <typename Value>
void DecodeNibbles(const std::uint8_t* q, Value value, float* x) noexcept {
  for (std::size_t i = 0; i < 16; ++i) x[i] = value(q[i] & 15, i);
  for (std::size_t i = 0; i < 16; ++i) x[i + 16] = value(q[i] >> 4, i + 16);
}

// Bit e of `qh`, as bit 4 of a code.
void UnpackHighBits(const std::uint8_t* qh, std::uint8_t* bits) noexcept {
  for (std::size_t e = 0; e < 32; ++e)
    bits[e] = static_cast<std::uint8_t>(((qh[e / 8] >> (e % 8)) & 1) << 4);
}

void DecodeBlock(const BlockQ8_0& block, BlockOutput<BlockQ8_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t e = 0; e < 32; ++e) x[e] = d * ToFloat(block.q[e]);
}

void DecodeBlock(const BlockQ4_0& block, BlockOutput<BlockQ4_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  DecodeNibbles(
      block.q, [d](int code, std::size_t) { return d * ToFloat(code - 8); }, x.data());
}

void DecodeBlock(const BlockQ4_1& block, BlockOutput<BlockQ4_1> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float m = Fp16ToFloat(block.m);
  DecodeNibbles(
      block.q, [d, m](int code, std::size_t) { return d * ToFloat(code) + m; }, x.data());
}

void DecodeBlock(const BlockQ5_0& block, BlockOutput<BlockQ5_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  std::uint8_t high[32];
  UnpackHighBits(block.qh, high);
  const auto value = [&](int code, std::size_t e) { return d * ToFloat((code | high[e]) - 16); };
  DecodeNibbles(block.q, value, x.data());
}

void DecodeBlock(const BlockQ5_1& block, BlockOutput<BlockQ5_1> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float m = Fp16ToFloat(block.m);
  std::uint8_t high[32];
  UnpackHighBits(block.qh, high);
  const auto value = [&](int code, std::size_t e) { return d * ToFloat(code | high[e]) + m; };
  DecodeNibbles(block.q, value, x.data());
}

// Q2_K and Q3_K keep four codes in a byte: halves of 128 use 32 bytes each, and the byte of column
// c holds elements c, c + 32, c + 64 and c + 96 from bit 0 up.

void DecodeBlock(const BlockQ2_K& block, BlockOutput<BlockQ2_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 16; ++j) {
    const float scale = d * ToFloat(block.scales[j] & 15);
    const float min = dmin * ToFloat(block.scales[j] >> 4);
    const std::uint8_t* const q = block.q + 32 * (j / 8) + 16 * (j % 2);
    const int shift = static_cast<int>(j % 8 / 2 * 2);
    float* const out = &x[16 * j];
    for (std::size_t i = 0; i < 16; ++i) out[i] = scale * ToFloat((q[i] >> shift) & 3) - min;
  }
}

void DecodeBlock(const BlockQ3_K& block, BlockOutput<BlockQ3_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    const float scale = d * ToFloat(UnpackQ3Scale(block.scales, j));
    const std::uint8_t* const q = block.q + 32 * (j / 8) + 16 * (j % 2);
    const std::uint8_t* const hmask = block.hmask + 16 * (j % 2);
    const int shift = static_cast<int>(j % 8 / 2 * 2);
    const int bit = static_cast<int>(j / 2);
    float* const out = &x[16 * j];
    for (std::size_t i = 0; i < 16; ++i) {
      const int low = (q[i] >> shift) & 3;
      const int high = (hmask[i] >> bit) & 1;
      out[i] = scale * ToFloat((low | (high << 2)) - 4);
    }
  }
}

// Q4_K and Q5_K keep two codes in a byte: each 64 elements use 32 bytes, the first 32 elements the
// low nibbles.

void DecodeBlock(const BlockQ4_K& block, BlockOutput<BlockQ4_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleAndMin s = UnpackScaleAndMin(block.scales, j);
    const float scale = d * ToFloat(s.scale);
    const float min = dmin * ToFloat(s.min);
    for (std::size_t i = 0; i < 32; ++i) {
      const int code = (block.q[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
      x[32 * j + i] = scale * ToFloat(code) - min;
    }
  }
}

void DecodeBlock(const BlockQ5_K& block, BlockOutput<BlockQ5_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleAndMin s = UnpackScaleAndMin(block.scales, j);
    const float scale = d * ToFloat(s.scale);
    const float min = dmin * ToFloat(s.min);
    for (std::size_t i = 0; i < 32; ++i) {
      const int low = (block.q[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
      const int high = (block.qh[i] >> j) & 1;
      x[32 * j + i] = scale * ToFloat(low | (high << 4)) - min;
    }
  }
}

// Q6_K: halves of 128 use 64 bytes of ql and 32 of qh. Run k of 32 elements takes nibble k / 2 of
// bytes 32 * (k % 2) on, and bits 2k of qh.
void DecodeBlock(const BlockQ6_K& block, BlockOutput<BlockQ6_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    const float scale = d * ToFloat(block.scales[j]);
    const std::size_t half = j / 8;
    const std::size_t k = j % 8 / 2;
    const std::uint8_t* const ql = block.ql + 64 * half + 32 * (k % 2) + 16 * (j % 2);
    const std::uint8_t* const qh = block.qh + 32 * half + 16 * (j % 2);
    const int low_shift = static_cast<int>(4 * (k / 2));
    const int high_shift = static_cast<int>(2 * k);
    float* const out = &x[16 * j];
    for (std::size_t i = 0; i < 16; ++i) {
      const int low = (ql[i] >> low_shift) & 15;
      const int high = (qh[i] >> high_shift) & 3;
      out[i] = scale * ToFloat((low | (high << 4)) - 32);
    }
  }
}

void DecodeBlock(const BlockIQ4_NL& block, BlockOutput<BlockIQ4_NL> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  DecodeNibbles(
      block.q, [d](int code, std::size_t) { return d * ToFloat(kIq4Values[code]); }, x.data());
}

void DecodeBlock(const BlockIQ4_XS& block, BlockOutput<BlockIQ4_XS> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 8; ++j) {
    const float scale = d * ToFloat(UnpackIq4Scale(block, j));
    DecodeNibbles(
        block.q + 16 * j,
        [scale](int code, std::size_t) { return scale * ToFloat(kIq4Values[code]); }, &x[32 * j]);
  }
}

template <typename Block>
void DecodeAll(const std::byte* blocks, std::size_t n_blocks, float* x) {
  for (std::size_t b = 0; b < n_blocks; ++b) {
    Block block;
    std::memcpy(&block, blocks + b * sizeof(Block), sizeof(Block));
    DecodeBlock(block, BlockOutput<Block>(x + b * Block::kSize, Block::kSize));
  }
}

void DecodeBlocks(GgmlType type, const std::byte* blocks, std::size_t n_blocks, float* x) {
  switch (type) {
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;  // ConvertFloats
    case GgmlType::kQ4_0:
      return DecodeAll<BlockQ4_0>(blocks, n_blocks, x);
    case GgmlType::kQ4_1:
      return DecodeAll<BlockQ4_1>(blocks, n_blocks, x);
    case GgmlType::kQ5_0:
      return DecodeAll<BlockQ5_0>(blocks, n_blocks, x);
    case GgmlType::kQ5_1:
      return DecodeAll<BlockQ5_1>(blocks, n_blocks, x);
    case GgmlType::kQ8_0:
      return DecodeAll<BlockQ8_0>(blocks, n_blocks, x);
    case GgmlType::kQ2_K:
      return DecodeAll<BlockQ2_K>(blocks, n_blocks, x);
    case GgmlType::kQ3_K:
      return DecodeAll<BlockQ3_K>(blocks, n_blocks, x);
    case GgmlType::kQ4_K:
      return DecodeAll<BlockQ4_K>(blocks, n_blocks, x);
    case GgmlType::kQ5_K:
      return DecodeAll<BlockQ5_K>(blocks, n_blocks, x);
    case GgmlType::kQ6_K:
      return DecodeAll<BlockQ6_K>(blocks, n_blocks, x);
    case GgmlType::kIQ4_NL:
      return DecodeAll<BlockIQ4_NL>(blocks, n_blocks, x);
    case GgmlType::kIQ4_XS:
      return DecodeAll<BlockIQ4_XS>(blocks, n_blocks, x);
  }
}

// The value of a code in a group: scale * (value - zero), with the bias added.
template <typename Value>
void DecodeGroup(const std::uint8_t* __restrict codes, std::size_t n, Value value,
                 const float* bias, float* __restrict x) {
  for (std::size_t i = 0; i < n; ++i) x[i] = value(codes[i]);
  if (bias == nullptr) return;
  for (std::size_t i = 0; i < n; ++i) x[i] += *bias;
}

void DecodeCodes(const std::uint8_t* codes, std::size_t n, const simd::CodedGroups& groups,
                 float* x) {
  for (std::size_t g = 0, begin = 0; begin < n; ++g, begin += groups.size) {
    const std::size_t size = std::min(groups.size, n - begin);
    const float scale = groups.scales[g];
    const float* const bias = groups.biases == nullptr ? nullptr : groups.biases + g;
    if (groups.code == Code::kE2M1) {
      const auto value = [scale](std::uint8_t q) { return scale * kE2m1Values[q & 15]; };
      DecodeGroup(codes + begin, size, value, bias, x + begin);
    } else if (groups.code == Code::kE4M3) {
      const auto value = [scale](std::uint8_t q) { return scale * kE4m3Values[q]; };
      DecodeGroup(codes + begin, size, value, bias, x + begin);
    } else {
      const int zero = groups.zero_points[g];
      const auto value = [scale, zero](std::uint8_t q) { return scale * ToFloat(q - zero); };
      DecodeGroup(codes + begin, size, value, bias, x + begin);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace phiq
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace phiq {
namespace {
HWY_EXPORT(DecodeBlocks);
HWY_EXPORT(DecodeCodes);
}  // namespace

namespace simd {

void DecodeBlocks(GgmlType type, const std::byte* blocks, std::size_t n_blocks, float* x) {
  HWY_DYNAMIC_DISPATCH(DecodeBlocks)(type, blocks, n_blocks, x);
}

void DecodeCodes(const std::uint8_t* codes, std::size_t n, const CodedGroups& groups, float* x) {
  HWY_DYNAMIC_DISPATCH(DecodeCodes)(codes, n, groups, x);
}

}  // namespace simd
}  // namespace phiq
#endif
