// Escaping and the parts of a page.
#include "html_page.h"

#include <gmock/gmock.h>

#include <limits>
#include <string>

namespace phiq::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(EscapeHtml, LeavesNoMarkup) {
  EXPECT_EQ(EscapeHtml("<script>alert('&\"')</script>"),
            "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;");
}

TEST(EscapeHtml, ShowsWhatCannotBeSeen) {
  EXPECT_EQ(EscapeHtml(std::string_view("a\0b\x1f\xff", 5)), "a\\x00b\\x1f\\xff");
  EXPECT_EQ(EscapeHtml("\u202e"), "\\u{202e}");
}

TEST(EscapeHtml, CutsNothing) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += "ä";  // two bytes each
  EXPECT_EQ(EscapeHtml(text), text);
  EXPECT_EQ(EscapeHtml("x" + text), "x" + text);
  EXPECT_EQ(EscapeHtml(std::string(300, '\xbf')).size(), 300 * std::string_view("\\xbf").size());
}

TEST(TableHtml, SaysWhatColumnsAreSortedBy) {
  const double infinity = std::numeric_limits<double>::infinity();
  const Table table{
      "t", {{"Name"}, {"Error", true}}, {{{"a", {}}, {"∞", infinity}}, {{"b", {}}, {"–", {}}}}, 1};
  const std::string html = TableHtml(table);
  EXPECT_THAT(html, HasSubstr("<th scope=\"col\" class=\"number\" aria-sort=\"descending\">"));
  EXPECT_THAT(html, HasSubstr("<td class=\"number\" data-value=\"inf\">∞</td>"));
  EXPECT_THAT(html, HasSubstr("<td class=\"number\">–</td>"));
}

TEST(PageHtml, LoadsNothing) {
  const std::string html = PageHtml("T", {"S"}, "");
  EXPECT_THAT(html, HasSubstr("default-src 'none'"));
  for (const char* forbidden : {"http:", "https:", "@import", "url(", " src="})
    EXPECT_THAT(html, Not(HasSubstr(forbidden)));
}

}  // namespace
}  // namespace phiq::cli
