// The pages that `--html FILE` of `phiq quantize`, `phiq compare` and `phiq eval` writes.
//
// Each is one HTML file: figures, a table that is sorted by a click, plots (svg_plot.h). It needs
// no network and no script to be read, and is the same bytes for the same numbers: no date, no path
// but those given. Values that cannot be drawn (zero or infinite on a logarithmic axis, NaN) are in
// the table; where plots lack them, their captions say so.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "phiq/compare.h"
#include "phiq/convert.h"
#include "phiq/evaluate.h"

namespace phiq::cli {

// What every page begins with.
inline constexpr std::string_view kHtmlBeginning = "<!DOCTYPE html>\n";

std::string CompareHtml(const Comparison& comparison);

// Of a conversion with a text: what it leaves of each tensor's error.
std::string QuantizeHtml(const ConvertReport& report);

// Without a reference the page has perplexities alone.
std::string EvalHtml(const EvalReport& report);

// Short names for the models of `paths`, all different when the paths are: their last parts, less
// what all of them begin and end with: "out/phi-Q8_0.gguf", "out/phi-Q4_K_M.gguf" -> "Q8_0",
// "Q4_K_M".
std::vector<std::string> ShortNames(const std::vector<std::string>& paths);

}  // namespace phiq::cli
