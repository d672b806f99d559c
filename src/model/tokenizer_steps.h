// The components of tokenizer.json (normalizer, pre_tokenizer, ...) as lists of steps.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "phiq/tokenizer.h"

namespace phiq {

// `component`  as in the file: one step, a Sequence of them, or null for none.
// Returns      every step, in order; those whose type or settings are not known are Other.
// Source       docs/formats/tokenizer.md "Steps".
std::vector<TokenizerStep> ReadSteps(const Json& component);

// What SentencePiece does to a text without a tokenizer.json: spaces become U+2581, and with
// `add_dummy_prefix` one more goes before each stretch of text.
std::vector<TokenizerStep> SentencePieceNormalizer(bool add_dummy_prefix);

}  // namespace phiq
