// Decoders of all blocks. A product of scales is rounded before it meets the code, as in llama.cpp.
#include "base/half.h"
#include "kernels/ggml_blocks.h"

namespace phiq {
namespace {

// The 4-bit code of element e of 32 in 16 bytes.
int Nibble(const std::uint8_t* q, std::size_t e) noexcept {
  return (q[e % 16] >> (4 * (e / 16))) & 15;
}

int HighBit(const std::uint8_t* qh, std::size_t e) noexcept { return (qh[e / 8] >> (e % 8)) & 1; }

float ToFloat(int code) noexcept { return static_cast<float>(code); }

}  // namespace

void DecodeBlock(const BlockQ8_0& block, BlockOutput<BlockQ8_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t e = 0; e < 32; ++e) x[e] = d * ToFloat(block.q[e]);
}

void DecodeBlock(const BlockQ4_0& block, BlockOutput<BlockQ4_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t e = 0; e < 32; ++e) x[e] = d * ToFloat(Nibble(block.q, e) - 8);
}

void DecodeBlock(const BlockQ4_1& block, BlockOutput<BlockQ4_1> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float m = Fp16ToFloat(block.m);
  for (std::size_t e = 0; e < 32; ++e) x[e] = d * ToFloat(Nibble(block.q, e)) + m;
}

void DecodeBlock(const BlockQ5_0& block, BlockOutput<BlockQ5_0> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t e = 0; e < 32; ++e) {
    x[e] = d * ToFloat((Nibble(block.q, e) | (HighBit(block.qh, e) << 4)) - 16);
  }
}

void DecodeBlock(const BlockQ5_1& block, BlockOutput<BlockQ5_1> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float m = Fp16ToFloat(block.m);
  for (std::size_t e = 0; e < 32; ++e) {
    x[e] = d * ToFloat(Nibble(block.q, e) | (HighBit(block.qh, e) << 4)) + m;
  }
}

// Q2_K and Q3_K keep four codes in a byte: halves of 128 use 32 bytes each, and the byte of column
// c holds elements c, c + 32, c + 64 and c + 96 from bit 0 up.

void DecodeBlock(const BlockQ2_K& block, BlockOutput<BlockQ2_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  const float dmin = Fp16ToFloat(block.dmin);
  for (std::size_t j = 0; j < 16; ++j) {
    const float scale = d * ToFloat(block.scales[j] & 15);
    const float min = dmin * ToFloat(block.scales[j] >> 4);
    for (std::size_t e = 16 * j; e < 16 * j + 16; ++e) {
      const int code = (block.q[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3;
      x[e] = scale * ToFloat(code) - min;
    }
  }
}

void DecodeBlock(const BlockQ3_K& block, BlockOutput<BlockQ3_K> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 16; ++j) {
    const float scale = d * ToFloat(UnpackQ3Scale(block.scales, j));
    for (std::size_t e = 16 * j; e < 16 * j + 16; ++e) {
      const int low = (block.q[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3;
      const int high = (block.hmask[e % 32] >> (e / 32)) & 1;
      x[e] = scale * ToFloat((low | (high << 2)) - 4);
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
    for (std::size_t e = 16 * j; e < 16 * j + 16; ++e) {
      const std::size_t half = e / 128;
      const std::size_t k = e % 128 / 32;
      const std::size_t i = e % 32;
      const int low = (block.ql[64 * half + 32 * (k % 2) + i] >> (4 * (k / 2))) & 15;
      const int high = (block.qh[32 * half + i] >> (2 * k)) & 3;
      x[e] = scale * ToFloat((low | (high << 4)) - 32);
    }
  }
}

void DecodeBlock(const BlockIQ4_NL& block, BlockOutput<BlockIQ4_NL> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t e = 0; e < 32; ++e) x[e] = d * ToFloat(kIq4Values[Nibble(block.q, e)]);
}

void DecodeBlock(const BlockIQ4_XS& block, BlockOutput<BlockIQ4_XS> x) noexcept {
  const float d = Fp16ToFloat(block.d);
  for (std::size_t j = 0; j < 8; ++j) {
    const float scale = d * ToFloat(UnpackIq4Scale(block, j));
    for (std::size_t i = 0; i < 32; ++i) {
      x[32 * j + i] = scale * ToFloat(kIq4Values[Nibble(block.q + 16 * j, i)]);
    }
  }
}

}  // namespace phiq
