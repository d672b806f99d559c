// Numbers as people want to read them.
#include "number_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

namespace phiq::cli {
namespace {

// fmt's hyphen becomes a minus sign, which is as wide as a digit.
std::string WithMinus(const std::string& text) {
  return text.starts_with('-') ? "−" + text.substr(1) : text;
}

std::string Superscript(int exponent) {
  constexpr std::array<std::string_view, 10> kDigits = {"⁰", "¹", "²", "³", "⁴",
                                                        "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text = exponent < 0 ? "⁻" : "";
  for (const char digit : fmt::format("{}", std::abs(exponent)))
    text += kDigits[static_cast<std::size_t>(digit - '0')];
  return text;
}

std::string NotFinite(double value) {
  if (std::isnan(value)) return "NaN";
  return value > 0 ? "∞" : "−∞";
}

// 12345.6 -> "12,345.6".
std::string WithThousands(std::string text) {
  std::size_t end = std::min(text.find('.'), text.size());
  const std::size_t begin = text.starts_with('-') ? 1 : 0;
  for (; end > begin + 3; end -= 3) text.insert(end - 3, 1, ',');
  return text;
}

// Between these a number is written out.
bool IsPlain(double value) {
  return value == 0 || (std::abs(value) >= 1e-3 && std::abs(value) < 1e7);
}

// {mantissa, exponent} of printf's %e, so that 9.9999 with two decimals is 1.00 of the next power.
std::pair<std::string, int> Scientific(double value, int n_decimals) {
  const std::string text = fmt::format("{:.{}e}", value, n_decimals);
  const std::size_t e = text.find('e');
  return {text.substr(0, e), std::stoi(text.substr(e + 1))};
}

}  // namespace

std::string FormatFigure(double value) {
  if (!std::isfinite(value)) return NotFinite(value);
  if (value == 0) return "0";
  const auto [mantissa, exponent] = Scientific(value, 3);
  if (!IsPlain(value)) return WithMinus(mantissa) + "×10" + Superscript(exponent);
  // From 10,000 on all digits of the whole part stay: rounding them away would look exact.
  return WithMinus(WithThousands(fmt::format("{:.{}f}", value, std::max(0, 3 - exponent))));
}

std::string FormatTick(double value) {
  if (!std::isfinite(value)) return NotFinite(value);
  if (IsPlain(value)) return WithMinus(WithThousands(fmt::format("{:.10g}", value)));
  auto [mantissa, exponent] = Scientific(value, 3);
  mantissa.erase(mantissa.find_last_not_of('0') + 1);
  if (mantissa.ends_with('.')) mantissa.pop_back();
  std::string power = "10" + Superscript(exponent);
  if (mantissa == "1") return power;
  return mantissa == "-1" ? "−" + power : WithMinus(mantissa) + "×" + power;
}

std::string FormatEstimate(const Estimate& estimate) {
  const auto [value, error] = estimate;
  if (!std::isfinite(value) || !std::isfinite(error) || !(error > 0)) return FormatFigure(value);
  const double greater = std::max(std::abs(value), error);
  const bool is_plain = IsPlain(greater);
  // Both are written as multiples of one power of ten.
  const int exponent = is_plain ? 0 : Scientific(greater, 3).second;
  const double unit = std::pow(10.0, exponent);
  const int n_decimals = std::clamp(1 - Scientific(error / unit, 1).second, 0, 9);
  const std::string text = WithMinus(fmt::format("{:.{}f}", value / unit, n_decimals)) + " ± " +
                           fmt::format("{:.{}f}", error / unit, n_decimals);
  return is_plain ? text : "(" + text + ")×10" + Superscript(exponent);
}

std::string FormatShare(double share) {
  if (!std::isfinite(share)) return NotFinite(share);
  return fmt::format("{:.2f} %", 100 * share);
}

std::string FormatShare(const Estimate& share) {
  if (!std::isfinite(share.value) || !std::isfinite(share.standard_error) ||
      !(share.standard_error > 0))
    return FormatShare(share.value);
  return fmt::format("{:.2f} ± {:.2f} %", 100 * share.value, 100 * share.standard_error);
}

}  // namespace phiq::cli
