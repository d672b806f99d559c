// Position by position, as many windows at once as memory bears. A draw depends on the window's and
// the position's numbers alone, so that it is the same however windows are put together.
#include "calibrate/own_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/ascii.h"
#include "base/json.h"
#include "base/portable_math.h"
#include "engine/kernels.h"
#include "engine/product.h"
#include "model/render_chat.h"
#include "model/token_encoder.h"
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
// One window in so many is begun as a chat.
constexpr std::size_t kChatEvery = 4;

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
  if (const std::span<const float> bias = model.head_bias(); !bias.empty()) {
    for (std::size_t i = 0; i < logits.n_rows; ++i)
      engine::Add(logits.Row(i).data(), bias.data(), bias.size());
  }
  if (!engine::AllFinite(logits.values.data(), logits.values.size())) {
    throw Error(ErrorCode::kNumeric,
                "the logits have a NaN or Inf, though the hidden states have none");
  }
}

// Windows [first_window, first_window + n): `windows` are theirs.
void WriteWindows(const ForwardModel& model, std::span<const Opening> openings,
                  std::uint64_t first_window, std::size_t n, std::span<std::uint32_t> windows,
                  const OwnTextOptions& options, ForwardPass& pass) {
  const std::size_t n_ctx = model.n_ctx();
  const auto n_layers = static_cast<std::int32_t>(model.config().n_layers);
  KeyValues past(model, n);
  Matrix hidden, head_input, logits;
  std::vector<std::uint32_t> ids(n);
  std::vector<std::size_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  const auto opening_of = [&](std::size_t w) -> const Opening& {
    return openings[(first_window + w) % openings.size()];
  };
  const auto n_given = [&](std::size_t w) { return std::min(opening_of(w).size(), n_ctx - 1); };
  for (std::size_t w = 0; w < n; ++w)
    std::copy_n(opening_of(w).begin(), n_given(w), windows.subspan(w * n_ctx).begin());
  for (std::size_t position = 0; position + 1 < n_ctx; ++position) {
    for (std::size_t w = 0; w < n; ++w) ids[w] = windows[w * n_ctx + position];
    pass.Embed(model, ids, hidden);
    for (std::int32_t layer = 0; layer < n_layers; ++layer)
      pass.RunLayer(model, layer, past, hidden);
    ++past.position;
    pass.NormalizeOutput(model, hidden, all, head_input);
    MultiplyHead(pass.runner(), model, head_input, logits);
    pass.runner().ForEach(n, [&](std::size_t w, unsigned) {
      if (position + 1 < n_given(w)) return;
      windows[w * n_ctx + position + 1] = TokenAt(logits.Row(w), Draw(first_window + w, position));
    });
    if (options.written) options.written(n);
  }
}

// What the chat template has before a user's message; nullopt: there is no template.
std::optional<Opening> ChatOpening(const Tokenizer& tokenizer, std::uint32_t vocab_size) {
  if (tokenizer.chat_template.empty()) return std::nullopt;
  const std::string message = "message";
  const Json messages =
      ParseJson(fmt::format(R"([{{"role": "user", "content": "{}"}}])", message), "");
  const std::string text =
      ChatTemplate(tokenizer.chat_template).Render(messages, ChatVariables(tokenizer));
  const std::size_t end = text.find(message);
  if (end == text.npos)
    throw Error(ErrorCode::kUnsupported, "the chat template leaves a user's message out");
  return TokenEncoder(tokenizer, vocab_size).Encode(text.substr(0, end));
}

}  // namespace

std::uint64_t BytesOfWindow(const ModelConfig& config, std::uint32_t n_ctx) {
  return KeyValues::Bytes(config, 1, n_ctx) +
         (config.vocab_size + ForwardPass::ScratchFloats(config) + std::uint64_t{2} * config.hidden_size) *
             sizeof(float);
}

std::uint64_t WindowsAtOnce(const ModelConfig& config, const OwnTextOptions& options) {
  return std::clamp<std::uint64_t>(options.memory_bytes / BytesOfWindow(config, options.n_ctx), 1,
                                   options.n_windows);
}

std::vector<std::uint32_t> WriteOwnText(const StoredModel& model, std::span<const Opening> openings,
                                        const OwnTextOptions& options, const Runner& runner) {
  const ForwardModel forward(model, options.n_ctx);
  const std::size_t n_ctx = options.n_ctx;
  std::vector<std::uint32_t> windows(options.n_windows * n_ctx);
  ForwardPass pass(runner);
  const std::uint64_t at_once = WindowsAtOnce(model.config(), options);
  for (std::uint64_t first = 0; first < options.n_windows; first += at_once) {
    const std::size_t n = std::min(at_once, options.n_windows - first);
    WriteWindows(forward, openings, first, n, std::span(windows).subspan(first * n_ctx, n * n_ctx),
                 options, pass);
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

std::vector<Opening> Openings(const Tokenizer& tokenizer, std::uint32_t vocab_size,
                              const WarningFn& warn) {
  std::optional<Opening> chat;
  try {
    chat = ChatOpening(tokenizer, vocab_size);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported && error.code() != ErrorCode::kBadData) throw;
    warn({error.code(), fmt::format("--calibrate self: chats are left out: {}", error.what())});
  }
  std::vector<Opening> openings;
  for (const std::uint32_t word : FrequentWords(tokenizer)) {
    openings.push_back({word});
    if (chat && !chat->empty() && openings.size() % kChatEvery == kChatEvery - 1)
      openings.push_back(*chat);
  }
  return openings;
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
