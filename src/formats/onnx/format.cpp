// ONNX, the folders of onnxruntime-genai and plain onnxruntime.
#include "formats/onnx/format.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/onnx/layout.h"
#include "formats/onnx/plan.h"
#include "formats/onnx/recipe.h"
#include "formats/onnx/side_files.h"
#include "formats/onnx/stored_model.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

constexpr std::string_view kProviders[] = {"cpu", "cuda", "dml", "webgpu"};
constexpr std::string_view kRuntimes[] = {"1.20", "1.22", "1.24", "current"};
constexpr std::string_view kActivations[] = {"float", "dynamic"};
constexpr std::string_view kLevels[] = {"0", "1", "2", "3", "4"};
constexpr std::string_view kMethods[] = {"rtn", "k_quant"};

constexpr std::string_view kPeerNames[] = {"onnxruntime", "ort", "onnxruntime-genai"};
constexpr std::string_view kMixedTypes[] = {"int4", "int8"};

constexpr Knob kKnobs[] = {
    {"group-size", "N", "Weights per scale", "16, 32 (default), 64, 128, 256", {}, true},
    {"sym", "", "Symmetric codes", "default", {}, true},
    {"asym", "", "Codes with a zero point", "", {}, true},
    {"ep", "NAME", "Execution provider: cpu (default), cuda, dml, webgpu", "", kProviders},
    {"min-onnxruntime", "VERSION", "Oldest runtime to serve: 1.20, 1.22, 1.24, current", "",
     kRuntimes},
    {"accuracy-level", "N", "Of MatMulNBits: 4 computes on int8 activations, 1 on float32", "",
     kLevels},
    {"activations", "KIND", "float (default), or dynamic: int8 products in plain operators", "",
     kActivations},
    {"max-length", "N", "Tokens that the runtime reserves memory for; default 4096", "", {}},
};

std::string NameSuffix(const PlanOptions& options) {
  std::string suffix;
  if (FindWord(options, "activations", kActivations) != 0) suffix += "-dynamic";
  if (const std::size_t ep = FindWord(options, "ep", kProviders); ep != 0)
    suffix += fmt::format("-{}", kProviders[ep]);
  return suffix;
}

}  // namespace

std::string_view ExecutionProviderName(ExecutionProvider ep) noexcept {
  return kProviders[static_cast<std::size_t>(ep)];
}

std::string_view OnnxRuntimeName(OnnxRuntime version) noexcept {
  return kRuntimes[static_cast<std::size_t>(version)];
}

ExecutionProvider ParseExecutionProvider(std::string_view text) {
  const auto* found = std::ranges::find(kProviders, text);
  if (found != std::end(kProviders))
    return static_cast<ExecutionProvider>(found - std::begin(kProviders));
  throw Error(ErrorCode::kBadData, fmt::format("unknown execution provider '{}'", Escape(text)));
}

Options ReadOptions(const PlanOptions& options) {
  Options read;
  read.group_size = FindGroupSize(options);
  read.symmetric = FindSymmetric(options);
  read.ep = static_cast<ExecutionProvider>(FindWord(options, "ep", kProviders));
  if (FindKnob(options, "min-onnxruntime"))
    read.min_onnxruntime =
        static_cast<OnnxRuntime>(FindWord(options, "min-onnxruntime", kRuntimes));
  read.activations = static_cast<Activations>(FindWord(options, "activations", kActivations));
  if (FindKnob(options, "accuracy-level"))
    read.accuracy_level = static_cast<int>(FindWord(options, "accuracy-level", kLevels));
  read.max_length = FindCount(options, "max-length", 1, 1U << 30);
  return read;
}

const Format kFormat = {
    .name = "onnx",
    .title = "ONNX",
    .main_ending = ".onnx",
    .knobs = kKnobs,
    .methods = kMethods,
    .types = [] { return TypeNamesOf(Recipes()); },
    .parse_type = [](std::string_view name) { return std::string(FindRecipe(name).name); },
    .types_of_precisions = {"int4", "int8", "fp16", "", "fp32"},
    .mixed_types = kMixedTypes,
    .runtimes = kPeerNames,
    .name_suffix = NameSuffix,
    .runtime_memory =
        [](const Plan& plan) {
          const GraphChoices& graph = static_cast<const GraphPlan&>(plan).graph;
          return RuntimeMemory{.runtime = "onnxruntime-genai",
                               .cache_bits = graph.float_type == FloatType::kF32 ? 32U : 16U,
                               .cache_fixed = graph.max_length,
                               .has_scores = graph.ep == ExecutionProvider::kCpu,
                               .has_all_logits = true};
        },
    .plan = [](const Model& model, const PlanOptions& options, const Answers&,
               const WarningFn& warn) -> std::unique_ptr<Plan> {
      return MakePlan(model, options, warn);
    },
    .tokenizer_decisions = TokenizerDecisions,
    .lay_out =
        [](const Model& model, const SideFiles& source, Plan& plan, const WarningFn&) {
          return MakeLayout(source, model, static_cast<GraphPlan&>(plan));
        },
    .owned_files = [](const SideFiles&) { return OwnedFiles(); },
    .recognizes = LooksLikeOnnx,
    .open = [](const std::string& path,
               const WarningFn& warn) { return MakeStoredModel(Folder::Open(path, warn), path); },
};

}  // namespace phiq::onnx
