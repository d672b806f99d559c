// Rotary position embedding: the numbers that config.json means, once for every format.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "phiq/model.h"

namespace phiq {

// By what cosines and sines are multiplied, in texts up to the original length and beyond it: what
// the configuration has written out; else 1 without rope scaling, and without a longer context than
// the original one. With s = length / original length, longrope has
// sqrt(1 + ln(s) / ln(original length)) and yarn 0.1 ln(s) + 1.
//
// Throws   kBadData: not finite (an original length of 1).
float RopeAttentionFactor(const ModelConfig& config);
float LongRopeAttentionFactor(const ModelConfig& config);

// Rows and columns of a table (rows 1 for the factors).
struct TableShape {
  std::uint64_t n_rows = 0, n_columns = 0;
};
TableShape ShapeOf(const ModelConfig& config, ConfigTable table) noexcept;

// Values of the tables, computed when asked for.
//
// Values    angle = float(position) * frequency,
//           frequency = 1 / (factor * theta^(2i / rope_dim)); every operation in float32, as
//           transformers has it (the power alone in double, then rounded): at position 131071 a
//           last bit of the frequency is an error of 0.01 in the angle. Cosine and sine are those
//           of the float32 angle, rounded to float32, times RopeAttentionFactor in float32.
// Source    docs/formats/onnx.md "Rotary tables"; transformers modeling_rope_utils.py.
class ConfigTables {
 public:
  // Throws   kBadData: theta and factors that give no finite angles.
  explicit ConfigTables(const ModelConfig& config)
      : ConfigTables(config, RopeAttentionFactor(config), "config.json") {
    long_attention_factor_ = LongRopeAttentionFactor(config);
  }
  // Of a file that has its own attention factor; `origin` is its path, for messages.
  ConfigTables(const ModelConfig& config, float attention_factor, std::string_view origin);
  // Of a file that has frequencies, [rope_dim / 2], instead of factors.
  ConfigTables(const ModelConfig& config, std::vector<float> short_frequencies,
               std::vector<float> long_frequencies, float attention_factor,
               std::string_view origin);

  // Rows [first_row, first_row + out.size() / n_columns). Threads: safe.
  void ReadRows(ConfigTable table, std::uint64_t first_row, std::span<float> out) const;

  // Angles a position: [rope_dim / 2]; the same ones without rope scaling.
  std::span<const float> short_frequencies() const noexcept { return short_frequencies_; }
  std::span<const float> long_frequencies() const noexcept { return long_frequencies_; }

  // What a text of n_positions is turned by: the short factors up to the original length, the long
  // ones beyond.
  //
  // Shapes    cosines, sines: [n_positions, rope_dim / 2].
  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const;

 private:
  const ModelConfig& config_;
  float attention_factor_ = 1, long_attention_factor_ = 1;
  std::vector<float> short_frequencies_, long_frequencies_;  // [rope_dim / 2]
};

}  // namespace phiq
