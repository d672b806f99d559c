// Stages of a calibrated conversion. A stream of hidden states, of the unquantized model, goes from
// the embedding through layer by layer's four inputs of matrices to the head's. A weight is written
// when its input's statistics are there, and these are dropped behind it. Beside it each output
// that is corrected has a stream of its own, through what is written of it; the others take the
// statistics of the first.
//
// A tied embedding is written last, as the head: a stream of the unquantized model has the
// checkpoint's own. A corrected output's stream begins with it, so there it is written before all
// others, from a run of the unquantized model alone.
#include "convert/calibration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "base/sha256.h"
#include "calibrate/correction.h"
#include "calibrate/factor.h"
#include "calibrate/own_text.h"
#include "calibrate/text_stream.h"
#include "convert/written_model.h"
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

constexpr WeightId kHead = {TensorRole::kOutputHead};
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

std::uint64_t CountCorrected(const ConvertOptions& options, std::span<const PlanOptions> targets) {
  if (!options.calibration->corrects) return 0;
  return static_cast<std::uint64_t>(
      std::ranges::count(targets, kFeedback.name, &PlanOptions::method));
}

// What stays and what is taken turn by turn.
struct Size {
  Needs needs = Needs::kNothing;
  std::uint64_t n_tokens = 0;  // with those held back
  std::uint64_t n_corrected = 0;
  std::size_t widest_block = calibrate::kWidestBlock;
  bool is_on_disk = false;
  bool is_kept = false;  // for a run that goes on

  // Of hidden states.
  std::uint64_t StateBytes(const ModelConfig& config) const {
    return (1 + n_corrected) * TextStream::StateFloats(config, n_tokens, is_kept) * sizeof(float);
  }
  std::uint64_t HeldBytes(const ModelConfig& config) const {
    std::uint64_t most = 0;  // floats of one input
    for (const std::uint64_t n : LayerInputs(config)) {
      // Vectors of the probes; what they lack, and both again while a correction is measured.
      std::uint64_t floats = (n_corrected > 0 ? 6 : 2) * calibrate::Probe::kTokens * n;
      if (needs == Needs::kMoments) {
        std::uint64_t largest = 0;
        for (const std::uint64_t size : calibrate::BlocksOf(n, widest_block)) {
          floats += (n_corrected > 0 ? 2 : 1) * size * size;
          largest = std::max<std::uint64_t>(largest, size);
        }
        floats += 2 * engine::kPanelRows * largest;  // while a factor is inverted
      }
      most = std::max(most, floats);
    }
    return most * sizeof(float) + (is_on_disk ? 0 : StateBytes(config));
  }
};

// Hidden states go to the disk first, then blocks become smaller.
Size FitToMemory(const ConvertOptions& options, const SourceModel& source, Needs needs,
                 std::uint64_t n_corrected) {
  const CalibrationOptions& wanted = *options.calibration;
  const ModelConfig& config = source.model.config;
  if (wanted.n_ctx == 0) throw Error(ErrorCode::kUsage, "--calibration-ctx 0: no tokens");
  Size size{
      needs,
      wanted.n_tokens + calibrate::HeldBackWindows(wanted.n_tokens, wanted.n_ctx) * wanted.n_ctx,
      n_corrected};
  size.is_kept = size.is_on_disk = options.resume;
  const bool has_blocks = wanted.widest_block > 0;
  if (has_blocks) size.widest_block = wanted.widest_block;
  const auto n_bytes = [&] {
    return FixedBytes(source) + size.HeldBytes(config) +
           std::max(TextStream::WorkBytes(config, wanted.n_ctx, kPlannedThreads),
                    kPlannedThreads * kStreamThreadBytes);
  };
  while (n_bytes() > options.memory_limit_bytes) {
    if (!size.is_on_disk) {
      size.is_on_disk = true;
    } else if (needs == Needs::kMoments && !has_blocks &&
               size.widest_block > 2 * calibrate::kBlockMultiple) {
      size.widest_block /= 2;
    } else {
      throw Error(ErrorCode::kResources,
                  fmt::format("--memory-limit {}: calibrating this model needs at least {}",
                              FormatBytes(options.memory_limit_bytes), FormatBytes(n_bytes())))
          .Hint("--memory-limit " + LimitFor(n_bytes()));
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
                           const Hooks& hooks, Stages& stages) {
  Meter meter(hooks, WeightsOf(source, targets, {}));
  StreamResult result;
  std::size_t n_stages = 0;
  const auto run = [&](const StreamStage& stage) {
    StageNote note;
    if (n_stages < stages.done().size()) {
      note = stages.done()[n_stages];
      meter.done += WeightsOf(source, targets, stage);
    } else {
      note.result = StreamTensors(source, targets, options, stage, meter);
      stages.Note(note);
    }
    ++n_stages;
    result.Add(std::move(note.result));
  };
  StreamStage stage;
  stage.takes = [&](const PlanLine& line) {
    const std::optional<WeightId> input = InputOf(source.weights, line);
    return !input || Find(matrix, source.weights, *input) == nullptr;
  };
  run(stage);
  for (const WeightInfo& weight : phiq::WeightsOf(source.model.config)) {
    const WeightId input = source.weights.StoredAs(weight.id);
    const std::vector<float>* const squares = Find(matrix, source.weights, input);
    if (squares == nullptr || input != weight.id) continue;  // a tied head is the embedding
    stage.stats = {*squares, {}};
    stage.takes = [&](const PlanLine& line) { return InputOf(source.weights, line) == input; };
    run(stage);
  }
  return result;
}

bool IsFeedback(const PlanLine& line) { return line.method == &kFeedback; }

class CalibratedRun {
 public:
  CalibratedRun(const Calibration& calibration, const SourceModel& source,
                std::span<const StreamTarget> targets, const StreamOptions& options,
                const Hooks& hooks, Stages& stages,
                std::vector<std::vector<InputCorrection>>& corrections)
      : calibration_(calibration),
        source_(source),
        targets_(targets),
        options_(options),
        stages_(stages),
        warn_(WarnOrIgnore(hooks.warn)),
        corrections_(corrections),
        groups_(GroupsOf(calibration, targets)),
        meter_(hooks, CountWeights()),
        text_(MakeStream(*source.stored)) {
    meter_.n_layers = config().n_layers;
  }

  StreamResult Run(std::vector<InputSquares>& inputs_out) {
    if (stages_.done().empty()) {
      StreamStage plain;
      plain.takes = [this](const PlanLine& line) { return !InputOf(source_.weights, line); };
      note_.result = StreamTensors(source_, targets_, options_, plain, meter_);
      if (HasHeadFirst()) WriteHeadFirst();
      EndStage();
    }
    Group& uncorrected = groups_.front();
    const std::span<Group> corrected = std::span(groups_).subspan(1);
    for (Group& group : corrected) {
      group.written = std::make_unique<WrittenModel>(source_, group.targets.front());
      group.text.emplace(MakeStream(*group.written));
    }
    GoOn(inputs_out);
    while (text_.at() != kHead && !IsAstray()) {
      InputStatistics input = Next(text_, nullptr, uncorrected);
      inputs_out.push_back(SquaresOf(input.weight(), input.SquareSums()));
      KeepSums(inputs_out.back().sums);
      Write(input, uncorrected, {});
      input = InputStatistics(input.weight(), 0, {});  // its memory is free again
      for (Group& group : corrected) {
        if (text_.at() == kHead && group.has_head_first) continue;
        InputStatistics own = Next(*group.text, &text_, group);
        WriteCorrected(own, group);
      }
      EndStage();
    }
    WarnOfFewTokens();
    return std::move(result_);
  }

 private:
  // Outputs that take the same statistics: one that is corrected, or all that are not.
  struct Group {
    std::vector<StreamTarget> targets = {};
    std::vector<std::size_t> numbers = {};  // of all targets
    bool has_head_first = false;            // the embedding that its stream begins with is the head
    std::unique_ptr<WrittenModel> written = nullptr;
    std::optional<TextStream> text = {};
  };

  // Those that are not corrected first.
  std::vector<Group> GroupsOf(const Calibration& calibration,
                              std::span<const StreamTarget> targets) const {
    std::vector<Group> groups(1);
    for (std::size_t t = 0; t < targets.size(); ++t) {
      const bool is_corrected = IsCorrected(calibration, *targets[t].plan);
      Group& group = is_corrected ? groups.emplace_back() : groups.front();
      group.targets.push_back(targets[t]);
      group.numbers.push_back(t);
      group.has_head_first =
          is_corrected && std::ranges::any_of(targets[t].plan->lines, [this](const PlanLine& line) {
            return !line.table && line.role == TensorRole::kTokenEmbedding &&
                   InputOf(source_.weights, line);
          });
    }
    return groups;
  }

  bool HasHeadFirst() const {
    return std::ranges::any_of(groups_, [](const Group& group) { return group.has_head_first; });
  }

  TextStream MakeStream(const StoredModel& model) {
    const calibrate::CalibrationText& text = calibration_.text;
    const bool keeps = stages_.are_kept();
    const std::uint64_t n_floats =
        TextStream::StateFloats(config(), text.windows.size() + text.held_back.size(), keeps);
    const std::uint64_t n_bytes = n_floats * sizeof(float);
    calibrate::FloatStore store =
        keeps ? calibrate::FloatStore(
                    &stages_.AddScratch(fmt::format("text{}", n_streams_++), n_bytes))
        : calibration_.is_on_disk ? calibrate::FloatStore(ScratchFile(stages_.beside(), n_bytes))
                                  : calibrate::FloatStore(n_floats);
    return {model, text.n_ctx, text.windows, text.held_back, runner(), std::move(store), keeps};
  }

  // The stream of a corrected output runs through its own codes: behind those that stand in it and
  // are not what is chosen for it, no other is what would be.
  bool IsAstray() const {
    return groups_.size() > 1 && std::ranges::any_of(result_.lines, [this](const LineResult& line) {
             return line.n_different > 0 && !LineOf(line).table;
           });
  }

  // Of a tied model it is the embedding that is asked for, and named.
  InputSquares SquaresOf(WeightId weight, std::vector<float> sums) const {
    return {source_.weights.StoredAs(weight), std::move(sums), text_.n_tokens()};
  }

  void KeepSums(std::span<const float> sums) {
    if (sums_ == nullptr) return;
    sums_->WriteAt(sums_bytes_, std::as_bytes(sums));
    sums_bytes_ += sums.size_bytes();
  }

  void EndStage() {
    stages_.Note(note_);
    Take(std::move(note_));
    note_ = {};
  }

  void Take(StageNote&& note) {
    result_.Add(std::move(note.result));
    for (StageNote::Correction& one : note.corrections)
      corrections_[one.target].push_back(std::move(one.input));
  }

  // Behind the stages that are done: the first, and one for each input.
  void GoOn(std::vector<InputSquares>& inputs_out) {
    if (!stages_.are_kept()) return;
    std::uint64_t n_sums = config().hidden_size;
    for (const std::uint64_t n : LayerInputs(config())) n_sums += n * config().n_layers;
    sums_ = &stages_.AddScratch("sums", n_sums * sizeof(float));
    const std::span<const StageNote> done = stages_.done();
    if (done.empty()) return;
    for (const StageNote& note : done) Take(StageNote(note));
    for (std::size_t n = 1; n < done.size(); ++n) {
      text_.Resume(n);
      const WeightId weight = *text_.at();
      std::vector<float> sums(ShapeOf(config(), weight.role).row_elements);
      sums_->ReadAt(sums_bytes_, std::as_writable_bytes(std::span(sums)));
      sums_bytes_ += sums.size() * sizeof(float);
      inputs_out.push_back(SquaresOf(weight, std::move(sums)));
      meter_.done += groups_.size() * WeightsIn(weight);
    }
    for (Group& group : std::span(groups_).subspan(1)) group.text->Resume(done.size() - 1);
  }

  const ModelConfig& config() const { return source_.model.config; }

  engine::Runner runner() const {
    return {.threads = options_.threads, .hooks = meter_.parallel_hooks()};
  }

  // That are read to be written, and that hidden states are run through.
  std::uint64_t CountWeights() const {
    StreamStage of_inputs, others;
    of_inputs.takes = [this](const PlanLine& line) {
      return InputOf(source_.weights, line).has_value();
    };
    others.takes = [this](const PlanLine& line) { return !InputOf(source_.weights, line); };
    std::uint64_t sum = WeightsOf(source_, targets_, others);
    for (const Group& group : groups_) sum += WeightsOf(source_, group.targets, of_inputs);
    std::uint64_t of_layers = 0;
    for (const WeightInfo& weight : phiq::WeightsOf(config()))
      if (weight.id.layer >= 0) of_layers += WeightsIn(weight.id);
    return sum + (groups_.size() + (HasHeadFirst() ? 1 : 0)) * of_layers;
  }

  std::uint64_t WeightsIn(WeightId weight) const {
    const WeightShape shape = ShapeOf(config(), weight.role);
    return shape.n_rows * shape.row_elements;
  }

  InputStatistics Next(TextStream& text, const TextStream* plain, const Group& group) {
    const std::optional<WeightId> before = text.at();
    const TextStream::WantedFn wanted = [&](WeightId weight) {
      return InputStatistics::Wanted{
          NeedsOf(source_.weights, group.targets, source_.weights.StoredAs(weight)),
          calibration_.widest_block};
    };
    InputStatistics input = plain == nullptr ? text.Next(wanted) : text.NextBeside(*plain, wanted);
    if (before) meter_.done += WeightsIn(*before);
    meter_.layer = static_cast<std::uint32_t>(input.weight().layer + 1);
    if (input.weight() == kHead) meter_.layer = config().n_layers;
    return input;
  }

  // The embeddings that streams begin with, where they are the head, too.
  void WriteHeadFirst() {
    Group all;
    for (const Group& group : groups_) {
      if (!group.has_head_first) continue;
      all.targets.push_back(group.targets.front());
      all.numbers.push_back(group.numbers.front());
    }
    for (std::size_t i = 0; i < LayerInputs(config()).size() * config().n_layers; ++i) {
      const std::optional<WeightId> before = text_.at();
      text_.Skip();
      if (before) meter_.done += WeightsIn(*before);
    }
    InputStatistics head = Next(text_, nullptr, all);
    Write(head, all, {});
    text_.Restart();
  }

  void WriteCorrected(InputStatistics& input, const Group& group) {
    std::vector<calibrate::CorrectionBlock> correction;
    bool has_factor = true;
    for (InputStatistics::Block& block : input.blocks()) {
      has_factor = has_factor && calibrate::MakeCorrection(runner(), block.h, block.d);
      correction.push_back({block.first_column, &block.d});
    }
    if (!correction.empty()) {
      const WeightId weight = source_.weights.StoredAs(input.weight());
      calibrate::CorrectionErrors errors;
      if (has_factor)
        errors = calibrate::MeasureCorrection(runner(), source_.weights, weight, input.probe(),
                                              correction, calibrate::kCorrectionShare);
      note_.corrections.push_back(
          {group.numbers.front(),
           {std::string(RoleName(input.weight().role)), input.weight().layer, errors.pays(),
            errors.without, errors.with}});
      if (!errors.pays()) correction.clear();
    }
    Write(input, group, correction);
  }

  // All lines that take rows of a weight, its input known. Those that feedback does not serve have
  // imatrix; those that this does not serve either, the reference's codes.
  void Write(InputStatistics& input, const Group& group,
             std::span<const calibrate::CorrectionBlock> correction) {
    if (group.targets.empty()) return;
    std::vector<FactorBlock> factor;
    bool is_factored = true;
    for (InputStatistics::Block& block : input.blocks()) {
      is_factored = is_factored && calibrate::FactorMoments(runner(), calibration_.shrink, block.h);
      factor.push_back({block.first_column, block.h.n_rows, block.h.values});
    }
    StreamStage stage;
    stage.stats = {input.squares(), factor};
    stage.correction = correction;
    stage.probe = &input.probe();
    const WeightId weight = source_.weights.StoredAs(input.weight());
    const auto is_of_input = [this, weight](const PlanLine& line) {
      return InputOf(source_.weights, line) == weight;
    };
    stage.takes = [&](const PlanLine& line) {
      return is_of_input(line) && (is_factored || !IsFeedback(line));
    };
    std::vector<const PlanLine*> unserved = WriteStage(stage, group);
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
      for (const StreamTarget& target : group.targets)
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
      unserved = WriteStage(stage, group);
    }
  }

  // Returns the lines of feedback that err more on held-back text than the reference's codes.
  std::vector<const PlanLine*> WriteStage(const StreamStage& stage, const Group& group) {
    StreamResult written = StreamTensors(source_, group.targets, options_, stage, meter_);
    std::vector<const PlanLine*> unserved;
    for (LineResult& line : written.lines) {
      line.target = group.numbers[line.target];
      if (line.products && IsFeedback(LineOf(line)) &&
          line.products->held_back > line.products->reference)
        unserved.push_back(&LineOf(line));
    }
    note_.result.Add(std::move(written));
    return unserved;
  }

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
  Stages& stages_;
  std::size_t n_streams_ = 0;
  ScratchFile* sums_ = nullptr;  // of squares of inputs, where stages are kept
  std::uint64_t sums_bytes_ = 0;
  WarningFn warn_;
  std::vector<std::vector<InputCorrection>>& corrections_;
  std::vector<Group> groups_;
  Meter meter_;
  TextStream text_;
  StageNote note_;       // of the stage that is being done
  StreamResult result_;  // of those that are
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
          .Hint(fmt::format("--memory-limit {}, a smaller --calibration-ctx, or --calibrate FILE",
                            LimitFor(fixed() + of_window)));
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

// Of what is taken of it, whichever form its file has.
std::string Sha256Of(const Importance& matrix) {
  Sha256 hash;
  for (const auto& [weight, squares] : matrix.squares) {
    const std::string name = fmt::format("{} {}\n", RoleName(weight.role), weight.layer);
    hash.Add(std::as_bytes(std::span(name)));
    hash.Add(std::as_bytes(std::span(squares)));
  }
  return hash.Hex();
}

Calibration PrepareMatrix(const std::string& path, const SourceModel& source,
                          const WarningFn& warn) {
  Calibration calibration;
  calibration.matrix = ReadImportance(path, source.model, warn);
  calibration.planned.imatrix = FileName(path);
  calibration.planned.sha256 = Sha256Of(*calibration.matrix);
  for (const std::string& dataset : calibration.matrix->datasets)
    calibration.planned.files.push_back(FileName(dataset));
  calibration.planned.n_inputs = calibration.matrix->n_entries;
  calibration.planned.n_windows = calibration.matrix->n_chunks;
  return calibration;
}

// What running a layer takes besides what is held.
std::uint64_t WorkBytes(const Calibration& calibration, const ModelConfig& config,
                        unsigned threads) {
  return calibration.matrix ? 0 : TextStream::WorkBytes(config, calibration.text.n_ctx, threads);
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
  // What no memory would cure is told before what more memory would.
  calibrate::CheckContext(wanted.n_ctx, source.model.config);
  Needs needs = NeedsOf(targets);
  Size size = FitToMemory(options, source, needs, CountCorrected(options, targets));
  Calibration calibration;
  std::optional<OwnText> own;
  if (WritesOwnText(options)) own.emplace(options, source, threads, warn);
  const auto write_own = [&](std::uint64_t n_windows) {
    own->Plan(n_windows, calibration);
    return writes_own ? own->Write(hooks) : std::vector<std::uint32_t>();
  };
  calibration.text = calibrate::ReadCalibrationText(
      source.model.tokenizer, source.model.config,
      {wanted.texts, wanted.ids, wanted.n_tokens, wanted.n_ctx, write_own}, warn);
  const calibrate::CalibrationText& text = calibration.text;
  CalibrationPlan& planned = calibration.planned;
  const auto note = [&](std::string what) {
    warn({ErrorCode::kBadData, what});
    planned.notes.push_back(std::move(what));
  };
  if (!text.sha256.empty() && calibrate::HasFewDistinct(text, source.model.config.vocab_size)) {
    for (PlanOptions& target : targets) {
      if (target.method != kFeedback.name && target.method != kImatrix.name) continue;
      note(
          fmt::format("search instead of {}: the text has too few distinct tokens", target.method));
      target.method = kSearch.name;
    }
    needs = NeedsOf(targets);
  }
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
  size.needs = needs;
  size.n_tokens = text.windows.size() + text.held_back.size();
  size.n_corrected = CountCorrected(options, targets);
  calibration.shrink = wanted.shrink;
  calibration.corrects = wanted.corrects;
  calibration.widest_block = size.widest_block;
  calibration.is_on_disk = size.is_on_disk;
  calibration.held_bytes = size.HeldBytes(source.model.config);
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
  planned.n_corrected = size.n_corrected;
  planned.scratch_bytes = size.is_on_disk ? size.StateBytes(source.model.config) : 0;
  planned.widest_block = size.widest_block;
  return calibration;
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
  if (calibration.matrix) return add("calibration_sha256", planned.sha256);
  add("calibration_ctx", fmt::format("{}", planned.n_ctx));
  if (std::ranges::any_of(plan.lines, IsFeedback)) {
    add("calibration_shrink", fmt::format("{}", planned.shrink));
    add("calibration_block", fmt::format("{}", planned.widest_block));
  }
  if (IsCorrected(calibration, plan)) {
    add("calibration_correction", fmt::format("{}", calibrate::kCorrectionShare));
    plan.decisions.push_back({"correction", "on",
                              "weights make up for what the layers before them lost, where that "
                              "helps on held-back text"});
  }
  // Before the text is written something as long stands for it, so that the plan's sizes are right.
  add("calibration_sha256", planned.sha256.empty() ? std::string(64, '0') : planned.sha256);
}

std::uint64_t CountStages(const Calibration& calibration, const SourceModel& source) {
  if (!calibration.matrix) return 1 + calibration.planned.n_inputs;
  std::uint64_t n = 1;
  for (const WeightInfo& weight : phiq::WeightsOf(source.model.config))
    if (source.weights.StoredAs(weight.id) == weight.id &&
        Find(*calibration.matrix, source.weights, weight.id) != nullptr)
      ++n;
  return n;
}

MemoryPlan PlanMemory(Calibration& calibration, std::span<const StreamTarget> targets,
                      const SourceModel& source, std::uint64_t header_bytes, unsigned threads,
                      std::uint64_t limit_bytes, OverflowPolicy overflow) {
  for (const StreamTarget& target : targets)
    if (IsCorrected(calibration, *target.plan))
      calibration.held_bytes += WrittenModel::HeldBytes(target);
  MemoryPlan memory = PlanMemory(targets, source, header_bytes, calibration.held_bytes, threads,
                                 limit_bytes, overflow);
  const std::uint64_t held = FixedBytes(source) + 2 * header_bytes + calibration.held_bytes;
  const auto work = [&] { return WorkBytes(calibration, source.model.config, memory.threads); };
  while (memory.threads > 1 && held + work() > limit_bytes) --memory.threads;
  memory.peak_bytes = std::max({memory.peak_bytes, held + work(), calibration.own_bytes});
  return memory;
}

bool IsCorrected(const Calibration& calibration, const Plan& plan) {
  return calibration.corrects && std::ranges::any_of(plan.lines, IsFeedback);
}

double EstimateSeconds(const Calibration& calibration, const SourceModel& source,
                       std::span<const StreamTarget> targets, unsigned threads) {
  if (calibration.matrix) return 0;
  const auto n_tokens =
      static_cast<double>(calibration.planned.n_tokens + calibration.planned.n_held_back);
  double operations = 0;  // of products
  const auto add_text = [&](std::span<const StreamTarget> of, bool is_corrected) {
    for (const WeightInfo& weight : phiq::WeightsOf(source.model.config)) {
      if (!IsMatrix(weight.id)) continue;
      const auto n = static_cast<double>(weight.shape.row_elements);
      const double n_weights = n * static_cast<double>(weight.shape.n_rows);
      if (weight.id.layer >= 0) operations += 2 * n_tokens * n_weights;
      if (NeedsOf(source.weights, of, source.weights.StoredAs(weight.id)) != Needs::kMoments)
        continue;
      for (const std::size_t size :
           calibrate::BlocksOf(weight.shape.row_elements, calibration.widest_block)) {
        const auto k = static_cast<double>(size);
        operations += n_tokens * k * k + 2.0 / 3.0 * k * k * k;
        if (!is_corrected) continue;
        // Moments of what is lacked; a factor more and products with its inverse; each row's.
        operations += 2 * n_tokens * k * k + 2.0 / 3.0 * k * k * k + 2 * k * k * k;
        operations += 2 * k * n_weights * k / n;
      }
      if (is_corrected) operations += 4.0 * calibrate::Probe::kTokens * n_weights;
    }
  };
  std::vector<StreamTarget> uncorrected;
  for (const StreamTarget& target : targets) {
    if (IsCorrected(calibration, *target.plan)) {
      add_text(std::span(&target, 1), true);
    } else {
      uncorrected.push_back(target);
    }
  }
  add_text(uncorrected, false);
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
                             const Hooks& hooks, Stages& stages, std::vector<InputSquares>& inputs,
                             std::vector<std::vector<InputCorrection>>& corrections) {
  if (calibration.matrix)
    return WriteByMatrix(*calibration.matrix, source, targets, options, hooks, stages);
  try {
    return CalibratedRun(calibration, source, targets, options, hooks, stages, corrections)
        .Run(inputs);
  } catch (Error& error) {
    if (error.code() != ErrorCode::kNumeric || !error.path().empty()) throw;
    // Of running the model, not of its weights.
    throw std::move(error)
        .In(source.stored->path())
        .Hint("its activations overflow on this text: --method search needs none");
  }
}

}  // namespace phiq
