// LiteRT, the .litertlm files of LiteRT-LM, and the .tflite file inside of one.
#include "formats/litert/format.h"

#include <algorithm>
#include <string_view>

#include "formats/litert/layout.h"
#include "formats/litert/plan.h"
#include "formats/litert/recipe.h"
#include "formats/litert/stored_model.h"

namespace phiq::litert {
namespace {

constexpr std::string_view kPeerNames[] = {"litert-lm", "tflite", "tensorflow"};
constexpr std::string_view kMixedTypes[] = {"int4", "int8"};

constexpr Knob kKnobs[] = {
    {"group-size",
     "N",
     "Weights per scale",
     "32 (default), 64, 128, row (of 4-bit types)",
     {},
     true},
    {"max-length", "N", "Tokens that the runtime reserves memory for; default 4096", "", {}},
};

}  // namespace

const Format kFormat = {
    .name = "litert",
    .title = "LiteRT",
    .file_ending = ".litertlm",
    .bare_ending = ".tflite",
    .knobs = kKnobs,
    .keeps_record = true,
    .types = [] { return TypeNamesOf(Recipes()); },
    .parse_type = [](std::string_view name) { return std::string(FindRecipe(name).name); },
    .types_of_precisions = {"int4", "int8", "", "", "fp32"},
    .mixed_types = kMixedTypes,
    .runtimes = kPeerNames,
    .runtime_memory =
        [](const Plan& plan) {
          const GraphChoices& graph = static_cast<const GraphPlan&>(plan).graph;
          return RuntimeMemory{.runtime = "LiteRT-LM",
                               .cache_bits = 32,
                               .cache_fixed = graph.cache_length,
                               .n_at_once = std::ranges::max(graph.prefill_lengths),
                               .has_scores = true};
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
    .recognizes = LooksLikeLiteRt,
    .open = [](const std::string& path, const WarningFn& warn) { return OpenModel(path, warn); },
};

}  // namespace phiq::litert
