// A rule, not a table: the characters are in the order of the bytes.
#include "model/byte_alphabet.h"

#include <array>

#include "base/utf8.h"

namespace phiq {
namespace {

constexpr bool StandsForItself(unsigned byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

constexpr std::array<char32_t, 256> kLetters = [] {
  std::array<char32_t, 256> letters{};
  char32_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) letters[byte] = StandsForItself(byte) ? byte : next++;
  return letters;
}();
constexpr char32_t kEnd = 256 + 68;  // of the alphabet

constexpr std::array<std::uint8_t, kEnd> kBytes = [] {
  std::array<std::uint8_t, kEnd> bytes{};
  for (unsigned byte = 0; byte < 256; ++byte)
    bytes[kLetters[byte]] = static_cast<std::uint8_t>(byte);
  return bytes;
}();

}  // namespace

std::string ByteLetter(std::uint8_t byte) {
  std::string letter;
  AppendUtf8(kLetters[byte], letter);
  return letter;
}

std::optional<std::string> BytesOfLetters(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size();) {
    const std::optional<CodePoint> point = DecodeUtf8(text, i);
    if (!point || point->value >= kEnd || kLetters[kBytes[point->value]] != point->value)
      return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[point->value]));
    i += point->n_bytes;
  }
  return bytes;
}

}  // namespace phiq
