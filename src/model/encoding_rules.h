// What tokenizer.json says of encoding, besides the vocabulary, the merges and the added tokens.
#pragma once

#include <string_view>

#include "base/json.h"
#include "phiq/tokenizer.h"

namespace phiq {

// Reads the normalizer, the pre-tokenizer and the model's switches of `root`, a tokenizer.json.
// What phiq does not do becomes EncodingRules::refusal, which names the first such step.
//
// Source   docs/formats/tokenizer.md "Encoding".
EncodingRules ReadEncodingRules(const Json& root, std::string_view path);

// How SentencePiece's own vocabularies are used: spaces become U+2581, and with `add_dummy_prefix`
// one more goes before each stretch of text.
EncodingRules SentencePieceRules(bool add_dummy_prefix);

}  // namespace phiq
