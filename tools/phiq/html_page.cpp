// The parts of a report page.
#include "html_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "phiq/text.h"
#include "report_assets.h"

namespace phiq::cli {
namespace {

std::string CellHtml(const Cell& cell, const Column& column, bool is_first) {
  std::string attributes;
  if (column.is_number) {
    attributes += " class=\"number\"";
    if (cell.value) attributes += fmt::format(" data-value=\"{:.9g}\"", *cell.value);
  }
  if (!cell.tooltip.empty()) attributes += fmt::format(" title=\"{}\"", EscapeHtml(cell.tooltip));
  const std::string_view tag = is_first ? "th scope=\"row\"" : "td";
  return fmt::format("<{}{}>{}</{}>", tag, attributes, EscapeHtml(cell.text), tag.substr(0, 2));
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  // In pieces, as Escape cuts what is longer than 200 characters; never inside a character.
  std::string visible;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = std::min(begin + 100, text.size());
    for (int i = 0; i < 3 && end < text.size() && (text[end] & 0xC0) == 0x80; ++i) ++end;
    visible += Escape(text.substr(begin, end - begin));
  }
  std::string html;
  for (const char c : visible) {
    switch (c) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += c;
    }
  }
  return html;
}

std::string TilesHtml(const std::vector<Tile>& tiles) {
  std::string html = "<dl class=\"tiles\">\n";
  for (const Tile& tile : tiles)
    html += fmt::format("<div><dt>{}</dt><dd class=\"value\">{}</dd><dd>{}</dd></div>\n",
                        EscapeHtml(tile.label), EscapeHtml(tile.value), EscapeHtml(tile.note));
  return html + "</dl>\n";
}

std::string TableHtml(const Table& table) {
  // The frame scrolls where the screen is narrow; with a tabindex the keyboard scrolls it too.
  std::string html = fmt::format(
      "<div class=\"scroll\" tabindex=\"0\"><table class=\"sortable\" id=\"{}\">\n<thead><tr>",
      EscapeHtml(table.id));
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    const Column& column = table.columns[c];
    html += fmt::format("<th scope=\"col\"{}{}><button type=\"button\">{}</button></th>",
                        column.is_number ? " class=\"number\"" : "",
                        table.sorted_by == c ? " aria-sort=\"descending\"" : "",
                        EscapeHtml(column.head));
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<Cell>& row : table.rows) {
    html += "<tr>";
    for (std::size_t c = 0; c < row.size(); ++c) html += CellHtml(row[c], table.columns[c], c == 0);
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string ParagraphHtml(std::string_view text) {
  return fmt::format("<p>{}</p>\n", EscapeHtml(text));
}

std::string ProblemsHtml(std::string_view heading, const std::vector<std::string>& problems) {
  std::string html = fmt::format("<div class=\"problems\" role=\"alert\"><strong>{}</strong><ul>\n",
                                 EscapeHtml(heading));
  for (const std::string& problem : problems)
    html += fmt::format("<li>{}</li>\n", EscapeHtml(problem));
  return html + "</ul></div>\n";
}

std::string SectionHtml(std::string_view heading, const std::string& content) {
  return fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", EscapeHtml(heading), content);
}

std::string PageHtml(std::string_view title, const std::vector<std::string>& subtitle,
                     const std::string& content) {
  std::string lines;
  for (const std::string& line : subtitle) lines += ParagraphHtml(line);
  // Lets the page run its own script and load nothing at all. "data:" is for the icon: without one
  // browsers ask for /favicon.ico.
  constexpr std::string_view kPolicy =
      "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";
  return fmt::format(
      R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{5}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<link rel="icon" href="data:,"/>
<title>{0}</title>
<style>
{1}</style>
</head>
<body>
<main>
<header>
<h1>{0}</h1>
{2}</header>
{3}</main>
<script>
{4}</script>
</body>
</html>
)",
      EscapeHtml(title), kReportCss, lines, content, kReportJs, kPolicy);
}

}  // namespace phiq::cli
