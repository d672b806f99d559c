// Graphs that turn text into token ids and back, of the operators of openvino_tokenizers.
#pragma once

#include "formats/openvino/graph.h"
#include "formats/openvino/tokenizer_steps.h"

namespace phiq::openvino {

struct TokenizerOptions {
  std::uint32_t pad_id = 0;
  std::uint64_t max_length = 0;  // tokens of a text that asks to be cut
};

// Text [batch] to `input_ids` and `attention_mask` [batch, length], padded and cut on the left.
//
// Source   docs/formats/openvino.md "The tokenizer".
GraphBuilder BuildTokenizerGraph(const TokenizerSteps& steps, const TokenizerOptions& options);

// Token ids [batch, length] to `string_output` [batch], special tokens left out.
GraphBuilder BuildDetokenizerGraph(const TokenizerSteps& steps);

}  // namespace phiq::openvino
