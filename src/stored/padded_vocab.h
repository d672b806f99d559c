// Rows of embedding and head for tokens that have none.
#pragma once

#include <cstdint>
#include <memory>

#include "phiq/checkpoint.h"
#include "stored/stored_model.h"

namespace phiq {

// The number of rows that gives each token of a checkpoint's tokenizer one, by the files alone.
//
// Throws   as ReadTokenizer.
std::uint32_t CountTokens(const CheckpointFolder& folder);

// The model with more rows in embedding and head: for `n_tokens` tokens at least, and for those it
// has, up to a multiple of `multiple`. `model` itself where it has as many.
//
// A new row is the mean of the weight's rows in float32, from sums in double in their order: what
// resize_token_embeddings of transformers starts from, but for the noise of a billionth of the
// variance that it adds. The weight is read for it once, by the first thread that asks for such a
// row.
//
// `folder`  whose tokenizer is the model's.
// Throws    kUnsupported: more rows than a vocabulary may have.
std::unique_ptr<StoredModel> PadVocabulary(std::unique_ptr<StoredModel> model,
                                           CheckpointFolder folder, std::uint32_t n_tokens,
                                           std::uint32_t multiple);

}  // namespace phiq
