// Texts and the ids that the tokenizers library gives for them (tools/goldens_tokenizers.py).
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "model/token_encoder.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq::testing {

inline std::string HeldoutText() {
  std::ifstream in(std::filesystem::path(kTestData) / "heldout.txt", std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The texts that tools/goldens_tokenizers.py draws.
inline std::vector<std::string> DrawnTexts() {
  const auto fragments =
      ReadTestJson(std::filesystem::path(kTestData) / "tokenizers" / "fragments.json")
          .get<std::vector<std::string>>();
  std::uint32_t state = 1;
  const auto draw = [&](std::size_t n) {
    state = state * 1664525 + 1013904223;
    return (state >> 8) % n;
  };
  std::vector<std::string> texts(2000);
  for (std::string& text : texts) {
    for (std::size_t n = 1 + draw(24); n > 0; --n) text += fragments[draw(fragments.size())];
  }
  return texts;
}

// Number and SHA-256 of the ids of all texts, little-endian.
inline nlohmann::json DigestOfIds(const TokenEncoder& encoder,
                                  const std::vector<std::string>& texts) {
  std::string bytes;
  for (const std::string& text : texts) {
    for (const std::uint32_t id : encoder.Encode(text)) {
      for (unsigned shift = 0; shift < 32; shift += 8)
        bytes.push_back(static_cast<char>(id >> shift & 0xFF));
    }
  }
  return {{"n_ids", bytes.size() / 4}, {"sha256", Sha256Hex(bytes)}};
}

inline nlohmann::json GoldenTokenIds(const std::string& name) {
  return ReadTestJson(std::filesystem::path(kTestData) / "golden" / "token_ids" / (name + ".json"));
}

inline void ExpectGoldenTokenIds(const TokenEncoder& encoder, const std::string& name) {
  const nlohmann::json golden = GoldenTokenIds(name);
  ASSERT_GE(golden.at("texts").size(), 127U);
  for (const nlohmann::json& entry : golden.at("texts")) {
    EXPECT_EQ(encoder.Encode(entry.at("text").get<std::string>()),
              entry.at("ids").get<std::vector<std::uint32_t>>())
        << entry.at("text");
  }
  EXPECT_EQ(DigestOfIds(encoder, {HeldoutText()}), golden.at("heldout"));
  EXPECT_EQ(DigestOfIds(encoder, DrawnTexts()), golden.at("drawn"));
}

}  // namespace phiq::testing
