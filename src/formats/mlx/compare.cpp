// The files beside the weights are made anew from the source and compared, so that the writer is
// the one place that says what they hold.
#include "formats/mlx/compare.h"

#include <fmt/format.h>

#include <utility>

#include "formats/mlx/layout.h"
#include "formats/mlx/recipe.h"
#include "formats/mlx/side_files.h"
#include "formats/model_card.h"
#include "phiq/error.h"
#include "safetensors/writer.h"

namespace phiq::mlx {
namespace {

// The plan that the folder would have been written for.
FolderPlan PlanOf(const Folder& folder) {
  FolderPlan plan;
  const std::map<std::string, std::string>& metadata = folder.tensors().metadata();
  const auto type = metadata.find("phiq.type");
  plan.type = FindType(type == metadata.end() ? "" : type->second).name;
  for (const Weight& weight : folder.weights()) {
    PlanLine line;
    line.name = weight.name;
    line.role = weight.id.role;
    line.layer = weight.id.layer;
    line.shape = weight.dims;
    line.encoding = weight.encoding;
    plan.lines.push_back(std::move(line));
  }
  if (folder.quantization()) plan.common = folder.quantization()->common;
  plan.lists_all = FindType(plan.type).is_recipe();
  return plan;
}

}  // namespace

std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model) {
  std::vector<SideFile> expected;
  try {
    FolderPlan plan = PlanOf(folder);
    expected = MakeSideFiles(source, model, plan);
    expected.push_back({std::string(safetensors::kIndexName), BytesOf(MakeIndex(plan))});
  } catch (const Error& error) {
    return {fmt::format("the files beside the weights cannot be compared: {}", error.what())};
  }
  const std::vector<std::string> code = CodeFileNames(folder.files());
  std::vector<std::string_view> possible = SideFileNames();
  possible.insert(possible.end(), code.begin(), code.end());
  return CompareSideFiles(expected, possible, folder.files().path(), CompareWithCard);
}

}  // namespace phiq::mlx
