// How a tokenizer makes words of a text, of the steps that phiq does.
#pragma once

#include <optional>
#include <string>

#include "phiq/tokenizer.h"

namespace phiq {

struct EncodingRules {
  // The normalizer: `prepend` goes before a text that is not empty, then every `replaced` becomes
  // `replacement`. Empty `prepend` or `replaced`: there is no such step.
  std::string prepend, replaced, replacement;
  // The pre-tokenizer of a byte-fallback vocabulary; none: a stretch of text is one word.
  std::optional<TokenizerStep::Metaspace> metaspace;
  // That of a byte-level one: the file's own expression; empty: the one that
  // Tokenizer::pre_tokenizer names.
  std::string split_expression;
  bool drop_unmatched = false;  // text between two matches of the expression
};

// Throws   kUnsupported: Tokenizer::refusal, or the first step that phiq does not do.
// Source   docs/formats/tokenizer.md "Encoding".
EncodingRules ReadEncodingRules(const Tokenizer& tokenizer);

}  // namespace phiq
