// tokenizer.json of the Hugging Face tokenizers library, as far as phiq wants it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "phiq/tokenizer.h"

namespace phiq {

struct TokenizerJson {
  std::vector<std::string> vocab;  // as Tokenizer::vocab
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added_tokens;  // sorted by id
  bool byte_fallback = false;
  bool byte_level = false;  // a ByteLevel step in decoder or pre_tokenizer
  Json pre_tokenizer;       // as in the file; null: none
  EncodingRules encoding;
  // The special token that the post-processor puts first or last, where it puts one.
  std::optional<std::string> first_special, last_special;
};

// Throws   kBadData: the token or the number of the merge. kUnsupported: not a BPE model.
TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view path,
                                 std::uint32_t vocab_size);

// Recognises the split expression of a byte-level tokenizer by its text; where there is none, by
// the vocabulary. Throws   kUnsupported, with the pattern's SHA-256.
PreTokenizer RecognizePreTokenizer(const Json& pre_tokenizer, std::string_view path,
                                   std::uint32_t vocab_size);

// An entry {"id": ..., "content": ...} of added_tokens; `id` is given where the entry lacks it.
AddedToken ParseAddedToken(const Json& entry, std::optional<std::uint32_t> id,
                           std::string_view path, std::uint32_t vocab_size);

// An id that the embedding has a row for.
std::uint32_t ParseTokenId(const Json& value, std::string_view token, std::string_view path,
                           std::uint32_t vocab_size);

void CheckTokenText(std::string_view text, std::string_view path);

}  // namespace phiq
