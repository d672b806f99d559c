// A folder for mlx-lm is a checkpoint's folder with other weights: files are carried over, and the
// model card says where they come from.
#include "formats/mlx/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "formats/generation_file.h"
#include "formats/mlx/config.h"
#include "formats/tokenizer_files.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::mlx {
namespace {

constexpr std::string_view kCard = "README.md";

// What of the checkpoint's card is a matter of its license: "key: value" lines of the front matter,
// the first of each key. Values of several lines, and bytes that would spoil the card, are left
// out.
std::string LicenseLines(std::string_view card) {
  constexpr std::string_view kFence = "---\n";
  std::vector<std::string_view> keys = {"license: ", "license_name: ", "license_link: "};
  if (!card.starts_with(kFence)) return "";
  card.remove_prefix(kFence.size());
  std::string lines;
  while (!card.empty() && !card.starts_with("---")) {
    const std::size_t end = std::min(card.find('\n'), card.size() - 1);
    const std::string_view line = card.substr(0, end + 1);
    card.remove_prefix(end + 1);
    const auto key = std::ranges::find_if(
        keys, [&](std::string_view prefix) { return line.starts_with(prefix); });
    if (key == keys.end() || !line.ends_with('\n')) continue;
    const char first = line[key->size()];
    keys.erase(key);
    const bool is_one_line = first != '\n' && first != '|' && first != '>';
    if (is_one_line && !FindInvalidUtf8(line)) lines += line;
  }
  return lines;
}

// mlx-lm's card of a local checkpoint, with the license; of one in the hub cache the model's id,
// too.
SideFile MakeCard(const SideFiles& source, const std::string& id) {
  const std::optional<std::string> card = source.ReadFile(kCard, limits::kConfigBytes);
  return {std::string(kCard),
          BytesOf(fmt::format("---\nlanguage: en\n{}library_name: mlx\npipeline_tag: "
                              "text-generation\ntags:\n- mlx\n{}---\n",
                              LicenseLines(card.value_or("")),
                              id.empty() ? "" : fmt::format("base_model: {}\n", id)))};
}

}  // namespace

std::vector<std::string_view> SideFileNames() {
  std::vector<std::string_view> names = {kConfigName, kGenerationConfig, kCard};
  names.insert(names.end(), TokenizerFileNames().begin(), TokenizerFileNames().end());
  return names;
}

namespace {

// Named templates are found in tokenizer_config.json; a folder of them is not copied.
void NoteTemplates(const SideFiles& source, const Tokenizer& tokenizer, FolderPlan& plan) {
  if (tokenizer.named_chat_templates.empty()) return;
  const std::optional<Json> config = ReadJsonObject(source, kTokenizerConfig, limits::kConfigBytes);
  const Json* const chat = config ? FindMember(*config, "chat_template") : nullptr;
  if (chat != nullptr && chat->is_array()) return;
  plan.decisions.push_back(
      {"chat templates", "without additional_chat_templates",
       fmt::format("'{}'{} in files of their own are not copied",
                   Escape(tokenizer.named_chat_templates.front().first),
                   tokenizer.named_chat_templates.size() == 1 ? "" : " and others")});
}

}  // namespace

std::vector<std::string> CodeFileNames(const SideFiles& source) {
  std::vector<std::string> names = source.Names();
  std::erase_if(names, [](const std::string& name) {
    return name.starts_with('.') || !name.ends_with(".py");
  });
  return names;
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, FolderPlan& plan) {
  std::vector<SideFile> files = ReadTokenizerFiles(source, {}, "mlx-lm");
  NoteTemplates(source, model.tokenizer, plan);
  files.push_back(MakeGenerationConfig(source, model, plan));
  files.push_back(MakeConfig(source, model.config, files.back(), plan));
  files.push_back(MakeCard(source, model.repository_id));
  for (const std::string& name : CodeFileNames(source)) {
    if (const std::optional<std::string> code = source.ReadFile(name, limits::kConfigBytes))
      files.push_back({name, BytesOf(*code)});
  }
  return files;
}

}  // namespace phiq::mlx
