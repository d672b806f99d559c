// The tensor types of GGUF files: block sizes, and what blocks decode to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace phiq {

// On disk: never renumber (ggml's type codes).
enum class GgmlType : std::int32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kBF16 = 30,
};

struct GgmlTypeInfo {
  GgmlType type;
  std::string_view name;    // "Q4_K"
  std::size_t block_size;   // weights in a block
  std::size_t block_bytes;  // bytes of a block on disk
};

// Every type phiq reads and writes, in the order of the enumeration.
std::span<const GgmlTypeInfo> GgmlTypes() noexcept;
const GgmlTypeInfo& GetGgmlTypeInfo(GgmlType type) noexcept;
// By name, any case ("q4_k"); nullopt when phiq does not do it.
std::optional<GgmlType> FindGgmlType(std::string_view name) noexcept;
// By on-disk code; nullopt when phiq does not do it.
std::optional<GgmlType> FindGgmlType(std::int32_t code) noexcept;

// Bytes of a row of n weights. Requires n to be a multiple of the block size.
std::size_t GgmlRowBytes(GgmlType type, std::size_t n) noexcept;

// Decodes one row. Any bytes are allowed (no undefined behaviour); NaN and Inf scales give NaN or
// Inf weights.
void DequantizeGgmlRow(GgmlType type, std::span<const std::byte> in, std::span<float> x) noexcept;

// Index of the first block whose scale or min is NaN or Inf (F32, F16, BF16: of the first such
// element); nullopt when all are finite.
std::optional<std::size_t> FindNonFinite(GgmlType type, std::span<const std::byte> blocks) noexcept;

}  // namespace phiq
