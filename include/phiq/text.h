// Text for people: escaping of untrusted bytes, sizes, suggestions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace phiq {

// Makes text from a file safe for a terminal or a log: control bytes, invalid UTF-8, C1 and bidi
// controls become \xNN or \u{NNNN}; longer than 200 characters is cut and ends with "...".
std::string Escape(std::string_view untrusted);

// "Phi-4" -> "phi-4"; bytes beyond ASCII stay as they are.
std::string LowerAscii(std::string_view text);

// 1610612736 -> "1.50 GiB"; below 1 KiB "N bytes".
std::string FormatBytes(std::uint64_t n_bytes);

// 3821079552 -> "3,821,079,552".
std::string FormatCount(std::uint64_t n);

// "512", "64K", "1.5G", "1GiB" (powers of 1024); "500MB", "2GB" (powers of 1000).
// Throws   kUsage, naming the text.
std::uint64_t ParseSize(std::string_view text);

// The candidate nearest to `word` (case-insensitive edit distance, at most a third of its length);
// empty when none is near.
std::string Nearest(std::string_view word, std::span<const std::string> candidates);

// "did you mean 'X'?": the nearest candidate, else the few that begin with the word; "" when there
// are none.
std::string DidYouMean(std::string_view word, std::span<const std::string> candidates);

}  // namespace phiq
