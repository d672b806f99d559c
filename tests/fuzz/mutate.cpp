// In place first, by the shape of the file: what only flips bytes rarely gets beyond a magic number
// or a JSON parser.
#include "fuzz/mutate.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace phiq::fuzz {
namespace {

constexpr std::size_t kMostBytes = 1U << 20;

std::size_t Below(Random& random, std::size_t n) { return n == 0 ? 0 : random() % n; }

struct Range {
  std::size_t begin = 0, size = 0;
};

Range AnyRange(Random& random, std::size_t n) {
  constexpr std::size_t kUsual = 64;  // most ranges are short
  const std::size_t begin = Below(random, n);
  const std::size_t most = n - begin;
  const std::size_t size = 1 + Below(random, Below(random, 4) == 0 ? most : std::min(most, kUsual));
  return {begin, std::min(size, most)};
}

void MoveRange(Random& random, std::string& data, const Range& range) {
  const std::string piece = data.substr(range.begin, range.size);
  switch (Below(random, 4)) {
    case 0:
      data.erase(range.begin, range.size);
      break;
    case 1:
      data.insert(range.begin, piece);
      break;
    case 2:
      data.insert(Below(random, data.size()), piece);
      break;
    default:
      for (std::size_t n = std::size_t{1} << Below(random, 12); n > 0 && data.size() < kMostBytes;
           --n)
        data.insert(range.begin, piece);
  }
}

void ChangeBytes(Random& random, std::string& data) {
  if (data.empty()) data = "x";
  const std::size_t at = Below(random, data.size());
  switch (Below(random, 5)) {
    case 0:
      data[at] = static_cast<char>(data[at] ^ (1 << Below(random, 8)));
      break;
    case 1:
      data[at] = static_cast<char>(random());
      break;
    case 2:
      data.insert(at, 1, static_cast<char>(random()));
      break;
    case 3:
      data.resize(at);
      break;
    default:
      MoveRange(random, data, AnyRange(random, data.size()));
  }
}

// Begins at a digit. Empty: there is none.
Range AnyNumber(Random& random, const std::string& text) {
  constexpr std::string_view kDigits = "0123456789";
  std::size_t begin = text.find_first_of(kDigits, Below(random, text.size()));
  if (begin == std::string::npos) begin = text.find_first_of(kDigits);
  if (begin == std::string::npos) return {};
  const std::size_t end = text.find_first_not_of("0123456789.eE+-", begin);
  return {begin, std::min(end, text.size()) - begin};
}

// From a bracket or quote to the one that closes it. Empty: there is none.
Range AnyPiece(Random& random, const std::string& text) {
  const std::size_t begin = text.find_first_of("\"{[<(", Below(random, text.size()));
  if (begin == std::string::npos) return {};
  const char open = text[begin];
  if (open == '"') {
    const std::size_t end = text.find('"', begin + 1);
    return {begin, std::min(end, text.size() - 1) - begin + 1};
  }
  const char close = open == '{' ? '}' : open == '[' ? ']' : open == '(' ? ')' : '>';
  int depth = 0;
  for (std::size_t end = begin; end < text.size(); ++end) {
    depth += text[end] == open ? 1 : text[end] == close ? -1 : 0;
    if (depth == 0) return {begin, end - begin + 1};
  }
  return {begin, text.size() - begin};
}

void ChangeText(Random& random, std::string& text) {
  constexpr std::array<std::string_view, 26> kNumbers = {"0",
                                                         "1",
                                                         "-1",
                                                         "2",
                                                         "3",
                                                         "255",
                                                         "256",
                                                         "65535",
                                                         "65536",
                                                         "2147483647",
                                                         "2147483648",
                                                         "4294967295",
                                                         "4294967296",
                                                         "9007199254740993",
                                                         "9223372036854775807",
                                                         "9223372036854775808",
                                                         "18446744073709551615",
                                                         "18446744073709551616",
                                                         "1e3",
                                                         "1e308",
                                                         "1e999",
                                                         "0.5",
                                                         "-0.0",
                                                         "1e-320",
                                                         "NaN",
                                                         "Infinity"};
  constexpr std::array<std::string_view, 14> kWords = {
      "null",        "true",         "false",    "[]",           "{}",      "\"\"", "\"\\u0000\"",
      "\"\\ud800\"", "\xEF\xBB\xBF", "\xC0\x80", "\xE2\x80\xAE", "\x1B[2J", "../x", "\\"};
  switch (Below(random, 6)) {
    case 0:
    case 1:
      if (const Range number = AnyNumber(random, text); number.size > 0)
        text.replace(number.begin, number.size, kNumbers[Below(random, kNumbers.size())]);
      break;
    case 2:
      if (const Range piece = AnyPiece(random, text); piece.size > 0)
        text.replace(piece.begin, piece.size, kWords[Below(random, kWords.size())]);
      break;
    case 3:
      if (const Range piece = AnyPiece(random, text); piece.size > 0)
        MoveRange(random, text, piece);
      break;
    case 4: {  // one piece in the place of another
      const Range from = AnyPiece(random, text), to = AnyPiece(random, text);
      if (from.size > 0 && to.size > 0)
        text.replace(to.begin, to.size, text.substr(from.begin, from.size));
      break;
    }
    default:
      ChangeBytes(random, text);
  }
}

void ChangeInteger(Random& random, std::string& data) {
  const std::size_t width = Below(random, 2) == 0 ? 4 : 8;
  if (data.size() < width) return;
  // Most of what says how much there is stands in front.
  constexpr std::size_t kFront = 512;
  const std::size_t n_places = data.size() - width + 1;
  std::size_t at = Below(random, Below(random, 2) == 0 ? std::min(n_places, kFront) : n_places);
  std::uint64_t value = 0;
  for (std::size_t tries = 0; tries < kFront; ++tries, at = (at + 1) % n_places) {
    value = 0;
    std::memcpy(&value, &data[at], width);
    if (value <= data.size()) break;
  }
  const std::uint64_t size = data.size();
  const std::array<std::uint64_t, 18> values = {
      0,          1,          2,          value - 1, value + 1,  value * 2,
      0xFF,       0xFFFF,     0x7FFFFFFF, 1U << 31,  0xFFFFFFFF, 1ULL << 32,
      1ULL << 61, 1ULL << 63, ~0ULL,      size,      size - 1,   size + 1};
  const std::uint64_t other = values[Below(random, values.size())];
  std::memcpy(&data[at], &other, width);
}

void ChangeBinary(Random& random, std::string& data) {
  if (Below(random, 3) != 0) {
    ChangeInteger(random, data);
  } else {
    ChangeBytes(random, data);
  }
}

void ChangeSafetensors(Random& random, std::string& data) {
  constexpr std::size_t kLengthBytes = 8;
  std::uint64_t n = 0;
  if (data.size() >= kLengthBytes) std::memcpy(&n, data.data(), kLengthBytes);
  if (data.size() < kLengthBytes || n > data.size() - kLengthBytes || Below(random, 8) == 0)
    return ChangeBinary(random, data);
  std::string header = data.substr(kLengthBytes, n);
  ChangeText(random, header);
  data.replace(kLengthBytes, n, header);
  n = header.size();
  std::memcpy(data.data(), &n, kLengthBytes);
}

}  // namespace

void Mutate(Shape shape, Random& random, std::string& data) {
  for (std::size_t n = 1 + Below(random, 3); n > 0; --n) {
    switch (shape) {
      case Shape::kText:
        ChangeText(random, data);
        break;
      case Shape::kBinary:
        ChangeBinary(random, data);
        break;
      case Shape::kSafetensors:
        ChangeSafetensors(random, data);
    }
  }
}

}  // namespace phiq::fuzz
