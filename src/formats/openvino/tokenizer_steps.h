// What a tokenizer does to a text, as a list of steps that OpenVINO's tokenizer operators can
// do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phiq/tokenizer.h"

namespace phiq::openvino {

// Replaces every match of a PCRE2 expression.
struct Replacement {
  std::string expression, replacement;
};

// Cuts a text into words.
struct SplitStep {
  std::string expression;
  std::string behaviour;  // of the matches: "isolate", "remove", ...
  bool invert = false;    // what is between the matches counts as matches
};

enum class DecodingStep : std::uint8_t { kReplace, kByteFallback, kJoin };

struct TokenizerSteps {
  // Of the whole text, before added tokens are cut out: `expression` is for the first character,
  // which `replacement` knows as $1.
  std::optional<Replacement> first_mark;
  std::vector<Replacement> normalizations;
  std::vector<SplitStep> splits;
  std::optional<std::uint32_t> first_special, last_special;  // put around every text

  std::vector<std::string> vocab;  // index = id, added tokens included; bytes, not letters for them
  std::vector<std::pair<std::string, std::string>> merges;  // bytes
  std::vector<AddedToken> added_tokens;
  std::string unk_token;  // empty: none
  bool fuse_unk = false, byte_fallback = false;

  // A replacement goes with each kReplace.
  std::vector<std::pair<DecodingStep, Replacement>> decoding;
};

// Throws   kUnsupported: no tokenizer.json, or a step that has no operator, naming it.
//          kBadData: a token that is not in the byte alphabet.
TokenizerSteps ReadTokenizerSteps(const Tokenizer& tokenizer);

// Text as an expression that matches it.
std::string QuoteExpression(std::string_view text);

}  // namespace phiq::openvino
