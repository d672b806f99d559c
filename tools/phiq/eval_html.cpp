// The page of phiq eval.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "html_page.h"
#include "html_report.h"
#include "number_text.h"
#include "phiq/text.h"
#include "svg_plot.h"
#include "table.h"

namespace phiq::cli {
namespace {

// Models and their names in plots, in the order of the report.
struct Candidates {
  const std::vector<EvaluatedModel>& models;
  std::vector<std::string> names;
};

Candidates CandidatesOf(const EvalReport& report) {
  std::vector<std::string> paths;
  for (const EvaluatedModel& model : report.models) paths.push_back(model.path);
  return {report.models, ShortNames(paths)};
}

Estimate PplRatio(const Divergence& divergence) {
  // A small error of the logarithm is the relative error of the ratio.
  return {divergence.ppl_ratio, divergence.ppl_ratio * divergence.log_ppl_ratio.standard_error};
}

// --- figures and table ---------------------------------------------------------------------------

std::vector<Tile> Tiles(const EvalReport& report) {
  std::vector<Tile> tiles;
  // With several candidates the table tells more than any one of them.
  if (report.models.size() == 1) {
    const EvaluatedModel& model = report.models.front();
    tiles.push_back(
        {"Perplexity", FormatEstimate(model.perplexity),
         report.reference ? "reference: " + FormatEstimate(report.reference->perplexity) : ""});
    if (model.divergence) {
      const Divergence& divergence = *model.divergence;
      tiles.push_back({"Mean KL divergence, nats", FormatEstimate(divergence.mean_kl),
                       "99.9 % of positions below " + FormatFigure(divergence.p999_kl)});
      tiles.push_back({"Same best token", FormatShare(divergence.same_top), "of scored positions"});
      tiles.push_back(
          {"Perplexity ratio", FormatEstimate(PplRatio(divergence)), "model / reference"});
    }
    tiles.push_back({"Bits per weight", FormatFigure(model.bits_per_weight),
                     FormatBytes(model.data_bytes) + " of weights"});
  }
  tiles.push_back(
      {"Scored positions", FormatCount(report.n_scored),
       fmt::format(
           "{} windows of {} tokens, {}", FormatCount(report.n_windows), FormatCount(report.n_ctx),
           report.protocol == EvalProtocol::kLlamaCpp ? "second halves" : "all but the first")});
  tiles.push_back({"Time", FormatSeconds(report.elapsed_s),
                   FormatFigure(report.tokens_per_second) + " tokens per second"});
  tiles.push_back({"Peak memory", FormatBytes(report.peak_memory_bytes), ""});
  return tiles;
}

Cell NumberCell(double value) { return {FormatFigure(value), value}; }

std::vector<Cell> ModelRow(const EvaluatedModel& model, std::string name, bool has_divergence) {
  std::vector<Cell> row = {{std::move(name), {}, model.path},
                           {model.types, {}},
                           NumberCell(model.bits_per_weight),
                           {FormatBytes(model.data_bytes), static_cast<double>(model.data_bytes)},
                           {FormatEstimate(model.perplexity), model.perplexity.value}};
  if (!has_divergence) return row;
  if (!model.divergence) {
    row.resize(row.size() + 8, {"–", {}});
    return row;
  }
  const Divergence& divergence = *model.divergence;
  row.push_back({fmt::format("{:.5f}", divergence.ppl_ratio), divergence.ppl_ratio});
  row.push_back({FormatEstimate(divergence.mean_kl), divergence.mean_kl.value});
  row.push_back({FormatShare(divergence.same_top), divergence.same_top.value});
  for (const double kl : {divergence.median_kl, divergence.p90_kl, divergence.p99_kl,
                          divergence.p999_kl, divergence.max_kl})
    row.push_back(NumberCell(kl));
  return row;
}

std::string ModelTable(const EvalReport& report, const Candidates& candidates) {
  Table table{"models",
              {{"Model"},
               {"Encodings"},
               {"Bits per weight", true},
               {"Weights", true},
               {"Perplexity", true}},
              {},
              {}};
  if (report.reference) {
    for (const char* head : {"PPL ratio", "Mean KL, nats", "Same best token", "Median", "90 %",
                             "99 %", "99.9 %", "Maximum"})
      table.columns.push_back({head, true});
    table.rows.push_back(ModelRow(*report.reference, "reference", true));
  }
  for (std::size_t i = 0; i < candidates.models.size(); ++i)
    table.rows.push_back(
        ModelRow(candidates.models[i], candidates.names[i], report.reference.has_value()));
  return TableHtml(table);
}

// --- plots ---------------------------------------------------------------------------------------

// How the divergences of all positions are spread.
std::string KlSpread(const Candidates& candidates) {
  // The decades of all models together, the lowest ones left out when there are more than sixteen:
  // below that floats cannot tell a divergence from rounding.
  double low = 0, high = 0;
  for (const EvaluatedModel& model : candidates.models) {
    if (!model.divergence) continue;
    for (const float kl : model.divergence->kl) {
      if (!std::isfinite(kl) || kl <= 0) continue;
      low = low == 0 ? kl : std::min(low, static_cast<double>(kl));
      high = std::max(high, static_cast<double>(kl));
    }
  }
  const int last = high > 0 ? static_cast<int>(std::floor(std::log10(high))) + 1 : 1;
  const int first =
      high > 0 ? std::max(static_cast<int>(std::floor(std::log10(low))), last - 16) : 0;

  SpreadPlot plot;
  plot.x_title = "KL divergence of a position from the reference, nats";
  plot.y_title = "Share of positions";
  std::uint64_t n_below = 0, n_not_finite = 0;
  for (std::size_t i = 0; i < candidates.models.size(); ++i) {
    if (!candidates.models[i].divergence) continue;
    const Divergence& divergence = *candidates.models[i].divergence;
    Spread row{candidates.names[i], CountByDecade(divergence.kl, first, last), {}};
    row.quantiles = {{"median", divergence.median_kl},
                     {"90 %", divergence.p90_kl},
                     {"99 %", divergence.p99_kl},
                     {"99.9 %", divergence.p999_kl},
                     {"max", divergence.max_kl}};
    n_below += row.histogram.n_below;
    n_not_finite += row.histogram.n_not_finite;
    plot.rows.push_back(std::move(row));
  }
  plot.caption = {"kl-spread", "How often the model strays, and how far",
                  "Bars count the scored positions by divergence. Lines, from left to right: "
                  "median, 90, 99 and 99.9 %, maximum. A long tail on the right is a model that is "
                  "mostly right and sometimes far off."};
  if (n_below > 0)
    plot.caption.text += fmt::format(
        " Not drawn: {} positions of zero{}.", FormatCount(n_below),
        high > 0 ? fmt::format(" or below {} nats", FormatTick(std::pow(10.0, first))) : "");
  if (n_not_finite > 0)
    plot.caption.text +=
        fmt::format(" Not drawn: {} positions that are not finite.", FormatCount(n_not_finite));
  return PlotHtml(plot);
}

// Mean divergence by the place in the window, at most 64 points a model.
std::string KlByPosition(const EvalReport& report, const Candidates& candidates) {
  const std::size_t n_positions = report.n_scored_per_window;
  constexpr std::size_t kMaxPoints = 64;
  const std::size_t per_bin = (n_positions + kMaxPoints - 1) / kMaxPoints;
  const std::size_t n_bins = (n_positions + per_bin - 1) / per_bin;
  // The scored positions are a window's last ones.
  const std::size_t first_position = report.n_ctx - n_positions;

  XyPlot plot{{"kl-position", "Divergence along the window",
               "Where a line rises, the model loses the thread as the text gets longer; where it "
               "falls, more context helps it to agree with the reference."},
              {"Tokens before the predicted one", AxisKind::kLinear},
              {"Mean KL divergence, nats", AxisKind::kLog},
              {},
              true};
  for (std::size_t m = 0; m < candidates.models.size(); ++m) {
    if (!candidates.models[m].divergence) continue;
    std::vector<double> sums(n_bins);
    std::vector<std::uint64_t> counts(n_bins);
    const std::vector<float>& kl = candidates.models[m].divergence->kl;
    for (std::size_t i = 0; i < kl.size(); ++i) {
      if (!std::isfinite(kl[i])) continue;
      const std::size_t bin = i % n_positions / per_bin;
      sums[bin] += kl[i];
      ++counts[bin];
    }
    Series series{candidates.names[m], m, {}};
    for (std::size_t bin = 0; bin < n_bins; ++bin) {
      const std::size_t begin = first_position + bin * per_bin;
      const std::size_t last =
          std::min<std::size_t>(begin + per_bin, first_position + n_positions) - 1;
      const double mean = sums[bin] / static_cast<double>(counts[bin]);  // NaN: not drawn
      series.points.push_back(
          {0.5 * static_cast<double>(begin + last), mean,
           fmt::format("{}, tokens {} to {}: {}", series.name, begin, last, FormatFigure(mean)),
           ""});
    }
    plot.series.push_back(std::move(series));
  }
  return PlotHtml(plot);
}

// What each bit buys. Without a reference perplexity stands for divergence.
std::string BitsAgainstError(const EvalReport& report, const Candidates& candidates) {
  const bool has_kl = report.reference.has_value();
  XyPlot plot{
      {"bits", has_kl ? "Size against divergence" : "Size against perplexity",
       "The best trade-offs lie at the lower left: fewer bits, and closer to the reference."},
      {"Bits per weight", AxisKind::kLog},
      {has_kl ? "Mean KL divergence, nats" : "Perplexity", AxisKind::kLog},
      {}};
  if (!has_kl)
    plot.caption.text = "The best trade-offs lie at the lower left: fewer bits, lower perplexity.";
  for (std::size_t i = 0; i < candidates.models.size(); ++i) {
    const EvaluatedModel& model = candidates.models[i];
    if (has_kl && !model.divergence) continue;
    const Estimate& error = has_kl ? model.divergence->mean_kl : model.perplexity;
    Point point{model.bits_per_weight, error.value,
                fmt::format("{}: {} bits, {}", candidates.names[i],
                            FormatFigure(model.bits_per_weight), FormatEstimate(error)),
                candidates.names[i]};
    plot.series.push_back({candidates.names[i], i, {std::move(point)}});
  }
  return PlotHtml(plot);
}

std::string ErrorThroughLayers(const Candidates& candidates) {
  XyPlot plot{{"hidden-error", "Error on its way through the layers",
               "Relative error of the hidden state behind each layer. A step up is a layer whose "
               "weights deserve more bits."},
              {"Layer", AxisKind::kIndex},
              {"Relative RMS error of the hidden state", AxisKind::kLog},
              {},
              true};
  for (std::size_t m = 0; m < candidates.models.size(); ++m) {
    Series series{candidates.names[m], m, {}};
    const std::vector<double>& errors = candidates.models[m].hidden_error;
    for (std::size_t layer = 0; layer < errors.size(); ++layer)
      series.points.push_back(
          {static_cast<double>(layer), errors[layer],
           fmt::format("{}, layer {}: {}", series.name, layer, FormatFigure(errors[layer])), ""});
    plot.series.push_back(std::move(series));
  }
  return PlotHtml(plot);
}

}  // namespace

std::vector<std::string> ShortNames(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (std::string_view path : paths) {
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    names.emplace_back(path.substr(path.rfind('/') + 1));
  }
  const auto has_twins = [](std::vector<std::string> all) {
    std::ranges::sort(all);
    return std::ranges::adjacent_find(all) != all.end();
  };
  // Files of one name in several folders.
  if (has_twins(names)) names = paths;
  if (names.size() < 2) return names;

  // What all share is left out, in whole words: "Q4_K_M" and "Q4_K_S" are never "M" and "S".
  std::string_view prefix = names.front(), suffix = names.front();
  for (const std::string& name : names) {
    prefix = prefix.substr(
        0, static_cast<std::size_t>(std::ranges::mismatch(prefix, name).in1 - prefix.begin()));
    std::size_t n = 0;
    while (n < std::min(suffix.size(), name.size()) &&
           suffix[suffix.size() - 1 - n] == name[name.size() - 1 - n])
      ++n;
    suffix = suffix.substr(suffix.size() - n);
  }
  const std::size_t n_prefix = prefix.find_last_of("-/") + 1;  // none found: npos + 1 is 0
  // An extension has letters only: ".5-int4" is none.
  const std::size_t dot = suffix.rfind('.');
  const bool has_extension =
      dot != std::string_view::npos &&
      std::ranges::all_of(suffix.substr(dot + 1), [](char c) { return c >= 'a' && c <= 'z'; });
  const std::size_t n_suffix = has_extension ? suffix.size() - dot : 0;
  std::vector<std::string> cut;
  for (const std::string& name : names) {
    if (name.size() <= n_prefix + n_suffix) return names;
    cut.push_back(name.substr(n_prefix, name.size() - n_prefix - n_suffix));
  }
  return has_twins(cut) ? names : cut;
}

std::string EvalHtml(const EvalReport& report) {
  const Candidates candidates = CandidatesOf(report);
  std::vector<std::string> subtitle = {report.models.size() == 1
                                           ? report.models.front().path
                                           : fmt::format("{} models", report.models.size())};
  if (report.reference) subtitle.push_back("Reference: " + report.reference->path);

  std::string content;
  if (!report.unmet.empty()) content += ProblemsHtml("Thresholds that were not met", report.unmet);
  content += TilesHtml(Tiles(report));
  content += SectionHtml("Models", ModelTable(report, candidates));
  std::string plots;
  if (report.reference) {
    plots += KlSpread(candidates);
    if (report.n_scored_per_window > 0) plots += KlByPosition(report, candidates);
    plots += ErrorThroughLayers(candidates);
  }
  // One dot would say no more than the figures do.
  if (report.models.size() > 1) plots += BitsAgainstError(report, candidates);
  if (!plots.empty())
    content += SectionHtml("Plots", "<div class=\"plots\">\n" + plots + "</div>\n");
  return PageHtml(report.reference ? "What quantization cost" : "Perplexity", subtitle, content);
}

}  // namespace phiq::cli
