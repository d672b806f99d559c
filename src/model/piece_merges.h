// Merges for a vocabulary that has scores instead.
#pragma once

#include <span>
#include <vector>

#include "phiq/tokenizer.h"

namespace phiq {

// Every way to make a piece of two others, the piece of highest score first, in the order of ids
// where scores are equal; the ways to make one piece by the id of the left part, then of the right
// one. That is the list in the tokenizer.json that transformers made of such vocabularies. Only
// normal and user-defined pieces take part.
//
// Throws   kUnsupported: a piece of more than limits::kPieceBytes.
std::vector<Merge> MergesFromScores(std::span<const SentencePiece> pieces);

}  // namespace phiq
