// The one JSON reader: strict, with limits, exact integers. All JSON that phiq reads comes through here.
//
// Beyond the JSON standard it refuses: duplicate keys, NUL bytes, a byte order mark, nesting deeper
// than the limit, text longer than the limit. Comments, trailing commas, NaN and lone surrogates are
// errors as the standard has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace phiq {

using Json = nlohmann::json;
// Keys in the order of the text. Finding one takes time in proportion to their number: not for
// texts with many keys that are looked up one by one.
using OrderedJson = nlohmann::ordered_json;

// Parses a whole text.
//
// `path`   where it comes from, for messages.
// Throws   kBadData: with the byte offset, or the duplicate key.
Json ParseJson(std::string_view text, std::string_view path, int max_depth = 64);
OrderedJson ParseOrderedJson(std::string_view text, std::string_view path, int max_depth = 64);

// What a streaming parse reports; for headers too large for a tree. Keys and strings are unescaped.
// `depth` is 1 inside the outermost object or array. Handlers may throw.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void OnStartObject(int depth) = 0;
  virtual void OnKey(const std::string& key, int depth) = 0;  // duplicates were refused before
  virtual void OnEndObject(int depth) = 0;
  virtual void OnStartArray(int depth) = 0;
  virtual void OnEndArray(int depth) = 0;
  virtual void OnString(const std::string& value) = 0;
  virtual void OnUnsigned(std::uint64_t value) = 0;
  // Anything else: null, true, false, a negative number, a fraction, an integer above 2^64-1.
  virtual void OnOther(std::string_view what) = 0;
};
// `first_byte`: where in the file `text` begins, for the byte offsets in messages.
void ParseJsonEvents(std::string_view text, std::string_view path, int max_depth, JsonEvents& events,
                     std::uint64_t first_byte = 0);

// Typed members of an object. `path` is for the messages, which name the key, the value found and
// the type wanted. A missing key or null is nullopt; a value of another type throws kBadData.
std::optional<std::string> JsonString(const Json& object, std::string_view key, std::string_view path);
std::optional<std::uint64_t> JsonUnsigned(const Json& object, std::string_view key, std::string_view path);
std::optional<double> JsonNumber(const Json& object, std::string_view key, std::string_view path);
std::optional<bool> JsonBool(const Json& object, std::string_view key, std::string_view path);

}  // namespace phiq
