// The part of Jinja that chat templates are rendered by: values, and a template as a tree.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/safe_variant.h"
#include "phiq/error.h"

namespace phiq::jinja {

struct Value;
using List = std::vector<Value>;
using Members = std::vector<std::pair<std::string, Value>>;
struct Undefined {};
struct None {};

struct Value {
  SafeVariant<Undefined, None, bool, std::int64_t, std::string, std::shared_ptr<const List>,
              std::shared_ptr<const Members>>
      is;
  int depth = 0;  // of lists and objects in each other: comparing and destroying them is recursive
  std::uint64_t weight = 0;  // of a list or object: of all that is in it, see cost

  template <typename T>
  const T* As() const noexcept {
    return std::get_if<T>(&is);
  }
  const List* list() const noexcept {
    const auto* found = As<std::shared_ptr<const List>>();
    return found == nullptr ? nullptr : found->get();
  }
  const Members* members() const noexcept {
    const auto* found = As<std::shared_ptr<const Members>>();
    return found == nullptr ? nullptr : found->get();
  }
  // nullopt: no whole number. Truth values count, as in Python.
  std::optional<std::int64_t> number() const noexcept {
    if (const auto* value = As<std::int64_t>()) return *value;
    if (const auto* value = As<bool>()) return *value ? 1 : 0;
    return std::nullopt;
  }
  // What looking at all of it takes: bytes of text, and values.
  std::uint64_t cost() const noexcept {
    const auto* text = As<std::string>();
    return 1 + (text != nullptr ? text->size() : weight);
  }
  bool is_true() const noexcept {
    if (const auto n = number()) return *n != 0;
    if (const auto* text = As<std::string>()) return !text->empty();
    if (const List* items = list()) return !items->empty();
    if (const Members* found = members()) return !found->empty();
    return false;
  }
  std::string_view type_name() const noexcept {
    constexpr std::string_view kNames[] = {"undefined", "none", "boolean", "number",
                                           "string",    "list", "object"};
    return kNames[is.index()];
  }
};

// Throws   kUnsupported: deeper than anything needs.
Value MakeList(int line, List items);

// nullptr: no such member.
const Value* FindMember(const Members& members, std::string_view key);
// As Python compares.
bool AreEqual(const Value& a, const Value& b);

// Without white space (Python's) at one end.
// Requires  UTF-8.
std::string_view WithoutSpaceBefore(std::string_view text);
std::string_view WithoutSpaceBehind(std::string_view text);

// What an expression is, and what its children are.
enum class Kind : std::uint8_t {
  kLiteral,  // value
  kName,     // text
  kList,     // children
  kMember,   // children[0].text
  kItem,     // children[0][children[1]]
  kSlice,    // children[0][children[1] : children[2]], literals of none where left out
  kMethod,   // children[0].text(children[1], ...)
  kCall,     // text(children...)
  kFilter,   // children[0] | text(children[1], ...)
  kTest,     // children[0] is text
  kNot,      // not children[0]
  kMinus,    // -children[0]
  kBinary,   // children[0] text children[1]
  kChoice,   // children[0] if children[1] else children[2]
};

struct Expression {
  Kind kind = Kind::kLiteral;
  int line = 1;
  std::string text;
  Value value;
  std::vector<Expression> children;
  int depth = 1;  // of the tree below it, which is walked by recursion
};

struct Statement {
  enum class Kind : std::uint8_t { kText, kOutput, kIf, kFor, kSet };
  Kind kind = Kind::kText;
  int line = 1;
  std::string text;  // of kText; the variable of kFor and kSet
  Expression expression;
  std::vector<Statement> body, otherwise;
};

// Throws   as ChatTemplate's constructor.
std::vector<Statement> Parse(std::string_view text);

// For messages: what is wrong in a line of the template, and the way around.
Error Unsupported(int line, const std::string& what);
Error BadTemplate(int line, const std::string& what);

}  // namespace phiq::jinja
