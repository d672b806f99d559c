// Builds the token arrays in the steps of llama.cpp's converter: pads, then the model's pieces,
// then the added tokens, each step overwriting the ones before.
#include "formats/gguf/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <unordered_map>

#include "phiq/text.h"

namespace phiq::gguf {
namespace {

constexpr float kPadScore = -10000.0F;
constexpr float kAddedScore = -1000.0F;
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

class Builder {
 public:
  Builder(std::uint32_t vocab_size, bool with_scores) : filled_(vocab_size, false) {
    vocabulary_.tokens.resize(vocab_size);
    vocabulary_.types.assign(vocab_size, static_cast<std::int32_t>(PieceType::kUnused));
    if (with_scores) vocabulary_.scores.assign(vocab_size, kPadScore);
  }

  bool HasRow(std::size_t id) const { return id < filled_.size(); }

  void Set(std::size_t id, std::string text, PieceType type, float score = 0) {
    if (!HasRow(id)) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("token '{}' has id {} but the embedding has {} rows", Escape(text),
                              id, filled_.size()));
    }
    vocabulary_.tokens[id] = std::move(text);
    vocabulary_.types[id] = static_cast<std::int32_t>(type);
    if (!vocabulary_.scores.empty()) vocabulary_.scores[id] = score;
    filled_[id] = true;
  }

  // llama.cpp refuses a vocabulary that names a token twice, so pads avoid every other text.
  Vocabulary Finish(const WarningFn& warn) {
    std::unordered_map<std::string_view, std::size_t> id_of;
    for (std::size_t id = 0; id < filled_.size(); ++id) {
      if (!filled_[id]) continue;
      const auto [other, is_new] = id_of.emplace(vocabulary_.tokens[id], id);
      if (!is_new) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("ids {} and {} have the same token '{}'", other->second, id,
                                Escape(vocabulary_.tokens[id])));
      }
    }
    for (std::size_t id = 0; id < filled_.size(); ++id) {
      if (filled_[id]) continue;
      std::string pad = fmt::format("[PAD{}]", id);
      while (id_of.contains(pad)) pad += '_';
      vocabulary_.tokens[id] = std::move(pad);
    }
    WarnOfGaps(warn);
    return std::move(vocabulary_);
  }

 private:
  void WarnOfGaps(const WarningFn& warn) const {
    const auto last = std::find(filled_.rbegin(), filled_.rend(), true);
    const auto n_gaps = std::count(last, filled_.rend(), false);
    if (n_gaps == 0) return;
    const auto first = std::find(filled_.begin(), filled_.end(), false) - filled_.begin();
    warn({ErrorCode::kBadData,
          fmt::format("tokenizer: {} ids inside the vocabulary have no token, the first is {}; "
                      "they become [PAD<id>]",
                      n_gaps, first)});
  }

  Vocabulary vocabulary_;
  std::vector<bool> filled_;
};

bool IsByteToken(std::string_view text) {  // <0x0A>
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') && is_hex(text[3]) &&
         is_hex(text[4]);
}

bool IsOnlySpaceMarks(std::string_view text) {
  while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
  return text.empty();
}

// The vocabulary of Phi-3 and Phi-3.5, whose scores are known.
bool IsPhi3Vocabulary(const std::vector<std::string>& vocab) {
  return vocab.size() == 32000 && vocab[260] == "\xE2\x96\x81t" && vocab[261] == "er" &&
         vocab[31999] == "\xE7\xBB\x99";
}

float Phi3Score(std::size_t id, std::string_view text) {
  if (IsOnlySpaceMarks(text)) return -1e9F;
  return id < 260 ? 0.0F : 259.0F - static_cast<float>(id);
}

// tokenizer.json has merges where tokenizer.model has scores. llama.cpp joins the pair whose result
// has the highest score, so only their order counts, and a token's first merge gives that order.
void SetFromMerges(const Tokenizer& tokenizer, Builder& builder) {
  const std::size_t n_merges = tokenizer.merges.size();
  std::vector<std::size_t> first_merge(tokenizer.vocab.size(), n_merges);
  for (std::size_t i = 0; i < n_merges; ++i) {
    std::size_t& first = first_merge[tokenizer.merges[i].result];
    first = std::min(first, i);
  }
  const bool is_phi3 = IsPhi3Vocabulary(tokenizer.vocab);
  for (std::size_t id = 0; id < tokenizer.vocab.size(); ++id) {
    const std::string& text = tokenizer.vocab[id];
    if (text.empty()) continue;
    if (IsByteToken(text)) {
      builder.Set(id, text, PieceType::kByte, 0);
      continue;
    }
    builder.Set(id, text, PieceType::kNormal,
                is_phi3 ? Phi3Score(id, text) : -static_cast<float>(first_merge[id] + 1));
  }
}

void SetFromPieces(const std::vector<SentencePiece>& pieces, Builder& builder) {
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const SentencePiece& piece = pieces[id];
    if (piece.text.empty()) continue;
    // User-defined pieces of the model file are ordinary to llama.cpp's converter.
    const PieceType type = piece.type == PieceType::kUserDefined ? PieceType::kNormal : piece.type;
    builder.Set(id, piece.text, type, piece.score);
  }
}

Vocabulary BuildSentencePiece(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                              const WarningFn& warn) {
  Builder builder(vocab_size, true);
  if (tokenizer.pieces.empty()) {
    SetFromMerges(tokenizer, builder);
  } else {
    SetFromPieces(tokenizer.pieces, builder);
  }
  for (const AddedToken& token : tokenizer.added_tokens) {
    if (!builder.HasRow(token.id)) continue;  // ReadTokenizer has warned of it
    builder.Set(token.id, token.content,
                token.special ? PieceType::kControl : PieceType::kUserDefined, kAddedScore);
  }
  return builder.Finish(warn);
}

std::string WithSpaces(std::string_view text) {
  std::string spaced;
  while (!text.empty()) {
    const std::size_t mark = std::min(text.find(kSpaceMark), text.size());
    spaced += text.substr(0, mark);
    if (mark == text.size()) break;
    spaced.push_back(' ');
    text.remove_prefix(mark + kSpaceMark.size());
  }
  return spaced;
}

Vocabulary BuildByteLevelBpe(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                             const WarningFn& warn) {
  Builder builder(vocab_size, false);
  for (std::size_t id = 0; id < tokenizer.vocab.size(); ++id) {
    if (!tokenizer.vocab[id].empty()) builder.Set(id, tokenizer.vocab[id], PieceType::kNormal);
  }
  for (const AddedToken& token : tokenizer.added_tokens) {
    if (!builder.HasRow(token.id)) continue;  // ReadTokenizer has warned of it
    // <|tool|> and its family are control tokens even where the checkpoint calls them ordinary.
    const bool is_control =
        token.special || (token.content.starts_with("<|") && token.content.ends_with("|>"));
    builder.Set(token.id, is_control ? token.content : WithSpaces(token.content),
                is_control ? PieceType::kControl : PieceType::kUserDefined);
  }
  return builder.Finish(warn);
}

}  // namespace

Vocabulary BuildVocabulary(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                           const WarningFn& warn) {
  return tokenizer.kind == TokenizerKind::kSentencePiece
             ? BuildSentencePiece(tokenizer, vocab_size, warn)
             : BuildByteLevelBpe(tokenizer, vocab_size, warn);
}

}  // namespace phiq::gguf
