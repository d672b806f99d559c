// Values of options: words, counts and numbers, with complaints that name the option.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::cli {

Error Wrong(std::string_view option, std::string_view what);

// Calls `parse` on an option's value; its complaint then names the option. A complaint about a
// file names that file already.
template <typename Parse>
auto ForOption(std::string_view option, const Parse& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw Error(error.code(), fmt::format("{}: {}", option, error.what()));
  }
}

// Without the option: the first choice.
template <typename Value, std::size_t n>
Value ParseChoice(std::string_view option, const std::optional<std::string>& text,
                  const std::array<std::pair<std::string_view, Value>, n>& choices) {
  if (!text) return choices.front().second;
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (name == LowerAscii(*text)) return value;
    names.emplace_back(name);
  }
  throw Wrong(option, fmt::format("'{}' is not one of {}", Escape(*text), fmt::join(names, ", ")))
      .Hint(DidYouMean(*text, names));
}

// The text of an option, which must not be empty; empty without the option.
std::string ValueOf(std::string_view option, const std::optional<std::string>& text);
// Those of one that may be repeated, none of them empty.
const std::vector<std::string>& ValuesOf(std::string_view option,
                                         const std::vector<std::string>& texts);

// A text that is a number and nothing else; nullopt: it is not.
template <typename Number>
std::optional<Number> ReadNumber(std::string_view text) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, problem] = std::from_chars(text.data(), end, number);
  if (problem != std::errc() || stop != end) return std::nullopt;
  return number;
}

// A whole number.
std::uint32_t ParseCount(std::string_view option, const std::string& text, std::uint32_t least,
                         std::uint32_t most);

// A number from `least` to `most`: 0.02, 1e-3.
double ParseNumber(std::string_view option, const std::string& text, double least, double most);

// The value of --threads: 1 to 1024. Without the option 0: all cores.
unsigned ParseThreads(const std::optional<std::string>& text);

}  // namespace phiq::cli
