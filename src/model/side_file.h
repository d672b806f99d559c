// The small files beside the weights: reading them and speaking about them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "phiq/checkpoint.h"
#include "phiq/error.h"

namespace phiq {

// Where a token has no row in the embedding.
inline constexpr std::string_view kMoreRowsHint = "--pad-vocab N adds rows, up to a multiple of N";

// The path of a side file as messages show it.
std::string SidePath(const SideFiles& files, std::string_view name);

// A side file that holds one JSON object; nullopt when there is no such file.
// Throws   kInput, kBadData.
std::optional<Json> ReadJsonObject(const SideFiles& files, std::string_view name,
                                   std::uint64_t max_bytes);

// A member that is there and not null; nullptr otherwise. `object` may be any value.
const Json* FindMember(const Json& object, std::string_view key);

// A value from a file, for a message.
std::string Show(const Json& value);

// Gives "PATH: TEXT" to `warn`, which may be empty. Text from files in `text` is escaped already.
void Warn(const WarningFn& warn, std::string_view path, std::string_view text);

}  // namespace phiq
