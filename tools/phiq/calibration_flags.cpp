// One set of options for every command that takes a text or an importance matrix, so that what made
// an output can be given to verify as it was given to quantize.
#include "calibration_flags.h"

#include <algorithm>
#include <cstdint>

#include "option_values.h"
#include "report_flags.h"

namespace phiq::cli {

void AddCalibrationFlags(CLI::App& command, const std::string& group, CalibrationFlags& flags) {
  AddList(command, group, "--calibrate", flags.texts, "self|FILE",
          "self: text that the model writes itself; a file: text like what\nthe model will see "
          "(.jsonl: \"text\" or \"messages\"). Repeatable:\nequal shares");
  AddList(command, group, "--calibration-ids", flags.ids, "FILE",
          "The same as token ids, as eval's --ids; repeatable");
  AddValue(command, group, "--calibration-tokens", flags.tokens, "N",
           "Tokens that are run through the model; default 8192");
  AddValue(command, group, "--calibration-ctx", flags.ctx, "N",
           "Tokens of a window, which knows nothing of others; default 512,\n256 with --calibrate "
           "self");
  AddValue(command, group, "--imatrix", flags.imatrix, "FILE",
           "llama.cpp's importance matrix instead of a text, for any format");
}

Error NeedsText(std::string_view option) {
  return Wrong(option, "needs a text").Hint("--calibrate self or --calibrate FILE");
}

std::optional<CalibrationOptions> ResolveCalibrationFlags(const CalibrationFlags& flags) {
  constexpr std::uint32_t kMost = 1U << 30;
  CalibrationOptions calibration;
  calibration.texts = ValuesOf("--calibrate", flags.texts);
  calibration.ids = ValuesOf("--calibration-ids", flags.ids);
  calibration.imatrix = ValueOf("--imatrix", flags.imatrix);
  if (!calibration.has_text()) {
    if (flags.tokens) throw NeedsText("--calibration-tokens");
    if (flags.ctx) throw NeedsText("--calibration-ctx");
    if (calibration.imatrix.empty()) return std::nullopt;
  }
  if (flags.tokens)
    calibration.n_tokens = ParseCount("--calibration-tokens", *flags.tokens, 1, kMost);
  // Its time and memory grow with the window's length, its worth hardly.
  constexpr std::uint32_t kOwnContext = 256;
  if (std::ranges::find(calibration.texts, "self") != calibration.texts.end())
    calibration.n_ctx = kOwnContext;
  if (flags.ctx) calibration.n_ctx = ParseCount("--calibration-ctx", *flags.ctx, 4, kMost);
  return calibration;
}

}  // namespace phiq::cli
