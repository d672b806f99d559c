// A card says where the model comes from; what of the checkpoint's own is a matter of its license
// is carried over.
#include "formats/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "formats/tokenizer_files.h"
#include "model/side_file.h"
#include "phiq/text.h"

namespace phiq {
namespace {

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

// A card without the line that MakeModelCard writes for `base_model`.
std::string WithoutBaseModel(std::string_view card) {
  const std::size_t begin = card.find("\nbase_model: ");
  if (begin == card.npos) return std::string(card);
  const std::size_t end = std::min(card.find('\n', begin + 1), card.size());
  return fmt::format("{}{}", card.substr(0, begin), card.substr(end));
}

}  // namespace

SideFile MakeModelCard(const SideFiles& source, const ModelCard& card) {
  const std::optional<std::string> old = source.ReadFile(kModelCard, limits::kConfigBytes);
  return {std::string(kModelCard),
          BytesOf(fmt::format(
              "---\nlanguage: en\n{}library_name: {}\npipeline_tag: "
              "text-generation\ntags:\n- {}\n{}---\n{}",
              LicenseLines(old.value_or("")), card.library, card.tag,
              card.base_model.empty() ? "" : fmt::format("base_model: {}\n", card.base_model),
              card.text))};
}

std::vector<std::string> CompareWithCard(const SideFile& expected, std::string_view found) {
  if (expected.name == kModelCard) {
    const std::string_view wanted = TextOf(expected);
    const std::string plain_wanted = WithoutBaseModel(wanted),
                      plain_found = WithoutBaseModel(found);
    if ((plain_wanted == wanted) != (plain_found == found))
      return CompareBytes({expected.name, BytesOf(plain_wanted)}, plain_found);
  }
  return CompareBytes(expected, found);
}

void NoteLostTemplates(const SideFiles& source, const Tokenizer& tokenizer, Plan& plan) {
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

}  // namespace phiq
