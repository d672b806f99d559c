// Stages of a calibrated conversion. A stream of hidden states, of the unquantized model, goes from
// the embedding through layer by layer's inputs of matrices to the head's. A weight, or what it has
// of an expert, is written when its input's statistics are there, and these are dropped behind it.
// Beside it each output that is corrected has a stream of its own, through what is written of it;
// the others take the statistics of the first.
//
// A tied embedding is written last, as the head: a stream of the unquantized model has the
// checkpoint's own. A corrected output's stream begins with it, so there it is written before all
// others, from a run of the unquantized model alone.
#include "convert/calibrated_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "calibrate/correction.h"
#include "calibrate/factor.h"
#include "calibrate/text_stream.h"
#include "convert/line_inputs.h"
#include "convert/written_model.h"
#include "io/output_file.h"
#include "model/weights.h"
#include "phiq/text.h"
#include "plan/methods.h"

namespace phiq {
namespace {

using calibrate::InputStatistics;
using calibrate::TextStream;

constexpr WeightId kHead = {TensorRole::kOutputHead};

using calibrate::MatrixInput;

WeightId StoredAs(const SourceModel& source, WeightId weight) {
  WeightId stored = source.weights.StoredAs({weight.role, weight.layer});
  stored.expert = weight.expert;
  return stored;
}

// Calls use(weight, squares) for every matrix of whose input an importance matrix has something; of
// each expert for its part.
template <typename Use>
void ForEachWeight(const Importance& matrix, const SourceModel& source, const Use& use) {
  for (const MatrixInput& input : calibrate::InputsOf(source.model.config)) {
    for (const WeightId& weight : input.weights) {
      const WeightId stored = StoredAs(source, weight);
      if (const std::vector<float>* const squares = Find(matrix, source.weights, stored))
        use(stored, *squares);
    }
  }
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
    result.Add(note.result);
  };
  StreamStage stage;
  stage.takes = [&](const PlanLine& line) { return !HasStatistics(matrix, source.weights, line); };
  run(stage);
  ForEachWeight(matrix, source, [&](WeightId weight, const std::vector<float>& squares) {
    stage.stats = {squares, {}};
    stage.expert = weight.expert;
    stage.takes = [&](const PlanLine& line) {
      return InputOf(source.weights, line) == WeightId{weight.role, weight.layer};
    };
    run(stage);
  });
  return result;
}

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
    while (text_.n_reached() < text_.inputs().size() && !IsAstray()) {
      InputStatistics input = Next(text_, nullptr, uncorrected);
      note_.n_tokens = input.reached().n_tokens;
      AddSquares(*text_.at(), input.reached(), inputs_out);
      KeepSums(input.reached().of_columns);
      Write(input, uncorrected, {});
      input = InputStatistics(input.weight(), 0, {});  // its memory is free again
      for (Group& group : corrected) {
        if (input.weight() == kHead && group.has_head_first) continue;
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
    if (keeps) states_.push_back(&stages_.AddScratch(StatesName(states_.size()), n_bytes));
    calibrate::FloatStore store =
        keeps                     ? calibrate::FloatStore(states_.back())
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
  void AddSquares(const MatrixInput& input, const calibrate::SquareSums& sums,
                  std::vector<InputSquares>& inputs_out) const {
    for (const WeightId& weight : input.weights)
      inputs_out.push_back({StoredAs(source_, weight), sums.of_columns, sums.n_tokens});
  }

  void KeepSums(std::span<const float> sums) {
    if (sums_ == nullptr) return;
    sums_->WriteAt(sums_bytes_, std::as_bytes(sums));
    sums_bytes_ += sums.size_bytes();
  }

  static std::string StatesName(std::size_t stream) { return fmt::format("text{}", stream); }

  // What the next stage begins with.
  void NoteStates() {
    const auto add = [&](std::size_t stream, const TextStream& text) {
      for (const TextStream::Range& range : text.Standing())
        note_.kept.push_back(Stages::Keep(StatesName(stream), *states_[stream],
                                          range.first * sizeof(float), range.n * sizeof(float)));
    };
    add(0, text_);
    for (std::size_t g = 1; g < groups_.size(); ++g)
      if (groups_[g].text) add(g, *groups_[g].text);
    if (sums_ != nullptr) note_.kept.push_back(Stages::Keep(kSums, *sums_, 0, sums_bytes_));
  }

  void EndStage() {
    if (stages_.are_kept()) NoteStates();
    stages_.Note(note_);
    Take(std::move(note_));
    note_ = {};
  }

  void Take(StageNote&& note) {
    result_.Add(note.result);
    for (StageNote::Correction& one : note.corrections)
      corrections_[one.target].push_back(std::move(one.input));
  }

  // Behind the stages that are done: the first, and one for each input.
  void GoOn(std::vector<InputSquares>& inputs_out) {
    if (!stages_.are_kept()) return;
    std::uint64_t n_sums = 0;
    for (const MatrixInput& input : text_.inputs()) n_sums += input.n_columns;
    sums_ = &stages_.AddScratch(kSums, n_sums * sizeof(float));
    const std::span<const StageNote> done = stages_.done();
    if (done.empty()) return;
    for (const StageNote& note : done) Take(StageNote(note));
    for (std::size_t n = 1; n < done.size(); ++n) {
      const MatrixInput& input = text_.inputs()[n - 1];
      calibrate::SquareSums sums = {std::vector<float>(input.n_columns), done[n].n_tokens};
      sums_->ReadAt(sums_bytes_, std::as_writable_bytes(std::span(sums.of_columns)));
      sums_bytes_ += sums.of_columns.size() * sizeof(float);
      AddSquares(input, sums, inputs_out);
      meter_.done += groups_.size() * WeightsIn(input);
    }
    text_.Resume(done.size() - 1);
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
    for (const MatrixInput& input : calibrate::InputsOf(config()))
      if (input.weight.layer >= 0) of_layers += WeightsIn(input);
    return sum + (groups_.size() + (HasHeadFirst() ? 1 : 0)) * of_layers;
  }

  std::uint64_t WeightsIn(const MatrixInput& input) const {
    std::uint64_t n = 0;
    for (const engine::WeightRows& rows : RowsOf(input)) n += rows.n_rows * rows.row_elements;
    return n;
  }

  std::vector<engine::WeightRows> RowsOf(const MatrixInput& input) const {
    std::vector<engine::WeightRows> rows;
    for (const WeightId& weight : input.weights)
      rows.push_back(calibrate::RowsOf(config(), weight));
    return rows;
  }

  InputStatistics Next(TextStream& text, const TextStream* plain, const Group& group) {
    const MatrixInput* const before = text.at();
    const TextStream::WantedFn wanted = [&](const MatrixInput& input) {
      return InputStatistics::Wanted{NeedsOf(source_.weights, group.targets, input),
                                     calibration_.widest_block};
    };
    InputStatistics input = plain == nullptr ? text.Next(wanted) : text.NextBeside(*plain, wanted);
    if (before != nullptr) meter_.done += WeightsIn(*before);
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
    for (std::size_t i = 0; i + 1 < text_.inputs().size(); ++i) {
      const MatrixInput* const before = text_.at();
      text_.Skip();
      if (before != nullptr) meter_.done += WeightsIn(*before);
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
      const WeightId weight = input.weight();
      calibrate::CorrectionErrors errors;
      if (has_factor)
        errors =
            calibrate::MeasureCorrection(runner(), source_.weights, RowsOf(*text_.at()),
                                         input.probe(), correction, calibrate::kCorrectionShare);
      note_.corrections.push_back({group.numbers.front(),
                                   {std::string(RoleName(weight.role)), weight.layer, weight.expert,
                                    errors.pays(), errors.without, errors.with}});
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
    stage.expert = input.weight().expert;
    const auto is_of_input = [this](const PlanLine& line) {
      return TakesInput(source_.weights, line, *text_.at());
    };
    stage.takes = [&](const PlanLine& line) {
      return is_of_input(line) && (is_factored || !IsFeedback(line));
    };
    std::vector<const PlanLine*> unserved = WriteStage(stage, group);
    for (const PlanLine* line : unserved) {
      warn_({ErrorCode::kNumeric,
             fmt::format("tensor '{}'{}: on held-back text its products err more with feedback "
                         "than without, so it has other codes",
                         line->display_name(),
                         stage.expert < 0 ? "" : fmt::format(", expert {}", stage.expert))});
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
    note_.result.Add(written);
    return unserved;
  }

  const PlanLine& LineOf(const LineResult& line) const {
    return targets_[line.target].plan->lines[line.line];
  }

  // Errors of the text that was summed far below those of other text: correlations are noise.
  void WarnOfFewTokens() const {
    double seen = 0, held_back = 0;
    std::size_t n = 0;
    for (const LineResult& line : result_.lines) {
      if (!line.products || line.products->reference <= 0) continue;
      seen += line.products->seen / line.products->reference;
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
  static constexpr std::string_view kSums = "sums";
  std::vector<ScratchFile*> states_;  // of the streams: of all targets, then of corrected groups
  ScratchFile* sums_ = nullptr;       // of squares of inputs, where stages are kept
  std::uint64_t sums_bytes_ = 0;
  WarningFn warn_;
  std::vector<std::vector<InputCorrection>>& corrections_;
  std::vector<Group> groups_;
  Meter meter_;
  TextStream text_;
  StageNote note_;       // of the stage that is being done
  StreamResult result_;  // of those that are
};

}  // namespace

std::uint64_t CountStages(const Calibration& calibration, const SourceModel& source) {
  std::uint64_t n = 1;
  if (calibration.matrix) {
    ForEachWeight(*calibration.matrix, source, [&n](WeightId, const std::vector<float>&) { ++n; });
  } else {
    n += calibrate::InputsOf(source.model.config).size();
  }
  return n;
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
