// Checkpoints as transformers saves them: the way back from the others, whose weights are decoded.
// What is written is read as any checkpoint is.
#include "formats/pretrained/format.h"

#include "formats/pretrained/layout.h"
#include "formats/pretrained/plan.h"
#include "stored/checkpoint_model.h"

namespace phiq::pretrained {
namespace {

constexpr std::string_view kPeerNames[] = {"checkpoint", "hf", "huggingface"};

}  // namespace

const Format kFormat = {
    .name = "safetensors",
    .title = "safetensors",
    .types = [] { return TypeNamesOf(Types()); },
    .parse_type = [](std::string_view name) { return std::string(FindType(name).name); },
    .types_of_precisions = {"", "", "F16", "BF16", "F32"},
    .default_type = kAsTheyAre,
    .runtimes = kPeerNames,
    .plan = [](const Model& model, const PlanOptions& options, const Answers&,
               const WarningFn&) -> std::unique_ptr<Plan> { return MakePlan(model, options); },
    .lay_out = [](const Model& model, const SideFiles& source, Plan& plan,
                  const WarningFn&) { return MakeLayout(source, model, plan); },
    .owned_files = OwnedFiles,
    // A checkpoint is opened as one.
    .recognizes = [](const std::filesystem::path&) noexcept { return false; },
    .open = [](const std::string& path, const WarningFn& warn) -> std::unique_ptr<StoredModel> {
      return OpenCheckpointModel(LocateCheckpoint(path, warn), {}, warn);
    },
};

}  // namespace phiq::pretrained
