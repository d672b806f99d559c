// Rotary tables, row by row.
#include "model/rope.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/portable_math.h"
#include "kernels/simd/sines.h"
#include "phiq/error.h"

namespace phiq {
namespace {

bool IsCosine(ConfigTable table) noexcept {
  using enum ConfigTable;
  return table == kCos || table == kCosLong || table == kCosShort || table == kCosShortLong;
}

std::vector<float> Frequencies(const ModelConfig& config, std::span<const float> factors) {
  std::vector<float> frequencies(config.rope_dim / 2);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rope_dim);
    const auto power = static_cast<float>(
        PortablePower(static_cast<double>(config.rope_theta), static_cast<double>(exponent)));
    frequencies[i] = 1.0F / ((factors.empty() ? 1.0F : factors[i]) * power);
  }
  return frequencies;
}

}  // namespace

std::string_view ConfigTableName(ConfigTable table) noexcept {
  switch (table) {
    case ConfigTable::kLongFactor:
      return "long_factor";
    case ConfigTable::kShortFactor:
      return "short_factor";
    case ConfigTable::kCos:
      return "cos";
    case ConfigTable::kSin:
      return "sin";
    case ConfigTable::kCosLong:
      return "cos_long";
    case ConfigTable::kSinLong:
      return "sin_long";
    case ConfigTable::kCosShort:
      return "cos_short";
    case ConfigTable::kSinShort:
      return "sin_short";
    case ConfigTable::kCosShortLong:
      return "cos_short_long";
    case ConfigTable::kSinShortLong:
      return "sin_short_long";
  }
  return "";
}

float RopeAttentionFactor(const ModelConfig& config) {
  if (config.rope_scaling == RopeScalingType::kNone) return 1;
  if (config.attention_factor) return *config.attention_factor;
  const double original = config.original_max_position_embeddings;
  const double scale = config.max_position_embeddings / original;
  if (scale <= 1) return 1;
  const double factor = config.rope_scaling == RopeScalingType::kYarn
                            ? 0.1 * PortableLog(scale) + 1
                            : std::sqrt(1 + PortableLog(scale) / PortableLog(original));
  if (!std::isfinite(factor)) {
    throw Error(
        ErrorCode::kBadData,
        fmt::format("original_max_position_embeddings {}, allowed with longrope: 2 and above",
                    config.original_max_position_embeddings))
        .In("config.json");
  }
  return static_cast<float>(factor);
}

float LongRopeAttentionFactor(const ModelConfig& config) {
  return config.long_attention_factor ? *config.long_attention_factor : RopeAttentionFactor(config);
}

TableShape ShapeOf(const ModelConfig& config, ConfigTable table) noexcept {
  const std::uint64_t n_columns = config.rope_dim / 2;
  const std::uint64_t n_positions = config.max_position_embeddings;
  const std::uint64_t n_original = config.original_max_position_embeddings;
  switch (table) {
    case ConfigTable::kLongFactor:
    case ConfigTable::kShortFactor:
      return {1, n_columns};
    case ConfigTable::kCos:
    case ConfigTable::kSin:
    case ConfigTable::kCosLong:
    case ConfigTable::kSinLong:
      return {n_positions, n_columns};
    case ConfigTable::kCosShort:
    case ConfigTable::kSinShort:
      return {n_original, n_columns};
    case ConfigTable::kCosShortLong:
    case ConfigTable::kSinShortLong:
      return {n_original + n_positions, n_columns};
  }
  return {};
}

ConfigTables::ConfigTables(const ModelConfig& config, float attention_factor,
                           std::string_view origin)
    : ConfigTables(config, Frequencies(config, config.short_factor),
                   Frequencies(config, config.long_factor), attention_factor, origin) {}

ConfigTables::ConfigTables(const ModelConfig& config, std::vector<float> short_frequencies,
                           std::vector<float> long_frequencies, float attention_factor,
                           std::string_view origin)
    : config_(config),
      attention_factor_(attention_factor),
      long_attention_factor_(attention_factor),
      short_frequencies_(std::move(short_frequencies)),
      long_frequencies_(std::move(long_frequencies)) {
  const auto last_position = static_cast<float>(config.max_position_embeddings);
  for (const std::vector<float>* frequencies : {&short_frequencies_, &long_frequencies_}) {
    const auto bad = std::ranges::find_if(
        *frequencies, [&](float f) { return !std::isfinite(f * last_position); });
    if (bad == frequencies->end()) continue;
    throw Error(ErrorCode::kBadData,
                fmt::format("rotary frequency {} is {}: theta or a rope factor is too small",
                            bad - frequencies->begin(), *bad))
        .In(origin);
  }
}

void ConfigTables::ReadRows(ConfigTable table, std::uint64_t first_row,
                            std::span<float> out) const {
  const std::size_t n_columns = ShapeOf(config_, table).n_columns;
  if (table == ConfigTable::kLongFactor || table == ConfigTable::kShortFactor) {
    const std::vector<float>& factors =
        table == ConfigTable::kLongFactor ? config_.long_factor : config_.short_factor;
    std::copy_n(factors.begin(), out.size(), out.begin());
    return;
  }
  const bool is_cosine = IsCosine(table);
  const bool is_long = table == ConfigTable::kCosLong || table == ConfigTable::kSinLong;
  const bool is_both = table == ConfigTable::kCosShortLong || table == ConfigTable::kSinShortLong;
  const std::uint64_t n_original = config_.original_max_position_embeddings;
  for (std::size_t r = 0; r < out.size() / n_columns; ++r) {
    const std::uint64_t row = first_row + r;
    const bool uses_long = is_long || (is_both && row >= n_original);
    const std::vector<float>& frequencies = uses_long ? long_frequencies_ : short_frequencies_;
    const auto position = static_cast<float>(is_both && uses_long ? row - n_original : row);
    const std::span<float> of_row = out.subspan(r * n_columns, n_columns);
    for (std::size_t i = 0; i < n_columns; ++i) of_row[i] = position * frequencies[i];
    const auto compute = is_cosine ? simd::CosinesOf : simd::SinesOf;
    compute(of_row.data(), n_columns, of_row.data());
    const float factor = uses_long ? long_attention_factor_ : attention_factor_;
    for (float& value : of_row) value *= factor;
  }
}

void ConfigTables::ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                              std::span<float> sines) const {
  using enum ConfigTable;
  const bool is_scaled = config_.rope_scaling != RopeScalingType::kNone;
  const bool is_long = is_scaled && n_positions > config_.original_max_position_embeddings;
  ReadRows(is_long ? kCosLong : kCos, 0, cosines);
  ReadRows(is_long ? kSinLong : kSin, 0, sines);
}

}  // namespace phiq
