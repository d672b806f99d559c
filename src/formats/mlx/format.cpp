// MLX, the folders of mlx-lm.
#include "formats/mlx/format.h"

#include "formats/mlx/layout.h"
#include "formats/mlx/plan.h"
#include "formats/mlx/recipe.h"
#include "formats/mlx/stored_model.h"

namespace phiq::mlx {
namespace {

constexpr std::string_view kPeerNames[] = {"mlx-lm", "mlx_lm"};
constexpr std::string_view kMixedTypes[] = {"2bit", "3bit", "4bit", "5bit", "6bit", "8bit"};

constexpr Knob kKnobs[] = {
    {"group-size", "N", "Weights per scale", "32, 64 (default), 128", {}, true},
    {"mlx-rounding", "KIND", "Ties as MLX rounds them on the cpu (default) or on metal", "",
     kRoundings},
};

}  // namespace

const Format kFormat = {
    .name = "mlx",
    .title = "MLX",
    .knobs = kKnobs,
    .types = [] { return TypeNamesOf(Types()); },
    .parse_type = [](std::string_view name) { return std::string(FindType(name).name); },
    .types_of_precisions = {"4bit", "8bit", "F16", "BF16", "F32"},
    .mixed_types = kMixedTypes,
    .runtimes = kPeerNames,
    .expression = [](const ModelConfig& config,
                     const PlanOptions&) { return OwnExpression(config); },
    .runtime_memory =
        [](const Plan& plan) {
          return RuntimeMemory{.runtime = "mlx-lm",
                               .cache_bits = BitsOfVectors(plan),
                               .cache_step = 256,
                               .n_at_once = 2048};
        },
    .plan = [](const Model& model, const PlanOptions& options, const Answers&,
               const WarningFn& warn) -> std::unique_ptr<Plan> {
      return MakePlan(model, options, warn);
    },
    .lay_out =
        [](const Model& model, const SideFiles& source, Plan& plan, const WarningFn&) {
          return MakeLayout(source, model, static_cast<FolderPlan&>(plan));
        },
    .owned_files = OwnedFiles,
    .recognizes = LooksLikeMlx,
    .open = [](const std::string& path,
               const WarningFn& warn) { return MakeStoredModel(Folder::Open(path, warn), path); },
};

}  // namespace phiq::mlx
