// OpenVINO, the folders of openvino-genai.
#include "formats/openvino/format.h"

#include "formats/openvino/layout.h"
#include "formats/openvino/plan.h"
#include "formats/openvino/recipe.h"
#include "formats/openvino/side_files.h"
#include "formats/openvino/stored_model.h"

namespace phiq::openvino {
namespace {

constexpr std::string_view kPeerNames[] = {"ov", "ir", "openvino-genai"};
constexpr std::string_view kMixedTypes[] = {"INT4_SYM", "INT8_ASYM"};

constexpr std::string_view kMetrics[] = {"kl", "weight_quantization_error"};

constexpr Knob kKnobs[] = {
    {"group-size",
     "N",
     "Weights per scale",
     "128 (default), even from 4, row (of 4-bit types)",
     {},
     true},
    {"sym", "", "Symmetric codes", "default, but for int8", {}, true},
    {"asym", "", "Codes with a zero point", "", {}, true},
    {"ratio",
     "R",
     "Share of the layers' weights in 4 bits, at most 1; default 0.6: those that 8 bits serve "
     "best keep them",
     "",
     {},
     true},
    {"sensitivity-metric", "NAME",
     "Which layers --ratio leaves 8 bits: kl, those that a text says lose most in 4 (default with "
     "one); weight_quantization_error, NNCF's choice (default without, and with --method "
     "reference)",
     "", kMetrics, true},
};

// --sym and --asym choose among the types of a precision; a type that the user names says itself
// whether it is symmetric, and the planner compares.
std::string WithSymmetry(std::string_view type, const PlanOptions& options) {
  const std::optional<bool> symmetric = FindSymmetric(options);
  if (!symmetric) return std::string(type);
  try {
    return TypeWith(type, *symmetric);
  } catch (const Error& error) {
    throw Error(error.code(), std::string(*symmetric ? "--sym: " : "--asym: ") + error.what());
  }
}

// NNCF's ranking unless losses are known, or asked for.
std::vector<std::string_view> TypesByLoss(const PlanOptions& options, bool has_losses) {
  const bool is_given = FindKnob(options, "sensitivity-metric").has_value();
  const bool is_kl = FindWord(options, "sensitivity-metric", kMetrics) == 0;
  const bool wants_reference = options.is_method_chosen && options.method == "reference";
  if (is_given ? !is_kl : !has_losses || wants_reference) return {};
  if (!has_losses)
    throw Error(ErrorCode::kUsage, "--sensitivity-metric kl: needs a text to be measured on")
        .Hint("--calibrate self or --calibrate FILE");
  return {FindWeightType(options.type).name, kBackup};
}

}  // namespace

const Format kFormat = {
    .name = "openvino",
    .title = "OpenVINO",
    .main_ending = ".xml",
    .knobs = kKnobs,
    .types = [] { return TypeNamesOf(WeightTypes()); },
    .parse_type = [](std::string_view name) { return std::string(FindWeightType(name).name); },
    .types_of_precisions = {"INT4_SYM", "INT8_ASYM", "F16", "BF16", "F32"},
    .mixed_types = kMixedTypes,
    .type_with = WithSymmetry,
    .runtimes = kPeerNames,
    .questions = QuestionsOf,
    .types_by_loss = TypesByLoss,
    .runtime_memory =
        [](const Plan& plan) {
          // 8 bits with a scale and a zero point for each head of a token, unless the folder says
          // float16 (layout.cpp).
          const bool has_codes = HasCodes(plan);
          return RuntimeMemory{.runtime = "openvino-genai on a CPU",
                               .cache_bits = has_codes ? 8U : 16U,
                               .cache_head_bits = has_codes ? 64U : 0U};
        },
    .plan = [](const Model& model, const PlanOptions& options, const Answers& answers,
               const WarningFn& warn) -> std::unique_ptr<Plan> {
      return MakePlan(model, options, answers, warn);
    },
    .tokenizer_decisions = TokenizerDecisions,
    .lay_out = [](const Model& model, const SideFiles& source, Plan& plan,
                  const WarningFn&) { return MakeLayout(source, model, plan); },
    .owned_files = [](const SideFiles&) { return OwnedFiles(); },
    .recognizes = LooksLikeOpenVino,
    .open = [](const std::string& path,
               const WarningFn& warn) { return MakeStoredModel(Folder::Open(path), path, warn); },
};

}  // namespace phiq::openvino
