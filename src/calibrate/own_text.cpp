// Position by position, as many windows at once as memory bears. A draw depends on the window's and
// the position's numbers alone, so that it is the same however windows are put together.
#include "calibrate/own_text.h"

#include <algorithm>
#include <numeric>
#include <string_view>

#include "base/ascii.h"
#include "base/portable_math.h"
#include "engine/kernels.h"
#include "engine/product.h"
#include "model/weights.h"
#include "phiq/error.h"

namespace phiq::calibrate {
namespace {

using engine::ForwardModel;
using engine::ForwardPass;
using engine::KeyValues;
using engine::Matrix;
using engine::Runner;

constexpr std::uint64_t kSeed = 0x9E3779B97F4A7C15;
constexpr std::size_t kFrequentMerges = 1000;

// splitmix64's finalizer: every bit of the result depends on every bit of the counter.
std::uint64_t Mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// In [0, 1).
double Draw(std::uint64_t window, std::uint64_t position) {
  const std::uint64_t bits = Mix(Mix(kSeed + window) + position);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

// logits = x * transposed(head), [texts, vocabulary].
void MultiplyHead(const Runner& runner, const ForwardModel& model, const Matrix& x,
                  Matrix& logits) {
  const WeightShape shape = ShapeOf(model.config(), TensorRole::kOutputHead);
  logits.Resize(x.n_rows, shape.n_rows);
  engine::ForEachTile(runner, model.weights(), {TensorRole::kOutputHead}, shape,
                      [&](std::size_t first_row, std::span<const float> rows, unsigned) {
                        engine::MultiplyByRows(x.values.data(), x.n_rows, x.n_columns, rows.data(),
                                               rows.size() / x.n_columns,
                                               logits.values.data() + first_row, logits.n_columns);
                      });
  if (!engine::AllFinite(logits.values.data(), logits.values.size())) {
    throw Error(ErrorCode::kNumeric,
                "the logits have a NaN or Inf, though the hidden states have none");
  }
}

// Windows [first_window, first_window + n), whose first tokens are there.
void WriteWindows(const ForwardModel& model, std::uint64_t first_window, std::size_t n,
                  std::span<std::uint32_t> windows, ForwardPass& pass) {
  const std::size_t n_ctx = model.n_ctx();
  const auto n_layers = static_cast<std::int32_t>(model.config().n_layers);
  KeyValues past(model, n);
  Matrix hidden, head_input, logits;
  std::vector<std::uint32_t> ids(n);
  std::vector<std::size_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  for (std::size_t position = 0; position + 1 < n_ctx; ++position) {
    for (std::size_t w = 0; w < n; ++w) ids[w] = windows[w * n_ctx + position];
    pass.Embed(model, ids, hidden);
    for (std::int32_t layer = 0; layer < n_layers; ++layer)
      pass.RunLayer(model, layer, past, hidden);
    ++past.position;
    pass.NormalizeOutput(model, hidden, all, head_input);
    MultiplyHead(pass.runner(), model, head_input, logits);
    pass.runner().ForEach(n, [&](std::size_t w, unsigned) {
      windows[w * n_ctx + position + 1] = TokenAt(logits.Row(w), Draw(first_window + w, position));
    });
  }
}

}  // namespace

std::uint64_t WindowsAtOnce(const ModelConfig& config, const OwnTextOptions& options) {
  const std::uint64_t of_one =
      KeyValues::Bytes(config, 1, options.n_ctx) +
      (config.vocab_size + ForwardPass::ScratchFloats(config) + 2 * config.hidden_size) *
          sizeof(float);
  return std::clamp<std::uint64_t>(options.memory_bytes / of_one, 1, options.n_windows);
}

std::vector<std::uint32_t> WriteOwnText(const StoredModel& model,
                                        std::span<const std::uint32_t> first_tokens,
                                        const OwnTextOptions& options, const Runner& runner) {
  const ForwardModel forward(model, options.n_ctx);
  const std::size_t n_ctx = options.n_ctx;
  std::vector<std::uint32_t> windows(options.n_windows * n_ctx);
  for (std::uint64_t w = 0; w < options.n_windows; ++w)
    windows[w * n_ctx] = first_tokens[w % first_tokens.size()];
  ForwardPass pass(runner);
  const std::uint64_t at_once = WindowsAtOnce(model.config(), options);
  for (std::uint64_t first = 0; first < options.n_windows; first += at_once) {
    const std::size_t n = std::min(at_once, options.n_windows - first);
    WriteWindows(forward, first, n, std::span(windows).subspan(first * n_ctx, n * n_ctx), pass);
  }
  return windows;
}

std::vector<std::uint32_t> FrequentWords(const Tokenizer& tokenizer) {
  // How a blank stands in the vocabulary.
  const std::string_view blank =
      tokenizer.kind == TokenizerKind::kByteLevelBpe ? "\xC4\xA0" : "\xE2\x96\x81";
  std::vector<std::uint32_t> words;
  const std::size_t n = std::min(kFrequentMerges, tokenizer.merges.size());
  for (const Merge& merge : std::span(tokenizer.merges).first(n)) {
    if (merge.result >= tokenizer.vocab.size()) continue;
    std::string_view text = tokenizer.vocab[merge.result];
    if (!text.starts_with(blank)) continue;
    text.remove_prefix(blank.size());
    if (!text.empty() && std::ranges::all_of(text, IsAsciiLetter)) words.push_back(merge.result);
  }
  if (words.empty()) {
    throw Error(ErrorCode::kUnsupported,
                "the tokenizer has no words among its first merges to begin texts with")
        .Hint("--calibrate FILE takes a text");
  }
  return words;
}

std::uint32_t TokenAt(std::span<const float> logits, double share) {
  const engine::LogitSums sums = engine::SumLogits(logits.data(), logits.size());
  const double wanted = share * sums.sum_exp;
  double sum = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    sum += PortableExp(static_cast<double>(logits[i]) - static_cast<double>(sums.max_logit));
    if (sum > wanted) return static_cast<std::uint32_t>(i);
  }
  return sums.best;  // the two sums, of different orders, may differ in their last bits
}

}  // namespace phiq::calibrate
