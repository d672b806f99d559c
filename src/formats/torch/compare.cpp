// The files beside the weights are made anew from the source and compared, so that the writer is
// the one place that says what they hold.
#include "formats/torch/compare.h"

#include <fmt/format.h>

#include <utility>

#include "formats/model_card.h"
#include "formats/torch/layout.h"
#include "formats/torch/side_files.h"
#include "phiq/error.h"
#include "safetensors/writer.h"

namespace phiq::torch {
namespace {

// The plan that the folder would have been written for.
FolderPlan PlanOf(const Folder& folder) {
  const Quantization::Origin& origin = folder.quantization().origin().value();
  FolderPlan plan;
  plan.type = FindType(origin.type).name;
  plan.box = folder.quantization().box();
  plan.version = origin.version;
  plan.facts = origin.facts;
  for (const Weight& weight : folder.weights()) {
    PlanLine line;
    line.name = weight.name;
    line.role = weight.id.role;
    line.layer = weight.id.layer;
    line.shape = {weight.row_elements};
    if (!IsVector(line.role)) line.shape.insert(line.shape.begin(), weight.n_rows);
    line.encoding = weight.encoding;
    plan.lines.push_back(std::move(line));
  }
  return plan;
}

}  // namespace

std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model) {
  std::vector<SideFile> expected;
  try {
    FolderPlan plan = PlanOf(folder);
    expected = MakeSideFiles(source, model, plan);
    if (const std::string index = MakeIndex(plan); !index.empty())
      expected.push_back({std::string(safetensors::kIndexName), BytesOf(index)});
  } catch (const Error& error) {
    return {fmt::format("the files beside the weights cannot be compared: {}", error.what())};
  }
  std::vector<std::string_view> possible = SideFileNames();
  possible.push_back(safetensors::kIndexName);
  return CompareSideFiles(expected, possible, folder.files().path(), CompareWithCard);
}

}  // namespace phiq::torch
