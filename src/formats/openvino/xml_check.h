// Walks an XML file before the parser sees it: errors with byte offsets, and limits on nesting,
// counts and memory.
#pragma once

#include <string_view>

namespace phiq::openvino {

// What graphs need: elements, attributes, text, comments and a declaration. The parser checks what
// is left (names that do not match, entities).
//
// Limits   kXmlDepth, kXmlElements, kXmlAttributes, kXmlElementAttributes.
// Throws   kBadData: not UTF-8, a DOCTYPE, elements that do not end, with the byte offset.
void CheckXml(std::string_view text, std::string_view path);

}  // namespace phiq::openvino
