// Templates stand in up to three files, of which loaders take the first; the one that is rendered
// is the one that is written.
#include "model/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <unordered_set>

#include "base/ascii.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "checkpoint/open_input.h"
#include "model/side_file.h"
#include "phiq/text.h"
#include "phiq/tokenizer.h"

namespace phiq {
namespace {

constexpr std::string_view kJinjaFile = "chat_template.jinja";
constexpr std::string_view kConfigFile = "tokenizer_config.json";
constexpr std::string_view kJsonFile = "chat_template.json";
constexpr std::string_view kAdditionalFolder = "additional_chat_templates";
constexpr std::string_view kJinjaEnding = ".jinja";
constexpr std::string_view kDefault = "default";  // the name of the template that is used

}  // namespace

std::string WithPlainLineEnds(std::string text) {
  if (text.find('\r') == text.npos) return text;
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      plain.push_back(text[i]);
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      plain.push_back('\n');
    }
  }
  return plain;
}

namespace {

std::string Checked(std::string text, std::string_view path) {
  const auto fail = [&](std::string_view what) {
    return Error(ErrorCode::kBadData, fmt::format("chat_template {}", what)).In(path);
  };
  if (text.size() > limits::kChatTemplateBytes) {
    throw fail(fmt::format("has {} bytes, at most {} are allowed", text.size(),
                           limits::kChatTemplateBytes));
  }
  if (const std::optional<std::size_t> at = FindInvalidUtf8(text))
    throw fail("is not UTF-8").At(*at);
  if (const std::size_t at = text.find('\0'); at != std::string::npos)
    throw fail("holds a NUL").At(at);
  return WithPlainLineEnds(std::move(text));
}

std::string TextOf(const Json& value, std::string_view path) {
  if (!value.is_string()) {
    throw Error(ErrorCode::kBadData,
                fmt::format("chat_template is {}, needs a string or a list of named templates",
                            Show(value)))
        .In(path);
  }
  return Checked(value.text(), path);
}

// The member `chat_template`: one text, or [{"name": ..., "template": ...}, ...].
ChatTemplates FromJson(const Json& object, std::string_view path) {
  ChatTemplates found;
  const Json* value = FindMember(object, "chat_template");
  if (value == nullptr) return found;
  if (!value->is_array()) {
    found.main = TextOf(*value, path);
    return found;
  }
  std::unordered_set<std::string> names;
  for (const Json& entry : *value) {
    const Json* name = FindMember(entry, "name");
    const Json* text = FindMember(entry, "template");
    if (name == nullptr || !name->is_string() || text == nullptr) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("chat_template holds {}, needs name and template", Show(entry)))
          .In(path);
    }
    if (!names.insert(name->text()).second) {
      throw Error(ErrorCode::kBadData, fmt::format("chat_template names {} twice", Show(*name)))
          .In(path);
    }
    if (name->text() == kDefault) {
      found.main = TextOf(*text, path);
    } else {
      found.named.emplace_back(name->text(), TextOf(*text, path));
    }
  }
  return found;
}

// chat_template.jinja and additional_chat_templates/NAME.jinja, as newer versions of transformers
// write them.
ChatTemplates FromFiles(const SideFiles& folder) {
  ChatTemplates found;
  const auto read = [&](const std::string& name) {
    std::optional<std::string> text = folder.ReadFile(name, limits::kChatTemplateBytes);
    return text ? Checked(*std::move(text), SidePath(folder, name)) : std::string();
  };
  found.main = read(std::string(kJinjaFile));
  const std::filesystem::path others = folder.PathOf(kAdditionalFolder);
  std::error_code failed;
  if (!std::filesystem::is_directory(others, failed)) return found;
  for (const std::string& name : NamesInFolder(others)) {
    if (name.starts_with('.') || !name.ends_with(kJinjaEnding)) continue;
    found.named.emplace_back(name.substr(0, name.size() - kJinjaEnding.size()),
                             read(fmt::format("{}/{}", kAdditionalFolder, name)));
  }
  return found;
}

bool IsWordByte(char c) { return IsAsciiAlphanumeric(c) || c == '_'; }

// A range( whose argument has seven digits or a power.
bool HasHugeRange(std::string_view text) {
  constexpr std::string_view kRange = "range(";
  bool in_argument = false;
  std::size_t n_digits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '(' && i + 1 >= kRange.size() &&
        text.substr(i + 1 - kRange.size(), kRange.size()) == kRange) {
      in_argument = true;
      n_digits = 0;
    } else if (c == ')') {
      in_argument = false;
    }
    n_digits = c >= '0' && c <= '9' ? n_digits + 1 : 0;
    if (in_argument && (n_digits == 7 || text.substr(i, 2) == "**")) return true;
  }
  return false;
}

// A statement `{% keyword ... %}` or `{%- keyword ... %}`.
bool HasStatement(std::string_view text, std::string_view keyword) {
  for (std::size_t at = text.find("{%"); at != std::string_view::npos;
       at = text.find("{%", at + 2)) {
    std::string_view rest = text.substr(at + 2);
    rest.remove_prefix(std::min(rest.find_first_not_of("-+ \t\r\n"), rest.size()));
    if (rest.starts_with(keyword) &&
        !(rest.size() > keyword.size() && IsWordByte(rest[keyword.size()])))
      return true;
  }
  return false;
}

// What an honest chat template has no need of. Only a hint: whoever renders must use a sandbox.
std::vector<std::string_view> SuspiciousConstructs(std::string_view text) {
  std::vector<std::string_view> found;
  for (const std::string_view word : {"__", "cycler", "joiner", "lipsum", "attr("}) {
    if (text.find(word) != std::string_view::npos) found.push_back(word);
  }
  for (const std::string_view statement : {"import", "from", "include", "extends"}) {
    if (HasStatement(text, statement)) found.push_back(statement);
  }
  if (HasHugeRange(text)) found.push_back("a huge range");
  return found;
}

void WarnOfSuspicious(const std::string& text, std::string_view path, const WarningFn& warn) {
  const std::vector<std::string_view> found = SuspiciousConstructs(text);
  if (found.empty()) return;
  Warn(warn, path,
       fmt::format("chat template uses {}; it is copied unchanged, render it in a sandbox only",
                   fmt::join(found, ", ")));
}

}  // namespace

ChatTemplates ReadChatTemplates(const SideFiles& folder, const Json& tokenizer_config,
                                const WarningFn& warn) {
  const std::string config_path = SidePath(folder, kConfigFile);
  ChatTemplates found = FromFiles(folder);
  std::string path = SidePath(folder, found.main.empty() ? kAdditionalFolder : kJinjaFile);
  const ChatTemplates in_config = FromJson(tokenizer_config, config_path);
  if (found.empty()) {
    found = in_config;
    path = config_path;
    if (found.empty()) {
      path = SidePath(folder, kJsonFile);
      if (const std::optional<Json> json = ReadJsonObject(folder, kJsonFile, limits::kConfigBytes))
        found = FromJson(*json, path);
    }
  } else if (!in_config.empty() &&
             (found.main != in_config.main || found.named != in_config.named)) {
    Warn(warn, path,
         fmt::format("its chat template differs from the one in {}; {} is used", kConfigFile,
                     found.main.empty() ? kAdditionalFolder : kJinjaFile));
  }
  if (found.main.empty() && !found.named.empty()) {
    Warn(warn, path,
         fmt::format("none of {} chat templates is named '{}': runtimes take one of their own",
                     found.named.size(), kDefault));
  }
  WarnOfSuspicious(found.main, path, warn);
  for (const auto& [name, text] : found.named) WarnOfSuspicious(text, path, warn);
  return found;
}

bool IsKnownChatTemplate(std::string_view chat_template) {
  constexpr std::array<std::string_view, 5> kKnown = {
      "dcaee66df77bfbb789ec541fe713218da30225a526f1db97138fc39ee6dc56aa",  // Phi-3-mini
      "fe4120415a3858b873955c92ce3a103a95bc97c2cb00b72e62659aaf0f891ee5",  // Phi-4
      "febf589225c9728ab791f52e8897d7607a823d45368f0a4c92fa68997b40cce9",  // Phi-4-mini
      "5391d576419bfdb1b8f32eb5ddee1ed24ea498d5c4609b2633c37e7d274071c1",  // phi35-tiny
      "6f24638e0e8f35881f2cea5bb934b6761941fe69fab9d8c55ec003dcab379c6f",  // phi4mini-tiny
  };
  return std::ranges::find(kKnown, Sha256Hex(chat_template)) != kKnown.end();
}

}  // namespace phiq
