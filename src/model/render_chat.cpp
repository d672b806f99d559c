// Walks a template's tree for a list of messages.
#include "model/render_chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>

#include "base/ascii.h"
#include "model/jinja.h"
#include "phiq/text.h"

namespace phiq {
namespace jinja {
namespace {

// Steps, and bytes of the strings that they make.
constexpr std::uint64_t kBudget = 1ULL << 24;
constexpr std::uint64_t kScopeCost = 16;
constexpr std::uint64_t kCopiedForAStep = 8;  // bytes of a string that an expression has

class Renderer {
 public:
  explicit Renderer(std::map<std::string, Value> variables) {
    scopes_.push_back(std::move(variables));
  }

  std::string Run(const std::vector<Statement>& body) {
    RunBody(body);
    return std::move(out_);
  }

 private:
  void Spend(int line, std::uint64_t n) {
    if (n > budget_) throw Unsupported(line, fmt::format("more than {} steps and bytes", kBudget));
    budget_ -= n;
  }

  void RunBody(const std::vector<Statement>& body) {
    for (const Statement& statement : body) {
      Spend(statement.line, 1);
      switch (statement.kind) {
        case Statement::Kind::kText:
          Put(statement.line, statement.text);
          break;
        case Statement::Kind::kOutput:
          Put(statement.line, ToText(statement.line, Evaluate(statement.expression)));
          break;
        case Statement::Kind::kIf:
          RunBody(Evaluate(statement.expression).is_true() ? statement.body : statement.otherwise);
          break;
        case Statement::Kind::kFor:
          RunFor(statement);
          break;
        case Statement::Kind::kSet:
          scopes_.back()[statement.text] = Evaluate(statement.expression);
          break;
      }
    }
  }

  void RunFor(const Statement& statement) {
    const Value over = Evaluate(statement.expression);
    if (over.As<Undefined>() != nullptr) return;
    const List* items = over.list();
    if (items == nullptr) {
      throw BadTemplate(statement.line,
                        fmt::format("'for' over a {}, wanted is a list", over.type_name()));
    }
    const auto n = static_cast<std::int64_t>(items->size());
    for (std::int64_t i = 0; i < n; ++i) {
      Spend(statement.line, kScopeCost);
      Members loop = {{"index", {i + 1}},
                      {"index0", {i}},
                      {"first", {i == 0}},
                      {"last", {i + 1 == n}},
                      {"length", {n}}};
      scopes_.push_back({{statement.text, (*items)[static_cast<std::size_t>(i)]},
                         {"loop", {std::make_shared<const Members>(std::move(loop))}}});
      RunBody(statement.body);
      scopes_.pop_back();
    }
  }

  void Put(int line, std::string_view text) {
    Spend(line, text.size());
    out_ += text;
  }

  static std::string ToText(int line, const Value& value) {
    if (const auto* text = value.As<std::string>()) return *text;
    if (const auto* truth = value.As<bool>()) return *truth ? "True" : "False";
    if (const auto* number = value.As<std::int64_t>()) return std::to_string(*number);
    if (value.As<Undefined>() != nullptr) return "";
    if (value.As<None>() != nullptr) return "None";
    throw Unsupported(line, fmt::format("a {} becomes text", value.type_name()));
  }

  const std::string& TextOf(int line, const Value& value, std::string_view what) const {
    const auto* text = value.As<std::string>();
    if (text == nullptr) {
      throw BadTemplate(line,
                        fmt::format("'{}' of a {}, wanted is a string", what, value.type_name()));
    }
    return *text;
  }

  Value MakeText(int line, std::string text) {
    Spend(line, text.size());
    return {std::move(text)};
  }

  Value Lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    return {};
  }

  Value Evaluate(const Expression& e) {
    Value value = Compute(e);
    Spend(e.line, 1 + (value.As<std::string>() != nullptr ? value.cost() / kCopiedForAStep : 0));
    return value;
  }

  Value Compute(const Expression& e) {
    switch (e.kind) {
      case Kind::kLiteral:
        return e.value;
      case Kind::kName:
        return Lookup(e.text);
      case Kind::kList: {
        List items;
        for (const Expression& child : e.children) items.push_back(Evaluate(child));
        return MakeList(e.line, std::move(items));
      }
      case Kind::kMember:
        return Item(e, Evaluate(e.children[0]), {e.text}, /*is_member=*/true);
      case Kind::kItem:
        return Item(e, Evaluate(e.children[0]), Evaluate(e.children[1]), /*is_member=*/false);
      case Kind::kSlice:
        return Slice(e);
      case Kind::kMethod:
        return Method(e);
      case Kind::kCall:  // raise_exception
        throw BadTemplate(e.line, fmt::format("the template says: {}",
                                              Escape(ToText(e.line, Evaluate(e.children[0])))));
      case Kind::kFilter:
        return Filter(e);
      case Kind::kTest:
        return {Test(e.text, Evaluate(e.children[0]))};
      case Kind::kNot:
        return {!Evaluate(e.children[0]).is_true()};
      case Kind::kMinus:
        return {-Number(e, Evaluate(e.children[0]))};
      case Kind::kBinary:
        return Binary(e);
      case Kind::kChoice:
        return Evaluate(e.children[Evaluate(e.children[1]).is_true() ? 0 : 2]);
    }
    return {};
  }

  static std::int64_t Number(const Expression& e, const Value& value) {
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    const std::optional<std::int64_t> number = value.number();
    if (!number) {
      throw BadTemplate(e.line, fmt::format("a {} where a number is wanted", value.type_name()));
    }
    if (*number > kMost || *number < -kMost) throw Unsupported(e.line, "a number above 2^31");
    return *number;
  }

  static Value Item(const Expression& e, const Value& base, const Value& key, bool is_member) {
    if (base.As<Undefined>() != nullptr) {
      throw BadTemplate(
          e.line, fmt::format("{} of something undefined", is_member ? "a member" : "an item"));
    }
    if (const Members* members = base.members()) {
      const auto* name = key.As<std::string>();
      const Value* found = name == nullptr ? nullptr : FindMember(*members, *name);
      return found == nullptr ? Value{} : *found;
    }
    if (is_member) return {};
    const List* items = base.list();
    if (items == nullptr)
      throw Unsupported(e.line, fmt::format("an item of a {}", base.type_name()));
    const std::int64_t n = static_cast<std::int64_t>(items->size());
    std::int64_t at = Number(e, key);
    if (at < 0) at += n;
    return at < 0 || at >= n ? Value{} : (*items)[static_cast<std::size_t>(at)];
  }

  Value Slice(const Expression& e) {
    const Value base = Evaluate(e.children[0]);
    const List* items = base.list();
    if (items == nullptr)
      throw Unsupported(e.line, fmt::format("a slice of a {}", base.type_name()));
    const auto n = static_cast<std::int64_t>(items->size());
    const auto bound = [&](const Expression& child, std::int64_t missing) {
      const Value value = Evaluate(child);
      if (value.As<None>() != nullptr) return missing;
      const std::int64_t at = Number(child, value);
      return std::clamp<std::int64_t>(at < 0 ? at + n : at, 0, n);
    };
    const std::int64_t begin = bound(e.children[1], 0);
    const std::int64_t end = std::max(begin, bound(e.children[2], n));
    Spend(e.line, static_cast<std::uint64_t>(end - begin));
    return MakeList(e.line, List(items->begin() + begin, items->begin() + end));
  }

  // Letters beyond ASCII have cases that are not done here.
  Value ChangeCase(const Expression& e, const std::string& text, bool to_upper) {
    std::string changed;
    for (const char c : text) {
      if (static_cast<unsigned char>(c) >= 0x80)
        throw Unsupported(e.line, fmt::format("'{}' of letters beyond ASCII", e.text));
      const bool is_lower = c >= 'a' && c <= 'z';
      changed.push_back(!to_upper ? LowerAscii(c) : is_lower ? static_cast<char>(c - 32) : c);
    }
    return MakeText(e.line, std::move(changed));
  }

  Value Filter(const Expression& e) {
    const Value base = Evaluate(e.children[0]);
    if (e.text == "default")
      return base.As<Undefined>() != nullptr ? Evaluate(e.children[1]) : base;
    if (e.text == "string") return MakeText(e.line, ToText(e.line, base));
    if (e.text == "trim") {
      const std::string text = ToText(e.line, base);
      return MakeText(e.line, std::string(WithoutSpaceBehind(WithoutSpaceBefore(text))));
    }
    if (e.text == "upper" || e.text == "lower")
      return ChangeCase(e, ToText(e.line, base), e.text == "upper");
    const bool is_length = e.text == "length" || e.text == "count";
    if (const List* items = base.list()) {
      if (is_length) return {static_cast<std::int64_t>(items->size())};
      if (items->empty()) return {};
      return e.text == "first" ? items->front() : items->back();
    }
    if (is_length && base.members() != nullptr)
      return {static_cast<std::int64_t>(base.members()->size())};
    if (is_length && base.As<Undefined>() != nullptr) return {std::int64_t{0}};
    if (const auto* text = base.As<std::string>(); is_length && text != nullptr) {
      return {static_cast<std::int64_t>(std::ranges::count_if(
          *text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }))};
    }
    throw Unsupported(e.line, fmt::format("'{}' of a {}", e.text, base.type_name()));
  }

  Value Method(const Expression& e) {
    const Value base = Evaluate(e.children[0]);
    if (e.text == "get") {
      const Members* members = base.members();
      if (members == nullptr)
        throw BadTemplate(e.line, fmt::format("'get' of a {}", base.type_name()));
      const Value key = Evaluate(e.children[1]);
      if (const Value* found = FindMember(*members, TextOf(e.line, key, "get"))) return *found;
      return e.children.size() > 2 ? Evaluate(e.children[2]) : Value{None{}};
    }
    const std::string& text = TextOf(e.line, base, e.text);
    if (e.text == "strip")
      return MakeText(e.line, std::string(WithoutSpaceBehind(WithoutSpaceBefore(text))));
    if (e.text == "lstrip") return MakeText(e.line, std::string(WithoutSpaceBefore(text)));
    if (e.text == "rstrip") return MakeText(e.line, std::string(WithoutSpaceBehind(text)));
    if (e.text == "upper" || e.text == "lower") return ChangeCase(e, text, e.text == "upper");
    const Value argument = Evaluate(e.children[1]);
    const std::string& what = TextOf(e.line, argument, e.text);
    if (e.text == "startswith") return {text.starts_with(what)};
    if (e.text == "endswith") return {text.ends_with(what)};
    if (what.empty()) throw Unsupported(e.line, fmt::format("'{}' of nothing", e.text));
    const std::vector<std::string> parts = Split(e.line, text, what);
    if (e.text == "split") {
      List items;
      for (const std::string& part : parts) items.push_back({part});
      return MakeList(e.line, std::move(items));
    }
    const Value by = Evaluate(e.children[2]);  // replace
    std::string joined;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) joined += TextOf(e.line, by, e.text);
      if (joined.size() > budget_) Spend(e.line, joined.size());
      joined += parts[i];
    }
    return MakeText(e.line, std::move(joined));
  }

  std::vector<std::string> Split(int line, std::string_view text, std::string_view by) {
    std::vector<std::string> parts;
    while (true) {
      Spend(line, 1);
      const std::size_t found = text.find(by);
      parts.emplace_back(text.substr(0, found));
      Spend(line, parts.back().size());
      if (found == text.npos) return parts;
      text.remove_prefix(found + by.size());
    }
  }

  static bool Test(std::string_view test, const Value& value) {
    if (test == "defined") return value.As<Undefined>() == nullptr;
    if (test == "undefined") return value.As<Undefined>() != nullptr;
    if (test == "none") return value.As<None>() != nullptr;
    if (test == "string") return value.As<std::string>() != nullptr;
    if (test == "boolean") return value.As<bool>() != nullptr;
    if (test == "integer") return value.As<std::int64_t>() != nullptr;
    if (test == "number") return value.number().has_value();
    if (test == "true") return value.As<bool>() != nullptr && value.is_true();
    if (test == "false") return value.As<bool>() != nullptr && !value.is_true();
    if (test == "mapping") return value.members() != nullptr;
    const bool has_items =
        value.As<std::string>() != nullptr || value.list() != nullptr || value.members() != nullptr;
    return has_items || value.As<Undefined>() != nullptr;  // iterable, sequence
  }

  Value Binary(const Expression& e) {
    const Value a = Evaluate(e.children[0]);
    if (e.text == "and") return a.is_true() ? Evaluate(e.children[1]) : a;
    if (e.text == "or") return a.is_true() ? a : Evaluate(e.children[1]);
    const Value b = Evaluate(e.children[1]);
    if (e.text == "==" || e.text == "!=") Spend(e.line, std::min(a.cost(), b.cost()));
    if (e.text == "in") Spend(e.line, b.cost());
    if (e.text == "==") return {AreEqual(a, b)};
    if (e.text == "!=") return {!AreEqual(a, b)};
    if (e.text == "in") return {IsIn(e, a, b)};
    if (e.text == "~") return MakeText(e.line, ToText(e.line, a) + ToText(e.line, b));
    if (e.text == "+") {
      const auto* left = a.As<std::string>();
      const auto* right = b.As<std::string>();
      if (left != nullptr && right != nullptr) return MakeText(e.line, *left + *right);
    }
    if (!a.number() || !b.number()) {
      throw BadTemplate(e.line,
                        fmt::format("'{}' of a {} and a {}", e.text, a.type_name(), b.type_name()));
    }
    const std::int64_t x = Number(e, a);
    const std::int64_t y = Number(e, b);
    if (e.text == "+") return {x + y};
    if (e.text == "-") return {x - y};
    if (e.text == "<") return {x < y};
    if (e.text == "<=") return {x <= y};
    if (e.text == ">") return {x > y};
    if (e.text == ">=") return {x >= y};
    if (y == 0) throw BadTemplate(e.line, "a division by 0");
    return {((x % y) + y) % y};  // '%': Python's has the sign of the divisor
  }

  static bool IsIn(const Expression& e, const Value& item, const Value& in) {
    if (const List* items = in.list())
      return std::ranges::any_of(*items, [&](const Value& one) { return AreEqual(one, item); });
    const auto* text = item.As<std::string>();
    if (const Members* members = in.members())
      return text != nullptr && FindMember(*members, *text) != nullptr;
    const auto* whole = in.As<std::string>();
    if (whole != nullptr && text != nullptr) return whole->find(*text) != whole->npos;
    if (in.As<Undefined>() != nullptr) return false;
    throw BadTemplate(e.line,
                      fmt::format("'in' of a {} and a {}", item.type_name(), in.type_name()));
  }

  std::vector<std::map<std::string, Value>> scopes_;
  std::string out_;
  std::uint64_t budget_ = kBudget;
};

Value ValueOf(const Json& json) {
  if (json.is_null()) return {None{}};
  if (json.is_boolean()) return {json.get<bool>()};
  if (json.is_string()) return {json.text()};
  if (json.is_number()) {
    const double value = json.get<double>();
    if (!json.is_number_integer() || value > 9e15 || value < -9e15) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("messages hold the number {}, whole ones are rendered", json.dump()));
    }
    return {json.get<std::int64_t>()};
  }
  // JSON's reader has bounded the depth.
  int depth = 0;
  std::uint64_t weight = 0;
  const auto inner = [&](const Json& item) {
    Value value = ValueOf(item);
    depth = std::max(depth, value.depth);
    weight += value.cost();
    return value;
  };
  if (json.is_array()) {
    List items;
    for (const Json& item : json) items.push_back(inner(item));
    return {std::make_shared<const List>(std::move(items)), depth + 1, weight};
  }
  Members members;
  for (const JsonMember& member : json.members())
    members.emplace_back(member.key, inner(member.value));
  return {std::make_shared<const Members>(std::move(members)), depth + 1, weight};
}

}  // namespace
}  // namespace jinja

struct ChatTemplate::Body {
  std::vector<jinja::Statement> statements;
};

ChatTemplate::ChatTemplate(std::string_view text)
    : body_(std::make_unique<Body>(Body{jinja::Parse(text)})) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::Render(
    const Json& messages, const std::vector<std::pair<std::string, std::string>>& variables) const {
  using jinja::None;
  using jinja::Value;
  std::map<std::string, Value> all;
  for (const auto& [name, text] : variables) all[name] = {text};
  // What transformers gives every template.
  all["tools"] = {None{}};
  all["documents"] = {None{}};
  all["add_generation_prompt"] = {false};
  all["messages"] = jinja::ValueOf(messages);
  return jinja::Renderer(std::move(all)).Run(body_->statements);
}

std::vector<std::pair<std::string, std::string>> ChatVariables(const Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, std::string>> variables;
  const auto add = [&](std::string_view name, std::optional<std::uint32_t> id) {
    if (!id) return;
    const auto added = std::ranges::find(tokenizer.added_tokens, *id, &AddedToken::id);
    if (added != tokenizer.added_tokens.end()) {
      variables.emplace_back(name, added->content);
    } else if (*id < tokenizer.pieces.size()) {
      variables.emplace_back(name, tokenizer.pieces[*id].text);
    } else if (*id < tokenizer.vocab.size()) {
      variables.emplace_back(name, tokenizer.vocab[*id]);
    }
  };
  add("bos_token", tokenizer.bos_id);
  add("eos_token", tokenizer.eos_id);
  add("unk_token", tokenizer.unk_id);
  add("sep_token", tokenizer.sep_id);
  add("pad_token", tokenizer.pad_id);
  add("cls_token", tokenizer.cls_id);
  add("mask_token", tokenizer.mask_id);
  return variables;
}

}  // namespace phiq
