// The parts of a report page: one HTML file that needs no network, follows the reader's light or
// dark colours and prints well. It is well-formed XML too, so that tests can parse it strictly.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace phiq::cli {

// Makes any text safe between tags and in quoted attributes; hidden and invalid characters are
// shown as phiq::Escape shows them, but nothing is cut.
std::string EscapeHtml(std::string_view text);

// A figure that stands by itself: "Perplexity", "14.30 ± 0.12", "the reference has 14.21".
struct Tile {
  std::string label, value, note;
};

struct Column {
  std::string head;
  bool is_number = false;  // set to the right; sorted by value, the greatest first
};

struct Cell {
  std::string text;
  std::optional<double> value;  // what a column of numbers is sorted by; NaN and none come last
  std::string tooltip = "";
};

struct Table {
  std::string id;
  std::vector<Column> columns;  // the first one names the row
  std::vector<std::vector<Cell>> rows;
  std::optional<std::size_t> sorted_by;  // the column of numbers that the rows are sorted by now
};

// Each returns HTML; their texts are escaped by them.
std::string TilesHtml(const std::vector<Tile>& tiles);
std::string TableHtml(const Table& table);
std::string ParagraphHtml(std::string_view text);
std::string ProblemsHtml(std::string_view heading, const std::vector<std::string>& problems);
std::string SectionHtml(std::string_view heading, const std::string& content);

// The whole file: title and lines below it are text, the content is HTML.
std::string PageHtml(std::string_view title, const std::vector<std::string>& subtitle,
                     const std::string& content);

}  // namespace phiq::cli
