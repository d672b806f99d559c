// `phiq verify` of an ONNX folder: phiq's own, or one of onnxruntime-genai's builder (whose weights
// alone are then compared).
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <variant>

#include "convert/compare_weights.h"
#include "convert/open_model.h"
#include "convert/verify_formats.h"
#include "formats/onnx/compare.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/reader.h"
#include "formats/onnx/side_files.h"
#include "formats/onnx/weight_names.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq {
namespace {

struct Found {
  std::vector<StoredWeight> weights;
  // Beside `weights`: what each was read from.
  std::vector<std::variant<const onnx::Weight*, const onnx::Table*>> stored;
};

// Index of the tensor that holds a weight; of a tied model's head: the embedding.
std::size_t TensorOf(const Model& model, const WeightId& weight) {
  const TensorRole role = weight.role == TensorRole::kOutputHead && IsTied(model)
                              ? TensorRole::kTokenEmbedding
                              : weight.role;
  const auto found = std::ranges::find_if(model.tensors, [&](const ModelTensor& tensor) {
    return tensor.role == role && tensor.layer == weight.layer;
  });
  return static_cast<std::size_t>(found - model.tensors.begin());
}

// Finds the counterpart of every weight, and says which have none.
Found MatchWeights(const onnx::Folder& folder, const SourceModel& source,
                   std::vector<std::string>& problems) {
  std::map<std::string, onnx::NamedRows> possible;
  for (onnx::NamedRows& rows : onnx::PossibleWeights(source.model.config))
    possible.emplace(rows.name, std::move(rows));
  Found found;
  std::vector<std::uint64_t> n_rows_found(source.model.tensors.size());
  for (const onnx::Weight& weight : folder.weights()) {
    const auto match = possible.find(weight.name);
    if (match == possible.end()) {
      problems.push_back(
          fmt::format("weight '{}' has no counterpart in the source", Escape(weight.name)));
      continue;
    }
    const onnx::NamedRows& rows = match->second;
    const std::size_t tensor = TensorOf(source.model, rows.weight);
    PlanLine line = LineOf(source.model.tensors[tensor]);
    n_rows_found[tensor] += rows.n_rows;
    line.part = rows.part;
    line.first_row = rows.first_row;
    line.role = rows.weight.role;
    // One tensor for embedding and head stands for both.
    if (!weight.shared_name.empty()) line.role = TensorRole::kTokenEmbedding;
    if (line.shape.size() == 2) line.shape[0] = rows.n_rows;
    if (weight.n_rows != line.n_rows() || weight.row_elements != line.row_elements()) {
      problems.push_back(fmt::format("weight '{}' is {} x {}, wanted {} x {}", weight.name,
                                     weight.n_rows, weight.row_elements, line.n_rows(),
                                     line.row_elements()));
      continue;
    }
    line.encoding = weight.encoding;
    found.weights.push_back({weight.name, std::move(line)});
    found.stored.push_back(&weight);
  }
  // A tied embedding is looked up and multiplied with, by one tensor or two.
  const auto has = [&](TensorRole role) {
    return std::ranges::any_of(found.weights,
                               [&](const StoredWeight& w) { return w.line.role == role; });
  };
  const bool is_shared = std::ranges::any_of(
      folder.weights(), [](const onnx::Weight& weight) { return !weight.shared_name.empty(); });
  if (IsTied(source.model) && !is_shared &&
      !(has(TensorRole::kTokenEmbedding) && has(TensorRole::kOutputHead)))
    problems.emplace_back("the embedding or the output head is missing");
  for (std::size_t i = 0; i < n_rows_found.size(); ++i) {
    const ModelTensor& tensor = source.model.tensors[i];
    const std::uint64_t wanted = tensor.shape.size() == 2 ? tensor.shape[0] : 1;
    if (n_rows_found[i] < wanted)
      problems.push_back(fmt::format("weight '{}' is missing, or part of it", tensor.name));
  }
  return found;
}

// The rotary tables, as weights whose source is config.json.
void MatchTables(const onnx::Folder& folder, const SourceModel& source, Found& found,
                 std::vector<std::string>& problems) {
  for (const onnx::Table& table : folder.tables()) {
    const std::uint64_t n_rows = table.dims.empty() ? 0 : table.dims[0];
    const std::optional<ConfigTable> which =
        onnx::FindTable(source.model.config, table.name, n_rows);
    const std::optional<GgmlType> type = onnx::FloatTypeOf(table.data_type);
    if (!which || !type) {
      problems.push_back(
          fmt::format("table '{}' has no counterpart in the source", Escape(table.name)));
      continue;
    }
    PlanLine line = LineOf(source.model.config, *which, "");
    line.encoding = *type;
    SetSize(line);
    if (table.dims != line.shape || table.size_bytes != line.size_bytes) {
      problems.push_back(
          fmt::format("table '{}' has another shape than the source gives", Escape(table.name)));
      continue;
    }
    found.weights.push_back({table.name, std::move(line)});
    found.stored.emplace_back(&table);
  }
}

}  // namespace

Verification VerifyOnnx(const VerifyOptions& options, unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const onnx::Folder folder = onnx::Folder::Open(options.output, warn);
  const SourceModel source =
      OpenSourceModel(options.model, {options.ignore_extra, options.adapters}, warn);
  Verification result;
  result.problems = folder.FindGraphProblems();
  Found found = MatchWeights(folder, source, result.problems);
  if (onnx::IsOurs(folder)) {
    result.notes = NotesOf(onnx::TokenizerDecisions(source.model));
    std::vector<PlanLine> lines;
    for (const StoredWeight& weight : found.weights) lines.push_back(weight.line);
    for (std::string& problem :
         onnx::FindDifferences(folder, source.stored->side_files(), source.model, std::move(lines)))
      result.problems.push_back(std::move(problem));
  }
  MatchTables(folder, source, found, result.problems);
  const auto read_rows = [&](std::size_t index, std::uint64_t first_row, std::uint64_t n_rows,
                             RowCodec& codec, std::span<float> out) {
    if (const auto* table = std::get_if<const onnx::Table*>(&found.stored[index])) {
      folder.ReadRows(**table, first_row, out);
    } else {
      folder.ReadRows(*std::get<const onnx::Weight*>(found.stored[index]), first_row, n_rows, codec,
                      out);
    }
  };
  const bool nan_was_zeroed = !onnx::Property(folder, "phiq.nan_policy").empty();
  const bool was_clamped = !onnx::Property(folder, "phiq.overflow_policy").empty();
  CompareWeights(source, found.weights, read_rows, {nan_was_zeroed, was_clamped, threads}, hooks,
                 result);
  return result;
}

}  // namespace phiq
