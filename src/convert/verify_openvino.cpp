// `phiq verify` of an OpenVINO folder: phiq's own, or an export of optimum-intel (whose weights
// alone are then compared).
#include <fmt/format.h>

#include <map>
#include <utility>

#include "convert/compare_weights.h"
#include "convert/verify_formats.h"
#include "formats/openvino/compare.h"
#include "formats/openvino/reader.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq {
namespace {

struct Found {
  std::vector<StoredWeight> weights;
  std::vector<const openvino::Weight*> stored;  // beside `weights`
};

// Finds the counterpart of every weight, and says which have none.
Found MatchWeights(const openvino::Folder& folder, const Source& source,
                   std::vector<std::string>& problems) {
  std::map<WeightId, const ModelTensor*> wanted;
  for (const ModelTensor& tensor : source.model.tensors)
    wanted[{tensor.role, tensor.layer}] = &tensor;
  Found found;
  for (const openvino::Weight& weight : folder.weights()) {
    const auto match = wanted.find(weight.id);
    if (match == wanted.end()) {
      problems.push_back(fmt::format(
          "weight '{}' has no counterpart in the source, or stands twice", Escape(weight.name)));
      continue;
    }
    PlanLine line = LineOf(*match->second, source.checkpoint.tensors());
    wanted.erase(match);
    if (weight.n_rows != line.n_rows() || weight.row_elements != line.row_elements()) {
      problems.push_back(fmt::format("weight '{}' is {} x {}, wanted {} x {}", Escape(weight.name),
                                     weight.n_rows, weight.row_elements, line.n_rows(),
                                     line.row_elements()));
      continue;
    }
    line.encoding = weight.encoding;
    found.weights.push_back({weight.name, std::move(line)});
    found.stored.push_back(&weight);
  }
  for (const auto& [id, tensor] : wanted)
    problems.push_back(fmt::format("weight '{}' is missing", CheckpointName(id)));
  return found;
}

}  // namespace

Verification VerifyOpenVino(const VerifyOptions& options, unsigned threads, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const openvino::Folder folder = openvino::Folder::Open(options.output);
  const Source source =
      OpenSource(LocateCheckpoint(options.model, warn), {options.ignore_extra}, warn);
  Verification result;
  result.problems = folder.FindProblems();
  const Found found = MatchWeights(folder, source, result.problems);
  if (openvino::IsOurs(folder)) {
    for (std::string& problem : openvino::FindDifferences(folder, source.folder, source.model))
      result.problems.push_back(std::move(problem));
  }
  const auto read_rows = [&](std::size_t index, std::uint64_t first_row, std::uint64_t n_rows,
                             RowCodec& codec, std::span<float> out) {
    folder.ReadRows(*found.stored[index], first_row, n_rows, codec, out);
  };
  const bool nan_was_zeroed = folder.FindInfo({"phiq", "nan_policy"}) != nullptr;
  const bool was_clamped = folder.FindInfo({"phiq", "overflow_policy"}) != nullptr;
  CompareWeights(source, found.weights, read_rows, {nan_was_zeroed, was_clamped, threads}, hooks,
                 result);
  return result;
}

}  // namespace phiq
