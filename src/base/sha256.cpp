// SHA-256 by OpenSSL: known algorithms are a library's work.
#include "base/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "phiq/error.h"

namespace phiq {
namespace {

// The library does not tell a lack of memory from that of the algorithm, which is in every build.
void CheckSha256(int result) {
  if (result != 1)
    throw Error(ErrorCode::kResources,
                "SHA-256 cannot be computed: out of memory, or not in the crypto library");
}

}  // namespace

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  CheckSha256(state_->context == nullptr
                  ? 0
                  : EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr));
}
Sha256::~Sha256() = default;

void Sha256::Add(std::span<const std::byte> bytes) {
  CheckSha256(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()));
}

std::string Sha256::Hex() {
  std::array<unsigned char, 32> digest{};
  CheckSha256(EVP_DigestFinal_ex(state_->context.get(), digest.data(), nullptr));
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 hash;
  hash.Add(std::as_bytes(std::span(bytes)));
  return hash.Hex();
}

}  // namespace phiq
