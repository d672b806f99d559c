// Where a runtime's tokenizer gives other ids or another text than the model's own: the plan says
// so, whatever the format.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "phiq/plan.h"
#include "phiq/tokenizer.h"

namespace phiq {

// What a runtime's tokenizer can do.
struct TokenizerRuntime {
  // What it does with the white space beside added tokens.
  enum class Strips : std::uint8_t {
    kAsFlagged,        // as the model's tokenizer says
    kAsTokenizerJson,  // as tokenizer.json says, whatever tokenizer_config.json does
    kAsToldByName,     // `strips_behind` says for which tokens behind them; before them never
  };
  std::string_view name;  // "llama.cpp"
  Strips strips = Strips::kAsFlagged;
  std::function<bool(const AddedToken&)> strips_behind = {};
  // It makes text of the steps that GGUF can name: U+2581 for spaces, with one before each stretch
  // or not, and the two known split expressions.
  bool only_known_steps = false;
  // With a SentencePiece vocabulary each stretch of text gets a space before it.
  bool always_prefixes_space = false;
  bool cleans_up_spaces = false;
  // Of added tokens it follows rstrip alone, and of the steps the split expressions and
  // SentencePiece's mark; nothing is put around a text.
  bool plain_steps = false;
  bool one_template = false;  // reads no other chat template than the default one
};

// One decision for each difference.
std::vector<Decision> TokenizerDifferences(const Tokenizer& tokenizer,
                                           const TokenizerRuntime& runtime);

// Whether text that stands between added tokens begins with a mark for a space of its own.
bool AddsSpacePrefix(const Tokenizer& tokenizer) noexcept;

}  // namespace phiq
