// The parser is a library's and takes memory by what a file claims; one pass with limits before it
// makes hostile files cheap.
#include "formats/openvino/xml_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/limits.h"
#include "base/utf8.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::openvino {
namespace {

class Walker {
 public:
  Walker(std::string_view text, std::string_view path) : text_(text), path_(path) {}

  void Walk() {
    if (text_.starts_with("\xFE\xFF") || text_.starts_with("\xFF\xFE"))
      throw Bad(0, "is UTF-16, only UTF-8 is read");
    if (const auto bad = FindInvalidUtf8(text_)) throw Bad(*bad, "is not valid UTF-8");
    if (const std::size_t nul = text_.find('\0'); nul != std::string_view::npos)
      throw Bad(nul, "a NUL byte");
    for (std::size_t i = text_.find('<'); i != std::string_view::npos; i = text_.find('<', i))
      i = Markup(i);
    if (depth_ > 0) throw Bad(text_.size(), fmt::format("ends inside of {} elements", depth_));
  }

 private:
  Error Bad(std::size_t offset, std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_).At(offset);
  }

  // Where the markup at `i` ends.
  std::size_t Markup(std::size_t i) {
    const std::string_view rest = text_.substr(i);
    if (rest.starts_with("<!--")) return Skip(i, "-->");
    if (rest.starts_with("<?")) return Skip(i, "?>");
    if (rest.starts_with("<!DOCTYPE")) throw Bad(i, "DOCTYPE is not allowed");
    if (rest.starts_with("<!"))
      throw Bad(i, fmt::format("'{}' is not allowed", Escape(rest.substr(0, 9))));
    if (rest.starts_with("</")) {
      if (depth_ == 0) throw Bad(i, "an end tag without an element");
      --depth_;
      return Skip(i, ">");
    }
    return Element(i);
  }

  std::size_t Skip(std::size_t i, std::string_view end) const {
    const std::size_t found = text_.find(end, i);
    if (found == std::string_view::npos) throw Bad(i, "markup that does not end");
    return found + end.size();
  }

  std::size_t Element(std::size_t start) {
    if (++n_elements_ > limits::kXmlElements)
      throw Bad(start, fmt::format("more than {} elements", limits::kXmlElements));
    std::vector<std::string_view> names;
    std::size_t end_of_last = start + 1;  // attribute
    for (std::size_t i = start + 1; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '"' || c == '\'') {
        const std::size_t end = text_.find(c, i + 1);
        if (end == std::string_view::npos) throw Bad(i, "an attribute that does not end");
        names.push_back(NameIn(text_.substr(end_of_last, i - end_of_last)));
        if (names.size() > limits::kXmlElementAttributes ||
            ++n_attributes_ > limits::kXmlAttributes) {
          throw Bad(i, fmt::format("too many attributes (allowed are {} of an element, {} in all)",
                                   limits::kXmlElementAttributes, limits::kXmlAttributes));
        }
        i = end;
        end_of_last = end + 1;
      } else if (c == '<') {
        break;
      } else if (c == '>') {
        CheckNames(start, names);
        if (text_[i - 1] == '/') return i + 1;
        if (++depth_ > limits::kXmlDepth) {
          throw Bad(start, fmt::format("elements nest deeper than {}", limits::kXmlDepth));
        }
        return i + 1;
      }
    }
    throw Bad(start, "an element that does not end");
  }

  // The last word of what stands between two values: "net version=".
  static std::string_view NameIn(std::string_view between) {
    constexpr std::string_view kBlank = " \t\r\n";
    between = between.substr(0, between.find_last_not_of(" \t\r\n=") + 1);
    return between.substr(between.find_last_of(kBlank) + 1);  // npos + 1 is 0
  }

  // Of two attributes of one name each parser would believe another.
  void CheckNames(std::size_t start, std::vector<std::string_view>& names) const {
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    if (twice == names.end()) return;
    throw Bad(start, fmt::format("an element with two attributes '{}'", Escape(*twice)));
  }

  const std::string_view text_;
  const std::string_view path_;
  std::size_t depth_ = 0, n_elements_ = 0, n_attributes_ = 0;
};

}  // namespace

void CheckXml(std::string_view text, std::string_view path) { Walker(text, path).Walk(); }

}  // namespace phiq::openvino
