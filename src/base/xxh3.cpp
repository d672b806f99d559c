// libxxhash's hashes as values. (Its header is C's: what it allocates is held by State.)
#include "base/xxh3.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace phiq {

struct Xxh3Stream::State {
  State() : xxh(XXH3_createState()) {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  ~State() { XXH3_freeState(xxh); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  XXH3_state_t* xxh;
};

void Hash128::Add(const Hash128& other) noexcept {
  low += other.low;
  high += other.high + (low < other.low ? 1 : 0);
}

std::string Hash128::Hex() const { return fmt::format("{:016x}{:016x}", high, low); }

std::optional<Hash128> Hash128::Parse(std::string_view hex) noexcept {
  if (hex.size() != kDigits) return std::nullopt;
  Hash128 hash;
  for (std::size_t i = 0; i < kDigits; ++i) {
    const std::size_t digit = std::string_view("0123456789abcdef").find(hex[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    std::uint64_t& half = i < kDigits / 2 ? hash.high : hash.low;
    half = half << 4 | digit;
  }
  return hash;
}

Hash128 Xxh3(std::span<const std::byte> bytes, std::uint64_t seed) noexcept {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(bytes.data(), bytes.size(), seed);
  return {hash.low64, hash.high64};
}

Xxh3Stream::Xxh3Stream() : state_(std::make_unique<State>()) {}
Xxh3Stream::~Xxh3Stream() = default;

void Xxh3Stream::Add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size());
}

Hash128 Xxh3Stream::Digest() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh);
  return {hash.low64, hash.high64};
}

}  // namespace phiq
