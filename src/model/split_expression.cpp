// PCRE2 with limits: an expression from a file must neither loop nor take memory without end.
#include "model/split_expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "base/limits.h"
#include "base/pcre2.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// Compiled code is quick but counts its steps badly: one of them may run over the whole text. What
// needs many is left to the interpreter, which counts every backtracking.
constexpr std::uint32_t kCompiledSteps = 512;
constexpr std::uint64_t kInterpretedSteps = 1'000'000;
constexpr std::uint64_t kInterpretedStepsPerByte = 16;  // the known expressions: 1

// The known expressions take a tenth of a microsecond for each byte.
constexpr std::chrono::seconds kAllowedTime(30);
constexpr std::chrono::microseconds kAllowedTimePerByte(10);

constexpr std::size_t kJitStackBytes = 16 << 20;  // grows up to it
constexpr std::uint32_t kHeapKib = 64 << 10;      // what takes the stack's place without JIT

Error Refusal(std::string message) {
  return Error(ErrorCode::kUnsupported, std::move(message))
      .Hint("give the text as token ids with --ids");
}

// The expression with White_Space for \s and \S, in and outside of classes.
std::string WithUnicodeSpaces(std::string_view expression) {
  std::string out;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    if (expression[i] != '\\' || i + 1 == expression.size()) {
      out.push_back(expression[i]);
      continue;
    }
    const char escaped = expression[++i];
    if (escaped == 's') {
      out += "\\p{White_Space}";
    } else if (escaped == 'S') {
      out += "\\P{White_Space}";
    } else {
      out += {'\\', escaped};
    }
  }
  return out;
}

// What one thread needs to match one text.
class Matcher {
 public:
  Matcher(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create_from_pattern(code, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)),
        deadline_(std::chrono::steady_clock::now() + kAllowedTime +
                  kAllowedTimePerByte * text.size()) {
    // There is no stack where PCRE2 was built without JIT.
    if (!data_ || !context_) throw Error(ErrorCode::kResources, "out of memory");
    pcre2_set_heap_limit(context_.get(), kHeapKib);
    if (stack_) pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
  }

  // The end of the match that begins at `begin`; `begin` where there is none.
  std::size_t EndOfMatch(std::size_t begin) {
    int result = Run(begin, kCompiledSteps, 0);
    if (result == PCRE2_ERROR_MATCHLIMIT || result == PCRE2_ERROR_JIT_STACKLIMIT)
      result =
          Run(begin, kInterpretedSteps + kInterpretedStepsPerByte * text_.size(), PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_MATCHLIMIT || std::chrono::steady_clock::now() > deadline_) {
      throw Refusal(fmt::format(
          "the split expression takes too long on this text, given up at byte {}", begin));
    }
    if (result == PCRE2_ERROR_NOMATCH) return begin;
    if (result < 0) {
      throw Refusal(fmt::format("the split expression cannot be matched at byte {}: {}", begin,
                                pcre2::Message(result)));
    }
    const std::size_t* match = pcre2_get_ovector_pointer(data_.get());
    // \K can move the begin of a match, even behind its end.
    return match[0] == begin ? std::max(begin, match[1]) : begin;
  }

 private:
  int Run(std::size_t begin, std::uint64_t steps, std::uint32_t options) {
    pcre2_set_match_limit(context_.get(), static_cast<std::uint32_t>(std::min<std::uint64_t>(
                                              steps, std::numeric_limits<std::uint32_t>::max())));
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), begin,
                       PCRE2_NO_UTF_CHECK | options, data_.get(), context_.get());
  }

  const pcre2_code* code_;
  std::string_view text_;
  pcre2::MatchData data_;
  pcre2::MatchContext context_;
  pcre2::JitStack stack_;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace

std::string_view KnownExpression(PreTokenizer pre_tokenizer) noexcept {
  switch (pre_tokenizer) {
    case PreTokenizer::kNone:
      break;
    case PreTokenizer::kCl100k:
      return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
             R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
    case PreTokenizer::kO200k:
      return R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
             R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
             R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
             R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
             R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  }
  return {};
}

struct SplitExpression::Compiled {
  pcre2::Code code;
};

SplitExpression::SplitExpression(std::string_view expression) {
  if (expression.size() > limits::kSplitExpressionBytes) {
    throw Refusal(fmt::format("the split expression has {} bytes, at most {} are allowed",
                              expression.size(), limits::kSplitExpressionBytes));
  }
  const std::string pattern = WithUnicodeSpaces(expression);
  int error = 0;
  std::size_t offset = 0;
  // Anchored, so that a match's steps are counted from one place. \C would cut characters apart.
  constexpr std::uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C;
  pcre2::Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                 kOptions, &error, &offset, nullptr));
  if (!code) {
    throw Refusal(
        fmt::format("split expression '{}': {}", Escape(expression), pcre2::Message(error)));
  }
  // Without JIT the same matches are found, several times slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  compiled_ = std::make_unique<Compiled>(std::move(code));
}

SplitExpression::SplitExpression(SplitExpression&&) noexcept = default;
SplitExpression& SplitExpression::operator=(SplitExpression&&) noexcept = default;
SplitExpression::~SplitExpression() = default;

void SplitExpression::ForEachMatch(std::string_view text,
                                   const std::function<void(std::size_t, std::size_t)>& use) const {
  Matcher matcher(compiled_->code.get(), text);
  const auto is_continuation = [&](std::size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0U) == 0x80U;
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = matcher.EndOfMatch(begin);
    if (end > begin) {
      use(begin, end);
      begin = end;
      continue;
    }
    do ++begin;
    while (begin < text.size() && is_continuation(begin));
  }
}

}  // namespace phiq
