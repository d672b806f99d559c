// Stages of a calibrated conversion. One stream of hidden states, of the unquantized model, serves
// all outputs: embedding, then layer by layer the four inputs of its matrices, then the head's. A
// weight is written when its input's statistics are there, and these are dropped behind it. A tied
// embedding is written last, as the head: the stream has the checkpoint's own.
#include "convert/calibration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "calibrate/factor.h"
#include "calibrate/own_text.h"
#include "calibrate/text_stream.h"
#include "convert/memory.h"
#include "engine/linear_algebra.h"
#include "engine/product.h"
#include "io/output_file.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/methods.h"

namespace phiq {
namespace {

using calibrate::InputStatistics;
using calibrate::TextStream;

// Correlations of fewer tokens are worth less than they cost.
constexpr std::uint64_t kLeastTokens = 4096;
constexpr std::uint64_t kTokenStep = 1024;
// What is run must not depend on the number of threads: memory is planned for so many, and more run
// where it bears them.
constexpr unsigned kPlannedThreads = 2;
// What PlanMemory will want besides for each of them: chunks of some hundred wide rows.
constexpr std::uint64_t kStreamThreadBytes = 24ULL << 20;

bool IsMatrix(WeightId id) {
  return !StaysFloat(id.role) && id.role != TensorRole::kTokenEmbedding;
}

Needs NeedsOf(std::span<const PlanOptions> targets) {
  Needs needs = Needs::kNothing;
  for (const PlanOptions& target : targets)
    if (const Method* method = FindCommonMethod(target.method))
      needs = std::max(needs, method->needs);
  return needs;
}

// Columns of the inputs of one layer's matrices; the head's alone are fewer.
std::vector<std::uint64_t> LayerInputs(const ModelConfig& config) {
  std::vector<std::uint64_t> columns;
  for (const WeightInfo& weight : WeightsOf(config))
    if (weight.id.layer == 0 && IsMatrix(weight.id)) columns.push_back(weight.shape.row_elements);
  return columns;
}

std::uint64_t HeldBytes(const ModelConfig& config, Needs needs, std::size_t widest_block,
                        std::uint64_t n_tokens, std::uint64_t n_held_back) {
  std::uint64_t floats = 0, largest = 0;
  for (const std::uint64_t n : LayerInputs(config)) {
    floats += 2 * calibrate::Probe::kTokens * n;
    if (needs != Needs::kMoments) continue;
    for (const std::uint64_t size : calibrate::BlocksOf(n, widest_block)) {
      floats += size * size;
      largest = std::max<std::uint64_t>(largest, size);
    }
  }
  floats += 2 * engine::kPanelRows * largest;  // while a factor is inverted
  return TextStream::StateBytes(config, n_tokens + n_held_back) + floats * sizeof(float);
}

// The tokens and the blocks that fit.
struct Size {
  std::uint64_t n_tokens = 0;
  std::size_t widest_block = calibrate::kWidestBlock;
};

// Fewer tokens first, then smaller blocks.
Size FitToMemory(const ConvertOptions& options, const SourceModel& source, Needs needs) {
  const CalibrationOptions& wanted = *options.calibration;
  const ModelConfig& config = source.model.config;
  if (wanted.n_ctx == 0) throw Error(ErrorCode::kUsage, "--calibration-ctx 0: no tokens");
  const auto bytes_of = [&](const Size& size) {
    return FixedBytes(source) +
           HeldBytes(config, needs, size.widest_block, size.n_tokens,
                     calibrate::HeldBackWindows(size.n_tokens, wanted.n_ctx) * wanted.n_ctx) +
           std::max(TextStream::WorkBytes(config, wanted.n_ctx, kPlannedThreads),
                    kPlannedThreads * kStreamThreadBytes);
  };
  Size size{wanted.n_tokens};
  while (bytes_of(size) > options.memory_limit_bytes) {
    if (size.n_tokens > kLeastTokens) {
      size.n_tokens = std::max(kLeastTokens, size.n_tokens - kTokenStep);
    } else if (needs == Needs::kMoments && size.widest_block > 2 * calibrate::kBlockMultiple) {
      size.widest_block /= 2;
    } else {
      throw Error(
          ErrorCode::kResources,
          fmt::format("--memory-limit {}: calibrating this model needs at least {}",
                      FormatBytes(options.memory_limit_bytes), FormatBytes(bytes_of(size))));
    }
  }
  return size;
}

void CheckMethods(const ConvertOptions& options, std::span<const PlanOptions> targets) {
  const CalibrationOptions& wanted = *options.calibration;
  if (!wanted.imatrix.empty() && wanted.has_text())
    throw Error(ErrorCode::kUsage, "--imatrix and --calibrate exclude each other");
  if (!wanted.imatrix_out.empty() && !wanted.has_text())
    throw Error(ErrorCode::kUsage, "--imatrix-out needs a text")
        .Hint("--calibrate self or --calibrate FILE");
  for (const PlanOptions& target : targets) {
    if (target.method == kFeedback.name && !wanted.has_text())
      throw Error(ErrorCode::kUsage,
                  "--method feedback needs a text: an importance matrix has no correlations")
          .Hint("--calibrate FILE, or --method imatrix");
    if (IsStream(options.output))
      throw Error(
          ErrorCode::kUsage,
          fmt::format("-o {}: with statistics of inputs tensors are not written front to back",
                      Escape(options.output)))
          .Hint("give -o a file name");
    if (target.method != "reference" && FindCommonMethod(target.method) == nullptr)
      throw Error(ErrorCode::kUsage,
                  fmt::format("--method {}: takes nothing from a text", target.method))
          .Hint("--method feedback, imatrix and search do");
  }
  if (wanted.has_text() && options.nan != NanPolicy::kError)
    throw Error(ErrorCode::kUsage, "--nan zero: a model that has NaN cannot be run on a text")
        .Hint("repair the checkpoint, or --method search, which needs no text");
}

// The weight whose input a line's rows are multiplied with; nullopt: none.
std::optional<WeightId> InputOf(const WeightIndex& weights, const PlanLine& line) {
  if (line.table || StaysFloat(line.role)) return std::nullopt;
  const WeightId stored = weights.StoredAs({line.role, line.layer});
  if (IsMatrix(stored)) return stored;
  // A tied embedding is multiplied as the head, but where that has a line of its own.
  if (line.role == TensorRole::kTokenEmbedding && line.method == &kSearch) return std::nullopt;
  return weights.StoredAs({TensorRole::kOutputHead}) == stored ? std::optional(stored)
                                                               : std::nullopt;
}

Needs NeedsOf(const WeightIndex& weights, std::span<const StreamTarget> targets, WeightId input) {
  Needs needs = Needs::kNothing;
  for (const StreamTarget& target : targets)
    for (const PlanLine& line : target.plan->lines)
      if (InputOf(weights, line) == input) needs = std::max(needs, line.method->needs);
  return needs;
}

// The statistics of a weight's input that a matrix has; nullptr: none.
const std::vector<float>* Find(const Importance& matrix, const WeightIndex& weights,
                               WeightId input) {
  if (const std::vector<float>* squares = matrix.Find(input)) return squares;
  const WeightId head = {TensorRole::kOutputHead};
  return weights.StoredAs(head) == input ? matrix.Find(head) : nullptr;
}

StreamResult WriteByMatrix(const Importance& matrix, const SourceModel& source,
                           std::span<const StreamTarget> targets, const StreamOptions& options,
                           const Hooks& hooks) {
  Meter meter(hooks, WeightsOf(source, targets, {}));
  StreamStage stage;
  stage.takes = [&](const PlanLine& line) {
    const std::optional<WeightId> input = InputOf(source.weights, line);
    return !input || Find(matrix, source.weights, *input) == nullptr;
  };
  StreamResult result = StreamTensors(source, targets, options, stage, meter);
  for (const WeightInfo& weight : phiq::WeightsOf(source.model.config)) {
    const WeightId input = source.weights.StoredAs(weight.id);
    const std::vector<float>* const squares = Find(matrix, source.weights, input);
    if (squares == nullptr || input != weight.id) continue;  // a tied head is the embedding
    stage.stats = {*squares, {}};
    stage.takes = [&](const PlanLine& line) { return InputOf(source.weights, line) == input; };
    result.Add(StreamTensors(source, targets, options, stage, meter));
  }
  return result;
}

class CalibratedRun {
 public:
  CalibratedRun(const Calibration& calibration, const SourceModel& source,
                std::span<const StreamTarget> targets, const StreamOptions& options,
                const Hooks& hooks)
      : calibration_(calibration),
        source_(source),
        targets_(targets),
        options_(options),
        warn_(WarnOrIgnore(hooks.warn)),
        meter_(hooks, WeightsOf(source, targets, {}) + WeightsOfLayers()),
        text_(*source.stored, calibration.text.n_ctx, calibration.text.windows,
              calibration.text.held_back, runner()) {}

  StreamResult Run(std::vector<InputSquares>& inputs_out) {
    meter_.n_layers = config().n_layers;
    StreamStage plain;
    plain.takes = [this](const PlanLine& line) { return !InputOf(source_.weights, line); };
    result_ = StreamTensors(source_, targets_, options_, plain, meter_);
    const TextStream::WantedFn wanted = [this](WeightId weight) {
      return InputStatistics::Wanted{
          NeedsOf(source_.weights, targets_, source_.weights.StoredAs(weight)),
          calibration_.widest_block, text_.n_tokens(), text_.n_held_back()};
    };
    for (std::uint32_t layer = 0; layer < config().n_layers; ++layer) {
      meter_.layer = layer + 1;
      std::vector<InputStatistics> inputs =
          text_.RunLayer(static_cast<std::int32_t>(layer), wanted);
      meter_.done += WeightsOfLayers() / config().n_layers;
      for (InputStatistics& input : inputs) {
        inputs_out.push_back({input.weight(), input.SquareSums(), text_.n_tokens()});
        Write(input);
        input = InputStatistics(input.weight(), 0, {});  // its memory is free again
      }
    }
    InputStatistics head = text_.RunHead(wanted);
    // Of a tied model it is the embedding that is asked for, and named.
    inputs_out.push_back(
        {source_.weights.StoredAs(head.weight()), head.SquareSums(), text_.n_tokens()});
    Write(head);
    WarnOfFewTokens();
    return std::move(result_);
  }

 private:
  const ModelConfig& config() const { return source_.model.config; }

  engine::Runner runner() const {
    return {.threads = options_.threads, .hooks = meter_.parallel_hooks()};
  }

  // Of all layers' matrices, which the stream of hidden states runs through.
  std::uint64_t WeightsOfLayers() const {
    std::uint64_t sum = 0;
    for (const WeightInfo& weight : phiq::WeightsOf(config()))
      if (weight.id.layer >= 0) sum += weight.shape.n_rows * weight.shape.row_elements;
    return sum;
  }

  // All lines that take rows of a weight, its input known. Those that feedback does not serve have
  // imatrix; those that this does not serve either, the reference's codes.
  void Write(InputStatistics& input) {
    std::vector<FactorBlock> factor;
    bool is_factored = true;
    for (InputStatistics::Block& block : input.blocks()) {
      is_factored = is_factored && calibrate::FactorMoments(runner(), calibration_.shrink, block.h);
      factor.push_back({block.first_column, block.h.n_rows, block.h.values});
    }
    StreamStage stage;
    stage.stats = {input.squares(), factor};
    stage.probe = &input.probe();
    const WeightId weight = source_.weights.StoredAs(input.weight());
    const auto is_of_input = [this, weight](const PlanLine& line) {
      return InputOf(source_.weights, line) == weight;
    };
    stage.takes = [&](const PlanLine& line) {
      return is_of_input(line) && (is_factored || !IsFeedback(line));
    };
    std::vector<const PlanLine*> unserved = WriteStage(stage);
    for (const PlanLine* line : unserved) {
      warn_({ErrorCode::kNumeric,
             fmt::format("tensor '{}': on held-back text its products err more with feedback than "
                         "without, so it has other codes",
                         line->display_name())});
    }
    if (!is_factored) {
      warn_({ErrorCode::kNumeric,
             fmt::format("{} has no usable factor of its moments: its weights have imatrix",
                         calibrate::InputName(input.weight()))});
      for (const StreamTarget& target : targets_)
        for (const PlanLine& line : target.plan->lines)
          if (is_of_input(line) && IsFeedback(line)) unserved.push_back(&line);
    }
    stage.takes = [&](const PlanLine& line) {
      return std::ranges::find(unserved, &line) != unserved.end();
    };
    const auto imatrix = [](const PlanLine&) -> const Method& { return kImatrix; };
    const auto reference = [](const PlanLine& line) -> const Method& { return *line.reference; };
    for (const StreamStage::Choice& method_of :
         {StreamStage::Choice(imatrix), StreamStage::Choice(reference)}) {
      if (unserved.empty()) return;
      stage.method_of = method_of;
      unserved = WriteStage(stage);
    }
  }

  // Returns the lines of feedback that err more on held-back text than the reference's codes.
  std::vector<const PlanLine*> WriteStage(const StreamStage& stage) {
    StreamResult written = StreamTensors(source_, targets_, options_, stage, meter_);
    std::vector<const PlanLine*> unserved;
    for (const LineResult& line : written.lines) {
      if (line.products && IsFeedback(LineOf(line)) &&
          line.products->held_back > line.products->reference)
        unserved.push_back(&LineOf(line));
    }
    result_.Add(std::move(written));
    return unserved;
  }

  static bool IsFeedback(const PlanLine& line) { return line.method == &kFeedback; }

  const PlanLine& LineOf(const LineResult& line) const {
    return targets_[line.target].plan->lines[line.line];
  }

  // Errors of the text that was summed far below those of other text: correlations are noise.
  void WarnOfFewTokens() const {
    double seen = 0, held_back = 0;
    std::size_t n = 0;
    const double share =
        static_cast<double>(std::min<std::size_t>(text_.n_held_back(), calibrate::Probe::kTokens)) /
        static_cast<double>(std::min<std::size_t>(text_.n_tokens(), calibrate::Probe::kTokens));
    for (const LineResult& line : result_.lines) {
      if (!line.products || line.products->reference <= 0) continue;
      seen += share * line.products->seen / line.products->reference;
      held_back += line.products->held_back / line.products->reference;
      ++n;
    }
    if (n == 0 || seen >= 0.5 * held_back) return;
    warn_(
        {ErrorCode::kNumeric,
         fmt::format("products err by {:.2g} of the reference's error on the calibration text, by "
                     "{:.2g} on held-back text: more tokens would help (--calibration-tokens)",
                     seen / static_cast<double>(n), held_back / static_cast<double>(n))});
  }

  const Calibration& calibration_;
  const SourceModel& source_;
  std::span<const StreamTarget> targets_;
  const StreamOptions& options_;
  WarningFn warn_;
  Meter meter_;
  TextStream text_;
  StreamResult result_;
};

// Operations a second of the product on all threads.
double MeasureProductRate(unsigned threads) {
  constexpr std::size_t kRows = 256, kDepth = 2048, kRounds = 4;
  const std::vector<float> a(kRows * kDepth, 0.5F), b(kRows * kDepth, 0.25F);
  std::vector<std::vector<float>> products(threads, std::vector<float>(kRows * kRows));
  const auto start = std::chrono::steady_clock::now();
  ParallelChunks(threads, threads, [&](std::size_t, unsigned worker) {
    for (std::size_t round = 0; round < kRounds; ++round)
      engine::MultiplyByRows(a.data(), kRows, kDepth, b.data(), kRows, products[worker].data(),
                             kRows);
  });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return 2.0 * threads * kRounds * kRows * kRows * kDepth / seconds;
}

// Weights a second that a search chooses codes for, on all threads.
double MeasureSearchRate(const PlanLine& line, unsigned threads) {
  const std::size_t n = line.row_elements();
  const std::size_t n_rows = std::max<std::size_t>(1, (1U << 14) / n);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> x(n_rows * n);
  std::ranges::generate(x, [&] { return normal(random); });
  const auto start = std::chrono::steady_clock::now();
  ParallelChunks(threads, threads, [&](std::size_t, unsigned) {
    std::array<std::vector<std::byte>, kMaxArrays> bytes;
    std::array<std::span<std::byte>, kMaxArrays> arrays;
    for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a) {
      bytes[a].resize(n_rows * ArrayRowBytes(line.encoding, a, n));
      arrays[a] = bytes[a];
    }
    kSearch.quantize(line.encoding, x, n, {}, std::span(arrays).first(ArrayCount(line.encoding)));
  });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return static_cast<double>(threads * x.size()) / seconds;
}

// The model as the writer of its own text, within the memory limit.
class OwnText {
 public:
  // Throws   kResources: not even one window fits. kUnsupported: nothing to begin texts with.
  OwnText(const ConvertOptions& options, const SourceModel& source, unsigned threads,
          const WarningFn& warn)
      : source_(source), threads_(threads) {
    const ModelConfig& config = source.model.config;
    text_.n_ctx = options.calibration->n_ctx;
    const std::uint64_t of_window = calibrate::BytesOfWindow(config, text_.n_ctx);
    const auto fixed = [&] {
      return FixedBytes(source) + TextStream::WorkBytes(config, 1, threads_);
    };
    while (threads_ > 1 && fixed() + of_window > options.memory_limit_bytes) --threads_;
    if (fixed() + of_window > options.memory_limit_bytes)
      throw Error(ErrorCode::kResources,
                  fmt::format("--memory-limit {}: this model needs at least {} to write its own "
                              "text in windows of {} tokens",
                              FormatBytes(options.memory_limit_bytes),
                              FormatBytes(fixed() + of_window), text_.n_ctx))
          .Hint("a smaller --calibration-ctx, or --calibrate FILE");
    fixed_bytes_ = fixed();
    text_.memory_bytes = options.memory_limit_bytes - fixed_bytes_;
    openings_ = calibrate::Openings(source.model.tokenizer, config.vocab_size, warn);
  }

  // What it takes, for the plan.
  void Plan(std::uint64_t n_windows, Calibration& calibration) {
    text_.n_windows = n_windows;
    const ModelConfig& config = source_.model.config;
    CalibrationPlan& planned = calibration.planned;
    planned.n_own_windows = n_windows;
    planned.n_own_at_once = calibrate::WindowsAtOnce(config, text_);
    planned.n_own_readings =
        (n_windows + planned.n_own_at_once - 1) / planned.n_own_at_once * (text_.n_ctx - 1);
    calibration.own_bytes =
        fixed_bytes_ + planned.n_own_at_once * calibrate::BytesOfWindow(config, text_.n_ctx);
  }

  std::vector<std::uint32_t> Write(const Hooks& hooks) {
    Meter meter(hooks, text_.n_windows * (text_.n_ctx - 1), "tokens");
    text_.written = [&meter](std::uint64_t n_tokens) { meter.done += n_tokens; };
    return calibrate::WriteOwnText(*source_.stored, openings_, text_,
                                   {.threads = threads_, .hooks = meter.parallel_hooks()});
  }

 private:
  const SourceModel& source_;
  unsigned threads_;
  std::uint64_t fixed_bytes_ = 0;
  calibrate::OwnTextOptions text_;
  std::vector<calibrate::Opening> openings_;
};

// Seconds of one reading of all matrices for a step of so many windows: from one matrix, timed.
double MeasureReading(const SourceModel& source, std::uint64_t n_windows, unsigned threads) {
  const ModelConfig& config = source.model.config;
  std::uint64_t n_weights = 0;
  WeightInfo largest;
  for (const WeightInfo& weight : phiq::WeightsOf(config)) {
    if (!IsMatrix(weight.id)) continue;
    const std::uint64_t n = weight.shape.n_rows * weight.shape.row_elements;
    n_weights += n;
    if (weight.id.layer == 0 && n > largest.shape.n_rows * largest.shape.row_elements)
      largest = weight;
  }
  const std::size_t n_columns = largest.shape.row_elements;
  const std::vector<float> x(n_windows * n_columns, 0.5F);
  std::vector<std::vector<float>> products(threads,
                                           std::vector<float>(n_windows * engine::kTileRows));
  const auto start = std::chrono::steady_clock::now();
  engine::ForEachTile({.threads = threads}, source.weights, largest.id, largest.shape,
                      [&](std::size_t, std::span<const float> rows, unsigned worker) {
                        engine::MultiplyByRows(x.data(), n_windows, n_columns, rows.data(),
                                               rows.size() / n_columns, products[worker].data(),
                                               engine::kTileRows);
                      });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return seconds * static_cast<double>(n_weights) /
         static_cast<double>(largest.shape.n_rows * n_columns);
}

std::string FileName(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

Calibration PrepareMatrix(const std::string& path, const SourceModel& source,
                          const WarningFn& warn) {
  Calibration calibration;
  calibration.matrix = ReadImportance(path, source.model, warn);
  calibration.planned.imatrix = FileName(path);
  for (const std::string& dataset : calibration.matrix->datasets)
    calibration.planned.files.push_back(FileName(dataset));
  calibration.planned.n_inputs = calibration.matrix->n_entries;
  calibration.planned.n_windows = calibration.matrix->n_chunks;
  return calibration;
}

}  // namespace

bool WritesOwnText(const ConvertOptions& options) {
  return options.calibration &&
         std::ranges::find(options.calibration->texts, calibrate::kOwnText) !=
             options.calibration->texts.end();
}

Calibration PrepareCalibration(const ConvertOptions& options, const SourceModel& source,
                               std::vector<PlanOptions>& targets, bool writes_own, unsigned threads,
                               const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  CheckMethods(options, targets);
  const CalibrationOptions& wanted = *options.calibration;
  if (!wanted.has_text()) return PrepareMatrix(wanted.imatrix, source, warn);
  Needs needs = NeedsOf(targets);
  const Size size = FitToMemory(options, source, needs);
  Calibration calibration;
  std::optional<OwnText> own;
  if (WritesOwnText(options)) own.emplace(options, source, threads, warn);
  const auto write_own = [&](std::uint64_t n_windows) {
    own->Plan(n_windows, calibration);
    return writes_own ? own->Write(hooks) : std::vector<std::uint32_t>();
  };
  calibration.text = calibrate::ReadCalibrationText(
      source.model.tokenizer, source.model.config,
      {wanted.texts, wanted.ids, size.n_tokens, wanted.n_ctx, write_own}, warn);
  const calibrate::CalibrationText& text = calibration.text;
  CalibrationPlan& planned = calibration.planned;
  const auto note = [&](std::string what) {
    warn({ErrorCode::kBadData, what});
    planned.notes.push_back(std::move(what));
  };
  if (size.n_tokens < wanted.n_tokens)
    note(fmt::format("--memory-limit {}: {} tokens instead of {}",
                     FormatBytes(options.memory_limit_bytes), size.n_tokens, wanted.n_tokens));
  if (text.windows.size() < calibrate::kLeastTokensForCorrelations) {
    for (PlanOptions& target : targets) {
      if (target.method != kFeedback.name) continue;
      target.method = kImatrix.name;
      note(fmt::format("{} tokens are too few for correlations: imatrix instead of feedback",
                       text.windows.size()));
    }
    needs = NeedsOf(targets);
  }
  for (const std::uint64_t n : LayerInputs(source.model.config)) {
    const std::vector<std::size_t> blocks = calibrate::BlocksOf(n, size.widest_block);
    if (needs == Needs::kMoments && blocks.size() > 1)
      planned.notes.push_back(
          fmt::format("an input of {} columns has its moments in {} blocks of at most {}", n,
                      blocks.size(), blocks.front()));
  }
  calibration.shrink = wanted.shrink;
  calibration.widest_block = size.widest_block;
  calibration.held_bytes = HeldBytes(source.model.config, needs, size.widest_block,
                                     text.windows.size(), text.held_back.size());
  for (const calibrate::TextSource& file : text.sources)
    planned.files.push_back(FileName(file.path));
  planned.sha256 = text.sha256;
  planned.n_inputs =
      LayerInputs(source.model.config).size() * source.model.config.n_layers + 1;  // the head's
  planned.n_windows = text.n_windows();
  planned.n_tokens = text.windows.size();
  planned.n_held_back = text.held_back.size();
  planned.n_ctx = text.n_ctx;
  planned.shrink = wanted.shrink;
  planned.widest_block = size.widest_block;
  return calibration;
}

std::uint64_t WorkBytes(const Calibration& calibration, const ModelConfig& config,
                        unsigned threads) {
  return calibration.matrix ? 0 : TextStream::WorkBytes(config, calibration.text.n_ctx, threads);
}

void Apply(const Calibration& calibration, const SourceModel& source, Plan& plan,
           const WarningFn& warn) {
  const auto method = std::ranges::find(plan.decisions, "method", &Decision::subject);
  const bool is_used = std::ranges::any_of(
      plan.lines, [](const PlanLine& line) { return line.reference != nullptr; });
  if (method == plan.decisions.end() || !is_used) {
    warn({ErrorCode::kUsage,
          fmt::format("{} {}: {}, so the {} is not used", plan.format, plan.type,
                      method == plan.decisions.end() ? "method reference takes nothing from inputs"
                                                     : "no tensor has a scale",
                      calibration.matrix ? "importance matrix" : "calibration text")});
    return;
  }
  const CalibrationPlan& planned = calibration.planned;
  if (calibration.matrix) {
    std::size_t n_left = 0;
    for (PlanLine& line : plan.lines) {
      const std::optional<WeightId> input = InputOf(source.weights, line);
      if (line.reference == nullptr ||
          (input && Find(*calibration.matrix, source.weights, *input) != nullptr))
        continue;
      line.method = std::exchange(line.reference, nullptr);
      ++n_left;
    }
    if (n_left > 0)
      method->reason += fmt::format("; {} that {} says nothing of are as without it", n_left,
                                    Escape(planned.imatrix));
  }
  const auto add = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) plan.facts.emplace_back(fmt::format("phiq.{}", name), value);
  };
  add("calibration_imatrix", planned.imatrix);
  add("calibration_files", fmt::format("{}", fmt::join(planned.files, ", ")));
  add("calibration_inputs", fmt::format("{}", planned.n_inputs));
  add("calibration_windows", fmt::format("{}", planned.n_windows));
  if (calibration.matrix) return;
  add("calibration_ctx", fmt::format("{}", planned.n_ctx));
  // Before the text is written something as long stands for it, so that the plan's sizes are right.
  add("calibration_sha256", planned.sha256.empty() ? std::string(64, '0') : planned.sha256);
}

double EstimateSeconds(const Calibration& calibration, const SourceModel& source,
                       std::span<const StreamTarget> targets, unsigned threads) {
  if (calibration.matrix) return 0;
  const auto n_tokens =
      static_cast<double>(calibration.planned.n_tokens + calibration.planned.n_held_back);
  double operations = 0;  // of products
  for (const WeightInfo& weight : phiq::WeightsOf(source.model.config)) {
    if (!IsMatrix(weight.id)) continue;
    const auto n = static_cast<double>(weight.shape.row_elements);
    if (weight.id.layer >= 0)
      operations += 2 * n_tokens * n * static_cast<double>(weight.shape.n_rows);
    if (NeedsOf(source.weights, targets, source.weights.StoredAs(weight.id)) != Needs::kMoments)
      continue;
    for (const std::size_t size :
         calibrate::BlocksOf(weight.shape.row_elements, calibration.widest_block)) {
      const auto k = static_cast<double>(size);
      operations += n_tokens * k * k + 2.0 / 3.0 * k * k * k;
    }
  }
  double searched = 0;  // weights
  const PlanLine* largest = nullptr;
  for (const StreamTarget& target : targets) {
    for (const PlanLine& line : target.plan->lines) {
      if (line.reference == nullptr) continue;
      const auto n_weights = static_cast<double>(line.n_elements());
      operations += 6.0 * calibrate::Probe::kTokens * n_weights;
      if (line.method->needs == Needs::kMoments)
        for (const std::size_t size :
             calibrate::BlocksOf(line.row_elements(), calibration.widest_block))
          operations += n_weights * static_cast<double>(size);
      searched += 2 * n_weights;  // the method's own, and the reference beside it
      if (largest == nullptr || line.n_elements() > largest->n_elements()) largest = &line;
    }
  }
  double seconds = operations / MeasureProductRate(threads);
  if (calibration.planned.n_own_readings > 0)
    seconds += static_cast<double>(calibration.planned.n_own_readings) *
               MeasureReading(source, calibration.planned.n_own_at_once, threads);
  if (largest != nullptr) seconds += searched / MeasureSearchRate(*largest, threads);
  return seconds;
}

StreamResult WriteCalibrated(const Calibration& calibration, const SourceModel& source,
                             std::span<const StreamTarget> targets, const StreamOptions& options,
                             const Hooks& hooks, std::vector<InputSquares>& inputs) {
  if (calibration.matrix)
    return WriteByMatrix(*calibration.matrix, source, targets, options, hooks);
  return CalibratedRun(calibration, source, targets, options, hooks).Run(inputs);
}

}  // namespace phiq
