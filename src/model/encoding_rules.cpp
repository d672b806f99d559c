// tokenizer.json can say more than phiq does; what is not understood refuses encoding, never the
// model.
#include "model/encoding_rules.h"

#include <fmt/format.h>

#include <utility>

#include "base/limits.h"

namespace phiq {
namespace {

bool IsShort(const std::string& text) {
  return !text.empty() && text.size() <= limits::kReplacementBytes;
}

class RulesReader {
 public:
  explicit RulesReader(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  EncodingRules Read() && {
    for (const TokenizerStep& step : tokenizer_.normalizer)
      if (!ReadNormalizer(step)) Refuse("normalizer " + step.shown);
    if (tokenizer_.kind == TokenizerKind::kSentencePiece) {
      for (const TokenizerStep& step : tokenizer_.pre_tokenization)
        if (!ReadMetaspace(step)) Refuse("pre_tokenizer " + step.shown);
    } else {
      ReadSplits();
    }
    return std::move(rules_);
  }

 private:
  // Prepend and Replace, each at most once and in this order.
  bool ReadNormalizer(const TokenizerStep& step) {
    if (const auto* const prepend = step.As<TokenizerStep::Prepend>()) {
      if (!rules_.prepend.empty() || !rules_.replaced.empty()) return false;
      rules_.prepend = prepend->text;
      return IsShort(rules_.prepend);
    }
    const auto* const replace = step.As<TokenizerStep::Replace>();
    if (replace == nullptr || replace->is_expression || !rules_.replaced.empty()) return false;
    rules_.replaced = replace->pattern;
    rules_.replacement = replace->content;
    return rules_.replacement.size() <= limits::kReplacementBytes;
  }

  bool ReadMetaspace(const TokenizerStep& step) {
    const auto* const metaspace = step.As<TokenizerStep::Metaspace>();
    if (metaspace == nullptr || rules_.metaspace || !IsShort(metaspace->replacement)) return false;
    rules_.metaspace = *metaspace;
    return true;
  }

  // At most one Split, then ByteLevel. Exports that leave all of it out are known by their
  // vocabulary (Tokenizer::pre_tokenizer).
  void ReadSplits() {
    bool is_byte_level = false;
    for (const TokenizerStep& step : tokenizer_.pre_tokenization) {
      const auto* const split = step.As<TokenizerStep::Split>();
      const auto* const bytes = step.As<TokenizerStep::ByteLevel>();
      const bool is_done =
          (split != nullptr && !is_byte_level && ReadSplit(*split)) ||
          // With use_regex, which is the default, GPT-2's own expression splits once more.
          (bytes != nullptr && !is_byte_level && !bytes->add_prefix_space && !bytes->use_regex);
      if (!is_done) Refuse("pre_tokenizer " + step.shown);
      is_byte_level |= bytes != nullptr;
    }
    if (!tokenizer_.pre_tokenization.empty() && !is_byte_level)
      Refuse("pre_tokenizer without ByteLevel");
  }

  // "Removed" with invert keeps the matches alone, "Isolated" keeps what is between them too.
  bool ReadSplit(const TokenizerStep::Split& split) {
    if (!split.is_expression || !rules_.split_expression.empty()) return false;
    rules_.split_expression = split.pattern;
    rules_.drop_unmatched = split.behavior == "Removed" && split.invert;
    return rules_.drop_unmatched || split.behavior == "Isolated";
  }

  [[noreturn]] void Refuse(const std::string& what) const {
    throw Error(ErrorCode::kUnsupported, what + " changes token ids, phiq does not do it")
        .In(tokenizer_.steps_path)
        .Hint("give the text as token ids with --ids");
  }

  const Tokenizer& tokenizer_;
  EncodingRules rules_;
};

}  // namespace

EncodingRules ReadEncodingRules(const Tokenizer& tokenizer) {
  if (tokenizer.refusal) throw Error(*tokenizer.refusal);
  return RulesReader(tokenizer).Read();
}

}  // namespace phiq
