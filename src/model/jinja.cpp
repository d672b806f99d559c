// A template becomes tokens, and those a tree. What is not here is refused: a template that would
// come out otherwise than in transformers is worse than none.
#include "model/jinja.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <span>

#include "base/ascii.h"
#include "base/parse_number.h"
#include "base/utf8.h"
#include "phiq/text.h"

namespace phiq::jinja {
namespace {

// Of expressions and statements in each other.
constexpr int kDeepest = 100;
// More than anybody may look at.
constexpr std::uint64_t kHeaviest = 1ULL << 40;

// Python's str.isspace.
bool IsSpace(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

constexpr std::string_view kWayOut = "JSON lines with \"text\" instead of \"messages\" need none";

Error Fault(ErrorCode code, int line, const std::string& what) {
  return Error(code, fmt::format("chat template, line {}: {}", line, what)).Hint(kWayOut);
}
enum class Mark : std::uint8_t {
  kData,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kNumber,
  kSign,
  kStop
};

struct Token {
  Mark mark = Mark::kStop;
  std::string text;
  int line = 1;
};

// Jinja's lexer with trim_blocks and lstrip_blocks.
class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {
    if (text_.ends_with('\n')) text_.remove_suffix(1);  // keep_trailing_newline is off
  }

  std::vector<Token> Run() {
    while (at_ < text_.size()) ReadData();
    Add(Mark::kStop, "");
    return std::move(tokens_);
  }

 private:
  void Add(Mark mark, std::string text) { tokens_.push_back({mark, std::move(text), line_}); }
  void Advance(std::size_t n) {
    line_ += static_cast<int>(std::ranges::count(text_.substr(at_, n), '\n'));
    at_ += n;
  }
  bool Sees(std::string_view text) const { return text_.substr(at_).starts_with(text); }

  // Text up to the next tag, and the tag.
  void ReadData() {
    std::size_t tag = at_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 == text_.size()) {
        Add(Mark::kData, std::string(text_.substr(at_)));
        at_ = text_.size();
        return;
      }
      const char next = text_[tag + 1];
      if (next == '{' || next == '%' || next == '#') break;
      ++tag;
    }
    const char kind = text_[tag + 1];
    std::string_view data = text_.substr(at_, tag - at_);
    const char control = tag + 2 < text_.size() ? text_[tag + 2] : ' ';
    if (control == '-') {
      data = WithoutSpaceBehind(data);
    } else if (control != '+' && kind != '{') {
      // Blanks before a block that begins a line.
      const std::size_t line_begin = data.rfind('\n') + 1;
      if ((line_begin > 0 || begins_line_) && WithoutSpaceBefore(data.substr(line_begin)).empty())
        data = data.substr(0, line_begin);
    }
    if (!data.empty()) Add(Mark::kData, std::string(data));
    Advance(tag - at_ + 2 + (control == '-' || control == '+' ? 1 : 0));
    if (kind == '#') return SkipComment();
    Add(kind == '{' ? Mark::kOutputBegin : Mark::kBlockBegin, "");
    ReadExpression(kind == '{' ? "}}" : "%}");
    Add(kind == '{' ? Mark::kOutputEnd : Mark::kBlockEnd, "");
  }

  void SkipComment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == text_.npos) throw BadTemplate(line_, "a comment has no end");
    const char control = end > at_ ? text_[end - 1] : ' ';
    Advance(end - at_);
    LeaveTag(control, /*is_block=*/true);
  }

  // From the two characters that end a tag: with "-" all space behind goes, with a block one line
  // end.
  void LeaveTag(char control, bool is_block) {
    Advance(2);
    std::size_t n = 0;
    if (control == '-') {
      n = text_.size() - at_ - WithoutSpaceBefore(text_.substr(at_)).size();
    } else if (is_block && control != '+' && Sees("\n")) {
      n = 1;
    }
    Advance(n);
    begins_line_ = text_[at_ - 1] == '\n';
  }

  void ReadExpression(std::string_view end) {
    while (true) {
      while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
        Advance(1);
      if (at_ == text_.size()) throw BadTemplate(line_, "a tag has no end");
      const bool has_control =
          (text_[at_] == '-' || text_[at_] == '+') && text_.substr(at_ + 1).starts_with(end);
      if (has_control || (Sees(end) && n_open_ == 0)) {
        const char control = has_control ? text_[at_] : ' ';
        if (has_control) Advance(1);
        return LeaveTag(control, end == "%}");
      }
      ReadToken();
    }
  }

  void ReadToken() {
    const char c = text_[at_];
    const std::size_t begin = at_;
    const auto take = [&](const auto& belongs) {
      std::size_t end = at_;
      while (end < text_.size() && belongs(text_[end])) ++end;
      Advance(end - at_);
      return std::string(text_.substr(begin, end - begin));
    };
    if (IsAsciiDigit(c)) {
      std::string number = take([](char d) { return IsAsciiAlphanumeric(d) || d == '_'; });
      if (Sees(".") && at_ + 1 < text_.size() && IsAsciiDigit(text_[at_ + 1]))
        throw Unsupported(line_, "numbers are whole");
      return Add(Mark::kNumber, std::move(number));
    }
    if (IsAsciiAlphanumeric(c) || c == '_')
      return Add(Mark::kName, take([](char d) { return IsAsciiAlphanumeric(d) || d == '_'; }));
    if (c == '\'' || c == '"') return ReadString(c);
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "//", "**"})
      if (Sees(sign)) {
        Advance(2);
        return Add(Mark::kSign, std::string(sign));
      }
    if (std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos)
      throw BadTemplate(line_,
                        fmt::format("'{}' means nothing here", Escape(text_.substr(at_, 1))));
    // A "}}" that closes something else is no end of a tag.
    if (c == '{' || c == '(' || c == '[') ++n_open_;
    if ((c == '}' || c == ')' || c == ']') && n_open_ > 0) --n_open_;
    Advance(1);
    Add(Mark::kSign, std::string(1, c));
  }

  void ReadString(char quote) {
    const int line = line_;
    std::string value;
    Advance(1);
    while (true) {
      if (at_ == text_.size()) throw BadTemplate(line, "a string has no end");
      const char c = text_[at_];
      if (c == quote) break;
      if (c == '\\') {
        value += ReadEscape();
      } else {
        value.push_back(c);
        Advance(1);
      }
    }
    Advance(1);
    tokens_.push_back({Mark::kString, std::move(value), line});
  }

  std::string ReadEscape() {
    constexpr std::string_view kEscapes = "\\'\"ntrabfv";
    constexpr std::string_view kMeanings = "\\'\"\n\t\r\a\b\f\v";
    const char letter = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    if (const std::size_t found = kEscapes.find(letter); letter != '\0' && found != kEscapes.npos) {
      Advance(2);
      return std::string(1, kMeanings[found]);
    }
    const std::size_t n_digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 0;
    const std::string_view digits = text_.substr(std::min(at_ + 2, text_.size()), n_digits);
    std::uint32_t value = 0;
    for (const char digit : digits) {
      const std::size_t found = std::string_view("0123456789abcdef").find(LowerAscii(digit));
      if (found == std::string_view::npos) throw Unsupported(line_, "an escape in a string");
      value = value * 16 + static_cast<std::uint32_t>(found);
    }
    if (n_digits == 0 || digits.size() != n_digits || (value >= 0xD800 && value < 0xE000))
      throw Unsupported(line_, "an escape in a string");
    Advance(2 + n_digits);
    std::string out;
    AppendUtf8(value, out);
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  int n_open_ = 0;           // brackets inside a tag
  bool begins_line_ = true;  // what was last left ended with a line end
  std::vector<Token> tokens_;
};

// What a template may call, with the least and the most arguments.
struct Callable {
  std::string_view name;
  std::size_t least, most;
};
constexpr Callable kFilters[] = {{"trim", 0, 0},  {"length", 0, 0}, {"count", 0, 0},
                                 {"first", 0, 0}, {"last", 0, 0},   {"default", 1, 1},
                                 {"upper", 0, 0}, {"lower", 0, 0},  {"string", 0, 0}};
constexpr Callable kMethods[] = {
    {"strip", 0, 0}, {"lstrip", 0, 0},  {"rstrip", 0, 0}, {"startswith", 1, 1}, {"endswith", 1, 1},
    {"split", 1, 1}, {"replace", 2, 2}, {"upper", 0, 0},  {"lower", 0, 0},      {"get", 1, 2}};
constexpr Callable kFunctions[] = {{"raise_exception", 1, 1}};
constexpr std::string_view kTests[] = {"defined", "undefined", "none",     "string",
                                       "boolean", "integer",   "true",     "false",
                                       "mapping", "iterable",  "sequence", "number"};
// Python finds these before the members of a dictionary.
constexpr std::string_view kDictAttributes[] = {"clear",      "copy",   "fromkeys", "get",
                                                "items",      "keys",   "pop",      "popitem",
                                                "setdefault", "update", "values"};

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  std::vector<Statement> Run() { return ParseBody({}); }

 private:
  // Bounds recursion.
  class Level {
   public:
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.depth_ > kDeepest)
        throw Unsupported(parser_.Peek().line, "too many things in each other");
    }
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  const Token& Peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& Next() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }
  bool SeesName(std::string_view text) const {
    return Peek().mark == Mark::kName && Peek().text == text;
  }
  bool SeesSign(std::string_view text) const {
    return Peek().mark == Mark::kSign && Peek().text == text;
  }
  bool TakeName(std::string_view text) {
    if (!SeesName(text)) return false;
    ++at_;
    return true;
  }
  bool TakeSign(std::string_view text) {
    if (!SeesSign(text)) return false;
    ++at_;
    return true;
  }
  Error Unexpected() const {
    const Token& token = Peek();
    switch (token.mark) {
      case Mark::kStop:
        return BadTemplate(token.line, "something has no end");
      case Mark::kOutputEnd:
      case Mark::kBlockEnd:
        return BadTemplate(token.line, "a tag ends too early");
      default:
        return Unsupported(token.line,
                           fmt::format("'{}' is not rendered here", Escape(token.text)));
    }
  }
  void Want(Mark mark) {
    if (Peek().mark != mark) throw Unexpected();
    ++at_;
  }
  void WantSign(std::string_view text) {
    if (!TakeSign(text)) throw Unexpected();
  }
  std::string WantVariable() {
    if (Peek().mark != Mark::kName) throw Unexpected();
    return Next().text;
  }

  // Statements up to one of these, of which the "{%" is taken and the name is not.
  std::vector<Statement> ParseBody(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    std::vector<Statement> body;
    while (true) {
      const Token& token = Peek();
      if (token.mark == Mark::kData) {
        Statement& text = body.emplace_back();
        text.text = Next().text;
      } else if (token.mark == Mark::kOutputBegin) {
        ++at_;
        Statement& output = body.emplace_back();
        output.kind = Statement::Kind::kOutput;
        output.line = token.line;
        output.expression = ParseExpression();
        Want(Mark::kOutputEnd);
      } else if (token.mark == Mark::kBlockBegin) {
        ++at_;
        if (Peek().mark == Mark::kName && std::ranges::find(ends, Peek().text) != ends.end())
          return body;
        body.push_back(ParseStatement());
      } else if (token.mark == Mark::kStop && ends.size() == 0) {
        return body;
      } else {
        throw Unexpected();
      }
    }
  }

  Statement ParseStatement() {
    Statement statement;
    statement.line = Peek().line;
    if (TakeName("if")) return ParseIf(std::move(statement));
    if (TakeName("for")) {
      statement.kind = Statement::Kind::kFor;
      statement.text = WantVariable();
      if (!TakeName("in")) throw Unexpected();
      statement.expression = ParseOr();
      Want(Mark::kBlockEnd);
      statement.body = ParseBody({"endfor"});
      ++at_;
      Want(Mark::kBlockEnd);
      return statement;
    }
    if (TakeName("set")) {
      statement.kind = Statement::Kind::kSet;
      statement.text = WantVariable();
      WantSign("=");
      statement.expression = ParseExpression();
      Want(Mark::kBlockEnd);
      return statement;
    }
    if (TakeName("generation")) {  // marks what a model is trained on; text for everybody else
      Want(Mark::kBlockEnd);
      statement.kind = Statement::Kind::kIf;
      statement.expression = Literal(statement.line, {true});
      statement.body = ParseBody({"endgeneration"});
      ++at_;
      Want(Mark::kBlockEnd);
      return statement;
    }
    throw Unsupported(statement.line,
                      fmt::format("'{}' is no statement that is rendered", Escape(Peek().text)));
  }

  // Behind "if" or "elif".
  Statement ParseIf(Statement statement) {
    const Level level(*this);
    statement.kind = Statement::Kind::kIf;
    statement.expression = ParseExpression();
    Want(Mark::kBlockEnd);
    statement.body = ParseBody({"elif", "else", "endif"});
    const Token& end = Next();
    if (end.text == "elif") {
      Statement inner;
      inner.line = end.line;
      statement.otherwise.push_back(ParseIf(std::move(inner)));
      return statement;
    }
    Want(Mark::kBlockEnd);
    if (end.text == "else") {
      statement.otherwise = ParseBody({"endif"});
      ++at_;
      Want(Mark::kBlockEnd);
    }
    return statement;
  }

  static Expression Make(Kind kind, int line, std::string text, std::vector<Expression> children) {
    Expression made{kind, line, std::move(text), {}, std::move(children)};
    for (const Expression& child : made.children)
      made.depth = std::max(made.depth, child.depth + 1);
    if (made.depth > kDeepest) throw Unsupported(line, "too many things in each other");
    return made;
  }
  static Expression Literal(int line, Value value) {
    return {Kind::kLiteral, line, "", std::move(value), {}};
  }
  static Expression One(Kind kind, int line, std::string text, Expression a) {
    std::vector<Expression> children;
    children.push_back(std::move(a));
    return Make(kind, line, std::move(text), std::move(children));
  }
  static Expression Two(int line, std::string text, Expression a, Expression b) {
    std::vector<Expression> children;
    children.push_back(std::move(a));
    children.push_back(std::move(b));
    return Make(Kind::kBinary, line, std::move(text), std::move(children));
  }

  Expression ParseExpression() {
    const Level level(*this);
    const int line = Peek().line;
    Expression value = ParseOr();
    if (!TakeName("if")) return value;
    std::vector<Expression> children;
    children.push_back(std::move(value));
    children.push_back(ParseOr());
    children.push_back(TakeName("else") ? ParseExpression() : Literal(line, {}));
    return Make(Kind::kChoice, line, "", std::move(children));
  }

  Expression ParseOr() {
    Expression left = ParseAnd();
    while (SeesName("or")) {
      const int line = Next().line;
      left = Two(line, "or", std::move(left), ParseAnd());
    }
    return left;
  }

  Expression ParseAnd() {
    Expression left = ParseNot();
    while (SeesName("and")) {
      const int line = Next().line;
      left = Two(line, "and", std::move(left), ParseNot());
    }
    return left;
  }

  Expression ParseNot() {
    if (!SeesName("not")) return ParseComparison();
    const Level level(*this);
    const int line = Next().line;
    return One(Kind::kNot, line, "", ParseNot());
  }

  Expression ParseComparison() {
    Expression left = ParseSum();
    const int line = Peek().line;
    std::string operation;
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "<", ">"})
      if (operation.empty() && TakeSign(sign)) operation = sign;
    bool negated = false;
    if (operation.empty()) {
      negated = SeesName("not") && Peek(1).mark == Mark::kName && Peek(1).text == "in";
      if (negated) ++at_;
      if (!TakeName("in")) return left;
      operation = "in";
    }
    Expression compared = Two(line, operation, std::move(left), ParseSum());
    for (const std::string_view sign : {"==", "!=", "<=", ">=", "<", ">"})
      if (SeesSign(sign)) throw Unsupported(line, "a chain of comparisons");
    return negated ? One(Kind::kNot, line, "", std::move(compared)) : compared;
  }

  Expression ParseSum() {
    Expression left = ParseConcatenation();
    while (SeesSign("+") || SeesSign("-")) {
      const Token& sign = Next();
      left = Two(sign.line, sign.text, std::move(left), ParseConcatenation());
    }
    return left;
  }

  Expression ParseConcatenation() {
    Expression left = ParseProduct();
    while (SeesSign("~")) {
      const int line = Next().line;
      left = Two(line, "~", std::move(left), ParseProduct());
    }
    return left;
  }

  Expression ParseProduct() {
    Expression left = ParseUnary();
    while (SeesSign("%")) {
      const int line = Next().line;
      left = Two(line, "%", std::move(left), ParseUnary());
    }
    return left;
  }

  Expression ParseUnary() { return ParseFilters(ParsePostfix(ParseNegation())); }

  // Filters and items behind "-x" are those of all of it, as in Jinja.
  Expression ParseNegation() {
    if (!SeesSign("-")) return ParsePrimary();
    const Level level(*this);
    const int line = Next().line;
    return One(Kind::kMinus, line, "", ParsePostfix(ParseNegation()));
  }

  Expression ParsePrimary() {
    const Level level(*this);
    const Token& token = Next();
    switch (token.mark) {
      case Mark::kString: {
        std::string text = token.text;
        while (Peek().mark == Mark::kString) text += Next().text;
        return Literal(token.line, {std::move(text)});
      }
      case Mark::kNumber: {
        const auto number = ParseNumber<std::int64_t>(token.text);
        if (!number) throw BadTemplate(token.line, fmt::format("'{}' is no number", token.text));
        return Literal(token.line, {*number});
      }
      case Mark::kName:
        if (token.text == "true" || token.text == "True") return Literal(token.line, {true});
        if (token.text == "false" || token.text == "False") return Literal(token.line, {false});
        if (token.text == "none" || token.text == "None") return Literal(token.line, {None{}});
        if (SeesSign("(")) {
          Expression call = Make(Kind::kCall, token.line, token.text, ParseArguments());
          Check(kFunctions, "function", call, 0);
          return call;
        }
        return Make(Kind::kName, token.line, token.text, {});
      case Mark::kSign:
        if (token.text == "(") {
          Expression inner = ParseExpression();
          WantSign(")");
          return inner;
        }
        if (token.text == "[") {
          std::vector<Expression> items;
          while (!SeesSign("]")) {
            items.push_back(ParseExpression());
            if (!TakeSign(",")) break;
          }
          WantSign("]");
          return Make(Kind::kList, token.line, "", std::move(items));
        }
        break;
      default:
        break;
    }
    --at_;
    throw Unexpected();
  }

  std::vector<Expression> ParseArguments() {
    std::vector<Expression> arguments;
    WantSign("(");
    while (!SeesSign(")")) {
      arguments.push_back(ParseExpression());
      if (!TakeSign(",")) break;
    }
    WantSign(")");
    return arguments;
  }

  // `n_before`: children that are no arguments.
  void Check(std::span<const Callable> known, std::string_view what, const Expression& call,
             std::size_t n_before) const {
    const auto found = std::ranges::find(known, std::string_view(call.text), &Callable::name);
    if (found == known.end()) {
      throw Unsupported(call.line, fmt::format("{} '{}' is not rendered", what, Escape(call.text)));
    }
    const std::size_t n = call.children.size() - n_before;
    if (n < found->least || n > found->most)
      throw Unsupported(call.line, fmt::format("{} '{}' with {} arguments", what, call.text, n));
  }

  Expression WithArguments(Kind kind, int line, std::string text, Expression first) {
    std::vector<Expression> children;
    children.push_back(std::move(first));
    if (SeesSign("(")) {
      for (Expression& argument : ParseArguments()) children.push_back(std::move(argument));
    }
    return Make(kind, line, std::move(text), std::move(children));
  }

  Expression ParsePostfix(Expression base) {
    while (true) {
      const int line = Peek().line;
      if (TakeSign("[")) {
        base = ParseItem(line, std::move(base));
        continue;
      }
      if (!TakeSign(".")) return base;
      std::string name = WantVariable();
      if (SeesSign("(")) {
        base = WithArguments(Kind::kMethod, line, std::move(name), std::move(base));
        Check(kMethods, "method", base, 1);
        continue;
      }
      if (std::ranges::find(kDictAttributes, name) != std::end(kDictAttributes))
        throw Unsupported(line, fmt::format("'.{}' without a call", name));
      base = One(Kind::kMember, line, std::move(name), std::move(base));
    }
  }

  Expression ParseItem(int line, Expression base) {
    std::vector<Expression> children;
    children.push_back(std::move(base));
    const auto add_part = [&] {
      children.push_back(SeesSign(":") || SeesSign("]") ? Literal(line, {None{}})
                                                        : ParseExpression());
    };
    add_part();
    const bool is_slice = TakeSign(":");
    if (is_slice) add_part();
    WantSign("]");
    return Make(is_slice ? Kind::kSlice : Kind::kItem, line, "", std::move(children));
  }

  Expression ParseFilters(Expression base) {
    while (true) {
      const int line = Peek().line;
      if (TakeSign("|")) {
        base = WithArguments(Kind::kFilter, line, WantVariable(), std::move(base));
        Check(kFilters, "filter", base, 1);
      } else if (TakeName("is")) {
        const bool negated = TakeName("not");
        base = One(Kind::kTest, line, WantVariable(), std::move(base));
        if (std::ranges::find(kTests, base.text) == std::end(kTests))
          throw Unsupported(line, fmt::format("test '{}' is not rendered", Escape(base.text)));
        if (negated) base = One(Kind::kNot, line, "", std::move(base));
      } else {
        return base;
      }
    }
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Value MakeList(int line, List items) {
  int depth = 0;
  std::uint64_t weight = 0;
  for (const Value& item : items) {
    depth = std::max(depth, item.depth);
    // A list of itself twice, again and again, has more in it than a number can hold.
    weight = std::min(weight + item.cost(), kHeaviest);
  }
  if (depth >= kDeepest) throw Unsupported(line, "too many things in each other");
  return {std::make_shared<const List>(std::move(items)), depth + 1, weight};
}

const Value* FindMember(const Members& members, std::string_view key) {
  const auto found = std::ranges::find(members, key, &std::pair<std::string, Value>::first);
  return found == members.end() ? nullptr : &found->second;
}

bool AreEqual(const Value& a, const Value& b) {
  if (a.number() && b.number()) return *a.number() == *b.number();
  if (a.is.index() != b.is.index()) return false;
  if (const auto* text = a.As<std::string>()) return *text == *b.As<std::string>();
  if (a.list() != nullptr) return std::ranges::equal(*a.list(), *b.list(), AreEqual);
  if (a.members() != nullptr) {
    return a.members()->size() == b.members()->size() &&
           std::ranges::all_of(*a.members(), [&](const auto& member) {
             const Value* other = FindMember(*b.members(), member.first);
             return other != nullptr && AreEqual(member.second, *other);
           });
  }
  return true;  // none, undefined
}

std::string_view WithoutSpaceBefore(std::string_view text) {
  while (!text.empty()) {
    const std::optional<CodePoint> point = DecodeUtf8(text, 0);
    if (!point || !IsSpace(point->value)) break;
    text.remove_prefix(point->n_bytes);
  }
  return text;
}

std::string_view WithoutSpaceBehind(std::string_view text) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U) --at;
    const std::optional<CodePoint> point = DecodeUtf8(text, at);
    if (!point || !IsSpace(point->value)) break;
    text = text.substr(0, at);
  }
  return text;
}

Error Unsupported(int line, const std::string& what) {
  return Fault(ErrorCode::kUnsupported, line, what);
}
Error BadTemplate(int line, const std::string& what) {
  return Fault(ErrorCode::kBadData, line, what);
}

std::vector<Statement> Parse(std::string_view text) { return Parser(Lexer(text).Run()).Run(); }

}  // namespace phiq::jinja
