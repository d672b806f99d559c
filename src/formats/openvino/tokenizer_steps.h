// What tokenizer.json does to a text, as a list of steps that OpenVINO's tokenizer operators can
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

// `text`       of tokenizer.json.
// `tokenizer`  what was read from it and the files beside it.
// Throws       kUnsupported: a step that has no operator, naming it. kBadData: as ReadTokenizer.
TokenizerSteps ReadTokenizerSteps(std::string_view text, const std::string& path,
                                  const Tokenizer& tokenizer);

// Text as an expression that matches it.
std::string QuoteExpression(std::string_view text);

}  // namespace phiq::openvino
