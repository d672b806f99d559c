// Rules as PCRE2 patterns over tensor names.
#include "plan/tensor_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/pcre2.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// A name is at most 512 bytes; honest patterns need a few thousand steps.
constexpr std::uint32_t kMatchLimit = 1'000'000;

std::string Quote(const TensorRule& rule) {
  return fmt::format("rule '{}={}'", Escape(rule.pattern), Escape(rule.type));
}

class Pattern {
 public:
  explicit Pattern(const TensorRule& rule) : rule_(rule) {
    int code = 0;
    std::size_t offset = 0;
    // NEVER_UTF: names are bytes to us, and invalid UTF-8 in one must not be an error.
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rule.pattern.data()),
                              rule.pattern.size(), PCRE2_NEVER_UTF, &code, &offset, nullptr));
    if (!code_) {
      throw Error(ErrorCode::kUsage, fmt::format("{}: bad pattern, {} at position {}", Quote(rule),
                                                 pcre2::Message(code), offset));
    }
    data_.reset(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    context_.reset(pcre2_match_context_create(nullptr));
    if (!data_ || !context_) throw Error(ErrorCode::kResources, "out of memory");
    pcre2_set_match_limit(context_.get(), kMatchLimit);
  }

  bool Finds(const std::string& name) const {
    const int result = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(name.data()),
                                   name.size(), 0, 0, data_.get(), context_.get());
    if (result == PCRE2_ERROR_NOMATCH) return false;
    if (result < 0) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("{}: cannot be matched, {}", Quote(rule_), pcre2::Message(result)));
    }
    return true;
  }

 private:
  const TensorRule& rule_;
  pcre2::Code code_;
  pcre2::MatchData data_;
  pcre2::MatchContext context_;
};

// A name and every run of its dotted parts: "mlp.down_proj" is as good a pattern as a whole name.
void AddParts(const std::string& name, std::set<std::string>& parts) {
  for (std::size_t begin = 0;;) {
    for (std::size_t end = name.find('.', begin);; end = name.find('.', end + 1)) {
      parts.insert(name.substr(begin, end == std::string::npos ? end : end - begin));
      if (end == std::string::npos) break;
    }
    begin = name.find('.', begin);
    if (begin == std::string::npos) return;
    ++begin;
  }
}

Error MatchesNothing(const TensorRule& rule, std::span<const RuleSubject> subjects) {
  std::string plain = rule.pattern;
  std::erase_if(plain, [](char c) { return c == '\\' || c == '^' || c == '$'; });
  std::set<std::string> parts;
  for (const RuleSubject& subject : subjects) {
    for (const std::string& name : subject.names) {
      if (!subject.stays_float) AddParts(name, parts);
    }
  }
  const std::string nearest = Nearest(plain, std::vector<std::string>(parts.begin(), parts.end()));
  return Error(ErrorCode::kUsage, Quote(rule) + " matches no tensor")
      .Hint(nearest.empty() ? "`phiq plan` lists the names"
                            : fmt::format("did you mean '{}'?", Escape(nearest)));
}

}  // namespace

TensorRule ParseTensorRule(std::string_view text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size()) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}' is not REGEX=TYPE", Escape(text)))
        .Hint("for example 'down_proj=Q6_K'");
  }
  TensorRule rule{std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
  static_cast<void>(Pattern{rule});  // a bad pattern is known before the model is opened
  return rule;
}

std::vector<std::optional<std::size_t>> MatchRules(std::span<const TensorRule> rules,
                                                   std::span<const RuleSubject> subjects) {
  std::vector<std::optional<std::size_t>> deciding(subjects.size());
  for (std::size_t r = 0; r < rules.size(); ++r) {
    const Pattern pattern(rules[r]);
    bool finds_matrix = false;
    bool finds_float = false;
    for (std::size_t s = 0; s < subjects.size(); ++s) {
      const RuleSubject& subject = subjects[s];
      const bool found = std::any_of(subject.names.begin(), subject.names.end(),
                                     [&](const std::string& name) { return pattern.Finds(name); });
      if (!found) continue;
      (subject.stays_float ? finds_float : finds_matrix) = true;
      if (!subject.stays_float) deciding[s] = r;
    }
    if (!finds_matrix && finds_float) {
      throw Error(
          ErrorCode::kUsage,
          Quote(rules[r]) + " matches only what is never quantized: norms, biases, routers");
    }
    if (!finds_matrix) throw MatchesNothing(rules[r], subjects);
  }
  return deciding;
}

}  // namespace phiq
