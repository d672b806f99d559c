// The text that statistics are taken over, as windows of token ids.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "phiq/error.h"
#include "phiq/model.h"
#include "phiq/tokenizer.h"

namespace phiq::calibrate {

struct TextOptions {
  // Plain text, or JSON lines whose objects have "text" or "messages"; a file of JSON lines is
  // known by its ending ".jsonl" or by a first line that is such an object. Several files, and
  // those of ids, have equal shares of the tokens.
  std::vector<std::string> texts;
  std::vector<std::string> ids;   // token ids, as those of `phiq eval --ids`
  std::uint64_t n_tokens = 8192;  // at least as many, in whole windows; held-back ones come on top
  std::uint32_t n_ctx = 512;      // tokens of a window
  // Writes so many windows of n_ctx ids: for a text that is called "self" (kOwnText). Empty: that
  // is a file like others. Returns no ids: they are written later, zeros take their place.
  std::function<std::vector<std::uint32_t>(std::uint64_t n_windows)> write_own = {};
};

inline constexpr std::string_view kOwnText = "self";

// Below this many tokens correlations are noise: nothing but mean squares should be taken.
inline constexpr std::uint64_t kLeastTokensForCorrelations = 1024;

// An expert that fewer tokens reach has the statistics of all tokens of its layer, as if it were
// used for each of them. As many as a Probe has. On the bundled model, calibrated on 1024 tokens (42
// to 758 for an expert), limits from 0 to all make no difference beyond the error of measurement.
inline constexpr std::uint64_t kLeastTokensOfExpert = 256;

// A file, and what was taken of it.
struct TextSource {
  enum class Kind : std::uint8_t { kText, kJsonLines, kIds, kOwn };
  std::string path;
  Kind kind = Kind::kText;
  std::string sha256;  // of the whole file; of what the model wrote: of the ids
  std::uint64_t n_windows = 0, n_held_back = 0;
};

struct CalibrationText {
  std::uint32_t n_ctx = 0;
  // Windows of n_ctx tokens, one after the other, as ForwardPass::Embed takes them. Those held back
  // are one in ten (at least 1, at most 8), spread over each file, and not among the others.
  std::vector<std::uint32_t> windows, held_back;
  std::vector<TextSource> sources;
  std::string sha256;  // of n_ctx and all ids; empty: not all are written

  std::uint64_t n_windows() const noexcept { return n_ctx == 0 ? 0 : windows.size() / n_ctx; }
  std::uint64_t n_held_back() const noexcept { return n_ctx == 0 ? 0 : held_back.size() / n_ctx; }
};

// Windows that are held back beside so many tokens: one in ten, at least 1, at most 8.
// Requires  n_ctx > 0
std::uint64_t HeldBackWindows(std::uint64_t n_tokens, std::uint32_t n_ctx);

// Reads windows that are spread evenly over each file. Nothing is put before, between or around
// texts, but what the chat template has around messages; added tokens in a text become their ids.
//
// Memory   of a file that holds far more than is wanted only the places of the windows are
//          tokenized (and all of it is read once, for its SHA-256).
// Warns    fewer windows in a file than its share; a text of few distinct tokens; two windows
// alike. Throws   kUsage: no file, no tokens, a window longer than the model's context. kInput.
// kBadData: an
//          empty or binary file, not UTF-8, a line that is no such object, an id that the model has
//          not, a file of less than one window, all files together of less than two.
//          kUnsupported: a tokenizer or chat template that phiq does not do. kTryAgain: a file
//          changed meanwhile.
CalibrationText ReadCalibrationText(const Tokenizer& tokenizer, const ModelConfig& config,
                                    const TextOptions& options, const WarningFn& warn);

// Throws   kUsage: windows of so many tokens are too short, or longer than the model's context.
void CheckContext(std::uint32_t n_ctx, const ModelConfig& config);

// Whether so few of the tokens are distinct (less than 2 %) that inputs of any other text are not
// like those of this one. Of a text that is written.
bool HasFewDistinct(const CalibrationText& text, std::uint32_t vocab_size);

// The windows of all sources, a line each: as TextOptions::ids they give the same windows again,
// summed and held back, where every source had its share.
std::string FormatIds(const CalibrationText& text);

}  // namespace phiq::calibrate
