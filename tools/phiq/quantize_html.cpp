// The page of phiq quantize with a text: what calibration leaves of each tensor's error.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "html_page.h"
#include "html_report.h"
#include "number_text.h"
#include "output_errors.h"
#include "phiq/text.h"
#include "svg_plot.h"
#include "table.h"
#include "tensor_kinds.h"

namespace phiq::cli {
namespace {

struct Kind {
  std::string name;
  std::vector<const OutputError*> errors;
};

// In the order of the model.
std::vector<Kind> KindsOf(const std::vector<OutputError>& errors) {
  std::map<std::pair<std::pair<std::size_t, std::size_t>, std::string>, Kind> kinds;
  for (const OutputError& error : errors) {
    const std::string name = KindName(error.role, error.tensor);
    Kind& kind = kinds[{KindOrder(error.role, error.tensor), name}];
    kind.name = name;
    kind.errors.push_back(&error);
  }
  std::vector<Kind> ordered;
  for (auto& [key, kind] : kinds) ordered.push_back(std::move(kind));
  return ordered;
}

std::string Title(const OutputPlan& output) {
  return fmt::format("{} {}", output.plan->format, output.plan->type);
}

// --- figures and table ---------------------------------------------------------------------------

std::vector<Tile> Tiles(const ConvertReport& report) {
  std::vector<Tile> tiles;
  for (std::size_t i = 0; i < report.planned.outputs.size(); ++i) {
    const std::vector<OutputError>& errors = report.output_errors[i];
    if (errors.empty()) continue;
    const auto n_better = static_cast<std::uint64_t>(std::ranges::count_if(
        errors, [](const OutputError& error) { return error.error < error.reference; }));
    tiles.push_back({"Error left, " + Title(report.planned.outputs[i]),
                     FormatShare(MeanRatio(errors)),
                     fmt::format("of the reference's; less in {} of {} tensors",
                                 FormatCount(n_better), FormatCount(errors.size()))});
  }
  if (report.planned.calibration) {
    const CalibrationPlan& text = *report.planned.calibration;
    tiles.push_back({"Tokens", FormatCount(text.n_tokens),
                     fmt::format("in windows of {}, {} more held back", FormatCount(text.n_ctx),
                                 FormatCount(text.n_held_back))});
  }
  tiles.push_back({"Time", FormatSeconds(report.elapsed_s), ""});
  tiles.push_back({"Peak memory", FormatBytes(report.peak_memory_bytes), ""});
  return tiles;
}

std::string ErrorTable(const std::vector<OutputError>& errors, const std::string& suffix) {
  Table table{"tensors" + suffix,
              {{"Tensor"},
               {"Method"},
               {"Error", true},
               {"Reference's error", true},
               {"Left", true},
               {"Error on seen text", true}},
              {},
              {}};
  const auto number = [](double value) { return Cell{FormatFigure(value), value}; };
  for (const OutputError& error : errors)
    table.rows.push_back({{error.tensor, {}},
                          {error.method + (error.is_fallback ? ", instead" : ""), {}},
                          number(error.error),
                          number(error.reference),
                          {FormatShare(RatioOf(error)), RatioOf(error)},
                          number(error.seen)});
  return TableHtml(table);
}

// --- plots ---------------------------------------------------------------------------------------

std::string LeftByLayer(const std::vector<Kind>& kinds, const std::string& suffix) {
  XyPlot plot{{"layers" + suffix, "What is left of each layer's error",
               "Mean squared error of products on held-back text over that of the reference's "
               "codes, a line for each kind of tensor: below 1 the text has helped."},
              {"Layer", AxisKind::kIndex},
              {"Error / reference's error", AxisKind::kLog},
              {},
              true};
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    Series series{kinds[k].name, k, {}};
    for (const OutputError* error : kinds[k].errors) {
      if (error->layer < 0) continue;
      series.points.push_back(
          {static_cast<double>(error->layer), RatioOf(*error),
           fmt::format("{}: {} ({})", error->tensor, FormatShare(RatioOf(*error)), error->method),
           ""});
    }
    if (!series.points.empty()) plot.series.push_back(std::move(series));
  }
  return PlotHtml(plot);
}

std::string LeftByKind(const std::vector<Kind>& kinds, const std::string& suffix) {
  std::int32_t last_layer = -1;
  for (const Kind& kind : kinds)
    for (const OutputError* error : kind.errors) last_layer = std::max(last_layer, error->layer);
  HeatMap map{{"left" + suffix, "Where error is left",
               "Each cell's error over that of the reference's codes: the paler, the more the text "
               "has helped. The strongest colour is as much as without it, or more."},
              "Layer (leftmost: outside the layers)",
              1,
              static_cast<std::size_t>(last_layer + 2),
              {}};
  map.adds_up = false;
  for (const Kind& kind : kinds) {
    HeatMap::Row row{kind.name, {}};
    row.cells.resize(map.n_columns);
    for (const OutputError* error : kind.errors) {
      const double ratio = RatioOf(*error);
      if (!std::isfinite(ratio)) continue;
      row.cells[static_cast<std::size_t>(error->layer + 1)] = {
          std::clamp(ratio, 0.0, 1.0), fmt::format("{}: {}", error->tensor, FormatShare(ratio))};
    }
    map.rows.push_back(std::move(row));
  }
  return PlotHtml(map);
}

// What sizes lose, and where the output stands among them.
std::string Sizes(const MixReport& mix, const std::string& suffix) {
  XyPlot plot{{"sizes" + suffix, "What sizes lose",
               "The least loss of each size with types chosen tensor by tensor, forecast from what "
               "each kind of tensor lost when it was measured alone; and what the types of this "
               "output then lost on held-back text. Codes of --method reference: those that a "
               "text chooses lose less."},
              {"Bytes of the tensors", AxisKind::kLog},
              {"Mean KL divergence, nats", AxisKind::kLog},
              {},
              true};
  Series forecast{"Forecast", 0, {}}, measured{"Measured, of this output", 1, {}};
  Table table{"frontier" + suffix,
              {{"Size"}, {"Bits per weight", true}, {"Forecast KL", true}, {"Measured KL", true}},
              {},
              {}};
  for (const MixReport::Point& point : mix.frontier) {
    const auto n_bytes = static_cast<double>(point.data_bytes);
    const std::string size = fmt::format("{}, {:.2f} bits per weight",
                                         FormatBytes(point.data_bytes), point.bits_per_weight);
    // Nothing to see below it but a model that is the same; the table has it.
    constexpr double kLeast = 1e-6;
    const double drawn = point.predicted_kl < kLeast ? 0 : point.predicted_kl;
    forecast.points.push_back(
        {n_bytes, drawn, fmt::format("{}: {}", size, FormatFigure(point.predicted_kl)), ""});
    const bool is_measured = point.is_chosen && mix.n_tokens > 0;
    if (is_measured)
      measured.points.push_back({n_bytes, mix.measured_kl,
                                 fmt::format("{}: {}", size, FormatFigure(mix.measured_kl)),
                                 "this output"});
    table.rows.push_back(
        {{FormatBytes(point.data_bytes) + (point.is_chosen ? ", this output" : ""), {}},
         {fmt::format("{:.2f}", point.bits_per_weight), point.bits_per_weight},
         {FormatFigure(point.predicted_kl), point.predicted_kl},
         is_measured ? Cell{FormatFigure(mix.measured_kl), mix.measured_kl} : Cell{"", {}}});
  }
  plot.series = {std::move(forecast), std::move(measured)};
  return "<div class=\"plots\">\n" + PlotHtml(plot) + "</div>\n" + TableHtml(table);
}

std::string Target(const std::vector<OutputError>& errors, const std::string& suffix) {
  const std::vector<Kind> kinds = KindsOf(errors);
  return "<div class=\"plots\">\n" + LeftByKind(kinds, suffix) + LeftByLayer(kinds, suffix) +
         "</div>\n" + ErrorTable(errors, suffix);
}

}  // namespace

std::string QuantizeHtml(const ConvertReport& report) {
  std::vector<std::string> subtitle;
  std::string content;
  for (std::size_t i = 0; i < report.planned.outputs.size(); ++i) {
    const OutputPlan& output = report.planned.outputs[i];
    subtitle.push_back(Title(output) + ": " + output.files.front().path);
    const std::vector<OutputError>& errors = report.output_errors[i];
    const std::string suffix = i == 0 ? "" : fmt::format("-{}", i);
    const std::string sizes =
        output.mix && !output.mix->frontier.empty() ? Sizes(*output.mix, suffix) : "";
    content += SectionHtml(
        Title(output),
        sizes + (errors.empty() ? ParagraphHtml("No tensor of it takes codes from a text.")
                                : Target(errors, suffix)));
  }
  subtitle.emplace_back(
      "Errors of products on text that was held back, against those of the codes that the "
      "runtime's "
      "own tool chooses (--method reference).");
  return PageHtml("What the text is worth", subtitle, TilesHtml(Tiles(report)) + content);
}

}  // namespace phiq::cli
