// A calibration text that the model writes itself: windows sampled from its own distribution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/forward.h"
#include "phiq/tokenizer.h"
#include "stored/stored_model.h"

namespace phiq::calibrate {

struct OwnTextOptions {
  std::uint64_t n_windows = 32;
  std::uint32_t n_ctx = 256;
  std::uint64_t memory_bytes = 512ULL << 20;  // of what grows with the windows written at once
};

// How many windows are written at once: each step reads all weights, whatever their number.
std::uint64_t WindowsAtOnce(const ModelConfig& config, const OwnTextOptions& options);

// Each window begins with one of `first_tokens`, in turn, and goes on with draws from the whole
// distribution, at temperature 1; a token that ends texts is one like others.
//
// Returns   windows of n_ctx ids, one after the other. The same ids for any number of threads, any
//           memory and on every machine.
// Time      n_ctx readings of all weights for each WindowsAtOnce.
// Requires  first_tokens not empty.
// Throws    kNumeric: a hidden state or logit that is not finite.
std::vector<std::uint32_t> WriteOwnText(const StoredModel& model,
                                        std::span<const std::uint32_t> first_tokens,
                                        const OwnTextOptions& options,
                                        const engine::Runner& runner);

// Words with a blank before them among the first thousand merges: what texts are full of.
// Throws   kUnsupported: the tokenizer has none.
std::vector<std::uint32_t> FrequentWords(const Tokenizer& tokenizer);

// The token at which the sum of the probabilities, from the first one on, passes `share` (0 to 1,
// 1 left out).
// Requires  finite logits, at least one.
std::uint32_t TokenAt(std::span<const float> logits, double share);

}  // namespace phiq::calibrate
