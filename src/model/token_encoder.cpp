#include "model/token_encoder.h"

#include <fmt/format.h>

#include <algorithm>
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

std::vector<BpeMerger::Merge> ResolveMerges(
    std::span<const std::pair<std::string, std::string>> merges, const Vocabulary& vocabulary) {
  std::vector<BpeMerger::Merge> resolved;
  resolved.reserve(merges.size());
  for (const auto& [left, right] : merges) {
    const auto id_of = [&](const std::string& text) {
      if (const std::optional<std::uint32_t> id = vocabulary.Find(text)) return *id;
      throw BadData(fmt::format("merge {} '{} {}' needs token '{}', which the vocabulary lacks",
                                resolved.size(), Escape(left), Escape(right), Escape(text)));
    };
    resolved.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
  return resolved;
}

BpeMerger MakeMerger(const Tokenizer& tokenizer, const Vocabulary& vocabulary) {
  const bool has_scores_only = tokenizer.vocab.empty() && !tokenizer.pieces.empty();
  return BpeMerger(has_scores_only ? ResolveMerges(MergesFromScores(tokenizer.pieces), vocabulary)
                                   : ResolveMerges(tokenizer.merges, vocabulary));
}

// Each byte's own token: with all of them no text is ever unknown.
std::array<std::uint32_t, 256> FindByteIds(TokenizerKind kind, const Vocabulary& vocabulary) {
  std::array<std::uint32_t, 256> ids{};
  for (std::size_t byte = 0; byte < ids.size(); ++byte) {
    const std::string text = kind == TokenizerKind::kByteLevelBpe
                                 ? ByteLetter(static_cast<std::uint8_t>(byte))
                                 : fmt::format("<0x{:02X}>", byte);
    const std::optional<std::uint32_t> id = vocabulary.Find(text);
    if (!id) {
      throw Unsupported(
          fmt::format("the tokenizer has no token '{}', so that some text is unknown to it", text));
    }
    ids[byte] = *id;
  }
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

// Where two files name a token, transformers takes its flags from tokenizer_config.json; it reads
// added_tokens.json only where neither of the others lists any.
std::vector<AddedToken> CollectAddedTokens(const Tokenizer& tokenizer) {
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string_view> contents;
  const auto add = [&](const AddedToken& token) {
    if (contents.insert(token.content).second) tokens.push_back(token);
  };
  std::ranges::for_each(tokenizer.added_tokens_decoder, add);
  std::ranges::for_each(tokenizer.added_tokens, add);
  std::vector<AddedToken> others;  // `contents` points into it
  if (tokens.empty()) {
    for (const auto& [id, text] : tokenizer.added_tokens_file)
      others.push_back({.id = id, .content = text});
  }
  if (tokenizer.vocab.empty()) {
    for (std::size_t id = 0; id < tokenizer.pieces.size(); ++id) {
      const SentencePiece& piece = tokenizer.pieces[id];
      if (piece.type == PieceType::kControl || piece.type == PieceType::kUserDefined ||
          piece.type == PieceType::kUnknown)
        others.push_back({.id = static_cast<std::uint32_t>(id), .content = piece.text});
    }
  }
  std::ranges::for_each(others, add);
  return tokens;
}

void CheckAddedTokens(std::span<const AddedToken> tokens, std::uint32_t vocab_size) {
  for (const AddedToken& token : tokens) {
    const std::string text = Escape(token.content);
    if (token.content.empty()) throw BadData(fmt::format("added token {} has no text", token.id));
    if (token.id >= vocab_size) {
      throw BadData(fmt::format("added token '{}' has id {} but the embedding has {} rows", text,
                                token.id, vocab_size));
    }
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

std::string Normalize(const EncodingRules& rules, std::string_view text) {
  std::string prepended = rules.prepend;
  prepended += text;
  if (rules.replaced.empty()) return prepended;
  std::string out;
  for (std::size_t at = 0;;) {
    const std::size_t found = prepended.find(rules.replaced, at);
    out.append(prepended, at, found - at);
    if (found == std::string::npos) return out;
    out += rules.replacement;
    at = found + rules.replaced.size();
  }
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
    : rules_(tokenizer.encoding), added_({}), normalized_added_({}), merger_({}) {
  if (rules_.refusal) throw *rules_.refusal;
  std::vector<AddedToken> added = CollectAddedTokens(tokenizer);
  CheckAddedTokens(added, vocab_size);
  const auto normalized =
      std::ranges::stable_partition(added, [](const AddedToken& t) { return !t.normalized; });
  std::vector<AddedToken> normalized_added(normalized.begin(), normalized.end());
  added.erase(normalized.begin(), added.end());
  for (AddedToken& token : normalized_added) token.content = Normalize(rules_, token.content);
  added_ = AddedTokenSplitter(std::move(added));
  normalized_added_ = AddedTokenSplitter(std::move(normalized_added));

  const Vocabulary vocabulary(tokenizer, vocab_size);
  byte_ids_ = FindByteIds(tokenizer.kind, vocabulary);
  if (tokenizer.kind == TokenizerKind::kSentencePiece) {
    character_ids_ = FindCharacterIds(vocabulary);
  } else {
    const std::string_view known = KnownExpression(tokenizer.pre_tokenizer);
    split_.emplace(rules_.split_expression.empty() ? known : rules_.split_expression);
  }
  if (rules_.ignore_merges) whole_words_ = FindWholeWords(tokenizer.kind, vocabulary);
  merger_ = MakeMerger(tokenizer, vocabulary);
}

std::vector<std::uint32_t> TokenEncoder::Encode(std::string_view text) const {
  if (text.size() > limits::kEncodedTextBytes) {
    throw Unsupported(fmt::format("{} bytes of text, at most {} can be encoded", text.size(),
                                  limits::kEncodedTextBytes));
  }
  if (const std::optional<std::size_t> invalid = FindInvalidUtf8(text))
    throw BadData("the text is not UTF-8").At(*invalid);
  std::vector<std::uint32_t> ids;
  WordCache cache;
  const auto use_token = [&](std::uint32_t id) { ids.push_back(id); };
  const auto use_normalized = [&](std::string_view stretch) { EncodeStretch(stretch, cache, ids); };
  const auto use_stretch = [&](std::string_view stretch) {
    normalized_added_.Split(Normalize(rules_, stretch), use_normalized, use_token);
  };
  added_.Split(text, use_stretch, use_token);
  return ids;
}

void TokenEncoder::EncodeStretch(std::string_view text, WordCache& cache,
                                 std::vector<std::uint32_t>& ids) const {
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
    for (const std::size_t end = i + n_bytes; i < end; ++i)
      symbols.push_back(byte_ids_[static_cast<unsigned char>(word[i])]);
  }
  return symbols;
}

}  // namespace phiq
