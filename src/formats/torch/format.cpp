// Quantized safetensors folders that transformers, vLLM and what else reads compressed-tensors,
// GPTQ or AWQ load.
#include "formats/torch/format.h"

#include "formats/torch/layout.h"
#include "formats/torch/plan.h"
#include "formats/torch/recipe.h"
#include "formats/torch/stored_model.h"

namespace phiq::torch {
namespace {

constexpr std::string_view kPeerNames[] = {"pytorch", "transformers", "vllm", "compressed-tensors",
                                           "gptq",    "awq"};
constexpr std::string_view kMixedTypes[] = {"W4A16", "W8A16"};

constexpr Knob kKnobs[] = {
    {"group-size", "N", "Weights per scale", "32, 64, 128 (default), or row", {}, true},
    {"sym", "", "Symmetric codes", "default, but for AWQ", {}, true},
    {"asym", "", "Codes with a zero point", "W4A16 and AWQ", {}, true},
};

}  // namespace

const Format kFormat = {
    .name = "torch",
    .title = "PyTorch",
    .knobs = kKnobs,
    .types = [] { return TypeNamesOf(Types()); },
    .parse_type = [](std::string_view name) { return std::string(FindType(name).name); },
    .types_of_precisions = {"W4A16", "W8A8", "", "", ""},
    .mixed_types = kMixedTypes,
    .runtimes = kPeerNames,
    .runtime_memory =
        [](const Plan& plan) {
          return RuntimeMemory{
              .runtime = "vLLM", .cache_bits = BitsOfVectors(plan), .cache_step = 16};
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
    .recognizes = LooksLikeTorch,
    .open = [](const std::string& path,
               const WarningFn& warn) { return MakeStoredModel(Folder::Open(path, warn), path); },
};

}  // namespace phiq::torch
