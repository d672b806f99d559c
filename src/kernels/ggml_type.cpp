// The table of GGUF tensor types, and rows to blocks and back.
#include "phiq/ggml_type.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/ascii.h"
#include "kernels/ggml_blocks.h"
#include "kernels/ggml_plain.h"
#include "kernels/ggml_rows.h"
#include "kernels/simd/decode.h"
#include "kernels/simd/floats.h"
#include "kernels/simd/ggml.h"

namespace phiq {
namespace {

bool IsFiniteHalf(Half h) noexcept { return (h & 0x7C00U) != 0x7C00U; }

bool IsFiniteBlock(const BlockF32& block) noexcept { return std::isfinite(block.x); }
bool IsFiniteBlock(const BlockF16& block) noexcept { return IsFiniteHalf(block.x); }
bool IsFiniteBlock(const BlockBF16& block) noexcept { return (block.x & 0x7F80U) != 0x7F80U; }

template <typename Block>
bool IsFiniteBlock(const Block& block) noexcept {
  if constexpr (requires { block.dmin; }) {
    if (!IsFiniteHalf(block.dmin)) return false;
  }
  if constexpr (requires { block.m; }) {
    if (!IsFiniteHalf(block.m)) return false;
  }
  return IsFiniteHalf(block.d);
}

template <typename Block>
std::optional<std::size_t> FindNonFiniteBlock(std::span<const std::byte> blocks) noexcept {
  const auto is_finite = [&](std::size_t b) {
    Block block;
    std::memcpy(&block, blocks.data() + b * sizeof(Block), sizeof(Block));
    return IsFiniteBlock(block);
  };
  // Many at once, without a branch for each.
  constexpr std::size_t kAtOnce = 32;
  const std::size_t n_blocks = blocks.size() / sizeof(Block);
  std::size_t b = 0;
  for (; b + kAtOnce <= n_blocks; b += kAtOnce) {
    unsigned n_finite = 0;
    for (std::size_t i = 0; i < kAtOnce; ++i) n_finite += is_finite(b + i) ? 1U : 0U;
    if (n_finite < kAtOnce) break;
  }
  for (; b < n_blocks; ++b)
    if (!is_finite(b)) return b;
  return std::nullopt;
}

// Floats: the magnitudes of many are looked at at once.
template <typename Block, FloatType kType>
std::optional<std::size_t> FindNonFiniteFloat(std::span<const std::byte> floats) noexcept {
  const float largest =
      simd::LargestMagnitude({kType, floats.data()}, floats.size() / sizeof(Block));
  return std::isfinite(largest) ? std::nullopt : FindNonFiniteBlock<Block>(floats);
}

using Encoder = void (*)(const Weights& x, std::size_t n_blocks, std::byte* out);

struct RowCodec {
  Encoder encode;
  void (*encode_with)(std::span<const float> importance, std::span<const float> x,
                      std::span<std::byte> out) noexcept;
  std::optional<std::size_t> (*find_non_finite)(std::span<const std::byte> blocks) noexcept;
};

struct Entry {
  GgmlTypeInfo info;
  RowCodec codec;
};

template <typename Block>
constexpr Entry MakeEntry(GgmlType type, std::string_view name,
                          Encoder encode = EncodePlain<Block>) {
  return {{type, name, Block::kSize, sizeof(Block)},
          {encode, EncodePlainWith<Block>, FindNonFiniteBlock<Block>}};
}

template <FloatType kType>
void EncodeFloats(const Weights& x, std::size_t n, std::byte* out) {
  simd::ConvertFloats(x, n, kType, out);
}

template <typename Block, FloatType kType>
constexpr Entry MakeFloatEntry(GgmlType type, std::string_view name) {
  return {{type, name, 1, sizeof(Block)},
          {EncodeFloats<kType>, EncodePlainWith<Block>, FindNonFiniteFloat<Block, kType>}};
}

constexpr std::array kEntries = {
    MakeFloatEntry<BlockF32, FloatType::kF32>(GgmlType::kF32, "F32"),
    MakeFloatEntry<BlockF16, FloatType::kF16>(GgmlType::kF16, "F16"),
    MakeEntry<BlockQ4_0>(GgmlType::kQ4_0, "Q4_0", simd::EncodeQ4_0),
    MakeEntry<BlockQ4_1>(GgmlType::kQ4_1, "Q4_1", simd::EncodeQ4_1),
    MakeEntry<BlockQ5_0>(GgmlType::kQ5_0, "Q5_0", simd::EncodeQ5_0),
    MakeEntry<BlockQ5_1>(GgmlType::kQ5_1, "Q5_1", simd::EncodeQ5_1),
    MakeEntry<BlockQ8_0>(GgmlType::kQ8_0, "Q8_0", simd::EncodeQ8_0),
    MakeEntry<BlockQ2_K>(GgmlType::kQ2_K, "Q2_K", simd::EncodeQ2_K),
    MakeEntry<BlockQ3_K>(GgmlType::kQ3_K, "Q3_K", simd::EncodeQ3_K),
    MakeEntry<BlockQ4_K>(GgmlType::kQ4_K, "Q4_K", simd::EncodeQ4_K),
    MakeEntry<BlockQ5_K>(GgmlType::kQ5_K, "Q5_K", simd::EncodeQ5_K),
    MakeEntry<BlockQ6_K>(GgmlType::kQ6_K, "Q6_K", simd::EncodeQ6_K),
    MakeEntry<BlockIQ4_NL>(GgmlType::kIQ4_NL, "IQ4_NL", simd::EncodeIQ4_NL),
    MakeEntry<BlockIQ4_XS>(GgmlType::kIQ4_XS, "IQ4_XS", simd::EncodeIQ4_XS),
    MakeFloatEntry<BlockBF16, FloatType::kBF16>(GgmlType::kBF16, "BF16"),
};

constexpr auto kInfos = [] {
  std::array<GgmlTypeInfo, kEntries.size()> infos{};
  for (std::size_t i = 0; i < infos.size(); ++i) infos[i] = kEntries[i].info;
  return infos;
}();

const Entry& FindEntry(GgmlType type) noexcept {
  const auto* entry = std::find_if(kEntries.begin(), kEntries.end(),
                                   [type](const Entry& e) { return e.info.type == type; });
  assert(entry != kEntries.end());
  return *entry;
}

}  // namespace

std::span<const GgmlTypeInfo> GgmlTypes() noexcept { return kInfos; }

const GgmlTypeInfo& GetGgmlTypeInfo(GgmlType type) noexcept { return FindEntry(type).info; }

std::optional<GgmlType> FindGgmlType(std::string_view name) noexcept {
  for (const GgmlTypeInfo& info : kInfos) {
    if (EqualsIgnoringCase(name, info.name)) return info.type;
  }
  return std::nullopt;
}

std::optional<GgmlType> FindGgmlType(std::int32_t code) noexcept {
  for (const GgmlTypeInfo& info : kInfos) {
    if (static_cast<std::int32_t>(info.type) == code) return info.type;
  }
  return std::nullopt;
}

std::size_t GgmlRowBytes(GgmlType type, std::size_t n) noexcept {
  const GgmlTypeInfo& info = GetGgmlTypeInfo(type);
  assert(n % info.block_size == 0);
  return n / info.block_size * info.block_bytes;
}

void QuantizeGgmlRow(GgmlType type, const Weights& x, std::size_t n,
                     std::span<std::byte> out) noexcept {
  assert(out.size() == GgmlRowBytes(type, n));
  const Entry& entry = FindEntry(type);
  entry.codec.encode(x, n / entry.info.block_size, out.data());
}

void QuantizeGgmlRow(GgmlType type, std::span<const float> importance, std::span<const float> x,
                     std::span<std::byte> out) noexcept {
  assert(importance.size() == x.size() && out.size() == GgmlRowBytes(type, x.size()));
  FindEntry(type).codec.encode_with(importance, x, out);
}

void DequantizeGgmlRow(GgmlType type, std::span<const std::byte> in, std::span<float> x) noexcept {
  assert(in.size() == GgmlRowBytes(type, x.size()));
  const auto floats = [&](FloatType float_type) {
    simd::ConvertFloats({float_type, in.data()}, x.size(), FloatType::kF32,
                        std::as_writable_bytes(x).data());
  };
  if (type == GgmlType::kF32) return floats(FloatType::kF32);
  if (type == GgmlType::kF16) return floats(FloatType::kF16);
  if (type == GgmlType::kBF16) return floats(FloatType::kBF16);
  simd::DecodeBlocks(type, in.data(), x.size() / GetGgmlTypeInfo(type).block_size, x.data());
}

std::optional<std::size_t> FindNonFinite(GgmlType type,
                                         std::span<const std::byte> blocks) noexcept {
  return FindEntry(type).codec.find_non_finite(blocks);
}

}  // namespace phiq
