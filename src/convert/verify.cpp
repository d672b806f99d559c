// `phiq verify`: decodes an output and holds it against the checkpoint it was made from.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "base/sha256.h"
#include "convert/rows.h"
#include "convert/source.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/reader.h"
#include "io/parallel.h"
#include "phiq/inspect.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint64_t kVerifyElements = 1ULL << 19;  // weights compared at once by a thread

// What a type may cost. `relative_rmse`: of a whole tensor; about twice what Gaussian weights give
// (docs/quantization.md "Errors to expect"), since trained rows have outliers. `block_error`: the
// largest error of one weight as a share of the largest weight of its block; half a step for the
// round-to-nearest types, one whole step where the far end is clipped (Q4_0, Q5_0), and no more
// than the block's largest weight itself for the types that search. `levels`: steps of the scale in
// the largest weight; a scale below the normal halves is off by up to 2^-25, a weight by that many
// times.
struct ErrorBound {
  GgmlType type;
  double relative_rmse;
  double block_error;
  double levels;

  double Slack() const noexcept { return levels * 0x1p-25; }
};
constexpr ErrorBound kErrorBounds[] = {
    {GgmlType::kF32, 0, 0, 0},
    {GgmlType::kF16, 0x1p-11, 0x1p-11, 1},
    {GgmlType::kBF16, 0x1p-8, 0x1p-8, 0x1p-100},  // a BF16 denormal's step is far below a half's
    {GgmlType::kQ8_0, 0.02, 0.0045, 127},
    {GgmlType::kQ6_K, 0.05, 1, 4096},
    {GgmlType::kQ5_K, 0.09, 1, 63 * 31},
    {GgmlType::kQ5_1, 0.10, 0.036, 32},
    {GgmlType::kQ5_0, 0.11, 0.066, 16},
    {GgmlType::kQ4_K, 0.17, 1, 63 * 15},
    {GgmlType::kQ4_1, 0.19, 0.072, 16},
    {GgmlType::kQ4_0, 0.22, 0.13, 8},
    {GgmlType::kIQ4_NL, 0.20, 1, 127},
    {GgmlType::kIQ4_XS, 0.20, 1, 32 * 127},
    {GgmlType::kQ3_K, 0.35, 1, 32 * 4},
    {GgmlType::kQ2_K, 0.60, 1, 15 * 3},
};

const ErrorBound& BoundOf(GgmlType type) {
  return *std::find_if(std::begin(kErrorBounds), std::end(kErrorBounds),
                       [&](const ErrorBound& b) { return b.type == type; });
}

// Keys that name the model for people; a renamed folder changes them.
bool IsLabel(std::string_view key) {
  return key.starts_with("general.") && key != "general.architecture" &&
         key != "general.file_type" && key != "general.quantization_version";
}

// The --type name that stands for general.file_type; F32 when the file does not say.
std::string TypeNameOf(const gguf::File& file) {
  const gguf::Value* value = gguf::Find(file.metadata(), "general.file_type");
  const std::uint32_t* code = value == nullptr ? nullptr : std::get_if<std::uint32_t>(value);
  return code == nullptr ? "F32" : gguf::FindFileType(*code).value_or("F32");
}

void CompareMetadata(const gguf::Metadata& expected, const gguf::File& file,
                     std::vector<std::string>& problems) {
  std::set<std::string_view> known;
  for (const auto& [key, value] : expected) {
    known.insert(key);
    if (IsLabel(key)) continue;
    const gguf::Value* found = gguf::Find(file.metadata(), key);
    if (found == nullptr) {
      problems.push_back(fmt::format("metadata '{}' is missing", key));
    } else if (*found == value) {
      continue;
    } else if (key == "tokenizer.chat_template" && std::holds_alternative<std::string>(*found)) {
      problems.push_back(fmt::format(
          "the chat template differs from the source's: SHA-256 {} here, {} there",
          Sha256Hex(std::get<std::string>(*found)), Sha256Hex(std::get<std::string>(value))));
    } else {
      problems.push_back(fmt::format("metadata '{}' differs from what the source gives", key));
    }
  }
  for (const auto& [key, value] : file.metadata()) {
    if (known.contains(key) || IsLabel(key) || key.starts_with("phiq.")) continue;
    problems.push_back(fmt::format("metadata '{}' has no counterpart in the source", Escape(key)));
  }
}

struct ChunkError {
  double squared_error = 0, squared_weight = 0, max_error = 0;
  double worst_block =
      0;  // largest error of a weight, less the slack / largest weight of its block
  std::uint64_t n_weights = 0;
  bool is_finite = true;
};

ChunkError Compare(const ErrorBound& bound, std::span<const float> weights,
                   std::span<const float> decoded) {
  const std::size_t block_size = GetGgmlTypeInfo(bound.type).block_size;
  ChunkError total;
  total.n_weights = weights.size();
  for (std::size_t first = 0; first < weights.size(); first += block_size) {
    double amax = 0;
    double worst = 0;
    for (std::size_t i = first; i < first + block_size; ++i) {
      const double error = std::abs(static_cast<double>(weights[i]) - decoded[i]);
      if (!std::isfinite(error)) total.is_finite = false;
      amax = std::max(amax, std::abs(static_cast<double>(weights[i])));
      worst = std::max(worst, error);
      total.squared_error += error * error;
      total.squared_weight += static_cast<double>(weights[i]) * weights[i];
    }
    total.max_error = std::max(total.max_error, worst);
    // An error in a block of zeros is infinitely large.
    if (worst > bound.Slack())
      total.worst_block = std::max(total.worst_block, (worst - bound.Slack()) / amax);
  }
  return total;
}

}  // namespace

Verification Verify(const VerifyOptions& options, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const gguf::File file = gguf::File::Open(options.output, warn);
  const Source source =
      OpenSource(LocateCheckpoint(options.model, warn), options.ignore_extra, warn);
  PlanOptions plan_options;
  plan_options.type = TypeNameOf(file);
  // A tensor's type is the file's own: rules and fallbacks of the run that made it are not known
  // here.
  Plan plan = MakePlan(source.model, source.checkpoint, plan_options, [](const Warning&) {});
  const bool nan_was_zeroed = gguf::Find(file.metadata(), "phiq.nan_policy") != nullptr;

  Verification result;
  CompareMetadata(gguf::BuildMetadata(source.model, plan, {}, [](const Warning&) {}), file,
                  result.problems);
  std::vector<const gguf::Tensor*> counterpart(plan.lines.size());
  std::vector<std::size_t> comparable;
  std::set<std::string_view> expected_names;
  std::vector<std::string> names;
  for (const PlanLine& line : plan.lines) names.push_back(gguf::TensorName(line));
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    expected_names.insert(names[i]);
    const gguf::Tensor* tensor = file.FindTensor(names[i]);
    if (tensor == nullptr) {
      result.problems.push_back(fmt::format("tensor '{}' is missing", names[i]));
    } else if (tensor->shape != plan.lines[i].shape) {
      result.problems.push_back(
          fmt::format("tensor '{}' has another shape than {}", names[i], plan.lines[i].name));
    } else {
      plan.lines[i].type = tensor->type;
      counterpart[i] = tensor;
      comparable.push_back(i);
    }
  }
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (expected_names.contains(tensor.name)) continue;
    result.problems.push_back(
        fmt::format("tensor '{}' has no counterpart in the source", Escape(tensor.name)));
  }

  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, comparable, kVerifyElements);
  std::vector<RowReader> readers(threads, RowReader(source.checkpoint, source.model.config));
  std::vector<ChunkError> errors(chunks.size());
  ParallelChunks(threads, chunks.size(),
                 [&](std::size_t item, unsigned worker) {
                   const RowChunk& chunk = chunks[item];
                   const PlanLine& line = plan.lines[chunk.line];
                   const std::span<float> weights = readers[worker].Read(line, chunk);
                   if (nan_was_zeroed)
                     std::replace_if(
                         weights.begin(), weights.end(), [](float w) { return std::isnan(w); },
                         0.0F);
                   const std::size_t row_bytes = GgmlRowBytes(line.type, line.row_elements());
                   std::vector<std::byte> encoded(chunk.n_rows * row_bytes);
                   std::vector<float> decoded(weights.size());
                   file.Read(*counterpart[chunk.line], chunk.first_row * row_bytes, encoded);
                   DequantizeGgmlRow(line.type, encoded, decoded);
                   errors[item] = Compare(BoundOf(line.type), weights, decoded);
                 },
                 {{}, hooks.stop_requested, {}});
  source.checkpoint.CheckUnchanged();

  std::vector<ChunkError> of_line(plan.lines.size());
  for (std::size_t item = 0; item < chunks.size(); ++item) {
    ChunkError& total = of_line[chunks[item].line];
    total.squared_error += errors[item].squared_error;
    total.squared_weight += errors[item].squared_weight;
    total.max_error = std::max(total.max_error, errors[item].max_error);
    total.worst_block = std::max(total.worst_block, errors[item].worst_block);
    total.n_weights += errors[item].n_weights;
    total.is_finite = total.is_finite && errors[item].is_finite;
  }
  for (const std::size_t i : comparable) {
    const ChunkError& error = of_line[i];
    const ErrorBound& bound = BoundOf(plan.lines[i].type);
    VerifiedTensor tensor;
    tensor.name = names[i];
    tensor.type = GetGgmlTypeInfo(plan.lines[i].type).name;
    tensor.max_error = error.max_error;
    tensor.relative_rmse = error.squared_weight > 0
                               ? std::sqrt(error.squared_error / error.squared_weight)
                               : std::sqrt(error.squared_error);
    tensor.bound = bound.relative_rmse;
    const double allowed_rms =
        bound.relative_rmse *
            std::sqrt(error.squared_weight / static_cast<double>(error.n_weights)) +
        bound.Slack();
    tensor.ok =
        error.is_finite &&
        std::sqrt(error.squared_error / static_cast<double>(error.n_weights)) <= allowed_rms &&
        error.worst_block <= bound.block_error;
    if (!error.is_finite) {
      result.problems.push_back(
          fmt::format("tensor '{}': NaN or Inf where the source is finite", names[i]));
    } else if (!tensor.ok) {
      result.problems.push_back(
          fmt::format("tensor '{}': {} decodes with relative RMSE {:.3g} (at most {:.3g}) and an "
                      "error of {:.3g} of a "
                      "block's largest weight (at most {:.3g})",
                      names[i], tensor.type, tensor.relative_rmse, bound.relative_rmse,
                      error.worst_block, bound.block_error));
    }
    result.tensors.push_back(std::move(tensor));
  }
  return result;
}

}  // namespace phiq
