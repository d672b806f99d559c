// What quantization cost: perplexity of a text, and divergence from a reference model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phiq/divergence.h"
#include "phiq/hooks.h"

namespace phiq {

// Which positions of a window are scored (docs/evaluation.md).
enum class EvalProtocol {
  kLlamaCpp,  // the second half: each scored token has at least half a window before it
  kAll,       // every position but the first
};

// What a model must reach; checked against each of EvalOptions::models.
struct EvalThresholds {
  std::optional<double> max_kl;         // mean KL divergence, nats
  std::optional<double> max_kl_p999;    // its 99.9 percentile
  std::optional<double> max_ppl_ratio;  // perplexity / the reference's
  std::optional<double> min_same_top;   // share of positions with the same best token, 0 ... 1
  bool any() const noexcept { return max_kl || max_kl_p999 || max_ppl_ratio || min_same_top; }
};

struct EvalOptions {
  std::vector<std::string> models;  // at least one: checkpoints or outputs of phiq
  std::string reference;            // checkpoint or output to diverge from; empty: none
  std::string text;                 // file of UTF-8 text, or
  std::string ids;                  // file of token ids: numbers with white space between them
  std::uint32_t n_ctx = 512;        // tokens of a window; windows do not overlap
  std::optional<std::uint64_t> max_windows;  // the first ones only
  EvalProtocol protocol = EvalProtocol::kLlamaCpp;
  EvalThresholds thresholds;
  std::vector<std::string> ignore_extra;   // globs of a checkpoint's tensors that need no role
  std::vector<std::string> adapters;       // merged into each checkpoint (not into outputs)
  std::optional<std::uint32_t> pad_vocab;  // of each checkpoint, as of ConvertOptions
  unsigned threads = 0;
  // Ceiling of resident memory: fewer windows at once, then fewer threads. Figures stay the same.
  std::uint64_t memory_limit_bytes = 1ULL << 30;
};

struct EvaluatedModel {
  std::string path, kind;
  std::string types;  // its encodings, the one of most weights first: "Q4_K, Q6_K"
  double bits_per_weight = 0;
  std::uint64_t data_bytes = 0;  // of the weights
  Estimate perplexity;
  std::optional<Divergence> divergence;  // with a reference
  // Of the hidden state behind each layer: sqrt(sum (h - h_ref)^2 / sum h_ref^2); with a reference.
  std::vector<double> hidden_error;
};

struct EvalReport {
  std::uint32_t n_ctx = 0;
  EvalProtocol protocol = EvalProtocol::kLlamaCpp;
  std::uint64_t n_tokens = 0;  // of the whole text
  std::uint64_t n_windows = 0, n_scored = 0;
  std::uint32_t n_scored_per_window = 0;
  std::optional<EvaluatedModel> reference;  // without divergence
  std::vector<EvaluatedModel> models;
  // Thresholds, as "phi.gguf: mean KL divergence 0.031 is above --max-kl 0.02".
  std::vector<std::string> unmet;
  double elapsed_s = 0;
  double tokens_per_second = 0;  // tokens run through a model, summed over the models
  std::uint64_t peak_memory_bytes = 0;
};

// Runs the models over the text, window by window.
//
// Throws   kBadData: text that is empty, too short for one window or not UTF-8; ids that a model
//          lacks; models that do not belong together. kUsage: options that contradict each other.
//          kResources: a window, or the ids, do not fit the memory limit.
//          kNumeric: NaN or Inf, with the layer where it began. kUnsupported: a tokenizer that phiq
//          does not do (give ids).
// Source   docs/evaluation.md.
EvalReport Evaluate(const EvalOptions& options, const Hooks& hooks);

}  // namespace phiq
