#include "model/chat_template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "base/ascii.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "model/side_file.h"
#include "phiq/text.h"
#include "phiq/tokenizer.h"

namespace phiq {
namespace {

constexpr std::string_view kJinjaFile = "chat_template.jinja";
constexpr std::string_view kConfigFile = "tokenizer_config.json";
constexpr std::string_view kJsonFile = "chat_template.json";

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
  return text;
}

std::string TextOf(const Json& value, std::string_view path) {
  if (!value.is_string()) {
    throw Error(ErrorCode::kBadData,
                fmt::format("chat_template is {}, needs a string or a list of named templates",
                            Show(value)))
        .In(path);
  }
  return Checked(value.get<std::string>(), path);
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
  std::vector<std::string> names;
  for (const Json& entry : *value) {
    const Json* name = FindMember(entry, "name");
    const Json* text = FindMember(entry, "template");
    if (name == nullptr || !name->is_string() || text == nullptr) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("chat_template holds {}, needs name and template", Show(entry)))
          .In(path);
    }
    names.push_back(name->get<std::string>());
    if (std::ranges::count(names, names.back()) > 1) {
      throw Error(ErrorCode::kBadData, fmt::format("chat_template names {} twice", Show(*name)))
          .In(path);
    }
    if (names.back() == "default") {
      found.main = TextOf(*text, path);
    } else {
      found.named.emplace_back(names.back(), TextOf(*text, path));
    }
  }
  return found;
}

bool IsWordByte(char c) { return IsAsciiAlphanumeric(c) || c == '_'; }

// A range( whose argument has seven digits or a power.
bool HasHugeRange(std::string_view text) {
  for (std::size_t at = text.find("range("); at != std::string_view::npos;
       at = text.find("range(", at + 1)) {
    const std::string_view argument = text.substr(at, text.find(')', at) - at);
    std::size_t n_digits = 0;
    for (const char c : argument) {
      n_digits = c >= '0' && c <= '9' ? n_digits + 1 : 0;
      if (n_digits == 7) return true;
    }
    if (argument.find("**") != std::string_view::npos) return true;
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

ChatTemplates ReadChatTemplates(const CheckpointFolder& folder, const Json& tokenizer_config,
                                const WarningFn& warn) {
  ChatTemplates found = FromJson(tokenizer_config, SidePath(folder, kConfigFile));
  std::string_view source = kConfigFile;
  if (std::optional<std::string> jinja = folder.ReadFile(kJinjaFile, limits::kChatTemplateBytes)) {
    std::string text = Checked(std::move(*jinja), SidePath(folder, kJinjaFile));
    if (!found.main.empty() && found.main != text) {
      Warn(warn, SidePath(folder, kJinjaFile),
           fmt::format("its chat template differs from the one in {}; {} is used", kConfigFile,
                       kJinjaFile));
    }
    found.main = std::move(text);
    source = kJinjaFile;
  } else if (found.main.empty() && found.named.empty()) {
    if (const std::optional<Json> json = ReadJsonObject(folder, kJsonFile, limits::kConfigBytes)) {
      found = FromJson(*json, SidePath(folder, kJsonFile));
      source = kJsonFile;
    }
  }
  WarnOfSuspicious(found.main, SidePath(folder, source), warn);
  for (const auto& [name, text] : found.named)
    WarnOfSuspicious(text, SidePath(folder, kConfigFile), warn);
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
