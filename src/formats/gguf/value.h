// Metadata of a GGUF file: keys with typed values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/safe_variant.h"

namespace phiq::gguf {

// On disk: never renumber.
enum class ValueType : std::int32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// The alternatives are in the order of no code: TypeOf maps them. llama.cpp checks types exactly,
// so a u32 must be a std::uint32_t here.
using Value =
    SafeVariant<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
                float, bool, std::string, std::uint64_t, std::int64_t, double,
                std::vector<std::uint8_t>, std::vector<std::int8_t>, std::vector<std::uint16_t>,
                std::vector<std::int16_t>, std::vector<std::uint32_t>, std::vector<std::int32_t>,
                std::vector<float>, std::vector<bool>, std::vector<std::string>,
                std::vector<std::uint64_t>, std::vector<std::int64_t>, std::vector<double>>;

// In file order; keys are unique.
using Metadata = std::vector<std::pair<std::string, Value>>;

// The code of a scalar type.
template <typename T>
constexpr ValueType ScalarType() noexcept {
  if constexpr (std::is_same_v<T, std::uint8_t>) return ValueType::kU8;
  if constexpr (std::is_same_v<T, std::int8_t>) return ValueType::kI8;
  if constexpr (std::is_same_v<T, std::uint16_t>) return ValueType::kU16;
  if constexpr (std::is_same_v<T, std::int16_t>) return ValueType::kI16;
  if constexpr (std::is_same_v<T, std::uint32_t>) return ValueType::kU32;
  if constexpr (std::is_same_v<T, std::int32_t>) return ValueType::kI32;
  if constexpr (std::is_same_v<T, float>) return ValueType::kF32;
  if constexpr (std::is_same_v<T, bool>) return ValueType::kBool;
  if constexpr (std::is_same_v<T, std::string>) return ValueType::kString;
  if constexpr (std::is_same_v<T, std::uint64_t>) return ValueType::kU64;
  if constexpr (std::is_same_v<T, std::int64_t>) return ValueType::kI64;
  if constexpr (std::is_same_v<T, double>) return ValueType::kF64;
}

template <typename T>
inline constexpr bool kIsArray = false;
template <typename T>
inline constexpr bool kIsArray<std::vector<T>> = true;

ValueType TypeOf(const Value& value) noexcept;         // kArray for arrays
ValueType ElementTypeOf(const Value& value) noexcept;  // of a scalar: its own type
std::string_view TypeName(ValueType type) noexcept;    // "u32"

// For people: a scalar as it is, an array as its length and first items. Escaped.
std::string Show(const Value& value);

// nullptr: no such key.
const Value* Find(const Metadata& metadata, std::string_view key) noexcept;

}  // namespace phiq::gguf
