#include "model/side_file.h"

#include <fmt/format.h>

#include "phiq/text.h"

namespace phiq {

std::string SidePath(const SideFiles& files, std::string_view name) {
  return files.PathOf(name).string();
}

namespace {

// What stands there instead of the file; "" for the file itself.
std::string_view DescribeStandIn(std::string_view text) {
  const std::size_t start = text.find_first_not_of(" \t\r\n");
  if (start == text.npos) return "is empty";
  text.remove_prefix(start);
  if (text.starts_with("version https://git-lfs"))
    return "is a Git LFS pointer: the file itself was not downloaded";
  const std::string head = LowerAscii(text.substr(0, 16));
  if (head.starts_with("<!doctype") || head.starts_with("<html")) return "is an HTML page";
  return "";
}

}  // namespace

std::optional<std::string> ReadSideFile(const SideFiles& files, std::string_view name,
                                        std::uint64_t max_bytes) {
  std::optional<std::string> text = files.ReadFile(name, max_bytes);
  if (!text) return text;
  const std::string_view stand_in = DescribeStandIn(*text);
  if (stand_in.empty()) return text;
  throw Error(ErrorCode::kBadData, std::string(stand_in))
      .In(SidePath(files, name))
      .Hint(stand_in.find("LFS") != stand_in.npos
                ? "run `git lfs pull`, or download this file again"
                : "download this file again");
}

std::optional<Json> ReadJsonObject(const SideFiles& files, std::string_view name,
                                   std::uint64_t max_bytes) {
  const std::optional<std::string> text = ReadSideFile(files, name, max_bytes);
  if (!text) return std::nullopt;
  const std::string path = SidePath(files, name);
  Json root = ParseJson(*text, path);
  if (!root.is_object()) {
    throw Error(ErrorCode::kBadData, fmt::format("holds {}, needs a JSON object", root.type_name()))
        .In(path);
  }
  return root;
}

const Json* FindMember(const Json& object, std::string_view key) {
  const Json* const found = object.find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

std::string Show(const Json& value) { return Escape(value.dump()); }

void Warn(const WarningFn& warn, std::string_view path, std::string_view text) {
  if (warn) warn({ErrorCode::kBadData, fmt::format("{}: {}", Escape(path), text)});
}

}  // namespace phiq
