// Byte-pair encoders want merges; a SentencePiece vocabulary has scores, which order them.
#include "model/piece_merges.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "base/limits.h"
#include "phiq/text.h"

namespace phiq {
namespace {

// A way to make a piece.
struct Split {
  float score = 0;
  Merge merge;
};

bool IsCharacterBegin(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

}  // namespace

std::vector<Merge> MergesFromScores(std::span<const SentencePiece> pieces) {
  const auto takes_part = [](const SentencePiece& piece) {
    return piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined;
  };
  std::unordered_map<std::string_view, std::uint32_t> ids;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const SentencePiece& piece = pieces[id];
    if (!takes_part(piece)) continue;
    if (piece.text.size() > limits::kPieceBytes) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("piece '{}' has {} bytes, at most {} can be encoded",
                              Escape(piece.text), piece.text.size(), limits::kPieceBytes));
    }
    ids.emplace(piece.text, static_cast<std::uint32_t>(id));
  }
  std::vector<Split> splits;
  for (const SentencePiece& piece : pieces) {
    if (!takes_part(piece)) continue;
    const std::string_view text = piece.text;
    const std::size_t first = splits.size();
    const auto whole = ids.find(text);
    for (std::size_t i = 1; i < text.size(); ++i) {
      if (!IsCharacterBegin(text[i])) continue;
      const auto left = ids.find(text.substr(0, i));
      if (left == ids.end()) continue;
      const auto right = ids.find(text.substr(i));
      if (right != ids.end())
        splits.push_back({piece.score, {left->second, right->second, whole->second}});
    }
    std::ranges::sort(
        splits.begin() + static_cast<std::ptrdiff_t>(first), splits.end(), {},
        [](const Split& split) { return std::pair(split.merge.left, split.merge.right); });
  }
  std::ranges::stable_sort(splits, std::greater<>(), &Split::score);
  std::vector<Merge> merges;
  merges.reserve(splits.size());
  for (const Split& split : splits) merges.push_back(split.merge);
  return merges;
}

}  // namespace phiq
