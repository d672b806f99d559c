// The token arrays of a GGUF file, one entry for each embedding row.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "phiq/error.h"
#include "phiq/tokenizer.h"

namespace phiq::gguf {

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<float> scores;        // empty for byte-level BPE
  std::vector<std::int32_t> types;  // PieceType
};

// Throws   kBadData: an id without a row, two ids with the same text.
// Warns    rows inside the vocabulary that no token has; added tokens without a row
// (SentencePiece). Source   docs/formats/gguf.md "Vocabulary".
Vocabulary BuildVocabulary(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                           const WarningFn& warn);

}  // namespace phiq::gguf
