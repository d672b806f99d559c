// Reads a SentencePiece model file (tokenizer.model).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "phiq/tokenizer.h"

namespace phiq {

struct SentencePieceModel {
  std::vector<SentencePiece> pieces;
  bool add_dummy_prefix = true;
  // A setting that changes ids in a way that phiq does not do, for a message; empty: none.
  std::string foreign_setting;
};

// Bytes     a protobuf message: field 1, repeated: a piece {1: text, 2: float score, 3: type};
//           2: trainer settings, 3: normalizer settings. Other fields are skipped.
// Throws    kBadData: cut short or malformed (with the byte), a score that is not finite, an
// unknown
//           piece type, empty or repeated or over-long text, not exactly one unknown piece, no
//           settings after the pieces (a file cut between two fields is still a valid message).
SentencePieceModel ParseSentencePieceModel(std::string_view bytes, std::string_view path);

}  // namespace phiq
