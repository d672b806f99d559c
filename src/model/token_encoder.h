// Text to token ids.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/added_token_splitter.h"
#include "model/bpe_merger.h"
#include "model/encoding_rules.h"
#include "model/split_expression.h"
#include "phiq/tokenizer.h"

namespace phiq {

// Gives the ids that the tokenizers library gives without special tokens: added tokens in the text
// become their ids, and neither BOS nor EOS is put around it.
//
// Source   docs/formats/tokenizer.md "Encoding".
class TokenEncoder {
 public:
  // Throws   kUnsupported: the tokenizer has a step that phiq does not do. kBadData: a token of
  //          the vocabulary whose id is not below `vocab_size`.
  TokenEncoder(const Tokenizer& tokenizer, std::uint32_t vocab_size);

  // Time is nearly linear, with and without spaces; memory is about 25 bytes for each byte of the
  // longest word, besides the text and the result. Without a split expression all that stands
  // between two added tokens is one word.
  //
  // Throws   kBadData: not UTF-8, or an added token whose id is not below `vocab_size`.
  //          kUnsupported: a byte that has no token, a gigabyte of text or more, a split expression
  //          that takes too long.
  // Threads  safe.
  //
  // `is_rest`   the text goes on behind a place that CutBefore gave.
  std::vector<std::uint32_t> Encode(std::string_view text, bool is_rest = false) const;

  // The last place up to `at_most` where the text may be cut: the ids of both parts, one behind the
  // other, are those of the whole. 0: there is none, or the tokenizer has none anywhere.
  // The text need not be UTF-8.
  std::size_t CutBefore(std::string_view text, std::size_t at_most) const;

 private:
  // The ids of words that came before, for one text.
  class WordCache;

  // `is_first`: the stretch stands where the whole text begins.
  void EncodeStretch(std::string_view text, bool is_first, WordCache& cache,
                     std::vector<std::uint32_t>& ids) const;
  void EncodeMarked(std::string_view text, WordCache& cache, std::vector<std::uint32_t>& ids) const;
  void EncodeWord(std::string_view word, WordCache& cache, std::vector<std::uint32_t>& ids) const;
  std::vector<std::uint32_t> Symbols(std::string_view word) const;

  EncodingRules rules_;
  bool can_be_cut_ = false;
  std::vector<std::string> added_texts_;  // of all added tokens
  TokenizerKind kind_;
  std::uint32_t vocab_size_;
  AddedTokenSplitter added_, normalized_added_;  // looked for before and after the normalizer
  std::optional<SplitExpression> split_;         // none: a stretch is one word
  // Whole words that take no merging; empty unless the tokenizer ignores merges then.
  std::unordered_map<std::string, std::uint32_t> whole_words_;
  std::unordered_map<char32_t, std::uint32_t> character_ids_;  // empty for byte-level tokenizers
  std::array<std::uint32_t, 256> byte_ids_{};
  BpeMerger merger_;
};

}  // namespace phiq
