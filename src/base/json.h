// The one JSON reader: strict, with limits, exact integers. All JSON that phiq reads comes through
// here, as a tree (Json, for small files) or as a stream of events (ParseJsonEvents).
//
// Beyond the JSON standard it refuses: duplicate keys, NUL bytes, a byte order mark, nesting deeper
// than the limit, a tree of more values than the limit. Comments, trailing commas and lone
// surrogates are errors as the standard has it. Trees may hold NaN and Infinity, which Python's
// tools write: they are numbers that are not finite. So is 1e999, as Python reads it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "base/safe_variant.h"

namespace phiq {

class Json;

// A template, so that it is complete wherever Json is.
template <typename Value>
struct JsonMemberOf {
  std::string key;
  Value value;
  bool operator==(const JsonMemberOf&) const = default;
};
using JsonMember = JsonMemberOf<Json>;

// A JSON value. Objects keep the order of their members; two objects are equal when their members
// are, in any order, and two numbers when their values are.
//
// Destroying one never allocates, so that running out of memory ends as std::bad_alloc: that is why
// the tree is not nlohmann's, whose destructor does.
//
// Cost     looking a key up takes time in proportion to the members before it. A new member moves
//          the others: references to members do not outlive it.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;

  Json() noexcept = default;
  Json(std::nullptr_t) noexcept {}
  template <std::same_as<bool> T>
  Json(T value) noexcept : value_(value) {}
  template <std::unsigned_integral T>
  requires(!std::same_as<T, bool>) Json(T value)
  noexcept : value_(std::uint64_t{value}) {}
  template <std::signed_integral T>
  Json(T value) noexcept {  // a whole number of 0 or more has one form
    if (value < 0) {
      value_ = std::int64_t{value};
    } else {
      value_ = static_cast<std::uint64_t>(value);
    }
  }
  Json(double value) noexcept : value_(value) {}
  Json(std::string value) noexcept : value_(std::move(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(const char* value) : value_(std::string(value)) {}
  template <typename T>
  Json(const std::vector<T>& values) : value_(Array(values.begin(), values.end())) {}

  static Json array(std::initializer_list<Json> values = {});
  static Json object(std::initializer_list<std::pair<std::string_view, Json>> members = {});

  bool is_null() const noexcept { return std::holds_alternative<std::monostate>(value_); }
  bool is_boolean() const noexcept { return std::holds_alternative<bool>(value_); }
  bool is_number_unsigned() const noexcept { return std::holds_alternative<std::uint64_t>(value_); }
  bool is_number_integer() const noexcept {
    return is_number_unsigned() || std::holds_alternative<std::int64_t>(value_);
  }
  bool is_number() const noexcept {
    return is_number_integer() || std::holds_alternative<double>(value_);
  }
  bool is_string() const noexcept { return std::holds_alternative<std::string>(value_); }
  bool is_array() const noexcept { return std::holds_alternative<Array>(value_); }
  bool is_object() const noexcept { return std::holds_alternative<Object>(value_); }
  // "null", "boolean", "number", "string", "array", "object".
  std::string_view type_name() const noexcept;

  // The value as a T: bool, std::string, or a number type, to which numbers are converted.
  // Requires  is_boolean, is_string or is_number.
  template <typename T>
  T get() const {
    if constexpr (std::same_as<T, bool> || std::same_as<T, std::string>) {
      return std::get<T>(value_);
    } else {
      return std::visit(
          [](const auto& value) {
            if constexpr (std::is_arithmetic_v<std::remove_cvref_t<decltype(value)>>) {
              return static_cast<T>(value);
            } else {
              return T{};
            }
          },
          value_);
    }
  }
  const std::string& text() const { return std::get<std::string>(value_); }

  // Of arrays and objects; 0 for other values.
  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }

  // The elements of an array; none for other values.
  Array::const_iterator begin() const noexcept { return elements().begin(); }
  Array::const_iterator end() const noexcept { return elements().end(); }
  const Json& front() const { return elements().front(); }
  const Json& back() const { return elements().back(); }
  const Json& operator[](std::size_t i) const { return elements()[i]; }
  // A null becomes an array.
  Json& push_back(Json value);

  // The members of an object; none for other values.
  const Object& members() const noexcept;
  // nullptr: no such member, or no object.
  const Json* find(std::string_view key) const noexcept;
  Json* find(std::string_view key) noexcept;
  bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }
  // The member of that name, which is made when there is none. A null becomes an object.
  Json& operator[](std::string_view key);
  // Adds a member whose key is known to be new.
  Json& AddMember(std::string key, Json value);
  void erase(std::string_view key);
  // Members in the order of their keys; those of inner objects stay.
  void SortMembers();

  // The value as text: on one line, or indented by so many blanks. What is not UTF-8 becomes
  // U+FFFD. NaN and Infinity are written as Python writes them.
  std::string dump(int indent = -1, bool ensure_ascii = false) const;

  friend bool operator==(const Json& a, const Json& b);
  template <typename T>
  requires std::constructible_from<Json, T>
  friend bool operator==(const Json& a, const T& b) { return a == Json(b); }

 private:
  const Array& elements() const noexcept;

  SafeVariant<std::monostate, bool, std::uint64_t, std::int64_t, double, std::string, Array, Object>
      value_;
};

// Parses a whole text of at most limits::kJsonValues values.
//
// `path`   where it comes from, for messages.
// Throws   kBadData: with the byte offset, or the duplicate key.
Json ParseJson(std::string_view text, std::string_view path, int max_depth = 64);

// What a streaming parse reports; for files too large for a tree. Keys and strings are unescaped.
// `depth` is 1 inside the outermost object or array. Handlers may throw.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void OnStartObject(int depth) = 0;
  // Duplicates are refused before the object's end is reported, not before the key is.
  virtual void OnKey(const std::string& key, int depth) = 0;
  virtual void OnEndObject(int depth) = 0;
  virtual void OnStartArray(int depth) = 0;
  virtual void OnEndArray(int depth) = 0;
  virtual void OnString(const std::string& value) = 0;
  virtual void OnUnsigned(std::uint64_t value) = 0;
  // Anything else: null, true, false, a negative number, a fraction, an integer above 2^64-1.
  virtual void OnOther(std::string_view what) = 0;
};
// `first_byte`: where in the file `text` begins, for the byte offsets in messages. NaN and Infinity
// are errors here.
void ParseJsonEvents(std::string_view text, std::string_view path, int max_depth,
                     JsonEvents& events, std::uint64_t first_byte = 0);
// The same of a file that Python's json module reads: there they are "NaN", "Infinity" and
// "-Infinity" to OnOther, and so is a number beyond float64.
void ParsePythonJsonEvents(std::string_view text, std::string_view path, int max_depth,
                           JsonEvents& events);

// Makes a tree of some of the events of a stream. All trees of one builder together hold at most
// limits::kJsonValues values.
class JsonTreeBuilder {
 public:
  explicit JsonTreeBuilder(std::string_view path) : path_(path) {}

  void OpenObject() { Open(Json::object()); }
  void OpenArray() { Open(Json::array()); }
  void SetKey(const std::string& key) { key_ = key; }
  void Close() { open_.pop_back(); }
  void Add(Json value) { Place(std::move(value)); }
  // null, true, false or a number, as JsonEvents::OnOther gives it.
  void AddOther(std::string_view what);
  // True between the value that began the tree and its end.
  bool is_open() const noexcept { return !open_.empty(); }
  // The tree, which is done; the next value begins another one.
  Json Take() { return std::exchange(root_, Json()); }

 private:
  void Open(Json value) { open_.push_back(Place(std::move(value))); }
  Json* Place(Json value);

  std::string_view path_;
  Json root_;
  std::vector<Json*> open_;  // what is added goes into the last one, so that none of them moves
  std::string key_;
  std::size_t n_values_ = 0;
};

// Typed members of an object. `path` is for the messages, which name the key, the value found and
// the type wanted. A missing key or null is nullopt; a value of another type throws kBadData.
std::optional<std::string> JsonString(const Json& object, std::string_view key,
                                      std::string_view path);
std::optional<std::uint64_t> JsonUnsigned(const Json& object, std::string_view key,
                                          std::string_view path);
std::optional<double> JsonNumber(const Json& object, std::string_view key, std::string_view path);
std::optional<bool> JsonBool(const Json& object, std::string_view key, std::string_view path);

}  // namespace phiq
