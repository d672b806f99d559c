// The strict JSON reader over nlohmann's SAX parser.
#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Watches nesting and keys, then hands the events on.
class StrictSax {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  StrictSax(std::string_view path, int max_depth, JsonEvents& events, std::uint64_t first_byte = 0)
      : path_(path), max_depth_(max_depth), events_(events), first_byte_(first_byte) {}

  // NOLINTBEGIN(readability-identifier-naming): the names nlohmann's parser calls
  bool null() { return Other("null"); }
  bool boolean(bool value) { return Other(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) { return Other(fmt::format("{}", value)); }
  bool number_unsigned(number_unsigned_t value) {
    events_.OnUnsigned(value);
    return true;
  }
  bool number_float(number_float_t, const string_t& text) { return Other(text); }
  bool string(string_t& value) {
    events_.OnString(value);
    return true;
  }
  bool binary(binary_t&) { return Other("binary"); }
  bool start_object(std::size_t) {
    Enter();
    keys_.emplace_back();
    events_.OnStartObject(depth_);
    return true;
  }
  bool key(string_t& name) {
    if (!keys_.back().insert(name).second) {
      throw Error(ErrorCode::kBadData, fmt::format("duplicate key '{}' in JSON", Escape(name))).In(path_);
    }
    events_.OnKey(name, depth_);
    return true;
  }
  bool end_object() {
    keys_.pop_back();
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
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
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
      throw Error(ErrorCode::kBadData, fmt::format("JSON is nested too deeply, more than {} levels", max_depth_))
          .In(path_);
    }
  }

  std::string_view path_;
  int max_depth_;
  int depth_ = 0;
  std::vector<std::set<std::string>> keys_;  // of each open object
  JsonEvents& events_;
  std::uint64_t first_byte_;
};

Json* AddMember(Json& object, const std::string& key, Json value) {
  Json& member = object[key];
  member = std::move(value);
  return &member;
}
// operator[] would compare with every key before; StrictSax knows that this one is new.
OrderedJson* AddMember(OrderedJson& object, const std::string& key, OrderedJson value) {
  return &object.get_ref<OrderedJson::object_t&>().emplace_back(key, std::move(value)).second;
}

// Builds the tree that ParseJson or ParseOrderedJson returns.
template <typename Tree>
class TreeBuilder {
 public:
  explicit TreeBuilder(Tree& root) : root_(root) {}

  Tree* Add(Tree value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    return AddMember(*open_.back(), key_, std::move(value));
  }
  // What is added until Close goes into `value`, so that no outer object or array moves it.
  void Open(Tree value) { open_.push_back(Add(std::move(value))); }
  void Close() { open_.pop_back(); }
  void SetKey(const std::string& key) { key_ = key; }

 private:
  Tree& root_;
  std::vector<Tree*> open_;
  std::string key_;
};

template <typename Tree>
class TreeSax : public StrictSax {
 public:
  TreeSax(std::string_view path, int max_depth, JsonEvents& none, Tree& root)
      : StrictSax(path, max_depth, none), tree_(root) {}

  // NOLINTBEGIN(readability-identifier-naming)
  bool null() { return Leaf(nullptr); }
  bool boolean(bool value) { return Leaf(value); }
  bool number_integer(number_integer_t value) { return Leaf(value); }
  bool number_unsigned(number_unsigned_t value) { return Leaf(value); }
  bool number_float(number_float_t value, const string_t&) { return Leaf(value); }
  bool string(string_t& value) { return Leaf(std::move(value)); }
  bool start_object(std::size_t n) {
    StrictSax::start_object(n);
    tree_.Open(Tree::object());
    return true;
  }
  bool key(string_t& name) {
    StrictSax::key(name);
    tree_.SetKey(name);
    return true;
  }
  bool end_object() {
    tree_.Close();
    return StrictSax::end_object();
  }
  bool start_array(std::size_t n) {
    StrictSax::start_array(n);
    tree_.Open(Tree::array());
    return true;
  }
  bool end_array() {
    tree_.Close();
    return StrictSax::end_array();
  }
  // NOLINTEND(readability-identifier-naming)

 private:
  bool Leaf(Tree value) {
    tree_.Add(std::move(value));
    return true;
  }
  TreeBuilder<Tree> tree_;
};

class NoEvents : public JsonEvents {
  void OnStartObject(int) override {}
  void OnKey(const std::string&, int) override {}
  void OnEndObject(int) override {}
  void OnStartArray(int) override {}
  void OnEndArray(int) override {}
  void OnString(const std::string&) override {}
  void OnUnsigned(std::uint64_t) override {}
  void OnOther(std::string_view) override {}
};

// What nlohmann's lexer would take for an end of input or skip.
void RefuseHiddenBytes(std::string_view text, std::string_view path, std::uint64_t first_byte = 0) {
  if (text.starts_with("\xEF\xBB\xBF")) {
    throw Error(ErrorCode::kBadData, "JSON begins with a byte order mark").In(path).At(first_byte);
  }
  const std::size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    throw Error(ErrorCode::kBadData, "not valid UTF-8 JSON: a NUL byte").In(path).At(first_byte + nul);
  }
}

std::string Describe(const Json& value) {
  return Escape(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

const Json* Member(const Json& object, std::string_view key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Error WrongType(const Json& value, std::string_view key, std::string_view path, std::string_view wanted) {
  return Error(ErrorCode::kBadData, fmt::format("'{}' is {}, needs {}", key, Describe(value), wanted)).In(path);
}

template <typename Tree>
Tree ParseTree(std::string_view text, std::string_view path, int max_depth) {
  RefuseHiddenBytes(text, path);
  Tree root;
  NoEvents none;
  TreeSax<Tree> sax(path, max_depth, none, root);
  Json::sax_parse(text, &sax);
  return root;
}

}  // namespace

Json ParseJson(std::string_view text, std::string_view path, int max_depth) {
  return ParseTree<Json>(text, path, max_depth);
}

OrderedJson ParseOrderedJson(std::string_view text, std::string_view path, int max_depth) {
  return ParseTree<OrderedJson>(text, path, max_depth);
}

void ParseJsonEvents(std::string_view text, std::string_view path, int max_depth, JsonEvents& events,
                     std::uint64_t first_byte) {
  RefuseHiddenBytes(text, path, first_byte);
  StrictSax sax(path, max_depth, events, first_byte);
  Json::sax_parse(text, &sax);
}

std::optional<std::string> JsonString(const Json& object, std::string_view key, std::string_view path) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) throw WrongType(*value, key, path, "a string");
  return value->get<std::string>();
}

std::optional<std::uint64_t> JsonUnsigned(const Json& object, std::string_view key, std::string_view path) {
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
