// How a plan and a conversion's report look, for people and as JSON.
#pragma once

#include <string>

#include "console.h"
#include "phiq/convert.h"

namespace phiq::cli {

std::string FormatPlan(const ConversionPlan& conversion);
Json PlanToJson(const ConversionPlan& conversion);

std::string FormatReport(const ConvertReport& report);
Json ReportToJson(const ConvertReport& report);

}  // namespace phiq::cli
