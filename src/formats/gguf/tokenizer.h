// The tokenizer of a GGUF file, for encoding text.
#pragma once

#include <string_view>

#include "formats/gguf/value.h"
#include "phiq/tokenizer.h"

namespace phiq::gguf {

// Kind, tokens, merges or scores, added tokens and the rules of encoding: what a TokenEncoder
// reads. Special ids and chat templates, as far as they are there: what a file is made of again.
//
// GGUF lacks lstrip and rstrip of added tokens. As in llama.cpp, a model whose general.name says
// Phi-3 has rstrip for all of them but three.
//
// Throws   kBadData: the key, with the lengths or values found and wanted. kUnsupported: a
//          tokenizer.ggml.model or tokenizer.ggml.pre that phiq does not do.
// Source   docs/formats/tokenizer.md "Encoding from a GGUF file".
Tokenizer ReadTokenizer(const Metadata& metadata, std::string_view path);

}  // namespace phiq::gguf
