// Tensors in mlx-lm's order, then the files beside them.
#include "formats/mlx/layout.h"

#include <algorithm>
#include <numeric>

#include "formats/mlx/config.h"
#include "formats/mlx/side_files.h"
#include "formats/mlx/tensor_names.h"
#include "formats/shards.h"
#include "model/float_types.h"
#include "model/weights.h"
#include "safetensors/writer.h"

namespace phiq::mlx {
namespace {

constexpr std::uint64_t kMaxShardBytes = 5ULL << 30;  // mlx-lm's
constexpr std::size_t kMaxShards = 64;                // of a model of 300 GB

DType DTypeOfArray(const Encoding& encoding, std::size_t array) {
  if (const auto* type = std::get_if<GgmlType>(&encoding))
    return DTypeOf(FloatTypeOf(*type).value());
  if (array == 0) return DType::kU32;
  return DTypeOfScales(std::get<GroupEncoding>(encoding).scale);
}

// Where a weight stands in its layer; mlx-lm's parameters are in the order of its modules.
int RankInLayer(TensorRole role) noexcept {
  switch (role) {
    case TensorRole::kAttentionQkv:
    case TensorRole::kAttentionQuery:
    case TensorRole::kAttentionQueryBias:
      return 0;
    case TensorRole::kAttentionKey:
    case TensorRole::kAttentionKeyBias:
      return 1;
    case TensorRole::kAttentionValue:
    case TensorRole::kAttentionValueBias:
      return 2;
    case TensorRole::kAttentionOutput:
    case TensorRole::kAttentionOutputBias:
      return 3;
    case TensorRole::kMlpGateUp:
    case TensorRole::kRouter:
      return 4;
    case TensorRole::kMlpDown:
    case TensorRole::kExpertGate:
      return 5;
    case TensorRole::kExpertUp:
      return 6;
    case TensorRole::kExpertDown:
      return 7;
    case TensorRole::kAttentionNorm:
    case TensorRole::kAttentionNormBias:
      return 8;
    case TensorRole::kMlpNorm:
    case TensorRole::kMlpNormBias:
      return 9;
    default:
      return 0;  // outside of the layers, where the plan's order is mlx-lm's
  }
}

std::vector<std::size_t> LineOrder(const Plan& plan) {
  std::vector<std::size_t> order(plan.lines.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Layers stand together in the plan: only lines of one layer change places.
  const auto first_of_layer = [&](std::size_t i) {
    return plan.lines[i].layer >= 0 && (i == 0 || plan.lines[i - 1].layer != plan.lines[i].layer);
  };
  for (std::size_t begin = 0; begin < order.size(); ++begin) {
    if (!first_of_layer(begin)) continue;
    std::size_t end = begin;
    while (end < order.size() && plan.lines[end].layer == plan.lines[begin].layer) ++end;
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(begin),
                     order.begin() + static_cast<std::ptrdiff_t>(end),
                     [&](std::size_t a, std::size_t b) {
                       return RankInLayer(plan.lines[a].role) < RankInLayer(plan.lines[b].role);
                     });
  }
  return order;
}

// One array of a line, as a tensor of the file.
safetensors::TensorSpec SpecOf(const PlanLine& line, std::size_t array) {
  safetensors::TensorSpec spec;
  spec.name = TensorName({line.role, line.layer}, line.name);
  if (array > 0) spec.name = ModuleOf(spec.name) + "." + std::string(kArrayNames[array]);
  spec.dtype = DTypeOfArray(line.encoding, array);
  spec.shape = line.shape;
  spec.shape.back() =
      ArrayRowBytes(line.encoding, array, line.row_elements()) * 8 / DTypeBits(spec.dtype);
  return spec;
}

std::vector<ShardTensor> TensorsOf(const Plan& plan) {
  std::vector<ShardTensor> tensors;
  for (const std::size_t i : LineOrder(plan)) {
    for (std::size_t a = 0; a < ArrayCount(plan.lines[i].encoding); ++a)
      tensors.push_back({SpecOf(plan.lines[i], a), PlacedArray{.line = i, .array = a}});
  }
  return tensors;
}

safetensors::Metadata MetadataOf(const Plan& plan) {
  safetensors::Metadata metadata = {
      {"format", "mlx"}, {"phiq.version", PHIQ_VERSION}, {"phiq.type", plan.type}};
  metadata.insert(metadata.end(), plan.facts.begin(), plan.facts.end());
  return metadata;
}

}  // namespace

std::vector<std::string> OwnedFiles(const SideFiles& side_files) {
  std::vector<std::string> names = CodeFileNames(side_files);
  for (const std::string_view name : SideFileNames()) names.emplace_back(name);
  for (std::string& name : ShardNames(kMaxShards)) names.push_back(std::move(name));
  return names;
}

OutputLayout MakeLayout(const SideFiles& side_files, const Model& model, FolderPlan& plan) {
  OutputLayout layout;
  layout.is_folder = true;
  const std::string index =
      AddShards(TensorsOf(plan), MetadataOf(plan), kMaxShardBytes, {}, plan.n_weights(), layout);
  layout.files.push_back(WholeFile(std::string(safetensors::kIndexName), BytesOf(index)));
  for (SideFile& file : MakeSideFiles(side_files, model, plan)) {
    if (file.name == kConfigName) layout.root = layout.files.size();
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  }
  return layout;
}

std::string MakeIndex(const Plan& plan) {
  OutputLayout layout;
  return AddShards(TensorsOf(plan), {}, kMaxShardBytes, {}, plan.n_weights(), layout);
}

}  // namespace phiq::mlx
