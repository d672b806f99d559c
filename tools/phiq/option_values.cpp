// Options are read as words first: CLI11's own conversions accept what nobody means, and do not
// name the option.
#include "option_values.h"

namespace phiq::cli {

Error Wrong(std::string_view option, std::string_view what) {
  return {ErrorCode::kUsage, fmt::format("{}: {}", option, what)};
}

std::string ValueOf(std::string_view option, const std::optional<std::string>& text) {
  if (text && text->empty()) throw Wrong(option, "the name is empty");
  return text.value_or("");
}

const std::vector<std::string>& ValuesOf(std::string_view option,
                                         const std::vector<std::string>& texts) {
  for (const std::string& text : texts) ValueOf(option, text);
  return texts;
}

std::uint32_t ParseCount(std::string_view option, const std::string& text, std::uint32_t least,
                         std::uint32_t most) {
  const auto value = ReadNumber<std::uint32_t>(text);
  if (!value || *value < least || *value > most) {
    throw Wrong(option,
                fmt::format("'{}' is not a whole number from {} to {}", Escape(text), least, most));
  }
  return *value;
}

double ParseNumber(std::string_view option, const std::string& text, double least, double most) {
  const auto value = ReadNumber<double>(text);
  if (!value || !(*value >= least && *value <= most)) {
    throw Wrong(option,
                fmt::format("'{}' is not a number from {:g} to {:g}", Escape(text), least, most));
  }
  return *value;
}

unsigned ParseThreads(const std::optional<std::string>& text) {
  if (!text) return 0;
  constexpr unsigned kMost = 1024;
  try {
    return ParseCount("--threads", *text, 1, kMost);
  } catch (Error& error) {
    throw std::move(error).Hint("without the option: all cores");
  }
}

}  // namespace phiq::cli
