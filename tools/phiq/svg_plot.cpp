// The plots of the report pages, drawn as plain SVG. Lengths are in units of the drawing, which is
// 480 wide; the page scales it to the width of its column.
#include "svg_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "html_page.h"
#include "number_text.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

constexpr double kWidth = 480;
constexpr double kTop = 26;     // room for the title of the y axis
constexpr double kBottom = 40;  // for ticks and title of the x axis
constexpr double kRight = 12;
constexpr double kFontSize = 14;  // that of report.css on narrow pages; wide ones have 12

// The place of the axes in the drawing.
struct Frame {
  double left, top, right, bottom;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

// Two decimals are a hundredth of a pixel or so.
std::string Num(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

// Wider than most fonts set it: labels must not touch.
double TextWidth(std::string_view text) {
  const auto n = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return 0.6 * kFontSize * static_cast<double>(n);
}

std::string Text(double x, double y, std::string_view css_class, std::string_view text) {
  return fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\">{}</text>\n", css_class, Num(x), Num(y),
                     EscapeHtml(text));
}

std::string GridLine(double x1, double y1, double x2, double y2) {
  return fmt::format("<path class=\"grid\" d=\"M{} {}L{} {}\"/>\n", Num(x1), Num(y1), Num(x2),
                     Num(y2));
}

std::string Tooltip(std::string_view text) {
  return text.empty() ? "" : fmt::format("<title>{}</title>", EscapeHtml(text));
}

// Eight colours, five shapes of dots and three kinds of lines: the first 40 series all differ.
std::string ColourClass(std::size_t i) { return fmt::format("c{}", i % 8); }
std::string DashClass(std::size_t i) { return i < 8 ? "" : i < 16 ? " dash1" : " dash2"; }

// A path around (x, y): circle, square, diamond, triangles up and down, of about equal areas.
std::string DotPath(std::size_t series, double x, double y, double r) {
  const std::string at = fmt::format("M{} {}", Num(x), Num(y));
  switch (series % 5) {
    case 0:
      return fmt::format("{0}m-{1} 0a{1} {1} 0 1 0 {2} 0a{1} {1} 0 1 0 -{2} 0z", at, Num(r),
                         Num(2 * r));
    case 1:
      return fmt::format("{0}m-{1} -{1}h{2}v{2}h-{2}z", at, Num(0.9 * r), Num(1.8 * r));
    case 2:
      return fmt::format("{0}m0 -{1}l{1} {1}l-{1} {1}l-{1} -{1}z", at, Num(1.3 * r));
    case 3:
      return fmt::format("{0}m0 -{1}l{1} {2}h-{2}z", at, Num(1.2 * r), Num(2.4 * r));
    default:
      return fmt::format("{0}m0 {1}l{1} -{2}h-{2}z", at, Num(1.2 * r), Num(2.4 * r));
  }
}

std::string FigureHtml(const Caption& caption, const std::string& content) {
  return fmt::format(
      "<figure id=\"{0}\">\n<figcaption><h3 id=\"{0}-title\">{1}</h3>{2}</figcaption>\n{3}"
      "</figure>\n",
      EscapeHtml(caption.id), EscapeHtml(caption.title), ParagraphHtml(caption.text), content);
}

std::string NothingHtml(const Caption& caption) {
  return FigureHtml(caption,
                    "<p class=\"nothing\">Nothing to draw: there is no value above zero.</p>\n");
}

std::string SvgHtml(const Caption& caption, double height, const std::string& content) {
  return fmt::format(
      "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{}-title\">\n{}"
      "</svg>\n",
      Num(kWidth), Num(height), EscapeHtml(caption.id), content);
}

std::string LegendHtml(const std::vector<Series>& series, bool has_lines) {
  if (series.size() < 2) return "";
  std::string html = "<ul class=\"legend\">\n";
  for (const Series& one : series) {
    const std::size_t i = one.style;
    html += fmt::format("<li><svg class=\"{}\" viewBox=\"0 0 26 12\" aria-hidden=\"true\">",
                        ColourClass(i));
    if (has_lines) html += fmt::format("<path class=\"line{}\" d=\"M0 6h26\"/>", DashClass(i));
    html += fmt::format("<path class=\"dot\" d=\"{}\"/></svg>{}</li>\n", DotPath(i, 13, 6, 3.5),
                        EscapeHtml(one.name));
  }
  return html + "</ul>\n";
}

// --- axes ----------------------------------------------------------------------------------------

double XOf(const Frame& frame, const Scale& scale, double value) {
  return frame.left + scale.Fraction(value) * frame.width();
}

double YOf(const Frame& frame, const Scale& scale, double value) {
  return frame.bottom - scale.Fraction(value) * frame.height();
}

double WidestTick(const Scale& scale) {
  double widest = 0;
  for (const double tick : scale.ticks()) widest = std::max(widest, TextWidth(FormatTick(tick)));
  return widest;
}

std::string XTicks(const Frame& frame, const Scale& scale, bool has_grid) {
  std::string svg;
  for (const double tick : scale.ticks()) {
    const double x = XOf(frame, scale, tick);
    if (has_grid) svg += GridLine(x, frame.top, x, frame.bottom);
    svg += Text(x, frame.bottom + 15, "tick middle", FormatTick(tick));
  }
  return svg;
}

std::string YTicks(const Frame& frame, const Scale& scale) {
  std::string svg;
  for (const double tick : scale.ticks()) {
    const double y = YOf(frame, scale, tick);
    svg += GridLine(frame.left, y, frame.right, y);
    svg += Text(frame.left - 7, y + 4, "tick end", FormatTick(tick));
  }
  return svg;
}

// The y axis has its title above it, where it reads like the rest of the page.
std::string AxisTitles(const Frame& frame, std::string_view x, std::string_view y) {
  return Text(0, 12, "axis", y) +
         Text((frame.left + frame.right) / 2, frame.bottom + 34, "axis middle", x);
}

// --- points and lines ----------------------------------------------------------------------------

Scale ScaleOf(const Axis& axis, const std::vector<double>& values) {
  switch (axis.kind) {
    case AxisKind::kLog:
      return Scale::LogOver(values);
    case AxisKind::kIndex:
      return Scale::Index(1 + static_cast<std::size_t>(*std::ranges::max_element(values)));
    case AxisKind::kLinear:
      break;
  }
  return Scale::LinearOver(values);
}

bool CanShow(const Axis& axis, double value) {
  return std::isfinite(value) && (axis.kind == AxisKind::kLinear || value > 0 ||
                                  (axis.kind == AxisKind::kIndex && value == 0));
}

bool CanShow(const XyPlot& plot, const Point& point) {
  return CanShow(plot.x, point.x) && CanShow(plot.y, point.y);
}

struct Box {
  double left, top, right, bottom;
  bool Overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

// Finds room for labels beside their dots, first come first served.
class LabelPlacer {
 public:
  LabelPlacer(const Frame& frame, std::vector<Box> taken)
      : frame_(frame), taken_(std::move(taken)) {}

  // The text in its place; "" when all places around the dot are taken.
  std::string Place(double x, double y, std::string_view label) {
    const double width = TextWidth(label), half = kFontSize / 2, gap = 7;
    struct Place {
      double left, middle;
    };
    const double above = y - gap - half, below = y + gap + half;
    const std::array<Place, 8> places = {{{x + gap, y},
                                          {x - gap - width, y},
                                          {x - width / 2, above},
                                          {x - width / 2, below},
                                          {x + gap, above},
                                          {x + gap, below},
                                          {x - gap - width, above},
                                          {x - gap - width, below}}};
    for (const auto [left, middle] : places) {
      const Box box{left, middle - half, left + width, middle + half};
      if (box.left < frame_.left || box.right > kWidth || box.top < frame_.top - 8 ||
          box.bottom > frame_.bottom)
        continue;
      if (std::ranges::any_of(taken_, [&](const Box& other) { return box.Overlaps(other); }))
        continue;
      taken_.push_back(box);
      return Text(left, middle + 4, "over", label);
    }
    return "";
  }

 private:
  Frame frame_;
  std::vector<Box> taken_;
};

// --- spreads -------------------------------------------------------------------------------------

// A row's bars as one outline, and a line at each quantile with its name where there is room: in
// the upper line of names from `names_from` on.
std::string SpreadRow(const Spread& row, std::size_t index, const Frame& frame, const Scale& x,
                      double greatest, bool names_quantiles, double names_from) {
  const LogHistogram& bins = row.histogram;
  std::uint64_t n_values = bins.n_below;
  for (const std::uint64_t count : bins.counts) n_values += count;
  std::string outline = fmt::format("M{} {}", Num(frame.left), Num(frame.bottom));
  for (std::size_t i = 0; i < bins.counts.size(); ++i) {
    const double share = static_cast<double>(bins.counts[i]) / static_cast<double>(n_values);
    outline += fmt::format("V{}H{}", Num(frame.bottom - share / greatest * frame.height()),
                           Num(XOf(frame, x, bins.BinLow(i + 1))));
  }
  outline += fmt::format("V{}z", Num(frame.bottom));

  std::string svg = fmt::format("<g class=\"{}\">\n", ColourClass(index));
  svg += GridLine(frame.left, frame.bottom, frame.right, frame.bottom);
  std::string tooltip = row.name;
  for (const Spread::Quantile& quantile : row.quantiles)
    tooltip += fmt::format(", {}: {}", quantile.name, FormatFigure(quantile.value));
  const bool has_bars = std::ranges::any_of(bins.counts, [](std::uint64_t n) { return n > 0; });
  if (has_bars)
    svg += fmt::format("<path class=\"mark bars\" d=\"{}\">{}</path>\n", outline, Tooltip(tooltip));

  // Names stand in two lines above the lines: the lower one, or the upper one where that is taken.
  std::array<double, 2> free_from = {frame.left, names_from};
  for (const Spread::Quantile& quantile : row.quantiles) {
    if (!x.CanShow(quantile.value) || quantile.value < x.low()) continue;
    const double at = XOf(frame, x, quantile.value);
    svg += fmt::format("<path class=\"quantile\" d=\"M{} {}v-{}\">{}</path>\n", Num(at),
                       Num(frame.bottom), Num(names_quantiles ? frame.height() : 10),
                       Tooltip(quantile.name + ": " + FormatFigure(quantile.value)));
    if (!names_quantiles) continue;
    const double half = TextWidth(quantile.name) / 2;
    for (std::size_t level = 0; level < free_from.size(); ++level) {
      if (at - half < free_from[level] || at + half > kWidth) continue;
      svg += Text(at, frame.top - 4 - 13 * static_cast<double>(level), "tick middle over",
                  quantile.name);
      free_from[level] = at + half + 4;
      break;
    }
  }
  return svg + "</g>\n";
}

}  // namespace

std::string PlotHtml(const XyPlot& plot) {
  std::vector<double> xs, ys;
  std::uint64_t n_left_out = 0;
  for (const Series& series : plot.series) {
    for (const Point& point : series.points) {
      if (!CanShow(plot, point)) {
        ++n_left_out;
        continue;
      }
      xs.push_back(point.x);
      ys.push_back(point.y);
    }
  }
  if (xs.empty()) return NothingHtml(plot.caption);
  Caption caption = plot.caption;
  if (n_left_out > 0)
    caption.text += fmt::format(" Not drawn: {} that {} zero or not finite.",
                                FormatCount(n_left_out), n_left_out == 1 ? "is" : "are");
  const Scale x = ScaleOf(plot.x, xs), y = ScaleOf(plot.y, ys);

  const bool has_labels = std::ranges::any_of(plot.series, [](const Series& series) {
    return std::ranges::any_of(series.points, [](const Point& p) { return !p.label.empty(); });
  });
  // Many labels need room.
  const double height = has_labels && xs.size() > 8 ? 440 : 300;
  const Frame frame{WidestTick(y) + 9, kTop, kWidth - kRight, height - kBottom};
  std::string svg = YTicks(frame, y) + XTicks(frame, x, plot.x.kind != AxisKind::kIndex) +
                    AxisTitles(frame, plot.x.title, plot.y.title);

  const double radius = plot.has_lines ? 2.5 : 4;
  // Dots that stand side by side stay near their value.
  const double dodge_step = std::min(5.0, 36 / static_cast<double>(plot.series.size()));
  std::vector<Box> taken;
  const auto place_of = [&](std::size_t series, const Point& point) {
    const double dodge = plot.is_dodged
                             ? dodge_step * (static_cast<double>(series) -
                                             0.5 * static_cast<double>(plot.series.size() - 1))
                             : 0;
    return std::pair{XOf(frame, x, point.x) + dodge, YOf(frame, y, point.y)};
  };
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    std::string line, dots;
    bool is_connected = false;
    for (const Point& point : plot.series[i].points) {
      if (!CanShow(plot, point)) {
        is_connected = false;
        continue;
      }
      const auto [px, py] = place_of(i, point);
      line += fmt::format("{}{} {}", is_connected ? "L" : "M", Num(px), Num(py));
      is_connected = true;
      dots += fmt::format("<path class=\"mark dot\" d=\"{}\">{}</path>\n",
                          DotPath(plot.series[i].style, px, py, radius), Tooltip(point.tooltip));
      taken.push_back({px - radius, py - radius, px + radius, py + radius});
    }
    if (dots.empty()) continue;
    svg += fmt::format("<g class=\"series {}{}\">\n", ColourClass(plot.series[i].style),
                       plot.is_dodged ? " faint" : "");
    if (plot.has_lines)
      svg +=
          fmt::format("<path class=\"line{}\" d=\"{}\"/>\n", DashClass(plot.series[i].style), line);
    svg += dots + "</g>\n";
  }

  LabelPlacer placer(frame, std::move(taken));
  bool needs_legend = false;
  for (std::size_t i = 0; i < plot.series.size(); ++i) {
    for (const Point& point : plot.series[i].points) {
      if (!CanShow(plot, point)) continue;
      const auto [px, py] = place_of(i, point);
      const std::string label = point.label.empty() ? "" : placer.Place(px, py, point.label);
      needs_legend = needs_legend || label.empty();
      svg += label;
    }
  }
  return FigureHtml(caption, SvgHtml(caption, height, svg) +
                                 (needs_legend ? LegendHtml(plot.series, plot.has_lines) : ""));
}

std::string PlotHtml(const SpreadPlot& plot) {
  double greatest = 0;  // share of a row's values in one bin
  for (const Spread& row : plot.rows) {
    std::uint64_t n_values = row.histogram.n_below, most = 0;
    for (const std::uint64_t count : row.histogram.counts) {
      n_values += count;
      most = std::max(most, count);
    }
    if (n_values > 0)
      greatest = std::max(greatest, static_cast<double>(most) / static_cast<double>(n_values));
  }
  if (greatest == 0) return NothingHtml(plot.caption);

  const LogHistogram& bins = plot.rows.front().histogram;
  const Scale x =
      Scale::Decades(bins.first_decade, bins.first_decade + static_cast<int>(bins.counts.size()) /
                                                                LogHistogram::kBinsPerDecade);
  // Few rows have the names of the quantiles above them; many are low.
  const bool names_quantiles = plot.rows.size() <= 3;
  const double bars = plot.rows.size() == 1 ? 190 : names_quantiles ? 84 : 34;
  const double row_height = bars + (plot.rows.size() == 1 ? 20 : names_quantiles ? 38 : 16);
  const double bottom = kTop + row_height * static_cast<double>(plot.rows.size());
  const std::string top_tick = fmt::format("{:.2g} %", 100 * greatest);
  const Frame all{TextWidth(top_tick) + 9, kTop, kWidth - kRight, bottom};

  std::string svg = XTicks(all, x, true) + AxisTitles(all, plot.x_title, plot.y_title);
  for (std::size_t i = 0; i < plot.rows.size(); ++i) {
    Frame frame = all;
    frame.bottom = kTop + row_height * static_cast<double>(i + 1);
    frame.top = frame.bottom - bars;
    // Low rows all have the first one's ticks.
    if (names_quantiles || i == 0) {
      svg += Text(all.left - 7, frame.top + 4, "tick end", top_tick);
      svg += Text(all.left - 7, frame.bottom + 1, "tick end", "0");
    }
    const bool has_name = plot.rows.size() > 1;
    svg += SpreadRow(plot.rows[i], i, frame, x, greatest, names_quantiles,
                     frame.left + (has_name ? TextWidth(plot.rows[i].name) + 8 : 0));
    if (has_name)
      svg += Text(all.left + 4, names_quantiles ? frame.top - 17 : frame.top + 2, "over",
                  plot.rows[i].name);
  }
  return FigureHtml(plot.caption, SvgHtml(plot.caption, bottom + kBottom, svg));
}

std::string PlotHtml(const HeatMap& plot) {
  double greatest = 0, widest = 0;
  for (const HeatMap::Row& row : plot.rows) {
    widest = std::max(widest, TextWidth(row.name));
    for (const std::optional<HeatMap::Cell>& cell : row.cells)
      if (cell && std::isfinite(cell->share)) greatest = std::max(greatest, cell->share);
  }
  if (greatest == 0) return NothingHtml(plot.caption);

  constexpr double kRowHeight = 22;
  const double total_width = TextWidth("100.00 %") + 4;
  const Frame frame{widest + 8, kTop, kWidth - total_width,
                    kTop + kRowHeight * static_cast<double>(plot.rows.size())};
  const double column_width = frame.width() / static_cast<double>(plot.n_columns);
  // A rim between cells, where they are wide enough to have one.
  const double rim = column_width > 6 ? 1 : 0.25;
  // The square root tells small shares apart too; a share of nearly nothing still shows.
  const auto opacity = [&](double share) { return 0.05 + 0.95 * std::sqrt(share / greatest); };

  std::string svg = Text(kWidth, 12, "axis end", plot.adds_up ? "in all" : "mean");
  const std::size_t n_counted = plot.n_columns - plot.n_outside;
  if (n_counted > 0) {
    svg += Text((frame.left + frame.right) / 2, frame.bottom + 34, "axis middle", plot.x_title);
    const Scale counted = Scale::Index(n_counted);
    for (const double tick : counted.ticks())
      svg += Text(frame.left + (static_cast<double>(plot.n_outside) + tick + 0.5) * column_width,
                  frame.bottom + 15, "tick middle", FormatTick(tick));
  }
  for (std::size_t r = 0; r < plot.rows.size(); ++r) {
    const HeatMap::Row& row = plot.rows[r];
    const double top = frame.top + kRowHeight * static_cast<double>(r);
    double total = 0;
    std::size_t n_cells = 0;
    svg += Text(frame.left - 8, top + kRowHeight / 2 + 4, "tick end", row.name);
    for (std::size_t c = 0; c < row.cells.size(); ++c) {
      if (!row.cells[c] || !std::isfinite(row.cells[c]->share)) continue;
      total += row.cells[c]->share;
      ++n_cells;
      svg += fmt::format(
          "<rect class=\"mark cell\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" "
          "fill-opacity=\"{:.3f}\">{}</rect>\n",
          Num(frame.left + static_cast<double>(c) * column_width), Num(top),
          Num(column_width - rim), Num(kRowHeight - 1), opacity(row.cells[c]->share),
          Tooltip(row.cells[c]->tooltip));
    }
    if (!plot.adds_up && n_cells > 0) total /= static_cast<double>(n_cells);
    svg += Text(kWidth, top + kRowHeight / 2 + 4, "end", FormatShare(total));
  }
  std::string legend = "<ul class=\"legend\">\n";
  for (const double root : {0.0, 0.25, 0.5, 0.75, 1.0})
    legend += fmt::format(
        "<li><svg viewBox=\"0 0 26 12\" aria-hidden=\"true\"><rect class=\"cell\" width=\"26\" "
        "height=\"12\" fill-opacity=\"{:.3f}\"/></svg>{}</li>\n",
        opacity(root * root * greatest), FormatShare(root * root * greatest));
  return FigureHtml(plot.caption,
                    SvgHtml(plot.caption, frame.bottom + kBottom, svg) + legend + "</ul>\n");
}

}  // namespace phiq::cli
