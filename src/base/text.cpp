// Escaping, sizes and suggestions.
#include "phiq/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <numeric>
#include <optional>
#include <vector>

#include "base/ascii.h"
#include "base/checked.h"
#include "base/utf8.h"
#include "phiq/error.h"

namespace phiq {
namespace {

// C1 controls, and the marks that make a terminal show text in another order.
bool IsHidden(char32_t c) {
  return (c >= 0x80 && c <= 0x9F) || c == 0x200E || c == 0x200F || (c >= 0x202A && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

// Levenshtein distance without regard to ASCII case.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted =
          diagonal + (LowerAscii(a[i - 1]) == LowerAscii(b[j - 1]) ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string Escape(std::string_view untrusted) {
  constexpr std::size_t kMaxCharacters = 200;
  std::string out;
  std::size_t n_characters = 0;
  for (std::size_t i = 0; i < untrusted.size(); ++n_characters) {
    if (n_characters == kMaxCharacters) return out + "...";
    const auto byte = static_cast<unsigned char>(untrusted[i]);
    const std::optional<CodePoint> point = DecodeUtf8(untrusted, i);
    if (!point || byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
      ++i;
    } else if (IsHidden(point->value)) {
      out += fmt::format("\\u{{{:04x}}}", static_cast<std::uint32_t>(point->value));
      i += point->n_bytes;
    } else {
      out += untrusted.substr(i, point->n_bytes);
      i += point->n_bytes;
    }
  }
  return out;
}

std::string LowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = LowerAscii(c);
  return lower;
}

std::string FormatBytes(std::uint64_t n_bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (n_bytes < 1024) return fmt::format("{} bytes", n_bytes);
  double value = static_cast<double>(n_bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return fmt::format("{:.2f} {}", value, kUnits[unit]);
}

std::string FormatCount(std::uint64_t n) {
  std::string digits = fmt::format("{}", n);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
  return digits;
}

std::uint64_t ParseSize(std::string_view text) {
  const auto fail = [&] {
    return Error(ErrorCode::kUsage, fmt::format("'{}' is not a size", Escape(text)))
        .Hint(
            "a number and a unit: 512M, 1G, 1.5GiB (powers of 1024) or 500MB, 2GB (powers of "
            "1000)");
  };
  double value = 0;
  const auto [end, status] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (status != std::errc() || value < 0) throw fail();
  const std::string unit = LowerAscii({end, text.data() + text.size()});
  constexpr std::string_view kLetters = "kmgt";
  double factor = 1;
  if (!unit.empty() && unit != "b") {
    const std::size_t power = kLetters.find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib"))
      throw fail();
    for (std::size_t i = 0; i <= power; ++i) factor *= rest == "b" ? 1000 : 1024;
  }
  const double n_bytes = value * factor;
  if (!(n_bytes < 0x1p63)) throw fail();
  return static_cast<std::uint64_t>(n_bytes);
}

std::string Nearest(std::string_view word, std::span<const std::string> candidates) {
  std::string best;
  // Something of the word must be left: '5' is no slip for '0'.
  std::size_t best_distance = std::min(std::max<std::size_t>(1, word.size() / 3) + 1, word.size());
  for (const std::string& candidate : candidates) {
    const std::size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view word, std::span<const std::string> candidates) {
  if (const std::string nearest = Nearest(word, candidates); !nearest.empty())
    return fmt::format("did you mean '{}'?", nearest);
  // The beginning of some: "Q4" of Q4_0, Q4_K_M, ...
  constexpr std::size_t kMaxSuggested = 4;
  std::vector<std::string> longer;
  for (const std::string& candidate : candidates) {
    if (word.size() >= 2 && EqualsIgnoringCase(candidate.substr(0, word.size()), word))
      longer.push_back(fmt::format("'{}'", candidate));
  }
  if (longer.empty() || longer.size() > kMaxSuggested) return "";
  return fmt::format("did you mean {}?", fmt::join(longer, " or "));
}

}  // namespace phiq
