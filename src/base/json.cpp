// The strict JSON reader over nlohmann's SAX parser, and the tree. No tree of nlohmann's is made:
// its destructor allocates.
#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>

#include "base/limits.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

using Library = nlohmann::json;

// The keys of the open objects. Duplicates are looked for at the end of an object: by sorted hashes
// first, which takes n log n whatever the keys are.
class KeyStack {
 public:
  void Open() { first_.push_back(keys_.size()); }
  // False: there are too many.
  bool Add(std::string_view key) {
    if (keys_.size() == limits::kJsonKeys) return false;
    keys_.push_back({std::hash<std::string_view>()(key), texts_.size(), key.size()});
    texts_ += key;
    return true;
  }
  // The keys of the innermost object go. Gives one of them that came twice.
  std::optional<std::string> Close() {
    const std::span<Key> keys = std::span(keys_).subspan(first_.back());
    std::optional<std::string> twice;
    if (!keys.empty()) {
      const std::size_t texts_begin = keys.front().begin;
      std::ranges::sort(keys, [this](const Key& a, const Key& b) {
        return a.hash != b.hash ? a.hash < b.hash : TextOf(a) < TextOf(b);
      });
      const auto same = std::ranges::adjacent_find(keys, [this](const Key& a, const Key& b) {
        return a.hash == b.hash && TextOf(a) == TextOf(b);
      });
      if (same != keys.end()) twice = TextOf(*same);
      texts_.resize(texts_begin);
    }
    keys_.resize(first_.back());
    first_.pop_back();
    return twice;
  }

 private:
  struct Key {
    std::size_t hash = 0, begin = 0, size = 0;
  };
  std::string_view TextOf(const Key& key) const {
    return std::string_view(texts_).substr(key.begin, key.size);
  }

  std::string texts_;
  std::vector<Key> keys_;
  std::vector<std::size_t> first_;  // in keys_, of each open object
};

// NaN, Infinity, -Infinity, or a number beyond float64 ("1e999"), which Python reads as Infinity.
// The parser is given a number of the same length for it.
struct NonFinite {
  std::size_t begin = 0, end = 0;
  std::string_view word;  // what it means
};

// "1e999" -> "Infinity"; nullopt: a number within float64, or none.
std::optional<std::string_view> WordOfOverflow(std::string_view number) {
  if (number.find_first_of("eE") == number.npos) return std::nullopt;
  const std::string text(number);
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end != text.c_str() + text.size() || !std::isinf(value)) return std::nullopt;
  return value < 0 ? "-Infinity" : "Infinity";
}

std::vector<NonFinite> FindNonFinite(std::string_view text) {
  std::vector<NonFinite> found;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      if (c == '\\') ++i;
    } else if (c == 'N' || c == 'I' || c == '-' || (c >= '0' && c <= '9')) {
      std::size_t end = i + 1;
      for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (!text.substr(i).starts_with(word)) continue;
        end = i + word.size();
        found.push_back({i, end, word});
      }
      if (end == i + 1 && c != 'N' && c != 'I') {
        end = std::min(text.find_first_not_of("+-.0123456789eE", i), text.size());
        if (const auto word = WordOfOverflow(text.substr(i, end - i)))
          found.push_back({i, end, *word});
      }
      i = end - 1;
    }
  }
  return found;
}

// "NaN" -> "1E0", "-Infinity" -> "-1E000000", "1e999" -> "1e000"
std::string WithNumbers(std::string_view text, std::span<const NonFinite> words) {
  std::string numbers(text);
  for (const NonFinite& found : words) {
    std::size_t at = found.begin + (text[found.begin] == '-' ? 1 : 0);
    if (text[at] == 'N' || text[at] == 'I') {
      numbers[at++] = '1';
      numbers[at++] = 'E';
    } else {
      at = text.find_first_of("eE", at) + 1;
    }
    for (; at < found.end; ++at)
      if (text[at] != '+' && text[at] != '-') numbers[at] = '0';
  }
  return numbers;
}

// The characters of a text, of which it tells how many were taken.
class CountingIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator() = default;
  CountingIterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }

 private:
  const char* at_ = nullptr;
  const char** reached_ = nullptr;
};

// Watches nesting and keys, then hands the events on.
class StrictSax {
 public:
  using number_integer_t = Library::number_integer_t;
  using number_unsigned_t = Library::number_unsigned_t;
  using number_float_t = Library::number_float_t;
  using string_t = Library::string_t;
  using binary_t = Library::binary_t;

  StrictSax(std::string_view path, int max_depth, JsonEvents& events, std::uint64_t first_byte)
      : path_(path), max_depth_(max_depth), events_(events), first_byte_(first_byte) {}

  // `words` stand in the text as numbers; `reached` is moved along while it is read.
  void Restore(std::span<const NonFinite> words, const char* begin, const char** reached) {
    words_ = words;
    begin_ = begin;
    reached_ = reached;
  }

  // NOLINTBEGIN(readability-identifier-naming): the names nlohmann's parser calls
  bool null() { return Other("null"); }
  bool boolean(bool value) { return Other(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) { return Other(fmt::format("{}", value)); }
  bool number_unsigned(number_unsigned_t value) {
    events_.OnUnsigned(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) {
    // No number before the word reaches its end.
    if (!words_.empty() && words_.front().end <= static_cast<std::size_t>(*reached_ - begin_)) {
      const std::string_view word = words_.front().word;
      words_ = words_.subspan(1);
      return Other(word);
    }
    return Other(text);
  }
  bool string(string_t& value) {
    events_.OnString(value);
    return true;
  }
  bool binary(binary_t&) { return Other("binary"); }
  bool start_object(std::size_t) {
    Enter();
    keys_.Open();
    events_.OnStartObject(depth_);
    return true;
  }
  bool key(string_t& name) {
    if (!keys_.Add(name)) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("a JSON object has more than {} keys", limits::kJsonKeys))
          .In(path_);
    }
    events_.OnKey(name, depth_);
    return true;
  }
  bool end_object() {
    if (const std::optional<std::string> twice = keys_.Close()) {
      throw Error(ErrorCode::kBadData, fmt::format("duplicate key '{}' in JSON", Escape(*twice)))
          .In(path_);
    }
    events_.OnEndObject(depth_);
    --depth_;
    return true;
  }
  bool start_array(std::size_t) {
    Enter();
    events_.OnStartArray(depth_);
    return true;
  }
  bool end_array() {
    events_.OnEndArray(depth_);
    --depth_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ..."
    std::string_view text = error.what();
    const std::size_t start = text.find(": ");
    if (start != std::string_view::npos) text.remove_prefix(start + 2);
    throw Error(ErrorCode::kBadData, fmt::format("not valid UTF-8 JSON: {}", Escape(text)))
        .In(path_)
        .At(first_byte_ + (position == 0 ? 0 : position - 1));
  }
  // NOLINTEND(readability-identifier-naming)

 private:
  bool Other(std::string_view what) {
    events_.OnOther(what);
    return true;
  }
  void Enter() {
    if (++depth_ > max_depth_) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("JSON is nested too deeply, more than {} levels", max_depth_))
          .In(path_);
    }
  }

  std::string_view path_;
  int max_depth_;
  int depth_ = 0;
  KeyStack keys_;
  JsonEvents& events_;
  std::uint64_t first_byte_;
  std::span<const NonFinite> words_;
  const char* begin_ = nullptr;
  const char** reached_ = nullptr;
};

class TreeEvents : public JsonEvents {
 public:
  explicit TreeEvents(std::string_view path) : tree_(path) {}
  Json Take() { return tree_.Take(); }

  void OnStartObject(int) override { tree_.OpenObject(); }
  void OnKey(const std::string& key, int) override { tree_.SetKey(key); }
  void OnEndObject(int) override { tree_.Close(); }
  void OnStartArray(int) override { tree_.OpenArray(); }
  void OnEndArray(int) override { tree_.Close(); }
  void OnString(const std::string& value) override { tree_.Add(value); }
  void OnUnsigned(std::uint64_t value) override { tree_.Add(value); }
  void OnOther(std::string_view what) override { tree_.AddOther(what); }

 private:
  JsonTreeBuilder tree_;
};

// What nlohmann's lexer would take for an end of input or skip.
void RefuseHiddenBytes(std::string_view text, std::string_view path, std::uint64_t first_byte = 0) {
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error(ErrorCode::kBadData, "JSON begins with a byte order mark")
        .In(path)
        .At(first_byte)
        .Hint("save it as UTF-8 without one");
  }
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    throw Error(ErrorCode::kBadData, "not valid UTF-8 JSON: a NUL byte")
        .In(path)
        .At(first_byte + nul);
  }
}

// Numbers and strings are written by the library, from values that its destructor only frees.
std::string DumpString(const std::string& text, bool ensure_ascii) {
  return Library(text).dump(-1, ' ', ensure_ascii, Library::error_handler_t::replace);
}

std::string DumpNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return Library(value).dump();
}

class Dumper {
 public:
  Dumper(int indent, bool ensure_ascii) : indent_(indent), ensure_ascii_(ensure_ascii) {}

  std::string Dump(const Json& value) && {
    Add(value, 0);
    return std::move(out_);
  }

 private:
  void Add(const Json& value, std::size_t depth) {
    if (value.is_array()) {
      AddList(value, '[', ']', depth, [&](const Json& element) { Add(element, depth + 1); });
    } else if (value.is_object()) {
      AddList(value.members(), '{', '}', depth, [&](const JsonMember& member) {
        out_ += DumpString(member.key, ensure_ascii_);
        out_ += indent_ < 0 ? ":" : ": ";
        Add(member.value, depth + 1);
      });
    } else if (value.is_string()) {
      out_ += DumpString(value.text(), ensure_ascii_);
    } else if (value.is_boolean()) {
      out_ += value.get<bool>() ? "true" : "false";
    } else if (value.is_null()) {
      out_ += "null";
    } else if (value.is_number_unsigned()) {
      out_ += fmt::format("{}", value.get<std::uint64_t>());
    } else if (value.is_number_integer()) {
      out_ += fmt::format("{}", value.get<std::int64_t>());
    } else {
      out_ += DumpNumber(value.get<double>());
    }
  }

  template <typename List, typename AddItem>
  void AddList(const List& list, char open, char close, std::size_t depth, const AddItem& add) {
    out_.push_back(open);
    bool is_first = true;
    for (const auto& item : list) {
      if (!is_first) out_.push_back(',');
      is_first = false;
      BreakLine(depth + 1);
      add(item);
    }
    if (!is_first) BreakLine(depth);
    out_.push_back(close);
  }
  void BreakLine(std::size_t depth) {
    if (indent_ < 0) return;
    out_.push_back('\n');
    out_.append(depth * static_cast<std::size_t>(indent_), ' ');
  }

  int indent_;
  bool ensure_ascii_;
  std::string out_;
};

std::string Describe(const Json& value) { return Escape(value.dump()); }

const Json* Member(const Json& object, std::string_view key) {
  const Json* const found = object.find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

Error WrongType(const Json& value, std::string_view key, std::string_view path,
                std::string_view wanted) {
  return Error(ErrorCode::kBadData,
               fmt::format("'{}' is {}, needs {}", key, Describe(value), wanted))
      .In(path);
}

}  // namespace

Json Json::array(std::initializer_list<Json> values) {
  Json array;
  array.value_ = Array(values);
  return array;
}

Json Json::object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json object;
  object.value_ = Object();
  for (const auto& [key, value] : members) object.AddMember(std::string(key), value);
  return object;
}

std::string_view Json::type_name() const noexcept {
  if (is_null()) return "null";
  if (is_boolean()) return "boolean";
  if (is_number()) return "number";
  if (is_string()) return "string";
  return is_array() ? "array" : "object";
}

std::size_t Json::size() const noexcept { return elements().size() + members().size(); }

const Json::Array& Json::elements() const noexcept {
  static const Array none;
  const Array* const array = std::get_if<Array>(&value_);
  return array == nullptr ? none : *array;
}

const Json::Object& Json::members() const noexcept {
  static const Object none;
  const Object* const object = std::get_if<Object>(&value_);
  return object == nullptr ? none : *object;
}

Json& Json::push_back(Json value) {
  if (is_null()) value_ = Array();
  return std::get<Array>(value_).emplace_back(std::move(value));
}

const Json* Json::find(std::string_view key) const noexcept {
  const Object& object = members();
  const auto found = std::ranges::find(object, key, &JsonMember::key);
  return found == object.end() ? nullptr : &found->value;
}

Json* Json::find(std::string_view key) noexcept {
  return const_cast<Json*>(std::as_const(*this).find(key));
}

Json& Json::operator[](std::string_view key) {
  Json* const found = find(key);
  return found != nullptr ? *found : AddMember(std::string(key), Json());
}

Json& Json::AddMember(std::string key, Json value) {
  if (is_null()) value_ = Object();
  return std::get<Object>(value_).emplace_back(std::move(key), std::move(value)).value;
}

void Json::erase(std::string_view key) {
  if (Object* const object = std::get_if<Object>(&value_))
    std::erase_if(*object, [&](const JsonMember& member) { return member.key == key; });
}

void Json::SortMembers() {
  if (Object* const object = std::get_if<Object>(&value_))
    std::ranges::sort(*object, {}, &JsonMember::key);
}

std::string Json::dump(int indent, bool ensure_ascii) const {
  return Dumper(indent, ensure_ascii).Dump(*this);
}

bool operator==(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number() && a.value_.index() != b.value_.index())
    return a.get<double>() == b.get<double>();
  if (!a.is_object() || !b.is_object()) return a.value_ == b.value_;
  if (a.size() != b.size()) return false;
  const auto sorted = [](const Json& object) {
    std::vector<const JsonMember*> members;
    for (const JsonMember& member : object.members()) members.push_back(&member);
    std::ranges::sort(members, {}, &JsonMember::key);
    return members;
  };
  return std::ranges::equal(sorted(a), sorted(b), [](const JsonMember* x, const JsonMember* y) {
    return x->key == y->key && x->value == y->value;
  });
}

void JsonTreeBuilder::AddOther(std::string_view what) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (what == "null") return Add(Json());
  if (what == "true" || what == "false") return Add(what == "true");
  if (what == "NaN") return Add(std::numeric_limits<double>::quiet_NaN());
  if (what == "Infinity") return Add(kInfinity);
  if (what == "-Infinity") return Add(-kInfinity);
  const char* const end = what.data() + what.size();
  std::int64_t whole = 0;
  if (const auto [read, failed] = std::from_chars(what.data(), end, whole);
      read == end && failed == std::errc())
    return Add(whole);
  double number = 0;  // stays so where the parser took a number that is too small for a double
  std::from_chars(what.data(), end, number);
  Add(number);
}

Json* JsonTreeBuilder::Place(Json value) {
  if (++n_values_ > limits::kJsonValues) {
    throw Error(ErrorCode::kBadData,
                fmt::format("holds more than {} JSON values", limits::kJsonValues))
        .In(path_);
  }
  if (open_.empty()) return &(root_ = std::move(value));
  Json& parent = *open_.back();
  return parent.is_array() ? &parent.push_back(std::move(value))
                           : &parent.AddMember(std::move(key_), std::move(value));
}

Json ParseJson(std::string_view text, std::string_view path, int max_depth) {
  TreeEvents events(path);
  ParsePythonJsonEvents(text, path, max_depth, events);
  return events.Take();
}

void ParsePythonJsonEvents(std::string_view text, std::string_view path, int max_depth,
                           JsonEvents& events) {
  const std::vector<NonFinite> words = FindNonFinite(text);
  if (words.empty()) return ParseJsonEvents(text, path, max_depth, events);
  RefuseHiddenBytes(text, path);
  StrictSax sax(path, max_depth, events, 0);
  const std::string numbers = WithNumbers(text, words);
  const char* reached = numbers.data();
  sax.Restore(words, numbers.data(), &reached);
  Library::sax_parse(CountingIterator(numbers.data(), &reached),
                     CountingIterator(numbers.data() + numbers.size(), &reached), &sax);
}

void ParseJsonEvents(std::string_view text, std::string_view path, int max_depth,
                     JsonEvents& events, std::uint64_t first_byte) {
  RefuseHiddenBytes(text, path, first_byte);
  StrictSax sax(path, max_depth, events, first_byte);
  Library::sax_parse(text, &sax);
}

std::optional<std::string> JsonString(const Json& object, std::string_view key,
                                      std::string_view path) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw WrongType(*value, key, path, "a string");
  return value->text();
}

std::optional<std::uint64_t> JsonUnsigned(const Json& object, std::string_view key,
                                          std::string_view path) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned()) throw WrongType(*value, key, path, "a whole number, 0 or more");
  return value->get<std::uint64_t>();
}

std::optional<double> JsonNumber(const Json& object, std::string_view key, std::string_view path) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    throw WrongType(*value, key, path, "a finite number");
  }
  return value->get<double>();
}

std::optional<bool> JsonBool(const Json& object, std::string_view key, std::string_view path) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) throw WrongType(*value, key, path, "true or false");
  return value->get<bool>();
}

}  // namespace phiq
