// `phiq eval`. Reads from top to bottom: open, tokenize, run window by window, summarize, judge.
#include "convert/evaluate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "base/checked.h"
#include "convert/memory.h"
#include "convert/meter.h"
#include "convert/open_model.h"
#include "engine/forward.h"
#include "engine/scoring.h"
#include "engine/statistics.h"
#include "io/input_file.h"
#include "io/parallel.h"
#include "model/text_file.h"
#include "model/token_encoder.h"
#include "phiq/text.h"

namespace phiq {
namespace {

using engine::ForwardModel;
using engine::ForwardPass;
using engine::HeadInput;
using engine::Matrix;
using engine::PositionScores;

// Tokens that run together: enough that decoding the weights costs little beside the products.
constexpr std::size_t kBatchTokens = 2048;

// A model while it is evaluated.
struct CandidateModel {
  EvalInput input;
  std::unique_ptr<StoredModel> stored;
  std::unique_ptr<ForwardModel> forward;
  Matrix hidden;  // of the batch, behind the layer that ran last
  Matrix head_input;
  // Of all scored positions so far.
  std::vector<double> log_probs, kl, same_top;
  std::vector<double> hidden_error;  // squared, by layer

  // Runs work and tells errors where they arose.
  template <typename Work>
  auto Blame(const Work& work) const {
    try {
      return work();
    } catch (Error& error) {
      throw error.In(input.shown);
    }
  }
};

// Which positions of a window are scored: position i predicts token i + 1.
struct ScoredRange {
  std::size_t first = 0, end = 0;
  std::size_t size() const noexcept { return end - first; }
};

ScoredRange ScoredPositions(const EvalOptions& options) {
  const std::size_t n_ctx = options.n_ctx;
  return {options.protocol == EvalProtocol::kLlamaCpp ? n_ctx / 2 : 0, n_ctx - 1};
}

Error Usage(std::string message) { return Error(ErrorCode::kUsage, std::move(message)); }

void CheckOptions(const EvalOptions& options, bool has_reference) {
  constexpr std::uint32_t kLeastContext = 4;
  if (options.text.empty() == options.ids.empty())
    throw options.text.empty() ? Usage("needs a text: --text FILE, or --ids FILE for its token ids")
                               : Usage("--text and --ids exclude each other");
  if (options.n_ctx < kLeastContext)
    throw Usage(
        fmt::format("--ctx {}: a window has at least {} tokens", options.n_ctx, kLeastContext));
  if (options.max_windows == std::uint64_t{0}) throw Usage("--chunks 0: nothing to evaluate");
  if (options.thresholds.any() && !has_reference)
    throw Usage("a threshold needs a reference").Hint("--against MODEL names it");
}

CandidateModel OpenCandidate(EvalInput input, const EvalOptions& options, const WarningFn& warn) {
  CandidateModel candidate;
  candidate.input = std::move(input);
  candidate.Blame([&] {
    candidate.stored = OpenStoredModel(candidate.input.path, warn,
                                       {options.ignore_extra, options.adapters, options.pad_vocab});
    const ModelConfig& config = candidate.stored->config();
    if (options.n_ctx > config.max_position_embeddings) {
      throw Usage(fmt::format("--ctx {}: the model's context has {} tokens", options.n_ctx,
                              config.max_position_embeddings));
    }
    candidate.hidden_error.resize(config.n_layers);
    if (const std::string note = candidate.stored->RotaryNote(options.n_ctx); !note.empty())
      warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(candidate.input.shown), note)});
    if (const std::string note = candidate.stored->ActivationNote(); !note.empty())
      warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(candidate.input.shown), note)});
  });
  return candidate;
}

// Models whose hidden states and distributions are to be compared.
void CheckSameShape(const CandidateModel& a, const CandidateModel& b) {
  const auto check = [&](std::string_view what, std::uint32_t of_a, std::uint32_t of_b) {
    if (of_a == of_b) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("has {} {}, {} has {}", what, of_b, Escape(a.input.shown), of_a))
        .In(b.input.shown)
        .Hint("only outputs of one model can be evaluated together");
  };
  const ModelConfig& first = a.stored->config();
  const ModelConfig& second = b.stored->config();
  check("vocab_size", first.vocab_size, second.vocab_size);
  check("hidden_size", first.hidden_size, second.hidden_size);
  check("layers", first.n_layers, second.n_layers);
}

// Ids take a share of the memory that leaves the models theirs.
void CheckHeld(std::uint64_t n_ids, const EvalOptions& options) {
  if (n_ids <= options.memory_limit_bytes / 4 / sizeof(std::uint32_t)) return;
  throw Error(ErrorCode::kResources,
              fmt::format("--memory-limit {}: the token ids alone take more than a quarter of it",
                          FormatBytes(options.memory_limit_bytes)))
      .In(options.text.empty() ? options.ids : options.text)
      .Hint("--chunks N takes the first N windows only");
}

// The tokens of a text, as far as they are wanted.
struct Tokens {
  std::vector<std::uint32_t> ids;
  std::uint64_t n_all = 0;
};

std::uint64_t WantedTokens(const EvalOptions& options) {
  constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();
  return options.max_windows ? CheckedMul(*options.max_windows, options.n_ctx).value_or(kAll)
                             : kAll;
}

// Piece by piece: a text may be larger than memory.
Tokens Encode(const CandidateModel& model, const TextFile& text, const EvalOptions& options,
              const WarningFn& warn) {
  return model.Blame([&] {
    const Tokenizer tokenizer = model.stored->ReadTokenizer(warn);
    const TokenEncoder encoder(tokenizer, model.stored->config().vocab_size);
    Tokens tokens;
    text.ForEachPiece([&](std::string_view piece,
                          std::size_t at_most) { return encoder.CutBefore(piece, at_most); },
                      [&](std::string_view piece, bool is_rest) {
                        const std::vector<std::uint32_t> ids = encoder.Encode(piece, is_rest);
                        const std::uint64_t n = std::min<std::uint64_t>(
                            ids.size(), WantedTokens(options) - tokens.ids.size());
                        tokens.ids.insert(tokens.ids.end(), ids.begin(),
                                          ids.begin() + static_cast<std::ptrdiff_t>(n));
                        tokens.n_all += ids.size();
                        CheckHeld(tokens.ids.size(), options);
                      });
    return tokens;
  });
}

// The text as the first model's tokenizer reads it; a warning where another model's own does not.
Tokens Tokenize(std::span<const CandidateModel> models, const EvalOptions& options,
                const WarningFn& warn) {
  const TextFile text(options.text);
  Tokens tokens = Encode(models.front(), text, options, warn);
  for (const CandidateModel& model : models.subspan(1)) {
    const auto say = [&](const std::string& what) {
      warn({ErrorCode::kBadData,
            fmt::format("{}: {}; the ids of {} are used", Escape(model.input.shown), what,
                        Escape(models.front().input.shown))});
    };
    std::vector<std::uint32_t> own;
    try {
      own = Encode(model, text, options, warn).ids;
    } catch (const Error& error) {
      say(fmt::format("its own tokenizer cannot be used ({})", error.what()));
      continue;
    }
    if (own != tokens.ids) {
      say(fmt::format("its own tokenizer gives other ids, the first of them is number {}",
                      std::ranges::mismatch(own, tokens.ids).in1 - own.begin()));
    }
  }
  return tokens;
}

// Of a file of ids, which is read whole.
Tokens ReadIds(const EvalOptions& options) {
  CheckHeld(InputFile(options.ids).size() / sizeof(std::uint32_t), options);
  Tokens tokens{ReadIdsFile(options.ids)};
  tokens.n_all = tokens.ids.size();
  return tokens;
}

Tokens ReadTokens(std::span<const CandidateModel> models, const EvalOptions& options,
                  const WarningFn& warn) {
  const std::string& path = options.text.empty() ? options.ids : options.text;
  Tokens tokens = options.text.empty() ? ReadIds(options) : Tokenize(models, options, warn);
  const std::vector<std::uint32_t>& ids = tokens.ids;
  const std::uint32_t vocab_size = models.front().stored->config().vocab_size;
  const auto bad = std::ranges::find_if(ids, [&](std::uint32_t id) { return id >= vocab_size; });
  if (bad != ids.end()) {
    throw Error(ErrorCode::kBadData,
                fmt::format("token id {} (number {}) but the model has {} tokens", *bad,
                            bad - ids.begin(), vocab_size))
        .In(path);
  }
  if (ids.size() < options.n_ctx) {
    throw Error(ErrorCode::kBadData,
                fmt::format("has {} tokens, one window needs {}", ids.size(), options.n_ctx))
        .In(path)
        .Hint("a longer text, or a smaller --ctx");
  }
  return tokens;
}

// How many windows run at once, and on how many threads.
struct EvalMemory {
  unsigned threads = 1;
  std::size_t n_windows = 1;
};

// What is held already is measured; the rest is the activations of a batch and what each thread
// takes. Windows cost little when they are few, threads cost much.
//
// Throws   kResources: not even one window on one thread fits (the least limit is named).
EvalMemory PlanMemory(std::span<const CandidateModel> models, const EvalOptions& options) {
  const std::uint64_t held = ResidentMemoryBytes();
  const unsigned most_threads = options.threads == 0 ? AvailableThreads() : options.threads;
  const auto peak = [&](unsigned threads, std::uint64_t n_windows) {
    std::uint64_t most = 0;
    for (const CandidateModel& model : models)
      most = std::max(
          most, RunBytes(model.stored->config(), models.size(), n_windows, options.n_ctx, threads));
    return held + most;
  };
  const std::uint64_t most_windows = std::max<std::uint64_t>(1, kBatchTokens / options.n_ctx);
  for (unsigned threads = most_threads; threads > 0; --threads)
    for (std::uint64_t n_windows = most_windows; n_windows > 0; n_windows /= 2)
      if (peak(threads, n_windows) <= options.memory_limit_bytes)
        return {threads, static_cast<std::size_t>(n_windows)};
  throw Error(
      ErrorCode::kResources,
      fmt::format("--memory-limit {}: windows of {} tokens of {} need at least {}",
                  FormatBytes(options.memory_limit_bytes), options.n_ctx,
                  models.size() == 1 ? "this model" : "these models", FormatBytes(peak(1, 1))))
      .Hint("a smaller --ctx, or fewer models at once");
}

// A text reads few rows of an embedding and all of every other weight: a NaN in the other rows
// would never show. A tied one is read as the head.
void CheckEmbedding(const ForwardModel& model, const engine::Runner& runner) {
  const WeightId embedding = {TensorRole::kTokenEmbedding};
  if (model.weights().StoredAs({TensorRole::kOutputHead}) == embedding) return;
  engine::ForEachTile(runner, model.weights(), embedding, ShapeOf(model.config(), embedding.role),
                      [](std::size_t, std::span<const float>, unsigned) {});
}

// Over the windows: the sums of sum (h - h_ref)^2 / sum h_ref^2. A window's does not depend on
// those that run beside it.
double RelativeSquaredErrors(const Matrix& reference, const Matrix& hidden, std::size_t n_windows) {
  double sum = 0;
  const std::size_t n = hidden.values.size() / n_windows;
  for (std::size_t window = 0; window < n_windows; ++window) {
    double squared_error = 0, squared_reference = 0;
    for (std::size_t i = window * n; i < (window + 1) * n; ++i) {
      const double r = reference.values[i];
      const double error = hidden.values[i] - r;
      squared_error += error * error;
      squared_reference += r * r;
    }
    if (squared_reference > 0) sum += squared_error / squared_reference;
  }
  return sum;
}

// Runs all models over one batch of windows, in lock step, and adds what it scores.
void RunBatch(std::span<CandidateModel> models, bool has_reference,
              std::span<const std::uint32_t> ids, const EvalOptions& options, ForwardPass& pass,
              Meter& meter) {
  const std::size_t n_ctx = options.n_ctx;
  const std::size_t n_windows = ids.size() / n_ctx;
  for (CandidateModel& model : models)
    model.Blame([&] { pass.Embed(*model.forward, ids, model.hidden); });
  for (std::uint32_t layer = 0; layer < models.front().stored->config().n_layers; ++layer) {
    for (CandidateModel& model : models) {
      model.Blame(
          [&] { pass.RunLayer(*model.forward, static_cast<std::int32_t>(layer), model.hidden); });
      if (has_reference && &model != &models.front()) {
        model.hidden_error[layer] +=
            RelativeSquaredErrors(models.front().hidden, model.hidden, n_windows);
      }
      meter.done += ids.size();
    }
  }

  const ScoredRange scored = ScoredPositions(options);
  std::vector<std::size_t> positions;
  std::vector<std::uint32_t> targets;
  for (std::size_t window = 0; window < n_windows; ++window) {
    for (std::size_t i = scored.first; i < scored.end; ++i) {
      positions.push_back(window * n_ctx + i);
      targets.push_back(ids[window * n_ctx + i + 1]);
    }
  }
  std::vector<HeadInput> inputs;
  for (CandidateModel& model : models) {
    model.Blame(
        [&] { pass.NormalizeOutput(*model.forward, model.hidden, positions, model.head_input); });
    inputs.push_back({model.forward.get(), &model.head_input});
  }
  const auto add = [&](CandidateModel& model, const PositionScores& scores,
                       const PositionScores& reference) {
    model.log_probs.insert(model.log_probs.end(), scores.log_prob.begin(), scores.log_prob.end());
    if (!has_reference) return;
    model.kl.insert(model.kl.end(), scores.kl.begin(), scores.kl.end());
    for (std::size_t i = 0; i < scores.best.size(); ++i)
      model.same_top.push_back(scores.best[i] == reference.best[i] ? 1 : 0);
  };
  // Without a reference each model stands alone.
  const std::size_t group = has_reference ? models.size() : 1;
  for (std::size_t first = 0; first < models.size(); first += group) {
    const std::vector<PositionScores> scores =
        engine::ScorePositions(pass.runner(), std::span(inputs).subspan(first, group), targets);
    for (std::size_t m = 0; m < group; ++m) add(models[first + m], scores[m], scores[0]);
    meter.done += ids.size() * group;
  }
}

EvaluatedModel Summarize(const CandidateModel& model, const CandidateModel* reference,
                         std::uint64_t n_windows) {
  EvaluatedModel result;
  result.path = model.input.shown;
  result.kind = model.stored->kind();
  const WeightTotals totals = TotalsOf(model.stored->pieces());
  result.data_bytes = totals.size_bytes;
  result.types = totals.types;
  result.bits_per_weight = totals.bits_per_weight();
  result.perplexity = engine::PerplexityOf(model.log_probs);
  if (reference == nullptr) return result;
  result.divergence =
      engine::DivergenceOf(reference->log_probs, model.log_probs, model.kl, model.same_top);
  for (const double squared : model.hidden_error)
    result.hidden_error.push_back(std::sqrt(squared / static_cast<double>(n_windows)));
  return result;
}

void Judge(const EvalThresholds& thresholds, const EvaluatedModel& model,
           std::vector<std::string>& unmet) {
  const Divergence& divergence = *model.divergence;
  const auto judge = [&](std::string_view option, const std::optional<double>& limit,
                         std::string_view what, double value, bool is_least) {
    // Written so that a NaN is never within a limit.
    if (!limit || (is_least ? value >= *limit : value <= *limit)) return;
    unmet.push_back(fmt::format("{}: {} {:.6g} is {} {} {:g}", Escape(model.path), what, value,
                                is_least ? "below" : "above", option, *limit));
  };
  judge("--max-kl", thresholds.max_kl, "mean KL divergence", divergence.mean_kl.value, false);
  judge("--max-kl-p999", thresholds.max_kl_p999, "99.9 % KL divergence", divergence.p999_kl, false);
  judge("--max-ppl-ratio", thresholds.max_ppl_ratio, "perplexity ratio", divergence.ppl_ratio,
        false);
  judge("--min-same-top", thresholds.min_same_top, "same-top-token rate", divergence.same_top.value,
        true);
}

// Hidden states can be compared when all have the mean that one of them lacks. It changes no
// answer.
void ShareZeroMean(std::span<CandidateModel> models) {
  const auto has_zero_mean = [](const CandidateModel& model) {
    return model.stored->expression().has_zero_mean;
  };
  if (std::ranges::none_of(models, has_zero_mean)) return;
  for (CandidateModel& model : models) {
    const bool is_plain = model.stored->expression() == Expression();
    if (is_plain && model.stored->config().n_experts > 0)
      model.stored = Express(std::move(model.stored), {.has_zero_mean = true});
  }
}

EvalReport Run(std::span<const EvalInput> inputs, const EvalInput* reference,
               const EvalOptions& options, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const bool has_reference = reference != nullptr;
  CheckOptions(options, has_reference);
  std::vector<CandidateModel> models;  // the reference first
  if (has_reference) models.push_back(OpenCandidate(*reference, options, warn));
  for (const EvalInput& input : inputs) {
    models.push_back(OpenCandidate(input, options, warn));
    CheckSameShape(models.front(), models.back());
  }
  ShareZeroMean(models);

  const Tokens tokens = ReadTokens(models, options, warn);
  const std::vector<std::uint32_t>& ids = tokens.ids;
  const EvalMemory memory = PlanMemory(models, options);
  EvalReport report;
  report.n_ctx = options.n_ctx;
  report.protocol = options.protocol;
  report.n_tokens = tokens.n_all;
  report.n_windows =
      std::min<std::uint64_t>(ids.size() / options.n_ctx, options.max_windows.value_or(ids.size()));
  report.n_scored_per_window = static_cast<std::uint32_t>(ScoredPositions(options).size());
  report.n_scored = report.n_windows * report.n_scored_per_window;

  for (CandidateModel& model : models) {
    model.Blame(
        [&] { model.forward = std::make_unique<ForwardModel>(*model.stored, options.n_ctx); });
  }
  // From here on every number is final but for the models' answers.
  const std::size_t n_run = report.n_windows * options.n_ctx;
  Meter meter(hooks, n_run * models.size(), "tokens", models.front().stored->config().n_layers + 1);
  ForwardPass pass(
      {.threads = memory.threads, .hooks = {[&] { meter.Tell(); }, hooks.stop_requested, {}}});
  for (const CandidateModel& model : models)
    model.Blame([&] { CheckEmbedding(*model.forward, pass.runner()); });
  const std::size_t batch = memory.n_windows * options.n_ctx;
  for (std::size_t first = 0; first < n_run; first += batch) {
    RunBatch(models, has_reference, std::span(ids).subspan(first, std::min(batch, n_run - first)),
             options, pass, meter);
  }
  meter.Tell();
  for (const CandidateModel& model : models) model.stored->CheckUnchanged();

  for (const CandidateModel& model : models) {
    const bool is_reference = has_reference && &model == &models.front();
    EvaluatedModel result = Summarize(
        model, has_reference && !is_reference ? &models.front() : nullptr, report.n_windows);
    if (is_reference) {
      report.reference = std::move(result);
    } else {
      if (has_reference) Judge(options.thresholds, result, report.unmet);
      report.models.push_back(std::move(result));
    }
  }
  report.elapsed_s = meter.elapsed_s();
  report.tokens_per_second = static_cast<double>(n_run * models.size()) / report.elapsed_s;
  report.peak_memory_bytes = PeakMemoryBytes();
  return report;
}

}  // namespace

EvalReport EvaluateInputs(std::span<const EvalInput> inputs, const EvalInput* reference,
                          const EvalOptions& options, const Hooks& hooks) {
  try {
    return Run(inputs, reference, options, hooks);
  } catch (const Error& error) {
    // An output that waits for its final name has another one while it is read.
    Error shown = error;
    for (const EvalInput& input : inputs) shown = shown.Renamed(input.path, input.shown);
    throw shown;
  }
}

void CheckEvaluation(const EvalInput& reference, const EvalOptions& options, bool read_text) {
  CheckOptions(options, /*has_reference=*/true);
  const WarningFn silent = [](const Warning&) {};  // EvaluateInputs will say it
  std::vector<CandidateModel> models;
  models.push_back(OpenCandidate(reference, options, silent));
  const InputFile text(options.text.empty() ? options.ids : options.text);
  if (!read_text) return;
  ReadTokens(models, options, silent);
  PlanMemory(models, options);
}

EvalReport Evaluate(const EvalOptions& options, const Hooks& hooks) {
  std::vector<EvalInput> models;
  for (const std::string& path : options.models) models.push_back({path, path});
  if (models.empty()) throw Error(ErrorCode::kInternal, "an evaluation without a model");
  const EvalInput reference{options.reference, options.reference};
  return EvaluateInputs(models, options.reference.empty() ? nullptr : &reference, options, hooks);
}

}  // namespace phiq
