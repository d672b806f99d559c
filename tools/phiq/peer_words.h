// Words of other converters' command lines, and what phiq calls the same: for hints alone, none of
// them is taken.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace phiq::cli {

// What serves in place of an option of llama-quantize, llama-perplexity, convert_hf_to_gguf.py,
// mlx_lm.convert, optimum-cli, onnxruntime-genai's model builder or auto-round: "here it is
// --output OUT". "" when no such option is known for `command`.
std::string PeerOptionHint(std::string_view command, std::string_view option);

// The command of phiq that does what `command` says: "here it is `phiq quantize`"; "" for none.
std::string PeerCommandHint(std::string_view command);

// What operands behind the first mean to who writes them in llama-quantize's order (OUT.gguf TYPE
// THREADS): "here it is -o out.gguf --type Q4_K_M". "" when they say nothing of that kind.
std::string PeerOperandHint(const std::vector<std::string>& operands);

}  // namespace phiq::cli
