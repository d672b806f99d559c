// Byte-pair merging by a queue of neighbours, in n log n of a word; words are cached, since texts
// repeat them.
#include "model/token_encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <span>
#include <unordered_set>
#include <utility>

#include "base/limits.h"
#include "base/utf8.h"
#include "model/byte_alphabet.h"
#include "model/piece_merges.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::size_t kCachedWords = 65'536;
constexpr std::size_t kCachedWordBytes = 64;
constexpr std::uint32_t kNoToken = std::numeric_limits<std::uint32_t>::max();

Error BadData(std::string message) { return Error(ErrorCode::kBadData, std::move(message)); }

Error Unsupported(std::string message) {
  return Error(ErrorCode::kUnsupported, std::move(message))
      .Hint("give the text as token ids with --ids");
}

// The tokens that words are made of. Points into the tokenizer.
class Vocabulary {
 public:
  Vocabulary(const Tokenizer& tokenizer, std::uint32_t vocab_size) : vocab_size_(vocab_size) {
    for (std::size_t id = 0; id < tokenizer.vocab.size(); ++id) Add(tokenizer.vocab[id], id);
    if (!tokenizer.vocab.empty()) return;
    for (std::size_t id = 0; id < tokenizer.pieces.size(); ++id) {
      const SentencePiece& piece = tokenizer.pieces[id];
      // The other types stand for no text.
      if (piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined ||
          piece.type == PieceType::kByte)
        Add(piece.text, id);
    }
  }

  const std::unordered_map<std::string_view, std::uint32_t>& ids() const { return ids_; }

  std::optional<std::uint32_t> Find(std::string_view text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  void Add(std::string_view text, std::size_t id) {
    if (text.empty()) return;
    if (id >= vocab_size_) {
      throw BadData(fmt::format("token '{}' has id {} but the embedding has {} rows", Escape(text),
                                id, vocab_size_));
    }
    ids_.emplace(text, static_cast<std::uint32_t>(id));
  }

  std::uint32_t vocab_size_;
  std::unordered_map<std::string_view, std::uint32_t> ids_;
};

BpeMerger MakeMerger(const Tokenizer& tokenizer) {
  const bool has_scores_only = tokenizer.vocab.empty() && !tokenizer.pieces.empty();
  return has_scores_only ? BpeMerger(MergesFromScores(tokenizer.pieces))
                         : BpeMerger(tokenizer.merges);
}

std::string ByteToken(TokenizerKind kind, std::size_t byte) {
  return kind == TokenizerKind::kByteLevelBpe ? ByteLetter(static_cast<std::uint8_t>(byte))
                                              : fmt::format("<0x{:02X}>", byte);
}

// Each byte's own token: with all of them no text is ever unknown.
std::array<std::uint32_t, 256> FindByteIds(TokenizerKind kind, const Vocabulary& vocabulary) {
  std::array<std::uint32_t, 256> ids{};
  for (std::size_t byte = 0; byte < ids.size(); ++byte)
    ids[byte] = vocabulary.Find(ByteToken(kind, byte)).value_or(kNoToken);
  return ids;
}

std::unordered_map<char32_t, std::uint32_t> FindCharacterIds(const Vocabulary& vocabulary) {
  std::unordered_map<char32_t, std::uint32_t> ids;
  for (const auto& [text, id] : vocabulary.ids()) {
    const std::optional<CodePoint> point = DecodeUtf8(text, 0);
    if (point && point->n_bytes == text.size()) ids.emplace(point->value, id);
  }
  return ids;
}

std::unordered_map<std::string, std::uint32_t> FindWholeWords(TokenizerKind kind,
                                                              const Vocabulary& vocabulary) {
  std::unordered_map<std::string, std::uint32_t> words;
  for (const auto& [text, id] : vocabulary.ids()) {
    if (kind == TokenizerKind::kSentencePiece) {
      words.emplace(text, id);
    } else if (std::optional<std::string> bytes = BytesOfLetters(text)) {
      words.emplace(std::move(*bytes), id);
    }
  }
  return words;
}

// Of tokenizer.model alone, the pieces that stand for no text are such tokens, too.
std::vector<AddedToken> CollectAddedTokens(const Tokenizer& tokenizer) {
  std::vector<AddedToken> tokens = tokenizer.added_tokens;
  if (!tokenizer.vocab.empty()) return tokens;
  std::unordered_set<std::string_view> contents;
  for (const AddedToken& token : tokenizer.added_tokens) contents.insert(token.content);
  for (std::size_t id = 0; id < tokenizer.pieces.size(); ++id) {
    const SentencePiece& piece = tokenizer.pieces[id];
    const bool is_added = piece.type == PieceType::kControl ||
                          piece.type == PieceType::kUserDefined ||
                          piece.type == PieceType::kUnknown;
    if (is_added && !contents.contains(piece.text))
      tokens.push_back({.id = static_cast<std::uint32_t>(id), .content = piece.text});
  }
  return tokens;
}

void CheckAddedTokens(std::span<const AddedToken> tokens) {
  for (const AddedToken& token : tokens) {
    const std::string text = Escape(token.content);
    if (token.content.empty()) throw BadData(fmt::format("added token {} has no text", token.id));
    if (token.single_word) {
      throw Unsupported(
          fmt::format("added token '{}' has single_word, which phiq does not do", text));
    }
    if (token.content.size() > limits::kPieceBytes) {
      throw Unsupported(fmt::format("added token '{}' has {} bytes, at most {} can be encoded",
                                    text, token.content.size(), limits::kPieceBytes));
    }
  }
}

std::string Replace(std::string_view text, std::string_view replaced,
                    std::string_view replacement) {
  std::string out;
  for (std::size_t at = 0;;) {
    const std::size_t found = text.find(replaced, at);
    out += text.substr(at, found - at);
    if (found == std::string_view::npos) return out;
    out += replacement;
    at = found + replaced.size();
  }
}

std::string Normalize(const EncodingRules& rules, std::string_view text, bool is_rest = false) {
  std::string prepended = is_rest ? std::string() : rules.prepend;
  prepended += text;
  return rules.replaced.empty() ? prepended : Replace(prepended, rules.replaced, rules.replacement);
}

// `is_first`: the text of which this is a stretch begins with it.
std::string Mark(const TokenizerStep::Metaspace& metaspace, std::string_view text, bool is_first) {
  using Prepend = TokenizerStep::Metaspace::Prepend;
  std::string marked = Replace(text, " ", metaspace.replacement);
  const bool wants_mark =
      metaspace.prepend == Prepend::kAlways || (metaspace.prepend == Prepend::kFirst && is_first);
  if (wants_mark && !marked.starts_with(metaspace.replacement))
    marked.insert(0, metaspace.replacement);
  return marked;
}

// Whether no token has `mark` behind anything else: then no merge reaches across the place before
// one.
bool MarksBeginTokens(const Vocabulary& vocabulary, const std::string& mark) {
  return std::ranges::all_of(vocabulary.ids(), [&](const auto& token) {
    std::string_view text = token.first;
    while (text.starts_with(mark)) text.remove_prefix(mark.size());
    return text.find(mark) == text.npos;
  });
}

// Whether a text may be cut before a blank behind something that is none (and no added token):
// words begin there, by the known split expressions, by Metaspace, or as far as merges go.
bool CanBeCut(const Tokenizer& tokenizer, const EncodingRules& rules, const Vocabulary& vocabulary,
              std::span<const AddedToken> added) {
  const auto has_inner_blank = [](const AddedToken& token) {
    return token.content.find(' ', 1) != std::string::npos;
  };
  if (std::ranges::any_of(added, has_inner_blank)) return false;
  if (!rules.replaced.empty() && rules.replaced != " ") return false;
  if (tokenizer.kind == TokenizerKind::kByteLevelBpe) {
    const std::string_view expression = rules.split_expression;
    return rules.replaced.empty() &&
           (expression.empty() || expression == KnownExpression(PreTokenizer::kCl100k) ||
            expression == KnownExpression(PreTokenizer::kO200k));
  }
  if (rules.metaspace && rules.metaspace->split) return rules.replaced.empty();
  if (tokenizer.ignore_merges) return false;
  const std::string mark = rules.metaspace           ? rules.metaspace->replacement
                           : !rules.replaced.empty() ? rules.replacement
                                                     : " ";
  return !mark.empty() && MarksBeginTokens(vocabulary, mark);
}

}  // namespace

class TokenEncoder::WordCache {
 public:
  // nullptr: not there.
  const std::vector<std::uint32_t>* Find(std::string_view word) const {
    if (word.size() > kCachedWordBytes) return nullptr;
    const auto found = ids_.find(word);
    return found == ids_.end() ? nullptr : &found->second;
  }
  void Add(std::string_view word, std::vector<std::uint32_t> ids) {
    if (word.size() <= kCachedWordBytes && ids_.size() < kCachedWords)
      ids_.emplace(word, std::move(ids));
  }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view word) const {
      return std::hash<std::string_view>()(word);
    }
  };
  std::unordered_map<std::string, std::vector<std::uint32_t>, Hash, std::equal_to<>> ids_;
};

TokenEncoder::TokenEncoder(const Tokenizer& tokenizer, std::uint32_t vocab_size)
    : rules_(ReadEncodingRules(tokenizer)),
      kind_(tokenizer.kind),
      vocab_size_(vocab_size),
      added_({}),
      normalized_added_({}),
      merger_({}) {
  std::vector<AddedToken> added = CollectAddedTokens(tokenizer);
  CheckAddedTokens(added);
  for (const AddedToken& token : added) added_texts_.push_back(token.content);
  const Vocabulary vocabulary(tokenizer, vocab_size);
  can_be_cut_ = CanBeCut(tokenizer, rules_, vocabulary, added);
  const auto normalized =
      std::ranges::stable_partition(added, [](const AddedToken& t) { return !t.normalized; });
  std::vector<AddedToken> normalized_added(normalized.begin(), normalized.end());
  added.erase(normalized.begin(), added.end());
  for (AddedToken& token : normalized_added) token.content = Normalize(rules_, token.content);
  added_ = AddedTokenSplitter(std::move(added));
  normalized_added_ = AddedTokenSplitter(std::move(normalized_added));

  byte_ids_ = FindByteIds(tokenizer.kind, vocabulary);
  if (tokenizer.kind == TokenizerKind::kSentencePiece) {
    character_ids_ = FindCharacterIds(vocabulary);
  } else {
    const std::string_view known = KnownExpression(tokenizer.pre_tokenizer);
    split_.emplace(rules_.split_expression.empty() ? known : rules_.split_expression);
  }
  if (tokenizer.ignore_merges) whole_words_ = FindWholeWords(tokenizer.kind, vocabulary);
  merger_ = MakeMerger(tokenizer);
}

std::size_t TokenEncoder::CutBefore(std::string_view text, std::size_t at_most) const {
  if (!can_be_cut_ || text.empty()) return 0;
  for (std::size_t at = std::min(at_most, text.size() - 1); at > 0; --at) {
    constexpr std::size_t kCharacterBytes = 4;
    const std::string_view before = text.substr(0, at);
    const std::string_view last = before.substr(at - std::min(at, kCharacterBytes));
    if (text[at] != ' ' || TrailingSpace(last) > 0) continue;
    // Some swallow the white space behind them.
    if (std::ranges::none_of(added_texts_,
                             [&](const std::string& token) { return before.ends_with(token); }))
      return at;
  }
  return 0;
}

std::vector<std::uint32_t> TokenEncoder::Encode(std::string_view text, bool is_rest) const {
  if (text.size() > limits::kEncodedTextBytes) {
    throw Unsupported(fmt::format("{} bytes of text, at most {} can be encoded", text.size(),
                                  limits::kEncodedTextBytes));
  }
  if (const std::optional<std::size_t> invalid = FindInvalidUtf8(text))
    throw BadData("the text is not UTF-8").At(*invalid);
  std::vector<std::uint32_t> ids;
  WordCache cache;
  const auto use_token = [&](std::uint32_t id) {
    if (id >= vocab_size_) {
      throw BadData(
          fmt::format("the text holds token {}, but the embedding has {} rows", id, vocab_size_));
    }
    ids.push_back(id);
  };
  const auto use_stretch = [&](std::string_view stretch) {
    const bool begins = stretch.data() == text.data();
    const std::string normalized = Normalize(rules_, stretch, begins && is_rest);
    const auto use_normalized = [&](std::string_view part) {
      const bool is_first = begins && !is_rest && part.data() == normalized.data();
      EncodeStretch(part, is_first, cache, ids);
    };
    normalized_added_.Split(normalized, use_normalized, use_token);
  };
  added_.Split(text, use_stretch, use_token);
  return ids;
}

void TokenEncoder::EncodeStretch(std::string_view text, bool is_first, WordCache& cache,
                                 std::vector<std::uint32_t>& ids) const {
  if (rules_.metaspace) return EncodeMarked(Mark(*rules_.metaspace, text, is_first), cache, ids);
  if (!split_) return EncodeWord(text, cache, ids);
  std::size_t done = 0;
  const auto use_unmatched_until = [&](std::size_t end) {
    if (done < end && !rules_.drop_unmatched) EncodeWord(text.substr(done, end - done), cache, ids);
  };
  split_->ForEachMatch(text, [&](std::size_t begin, std::size_t end) {
    use_unmatched_until(begin);
    EncodeWord(text.substr(begin, end - begin), cache, ids);
    done = end;
  });
  use_unmatched_until(text.size());
}

// A word begins at each mark, where the step says so.
void TokenEncoder::EncodeMarked(std::string_view text, WordCache& cache,
                                std::vector<std::uint32_t>& ids) const {
  const std::string& mark = rules_.metaspace->replacement;
  while (rules_.metaspace->split && !text.empty()) {
    const std::size_t next = text.find(mark, text.starts_with(mark) ? mark.size() : 0);
    if (next == text.npos) break;
    EncodeWord(text.substr(0, next), cache, ids);
    text.remove_prefix(next);
  }
  if (!text.empty()) EncodeWord(text, cache, ids);
}

void TokenEncoder::EncodeWord(std::string_view word, WordCache& cache,
                              std::vector<std::uint32_t>& ids) const {
  if (const std::vector<std::uint32_t>* known = cache.Find(word)) {
    ids.insert(ids.end(), known->begin(), known->end());
    return;
  }
  std::vector<std::uint32_t> of_word;
  const auto whole =
      whole_words_.empty() ? whole_words_.end() : whole_words_.find(std::string(word));
  if (whole != whole_words_.end()) {
    of_word.push_back(whole->second);
  } else {
    of_word = Symbols(word);
    merger_.Apply(of_word);
  }
  ids.insert(ids.end(), of_word.begin(), of_word.end());
  cache.Add(word, std::move(of_word));
}

// What a word is before any merge: bytes, or characters where the vocabulary has them.
std::vector<std::uint32_t> TokenEncoder::Symbols(std::string_view word) const {
  std::vector<std::uint32_t> symbols;
  symbols.reserve(word.size());
  for (std::size_t i = 0; i < word.size();) {
    std::size_t n_bytes = 1;
    if (!character_ids_.empty()) {
      const CodePoint point = DecodeUtf8(word, i).value();
      if (const auto id = character_ids_.find(point.value); id != character_ids_.end()) {
        symbols.push_back(id->second);
        i += point.n_bytes;
        continue;
      }
      n_bytes = point.n_bytes;
    }
    for (const std::size_t end = i + n_bytes; i < end; ++i) {
      const auto byte = static_cast<unsigned char>(word[i]);
      symbols.push_back(byte_ids_[byte]);
      if (symbols.back() != kNoToken) continue;
      throw Unsupported(fmt::format("the tokenizer has no token '{}', which the text needs",
                                    ByteToken(kind_, byte)));
    }
  }
  return symbols;
}

}  // namespace phiq
