// GGUF, the files of llama.cpp and all that is built on it.
#include "formats/gguf/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <system_error>
#include <utility>

#include "formats/gguf/expression.h"
#include "formats/gguf/imatrix.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/plan.h"
#include "formats/gguf/recipe.h"
#include "formats/gguf/stored_model.h"

namespace phiq::gguf {
namespace {

constexpr std::string_view kPeerNames[] = {"ggml", "llama.cpp", "llamacpp"};
// Of equal size the better one is here; F32, BF16 and the old types with mins are never best.
constexpr std::string_view kMixedTypes[] = {"Q2_K", "Q3_K", "IQ4_XS", "IQ4_NL", "Q4_K",
                                            "Q5_0", "Q5_K", "Q6_K",   "Q8_0",   "F16"};

constexpr Knob kKnobs[] = {
    {"split-max-size", "SIZE", "Split a GGUF into files of at most SIZE (e.g. 2G)", "", {}},
};

// What llama-quantize says of the importance matrix, from what is known of the calibration.
void AddImportanceKeys(const Facts& facts, Metadata& out) {
  const auto find = [&](std::string_view name) -> const std::string* {
    const auto found = std::ranges::find(facts, fmt::format("phiq.calibration_{}", name),
                                         [](const auto& fact) { return fact.first; });
    return found == facts.end() ? nullptr : &found->second;
  };
  if (const std::string* file = find("imatrix")) out.emplace_back("quantize.imatrix.file", *file);
  if (const std::string* files = find("files"))
    out.emplace_back("quantize.imatrix.dataset", *files);
  for (const auto& [key, name] :
       {std::pair("entries_count", "inputs"), {"chunks_count", "windows"}})
    if (const std::string* count = find(name))
      out.emplace_back(fmt::format("quantize.imatrix.{}", key),
                       static_cast<std::uint32_t>(std::stoul(*count)));
}

OutputLayout LayOut(const Model& model, const SideFiles& files, Plan& plan, const WarningFn& warn) {
  for (Decision& decision : TokenizerDecisions(model))
    plan.decisions.push_back(std::move(decision));
  for (Decision& decision : StopDecisions(files, model))
    plan.decisions.push_back(std::move(decision));
  Metadata facts;
  for (const auto& [key, value] : plan.facts) facts.emplace_back(key, value);
  if (static_cast<const FilePlan&>(plan).is_reexpressed)
    facts.emplace_back(std::string(kReexpressedKey), true);
  AddImportanceKeys(plan.facts, facts);
  return MakeLayout(plan, BuildMetadata(model, plan, facts, warn),
                    static_cast<const FilePlan&>(plan).split_max_bytes);
}

// Whatever file is there, but for those that are a checkpoint's.
bool Recognizes(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::string& name = path.native();
  return std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored) &&
         !name.ends_with(".safetensors") && !name.ends_with(".json");
}

constexpr ImportanceFiles kImportanceFiles = {ReadImatrix, EncodeImatrix};

}  // namespace

const Format kFormat = {
    .name = "gguf",
    .title = "GGUF",
    .file_ending = ".gguf",
    .knobs = kKnobs,
    .instead_of_encoding_knobs = "in GGUF --type decides it",
    .may_widen = true,
    .may_stream = true,
    .keeps_record = true,
    .parts_knob = "split-max-size",
    .types = [] { return TypeNamesOf(Recipes()); },
    .parse_type = [](std::string_view name) { return std::string(FindRecipe(name).name); },
    .types_of_precisions = {"Q4_K_M", "Q8_0", "F16", "BF16", "F32"},
    .mixed_types = kMixedTypes,
    .runtimes = kPeerNames,
    .expression = ExpressionOf,
    .runtime_memory =
        [](const Plan&) {
          return RuntimeMemory{.runtime = "llama.cpp", .cache_step = 256, .has_all_logits = true};
        },
    .plan = [](const Model& model, const PlanOptions& options, const Answers&,
               const WarningFn& warn) { return MakePlan(model, options, warn); },
    .tokenizer_decisions = TokenizerDecisions,
    .lay_out = LayOut,
    .recognizes = Recognizes,
    .open = [](const std::string& path,
               const WarningFn& warn) { return MakeStoredModel(File::Open(path, warn)); },
    .importance_files = &kImportanceFiles,
};

}  // namespace phiq::gguf
