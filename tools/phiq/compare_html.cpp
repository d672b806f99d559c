// The page of phiq compare.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
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
#include "tensor_kinds.h"

namespace phiq::cli {
namespace {

bool IsEqual(const ComparedTensor& tensor) { return tensor.max_error == 0; }

// Tensors of one role, or of one part of it ("attention_qkv[k]"), that all layers have.
struct Group {
  std::string name;
  std::size_t style = 0;                       // in all plots
  std::vector<const ComparedTensor*> tensors;  // layer by layer
  bool is_equal = true;                        // each of them
};

std::string KindOf(const ComparedTensor& tensor) {
  return KindName(RoleName(tensor.role), tensor.name);
}

// The groups that differ, in the order of the model.
std::vector<Group> GroupsOf(const Comparison& comparison) {
  std::map<std::pair<std::pair<std::size_t, std::size_t>, std::string>, Group> groups;
  for (const ComparedTensor& tensor : comparison.tensors) {
    Group& group = groups[{KindOrder(RoleName(tensor.role), tensor.name), KindOf(tensor)}];
    group.name = KindOf(tensor);
    group.tensors.push_back(&tensor);
    group.is_equal = group.is_equal && IsEqual(tensor);
  }
  std::vector<Group> ordered;
  for (auto& [key, group] : groups) {
    // Norms are equal in most outputs: an empty line in the legend would say nothing.
    if (group.is_equal) continue;
    group.style = ordered.size();
    std::ranges::stable_sort(group.tensors, {}, [](const ComparedTensor* t) { return t->layer; });
    ordered.push_back(std::move(group));
  }
  return ordered;
}

// --- figures and table ---------------------------------------------------------------------------

std::vector<Tile> Tiles(const Comparison& comparison) {
  const auto n_equal =
      static_cast<std::uint64_t>(std::ranges::count_if(comparison.tensors, IsEqual));
  const auto side = [](const ComparedSide& s) {
    return fmt::format("{}, {}", s.kind, FormatBytes(s.data_bytes));
  };
  return {
      {"Relative RMS error", FormatFigure(comparison.relative_rmse), "of all weights together"},
      {"Greatest error", FormatFigure(comparison.max_error), "of one weight"},
      {"Bits per weight, A", FormatFigure(comparison.a.bits_per_weight), side(comparison.a)},
      {"Bits per weight, B", FormatFigure(comparison.b.bits_per_weight), side(comparison.b)},
      {"Weights", FormatCount(comparison.n_weights), "compared one by one"},
      {"Tensors", FormatCount(comparison.tensors.size()), FormatCount(n_equal) + " of them equal"},
  };
}

std::string TensorTable(const Comparison& comparison) {
  Table table{"tensors",
              {{"Tensor"},
               {"Shape"},
               {"Type A"},
               {"Type B"},
               {"Bits A", true},
               {"Bits B", true},
               {"Max error", true},
               {"RMSE", true},
               {"Relative RMSE", true},
               {"SNR, dB", true},
               {"1 − cosine", true},
               {"Share of error", true}},
              {},
              11};
  const auto number = [](double value) { return Cell{FormatFigure(value), value}; };
  for (const ComparedTensor& tensor : comparison.tensors)
    table.rows.push_back({{tensor.name, {}},
                          {FormatShape(tensor.shape), {}},
                          {tensor.type_a, {}},
                          {tensor.type_b, {}},
                          number(tensor.bits_per_weight_a),
                          number(tensor.bits_per_weight_b),
                          number(tensor.max_error),
                          number(tensor.rmse),
                          number(tensor.relative_rmse),
                          number(tensor.snr_db),
                          // Cosines of good encodings differ in their fifth decimal only.
                          number(1 - tensor.cosine),
                          {FormatShare(tensor.share), tensor.share}});
  return TableHtml(table);
}

// --- plots ---------------------------------------------------------------------------------------

// The tensor with the greatest finite figure; null when there is no finite one above zero.
const ComparedTensor* Worst(const Comparison& comparison, double ComparedTensor::*figure) {
  const ComparedTensor* worst = nullptr;
  for (const ComparedTensor& tensor : comparison.tensors)
    if (std::isfinite(tensor.*figure) && tensor.*figure > (worst ? worst->*figure : 0))
      worst = &tensor;
  return worst;
}

std::string Place(const ComparedTensor& tensor) {
  return tensor.layer < 0 ? KindOf(tensor)
                          : fmt::format("{} of layer {}", KindOf(tensor), tensor.layer);
}

std::string ErrorByLayer(const Comparison& comparison, const std::vector<Group>& groups) {
  XyPlot plot{{"layers", "Error of each layer's weights", "A line for each role that differs."},
              {"Layer", AxisKind::kIndex},
              {"Relative RMS error", AxisKind::kLog},
              {},
              true};
  for (const Group& group : groups) {
    Series series{group.name, group.style, {}};
    for (const ComparedTensor* tensor : group.tensors) {
      if (tensor->layer < 0) continue;
      series.points.push_back({static_cast<double>(tensor->layer), tensor->relative_rmse,
                               fmt::format("{}: {} ({})", tensor->name,
                                           FormatFigure(tensor->relative_rmse), tensor->type_b),
                               ""});
    }
    if (!series.points.empty()) plot.series.push_back(std::move(series));
  }
  const ComparedTensor* worst = Worst(comparison, &ComparedTensor::relative_rmse);
  if (worst)
    plot.caption.text += fmt::format(" The greatest of all tensors: {} ({}).",
                                     FormatFigure(worst->relative_rmse), Place(*worst));
  return PlotHtml(plot);
}

std::string ShareOfError(const Comparison& comparison, const std::vector<Group>& groups) {
  std::int32_t last_layer = -1;
  for (const ComparedTensor& tensor : comparison.tensors)
    last_layer = std::max(last_layer, tensor.layer);
  const auto n_layers = static_cast<std::size_t>(last_layer + 1);
  HeatMap plot{{"shares", "Where the error comes from",
                "Each cell's share of the summed squared error: the stronger its colour, the more "
                "there is to "
                "win by giving these weights more bits."},
               "Layer (leftmost: outside the layers)",
               1,
               1 + n_layers,
               {}};
  for (const Group& group : groups) {
    HeatMap::Row row{group.name, {}};
    row.cells.resize(plot.n_columns);
    for (const ComparedTensor* tensor : group.tensors)
      row.cells[static_cast<std::size_t>(tensor->layer + 1)] = {
          tensor->share, Place(*tensor) + ": " + FormatShare(tensor->share)};
    plot.rows.push_back(std::move(row));
  }
  const ComparedTensor* worst = Worst(comparison, &ComparedTensor::share);
  if (worst)
    plot.caption.text += fmt::format(" Most: {} ({}).", FormatShare(worst->share), Place(*worst));
  return PlotHtml(plot);
}

std::string BitsAgainstError(const std::vector<Group>& groups) {
  XyPlot plot{{"bits", "Bits against error",
               "A dot for each tensor of B: each bit more should lift it by 6 dB. Low ones got too "
               "few bits for what they hold, high ones could do with less."},
              {"Bits per weight of B", AxisKind::kLinear},
              {"Signal-to-noise ratio, dB", AxisKind::kLinear},
              {},
              false,
              true};
  for (const Group& group : groups) {
    Series series{group.name, group.style, {}};
    for (const ComparedTensor* tensor : group.tensors) {
      series.points.push_back(
          {tensor->bits_per_weight_b, tensor->snr_db,
           fmt::format("{}: {}, {} bits, {} dB", tensor->name, tensor->type_b,
                       FormatFigure(tensor->bits_per_weight_b), FormatFigure(tensor->snr_db)),
           ""});
    }
    plot.series.push_back(std::move(series));
  }
  return PlotHtml(plot);
}

}  // namespace

std::string CompareHtml(const Comparison& comparison) {
  const std::vector<Group> groups = GroupsOf(comparison);
  const std::string plots = ErrorByLayer(comparison, groups) + BitsAgainstError(groups) +
                            ShareOfError(comparison, groups);
  return PageHtml(
      "Weights compared",
      {"A: " + comparison.a.path, "B: " + comparison.b.path, "Errors are those of B against A."},
      TilesHtml(Tiles(comparison)) +
          SectionHtml("Plots", "<div class=\"plots\">\n" + plots + "</div>\n") +
          SectionHtml("Tensors", TensorTable(comparison)));
}

}  // namespace phiq::cli
