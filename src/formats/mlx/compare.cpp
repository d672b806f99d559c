#include "formats/mlx/compare.h"

#include <fmt/format.h>

#include <utility>

#include "formats/mlx/layout.h"
#include "formats/mlx/side_files.h"
#include "phiq/error.h"
#include "plan/mlx_recipe.h"
#include "safetensors/writer.h"

namespace phiq::mlx {
namespace {

// The plan that the folder would have been written for.
Plan PlanOf(const Folder& folder) {
  Plan plan;
  plan.format = Format::kMlx;
  const std::map<std::string, std::string>& metadata = folder.tensors().metadata();
  const auto type = metadata.find("phiq.type");
  plan.type = FindMlxType(type == metadata.end() ? "" : type->second).name;
  for (const Weight& weight : folder.weights()) {
    PlanLine line;
    line.name = weight.name;
    line.role = weight.id.role;
    line.layer = weight.id.layer;
    line.shape = {weight.row_elements};
    if (!IsNorm(line.role)) line.shape.insert(line.shape.begin(), weight.n_rows);
    line.encoding = weight.encoding;
    plan.lines.push_back(std::move(line));
  }
  if (folder.quantization()) plan.mlx.common = folder.quantization()->common;
  plan.mlx.lists_all = FindMlxType(plan.type).is_recipe();
  return plan;
}

}  // namespace

std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const Model& model) {
  std::vector<SideFile> expected;
  try {
    Plan plan = PlanOf(folder);
    expected = MakeSideFiles(source, model, plan);
    expected.push_back({std::string(safetensors::kIndexName), BytesOf(MakeIndex(plan))});
  } catch (const Error& error) {
    return {fmt::format("the files beside the weights cannot be compared: {}", error.what())};
  }
  const std::vector<std::string> code = CodeFileNames(folder.files());
  std::vector<std::string_view> possible = SideFileNames();
  possible.insert(possible.end(), code.begin(), code.end());
  return CompareSideFiles(expected, possible, folder.files().path());
}

}  // namespace phiq::mlx
