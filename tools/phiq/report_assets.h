// What every report page holds: report.css and report.js, which CMake turns into strings.
#pragma once

#include <string_view>

namespace phiq::cli {

extern const std::string_view kReportCss, kReportJs;

}  // namespace phiq::cli
