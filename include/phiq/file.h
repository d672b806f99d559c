// Reports: small whole files.
#pragma once

#include <string>
#include <string_view>

namespace phiq {

// Before any work: throws where ReplaceReport would not write.
//
// `beginning`  what every report of this kind begins with: another file is not replaced, it may be
//              a model that was named by mistake.
// Throws   kOutput: no such folder, no permission, not a regular file, or another file is there.
void CheckReport(const std::string& path, std::string_view beginning);

// Writes a report that appears at once, replacing an older one, or not at all.
// Throws   kOutput.
void ReplaceReport(const std::string& path, std::string_view content);

}  // namespace phiq
