// `phiq verify`: holds an output against its own record, and against the checkpoint that it was
// made from. What else the file says is compared by its format.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "convert/check_record.h"
#include "convert/compare_weights.h"
#include "convert/open_model.h"
#include "convert/same_calibration.h"
#include "formats/format.h"
#include "io/parallel.h"
#include "phiq/inspect.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq {
namespace {

constexpr std::uint64_t kVerifyElements = 1ULL << 17;  // weights encoded again at once by a thread

bool Has(const Facts& facts, std::string_view key) {
  return std::ranges::any_of(facts, [&](const auto& fact) { return fact.first == key; });
}

// The rows of the source that a piece holds, or a problem.
class Matcher {
 public:
  Matcher(const SourceModel& source, std::vector<std::string>& problems)
      : source_(source), problems_(problems) {
    for (const ModelTensor& tensor : source.model.tensors)
      tensors_[{tensor.role, tensor.layer}] = &tensor;
  }

  std::optional<PlanLine> LineOf(const StoredPiece& piece) {
    switch (piece.holds) {
      case Holds::kWeight:
        return WeightOf(piece);
      case Holds::kTable:
        return TableOf(piece);
      case Holds::kNothing:
        break;
    }
    NoCounterpart("tensor", piece);
    return std::nullopt;
  }

  // After all pieces.
  void FindMissing() {
    for (const ModelTensor& tensor : source_.model.tensors) {
      const std::uint64_t wanted = tensor.n_elements() / tensor.shape.back();
      if (n_rows_[{tensor.role, tensor.layer}] < wanted)
        problems_.push_back(fmt::format("weight '{}' is missing, or part of it", tensor.name));
    }
  }

 private:
  void NoCounterpart(std::string_view what, const StoredPiece& piece) {
    problems_.push_back(
        fmt::format("{} '{}' has no counterpart in the source", what, Escape(piece.name)));
  }

  std::optional<PlanLine> WeightOf(const StoredPiece& piece) {
    const WeightId id = {piece.role, piece.layer};
    auto match = tensors_.find(id);
    // A tied head may stand in the output beside the embedding.
    if (match == tensors_.end() && piece.role == TensorRole::kOutputHead)
      match = tensors_.find({TensorRole::kTokenEmbedding, -1});
    if (match == tensors_.end()) {
      NoCounterpart("weight", piece);
      return std::nullopt;
    }
    PlanLine line = phiq::LineOf(*match->second);
    line.role = piece.role;
    const std::uint64_t n_rows = line.n_rows();
    if (piece.row_elements != line.row_elements() || piece.n_rows > n_rows ||
        piece.first_row > n_rows - piece.n_rows) {
      problems_.push_back(fmt::format("weight '{}' is {} x {}, wanted {} x {}", Escape(piece.name),
                                      piece.n_rows, piece.row_elements, n_rows,
                                      line.row_elements()));
      return std::nullopt;
    }
    if (!rows_.emplace(id, piece.first_row).second) {
      problems_.push_back(fmt::format("weight '{}' stands twice", Escape(piece.name)));
      return std::nullopt;
    }
    n_rows_[id] += piece.n_rows;
    line.first_row = piece.first_row;
    if (!IsVector(line.role)) line.shape = {piece.n_rows, line.row_elements()};
    line.encoding = piece.encoding;
    return line;
  }

  std::optional<PlanLine> TableOf(const StoredPiece& piece) {
    if (!piece.table || !HasTable(*piece.table)) {
      NoCounterpart("table", piece);
      return std::nullopt;
    }
    PlanLine line = phiq::LineOf(source_.model.config, *piece.table, "");
    line.encoding = piece.encoding;
    SetSize(line);
    if (piece.shape == line.shape && piece.size_bytes == line.size_bytes) return line;
    problems_.push_back(
        fmt::format("table '{}' has another shape than the source gives", Escape(piece.name)));
    return std::nullopt;
  }

  // Factors are there with rope scaling alone.
  bool HasTable(ConfigTable table) const {
    return ShapeOf(source_.model.config, table).n_columns > 0;
  }

  const SourceModel& source_;
  std::vector<std::string>& problems_;
  std::map<WeightId, const ModelTensor*> tensors_;
  std::map<WeightId, std::uint64_t> n_rows_;
  std::set<std::pair<WeightId, std::uint64_t>> rows_;
};

// The record, unless it is damaged, which is a problem.
std::optional<StoredRecord> ReadRecord(const StoredModel& output, const std::string& path,
                                       std::vector<std::string>& problems) {
  try {
    return FindRecord(output, path);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kBadData) throw;
    problems.emplace_back(error.what());
    return std::nullopt;
  }
}

// Pieces of the output as lines of the source; everything that is to be said of them but of their
// values.
std::vector<StoredWeight> MatchWeights(const StoredModel& output, const SourceModel& source,
                                       std::vector<std::string>& problems) {
  Matcher matcher(source, problems);
  std::vector<StoredWeight> weights;
  for (std::size_t i = 0; i < output.pieces().size(); ++i) {
    if (std::optional<PlanLine> line = matcher.LineOf(output.pieces()[i]))
      weights.push_back({i, *std::move(line)});
  }
  matcher.FindMissing();
  return weights;
}

// An output says which file it was made from, where that was none of a checkpoint.
void NoteOtherSource(const StoredModel& output, const SourceModel& source, Verification& result) {
  const Facts facts = output.facts();
  const auto fact = std::ranges::find(facts, kSourceFact,
                                      [](const auto& one) { return std::string_view(one.first); });
  const std::string wanted = fact == facts.end() ? "" : fact->second;
  if (wanted == source.origin) return;
  const auto shown = [](const std::string& origin) {
    return origin.empty() ? std::string("a checkpoint") : Escape(origin);
  };
  result.notes.push_back(fmt::format("was made from {}, and is compared with {}", shown(wanted),
                                     shown(source.origin)));
}

}  // namespace

Verification Verify(const VerifyOptions& options, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  const std::unique_ptr<StoredModel> output = OpenStoredModel(options.output, warn);
  Verification result;
  std::vector<std::string> damage;  // of the record itself
  const std::optional<StoredRecord> stored = ReadRecord(*output, options.output, damage);
  std::vector<InputFile> files;
  if (stored) files = OpenRecorded(*stored, damage);
  const bool has_checksums = stored && stored->record.has_checksums;
  if (options.model.empty() && !has_checksums && damage.empty())
    throw Error(ErrorCode::kUsage, "has no recorded checksums")
        .In(options.output)
        .Hint("--against MODEL compares it with its checkpoint");
  std::optional<SourceModel> source;
  if (!options.model.empty())
    source.emplace(OpenSourceModel(LocateSource(options.model, warn, options.tokenizer),
                                   {options.ignore_extra, options.adapters, options.pad_vocab},
                                   warn, [&](const ModelConfig&) { return output->expression(); }));
  const Facts facts = output->facts();
  std::optional<Calibration> calibration;
  if (options.calibration) {
    if (!source)
      throw Error(ErrorCode::kUsage, "a text or an importance matrix makes codes of a checkpoint")
          .In(options.output)
          .Hint("--against MODEL");
    if (!stored && damage.empty())
      throw Error(ErrorCode::kUsage, "has no record of which codes a calibration chose")
          .In(options.output)
          .Hint("without --calibrate and --imatrix it is held to the bounds of its types");
    calibration = PrepareSame(options, facts, *source, threads, hooks);
  }
  result.problems = output->FindProblems();
  std::vector<StoredWeight> weights;
  const Format* const format = RecognizeFormat(options.output);
  if (source) {
    for (std::string& problem :
         output->FindDifferences(source->model, source->stored->side_files()))
      result.problems.push_back(std::move(problem));
    if (format != nullptr && format->tokenizer_decisions != nullptr)
      result.notes = NotesOf(format->tokenizer_decisions(source->model));
    NoteOtherSource(*output, *source, result);
    weights = MatchWeights(*output, *source, result.problems);
  }
  result.problems.insert(result.problems.end(), damage.begin(), damage.end());
  // From here on everything but the values has been compared.
  std::uint64_t n_steps = 0;
  for (const StoredWeight& weight : weights) n_steps += weight.line.n_elements();
  if (has_checksums && !files.empty()) n_steps += WeightsOf(stored->record);
  if (source && !files.empty() && !calibration) n_steps += WeightsToEncode(stored->record);
  Meter meter(hooks, n_steps);
  const CompareWeightsOptions how = {Has(facts, "phiq.nan_policy"),
                                     Has(facts, "phiq.overflow_policy"), Has(facts, "phiq.method"),
                                     Has(facts, "phiq.calibration_correction"), threads};
  if (source) CompareWeights(*source, *output, weights, how, meter, result);
  std::vector<bool> damaged;
  if (has_checksums && !files.empty())
    damaged = CheckChecksums(*stored, files, threads, meter, result);
  if (source && !files.empty()) {
    const StreamOptions stream = {
        threads, kVerifyElements, how.nan_was_zeroed ? NanPolicy::kZero : NanPolicy::kError,
        how.was_clamped ? OverflowPolicy::kClamp : OverflowPolicy::kError};
    EncodeAgain(*stored, files, damaged,
                {*source, format == nullptr ? "" : format->name, stream,
                 calibration ? &*calibration : nullptr, options.memory_limit_bytes, hooks},
                meter, result);
  }
  return result;
}

}  // namespace phiq
