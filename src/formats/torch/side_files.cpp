// The checkpoint's files are carried over. Its *.py are not: loaders have the model built in.
#include "formats/torch/side_files.h"

#include <fmt/format.h>

#include <string>

#include "formats/generation_file.h"
#include "formats/model_card.h"
#include "formats/tokenizer_files.h"
#include "formats/torch/config.h"

namespace phiq::torch {
namespace {

std::string CardText(const FolderPlan& plan) {
  std::string text = fmt::format("\nWeights quantized as {} (quant_method {}) with phiq.\n",
                                 plan.type, QuantMethod(plan.box));
  if (IsCompressedTensors(plan.box)) {
    text +=
        "\nvLLM computes with the weights as they are stored. transformers decompresses them to "
        "full size when it\nfirst uses them: it saves disk, not memory.\n";
  } else {
    text += "\nvLLM loads them; transformers needs gptqmodel besides.\n";
  }
  if (plan.box == Box::kIntegers)
    text += "Activations are quantized to 8 bits, too, for each token as the model runs.\n";
  return text;
}

}  // namespace

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfigName, kGenerationConfig, kModelCard,
                                         kGptqConfigName};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, FolderPlan& plan) {
  std::vector<SideFile> files = ReadTokenizerFiles(source, {}, "transformers");
  NoteLostTemplates(source, model.tokenizer, plan);
  files.push_back(MakeGenerationConfig(source, model, plan));
  files.push_back(MakeModelCard(
      source, {"transformers", QuantMethod(plan.box), model.repository_id, CardText(plan)}));
  if (plan.box == Box::kGptq) files.push_back(MakeGptqConfig(model.config, plan));
  files.push_back(MakeConfig(source, model.config, plan));
  return files;
}

}  // namespace phiq::torch
