// Where marks are drawn, and what happens to values that cannot be.
#include "svg_plot.h"

#include <gmock/gmock.h>

#include <limits>
#include <string>

namespace phiq::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::size_t Count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

XyPlot LogLines(std::vector<Series> series) {
  return {{"id", "Title", "Text."},
          {"Layer", AxisKind::kIndex},
          {"Error", AxisKind::kLog},
          std::move(series),
          true};
}

TEST(XyPlot, InterruptsALineWhereAPointCannotBeDrawn) {
  const std::string html = PlotHtml(LogLines({{"a",
                                               0,
                                               {{0, 1, "", ""},
                                                {1, 2, "", ""},
                                                {2, kNan, "", ""},
                                                {3, 0, "", ""},
                                                {4, 3, "", ""},
                                                {5, 4, "", ""}}}}));
  EXPECT_EQ(Count(html, "class=\"mark dot\""), 4U);
  EXPECT_THAT(html, HasSubstr("Text. Not drawn: 2 that are zero or not finite."));
  const std::size_t begin = html.find("class=\"line\" d=\"") + 16;
  const std::string path = html.substr(begin, html.find('"', begin) - begin);
  EXPECT_EQ(Count(path, "M"), 2U);
  EXPECT_EQ(Count(path, "L"), 2U);
}

TEST(XyPlot, SaysSoWhenThereIsNothingToDraw) {
  for (const double value : {0.0, -1.0, kInfinity, kNan}) {
    const std::string html = PlotHtml(LogLines({{"a", 0, {{0, value, "", ""}}}}));
    EXPECT_THAT(html, HasSubstr("Nothing to draw"));
    EXPECT_THAT(html, Not(HasSubstr("<svg")));
  }
  EXPECT_THAT(PlotHtml(LogLines({})), HasSubstr("Nothing to draw"));
}

TEST(XyPlot, HasALegendForSeveralSeriesOnly) {
  const Series a{"first & last", 0, {{0, 1, "", ""}}}, b{"b", 9, {{0, 2, "", ""}}};
  EXPECT_THAT(PlotHtml(LogLines({a})), Not(HasSubstr("legend")));
  const std::string html = PlotHtml(LogLines({a, b}));
  EXPECT_THAT(html, HasSubstr("first &amp; last</li>"));
  // The tenth style: the second colour again, but dashed.
  EXPECT_THAT(html, HasSubstr("<svg class=\"c1\""));
  EXPECT_THAT(html, HasSubstr("<path class=\"line dash1\" d=\"M0 6h26\"/>"));
}

TEST(XyPlot, LabelsDotsThatHaveRoomAndNamesTheOthersInALegend) {
  const auto series_at = [](double x, std::string name) {
    return Series{name, 0, {{x, 1, "", name}}};
  };
  XyPlot plot{{"id", "Title", "Text."},
              {"Bits"},
              {"Error", AxisKind::kLog},
              {series_at(1, "near"), series_at(9, "far")}};
  std::string html = PlotHtml(plot);
  EXPECT_EQ(Count(html, ">near</text>") + Count(html, ">far</text>"), 2U);
  EXPECT_THAT(html, Not(HasSubstr("legend")));
  for (int i = 0; i < 12; ++i) plot.series.push_back(series_at(5, "same place"));
  html = PlotHtml(plot);
  EXPECT_LT(Count(html, ">same place</text>"), 12U);
  EXPECT_EQ(Count(html, "same place</li>"), 12U);
}

TEST(SpreadPlot, DrawsBarsByTheirShareOfAllValues) {
  // One value below the bins, three in the first bin, none in the other nine.
  const std::vector<float> values = {0, 1, 1, 1};
  const std::string html = PlotHtml(SpreadPlot{
      {"id", "Title", "Text."}, "x", "y", {{"m", CountByDecade(values, 0, 1), {{"max", 1}}}}});
  EXPECT_THAT(html, HasSubstr(">75 %</text>"));
  // The tick's four letters of 8.4 and 9 more are at the left of the frame, which ends at 468 and
  // is 46 to 236 high. A tenth of its width is 42.54: a bar of its whole height, then the ground.
  EXPECT_THAT(html, HasSubstr("M42.6 236V46H85.14V236H127.68V236"));
}

TEST(HeatMap, ScalesColoursBySquareRoots) {
  HeatMap plot{{"id", "Title", "Text."}, "Layer", 1, 3, {{"row", {}}}};
  plot.rows[0].cells = {HeatMap::Cell{0.04, "a"}, std::nullopt, HeatMap::Cell{0.64, "b"}};
  const std::string html = PlotHtml(plot);
  EXPECT_EQ(Count(html, "class=\"mark cell\""), 2U);
  // sqrt(0.04 / 0.64) = 0.25 of the way from 0.05 to 1.
  EXPECT_THAT(html, HasSubstr("fill-opacity=\"0.287\"><title>a</title>"));
  EXPECT_THAT(html, HasSubstr("fill-opacity=\"1.000\"><title>b</title>"));
  EXPECT_THAT(html, HasSubstr(">68.00 %</text>"));
  plot.adds_up = false;
  EXPECT_THAT(PlotHtml(plot), HasSubstr(">34.00 %</text>"));
}

TEST(HeatMap, SaysSoWhenAllSharesAreZero) {
  HeatMap plot{{"id", "Title", "Text."}, "Layer", 0, 2, {{"row", {}}}};
  plot.rows[0].cells = {HeatMap::Cell{0, ""}, HeatMap::Cell{kNan, ""}};
  EXPECT_THAT(PlotHtml(plot), HasSubstr("Nothing to draw"));
}

}  // namespace
}  // namespace phiq::cli
