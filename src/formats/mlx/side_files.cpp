// A folder for mlx-lm is a checkpoint's folder with other weights: files are carried over, and the
// model card says where they come from.
#include "formats/mlx/side_files.h"

#include <optional>

#include "base/limits.h"
#include "formats/generation_file.h"
#include "formats/mlx/config.h"
#include "formats/model_card.h"
#include "formats/tokenizer_files.h"

namespace phiq::mlx {

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfigName, kGenerationConfig, kModelCard};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

std::vector<std::string> CodeFileNames(const SideFiles& source) {
  std::vector<std::string> names = source.Names();
  std::erase_if(names, [](const std::string& name) {
    return name.starts_with('.') || !name.ends_with(".py");
  });
  return names;
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, FolderPlan& plan) {
  std::vector<SideFile> files = ReadTokenizerFiles(source, {}, "mlx-lm");
  NoteLostTemplates(source, model.tokenizer, plan);
  files.push_back(MakeGenerationConfig(source, model, plan));
  files.push_back(MakeConfig(source, model.config, files.back(), plan));
  // mlx-lm's card of a local checkpoint, with the license; of one in the hub cache the model's id,
  // too.
  files.push_back(MakeModelCard(source, {"mlx", "mlx", model.repository_id, ""}));
  for (const std::string& name : CodeFileNames(source)) {
    if (const std::optional<std::string> code = source.ReadFile(name, limits::kConfigBytes))
      files.push_back({name, BytesOf(*code)});
  }
  return files;
}

}  // namespace phiq::mlx
