// `general.name`, which llama.cpp reads as an instruction.
#pragma once

#include <string>
#include <string_view>

#include "phiq/tokenizer.h"

namespace phiq::gguf {

// A name that makes llama.cpp treat special tokens as the tokenizer says: when the name holds
// "phi-3" or "phi3" (any case), white space after a special token is swallowed, and a vocabulary
// without the Phi-3 tokens fails to load. The model's own name is changed as little as that needs.
//
// Returns  valid UTF-8 without control characters, at most 255 bytes.
// Source   docs/formats/gguf.md "The name".
std::string GeneralName(const std::string& model_name, const Tokenizer& tokenizer);

// Whether llama.cpp takes a name for Phi-3's.
bool SaysPhi3(std::string_view name);

}  // namespace phiq::gguf
