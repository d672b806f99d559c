// XXH3-128 of bytes: tells damage, not forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace phiq {

struct Hash128 {
  std::uint64_t low = 0, high = 0;

  bool operator==(const Hash128&) const = default;
  // Modulo 2^128: of hashes with seeds of their own the sum tells all that any of them does, and
  // does not depend on the order in which they come.
  void Add(const Hash128& other) noexcept;

  static constexpr std::size_t kDigits = 32;
  std::string Hex() const;  // lower case, as xxh128sum prints it
  static std::optional<Hash128> Parse(std::string_view hex) noexcept;
};

Hash128 Xxh3(std::span<const std::byte> bytes, std::uint64_t seed) noexcept;

// Of bytes that come piece by piece.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;

  void Add(std::span<const std::byte> bytes);
  void Add(std::string_view text) { Add(std::as_bytes(std::span(text))); }
  Hash128 Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace phiq
