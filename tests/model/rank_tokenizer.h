// tokenizer.json from byte-pair ranks in tiktoken's form: the published files of Phi-4 and
// Phi-4-mini have 3 and 8 MB. tools/goldens_tokenizers.py does the same in Python.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "testing/header_only_checkpoint.h"

namespace phiq::testing {

inline std::string DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  std::uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(kDigits.find(c));
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    bytes.push_back(static_cast<char>(bits >> n_bits & 0xFF));
  }
  return bytes;
}

using Ranks = std::unordered_map<std::string, std::uint32_t>;

// Lines "! FIRST token token ...": base64 of the tokens' bytes, ranks from FIRST up.
inline Ranks ReadRanks(const std::filesystem::path& path) {
  std::ifstream in(path);
  Ranks ranks;
  std::string line, mark, token;
  std::uint32_t rank = 0;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    fields >> mark >> rank;
    while (fields >> token) ranks.emplace(DecodeBase64(token), rank++);
  }
  return ranks;
}

// The last merge that makes a token: what its bytes become by the merges of lower rank.
inline std::pair<std::string, std::string> LastMerge(const std::string& token, const Ranks& ranks) {
  std::vector<std::string> parts;
  for (const char c : token) parts.emplace_back(1, c);
  while (parts.size() > 2) {
    std::size_t at = 0;
    std::uint32_t best = UINT32_MAX;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find(parts[i] + parts[i + 1]);
      if (found == ranks.end() || found->second >= best) continue;
      best = found->second;
      at = i;
    }
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  return {parts.at(0), parts.at(1)};
}

// GPT-2's byte alphabet.
inline std::string Spell(const std::string& bytes) {
  static const std::vector<std::string> kLetters = [] {
    std::vector<std::string> letters;
    unsigned other = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool itself =
          (byte > 32 && byte < 127) || (byte > 160 && byte < 173) || (byte > 173 && byte < 256);
      const unsigned c = itself ? byte : other++;
      letters.push_back(c < 128 ? std::string(1, static_cast<char>(c))
                                : std::string{static_cast<char>(0xC0 | c >> 6),
                                              static_cast<char>(0x80 | (c & 0x3F))});
    }
    return letters;
  }();
  std::string text;
  for (const char c : bytes) text += kLetters[static_cast<unsigned char>(c)];
  return text;
}

// `folder` holds ranks.txt, split.txt and tokenizer_config.json.
inline nlohmann::json TokenizerJsonFromRanks(const std::filesystem::path& folder) {
  const Ranks ranks = ReadRanks(folder / "ranks.txt");
  std::map<std::uint32_t, std::string> by_rank;
  for (const auto& [token, rank] : ranks) by_rank.emplace(rank, token);
  nlohmann::json vocab = nlohmann::json::object(), merges = nlohmann::json::array();
  for (const auto& [rank, token] : by_rank) {
    vocab[Spell(token)] = rank;
    if (token.size() == 1) continue;
    const auto [left, right] = LastMerge(token, ranks);
    merges.push_back({Spell(left), Spell(right)});
  }
  nlohmann::json added = nlohmann::json::array();
  const nlohmann::json config = ReadTestJson(folder / "tokenizer_config.json");
  for (const auto& [id, token] : config.at("added_tokens_decoder").items()) {
    added.push_back(token);
    added.back()["id"] = std::stoul(id);
  }
  std::ifstream in(folder / "split.txt");
  std::string expression;
  std::getline(in, expression);
  const nlohmann::json split = {{"type", "Split"},
                                {"pattern", {{"Regex", expression}}},
                                {"behavior", "Removed"},
                                {"invert", true}};
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return {{"added_tokens", added},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}}},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

}  // namespace phiq::testing
