// The plots of the report pages, drawn as plain SVG.
//
// We draw them ourselves: these few kinds of plot need less code than the glue to an embedded chart
// library would, and they show without any script, print as they look on the screen, take their
// colours from the page's style sheet (light and dark) and are the same bytes for the same numbers.
// A tooltip is an SVG <title>.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "plot_scale.h"

namespace phiq::cli {

// What stands around every plot. Titles of axes come with their units.
struct Caption {
  std::string id;     // of the figure, unique on the page
  std::string title;  // what is drawn
  std::string text;   // what is to be seen
};

struct Point {
  double x = 0, y = 0;  // drawn where both axes can show them
  std::string tooltip;
  std::string label;  // written beside it where there is room; a legend helps out
};

struct Series {
  std::string name;       // in the legend, when there are several
  std::size_t style = 0;  // colour, shape and dash: equal things look alike in all plots of a page
  std::vector<Point> points;
};

enum class AxisKind { kLinear, kLog, kIndex };  // kIndex: 0, 1, 2, ...

struct Axis {
  std::string title;
  AxisKind kind = AxisKind::kLinear;
};

struct XyPlot {
  Caption caption;
  Axis x, y;
  std::vector<Series> series;
  bool has_lines = false;  // from point to point; interrupted where one cannot be drawn
  // Of series that share values of x: the dots of one value stand side by side.
  bool is_dodged = false;
};

// One row a model: how its values are spread over a logarithmic axis.
struct Spread {
  std::string name;
  LogHistogram histogram;
  struct Quantile {
    std::string name;
    double value;
  };
  std::vector<Quantile> quantiles;  // ascending
};

struct SpreadPlot {
  Caption caption;
  std::string x_title, y_title;
  std::vector<Spread> rows;  // with equal bins
};

// A share for each pair of row and column. The stronger a cell's colour, the more it has.
struct HeatMap {
  Caption caption;
  std::string x_title;
  std::size_t n_outside = 0;  // columns at the left without a number; the others count from 0
  std::size_t n_columns = 0;
  struct Cell {
    double share = 0;  // 0 ... 1
    std::string tooltip;
  };
  struct Row {
    std::string name;
    std::vector<std::optional<Cell>> cells;  // of each column
  };
  std::vector<Row> rows;
  bool adds_up = true;  // to a whole: at the right stand sums of rows; else means
};

// Each returns a <figure> with caption, plot and legend; with a sentence instead of the plot when
// there is nothing that its axes can show. The caption of an XyPlot counts the points left out.
std::string PlotHtml(const XyPlot& plot);
std::string PlotHtml(const SpreadPlot& plot);
std::string PlotHtml(const HeatMap& plot);

}  // namespace phiq::cli
