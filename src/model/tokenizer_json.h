// tokenizer.json of the Hugging Face tokenizers library, as far as phiq wants it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "phiq/tokenizer.h"

namespace phiq {

// model.merges as texts, one behind the other: ids are known only when all of the vocabulary is.
class MergeTexts {
 public:
  void Add(std::string_view left, std::string_view right);
  std::size_t size() const noexcept { return sizes_.size(); }
  // Calls use(left, right) for each, in order.
  template <typename Use>
  void ForEach(const Use& use) const {
    std::size_t at = 0;
    for (const auto& [left, right] : sizes_) {
      use(std::string_view(texts_).substr(at, left),
          std::string_view(texts_).substr(at + left, right));
      at += std::size_t{left} + right;
    }
  }

 private:
  std::string texts_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> sizes_;  // bytes of both parts
};

struct TokenizerJson {
  std::vector<std::string> vocab;  // as Tokenizer::vocab
  MergeTexts merges;
  std::vector<AddedToken> added_tokens;  // sorted by id
  std::vector<TokenizerStep> normalizer, pre_tokenizer, post_processor, decoder;
  bool byte_fallback = false, fuse_unk = false, ignore_merges = false;
  std::string unk_token;  // empty: none
  std::string dropout;    // as in the file; empty: none
};

// Reads the file as a stream: of the whole, only what is listed above is kept.
//
// Throws   kBadData: the token or the number of the merge. kUnsupported: not a BPE model.
TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view path,
                                 std::uint32_t vocab_size);

// Recognises the split expression of a byte-level tokenizer by its text; where there is none, by
// the vocabulary. Throws   kUnsupported, with the pattern's SHA-256.
PreTokenizer RecognizePreTokenizer(const std::vector<TokenizerStep>& pre_tokenizer,
                                   std::string_view path, std::uint32_t vocab_size);

// An entry {"id": ..., "content": ...} of added_tokens; `id` is given where the entry lacks it.
AddedToken ParseAddedToken(const Json& entry, std::optional<std::uint32_t> id,
                           std::string_view path);

// The id of an added token: below limits::kVocab.
std::uint32_t ParseAddedId(const Json& value, std::string_view token, std::string_view path);

void CheckTokenText(std::string_view text, std::string_view path);

}  // namespace phiq
