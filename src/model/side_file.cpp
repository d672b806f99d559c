// Every message about a side file begins with its path, made here.
#include "model/side_file.h"

#include <fmt/format.h>

#include "phiq/text.h"

namespace phiq {

std::string SidePath(const SideFiles& files, std::string_view name) {
  return files.PathOf(name).string();
}

std::optional<Json> ReadJsonObject(const SideFiles& files, std::string_view name,
                                   std::uint64_t max_bytes) {
  const std::optional<std::string> text = files.ReadFile(name, max_bytes);
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
