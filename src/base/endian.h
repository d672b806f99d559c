// Little-endian values in byte buffers, at any alignment.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace phiq {

static_assert(std::endian::native == std::endian::little,
              "phiq copies little-endian files into memory as they are");

// Requires offset + sizeof(T) <= bytes.size().
template <typename T>
T LoadLe(std::span<const std::byte> bytes, std::size_t offset = 0) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

template <typename T>
void StoreLe(T value, std::span<std::byte> bytes, std::size_t offset = 0) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(bytes.data() + offset, &value, sizeof(T));
}

}  // namespace phiq
