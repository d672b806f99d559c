// A calibration text that the model writes itself: windows sampled from its own distribution.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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
  // Told of so many tokens more, by the calling thread.
  std::function<void(std::uint64_t n_tokens)> written = {};
};

// Bytes that grow with each window that is written at once.
std::uint64_t BytesOfWindow(const ModelConfig& config, std::uint32_t n_ctx);

// How many windows are written at once: each step reads all weights, whatever their number.
std::uint64_t WindowsAtOnce(const ModelConfig& config, const OwnTextOptions& options);

// What a window begins with: cut to leave room for a draw.
using Opening = std::vector<std::uint32_t>;

// Each window begins with one of `openings`, in turn, and goes on with draws from the whole
// distribution, at temperature 1; a token that ends texts is one like others.
//
// Returns   windows of n_ctx ids, one after the other. The same ids for any number of threads, any
//           memory and on every machine.
// Time      n_ctx readings of all weights for each WindowsAtOnce.
// Requires  openings, none of them empty; windows of at least two tokens.
// Throws    kNumeric: a hidden state or logit that is not finite.
std::vector<std::uint32_t> WriteOwnText(const StoredModel& model, std::span<const Opening> openings,
                                        const OwnTextOptions& options,
                                        const engine::Runner& runner);

// Words with a blank before them among the first thousand merges: what texts are full of.
// Throws   kUnsupported: the tokenizer has none.
std::vector<std::uint32_t> FrequentWords(const Tokenizer& tokenizer);

// What texts of this model are begun with: frequent words and, in turn with them, what its chat
// template has before a user's message.
// Throws   as FrequentWords.
// Warns    of a chat template that cannot be rendered: it is left out.
std::vector<Opening> Openings(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                              const WarningFn& warn);

// The token at which the sum of the probabilities, from the first one on, passes `share` (0 to 1,
// 1 left out).
// Requires  finite logits, at least one.
std::uint32_t TokenAt(std::span<const float> logits, double share);

}  // namespace phiq::calibrate
