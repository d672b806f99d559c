// Renders OutputPlan and ConvertReport.
#include "plan_output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "phiq/text.h"
#include "table.h"

namespace phiq::cli {
namespace {

std::string_view TargetType(const PlanLine& line) { return GetGgmlTypeInfo(line.type).name; }

std::size_t CountFallbacks(const Plan& plan) {
  return static_cast<std::size_t>(std::count_if(
      plan.lines.begin(), plan.lines.end(), [](const PlanLine& line) { return line.is_fallback; }));
}

double Rate(const ConvertReport& report) {
  return report.elapsed_s > 0
             ? static_cast<double>(report.output.plan.n_weights()) / report.elapsed_s
             : 0;
}

std::string FilesAndSizes(const OutputPlan& output) {
  std::string text;
  for (const PlannedFile& file : output.files)
    text += fmt::format("{}: {} bytes ({})\n", Escape(file.path), FormatCount(file.size_bytes),
                        FormatBytes(file.size_bytes));
  return text;
}

// What a plan and a report both say.
Json Summary(const OutputPlan& output) {
  Json files = Json::array();
  for (const PlannedFile& file : output.files)
    files.push_back({{"path", file.path}, {"bytes", file.size_bytes}});
  return {{"model", output.model_name},
          {"architecture", output.architecture},
          {"format", FormatName(output.plan.format)},
          {"type", output.plan.type},
          {"files", files},
          {"output_bytes", output.output_bytes},
          {"n_tensors", output.plan.lines.size()},
          {"n_fallbacks", CountFallbacks(output.plan)},
          {"n_weights", output.plan.n_weights()},
          {"bits_per_weight", output.plan.bits_per_weight()},
          {"threads", output.threads}};
}

}  // namespace

std::string FormatPlan(const OutputPlan& output) {
  const Plan& plan = output.plan;
  std::vector<std::vector<std::string>> rows = {
      {"TENSOR", "ROLE", "SHAPE", "FROM", "TO", "BYTES", "WHY"}};
  for (const PlanLine& line : plan.lines)
    rows.push_back({Escape(line.name), std::string(line.role_name()), FormatShape(line.shape),
                    line.source_type, std::string(TargetType(line)), FormatCount(line.size_bytes),
                    line.reason});
  return FormatTable("lllllrl", rows) +
         fmt::format("\n{} ({}) -> {} {}\n", Escape(output.model_name), Escape(output.architecture),
                     FormatName(plan.format), plan.type) +
         FilesAndSizes(output) +
         fmt::format("{} tensors, {} weights, {:.2f} bits per weight\n", plan.lines.size(),
                     FormatCount(plan.n_weights()), plan.bits_per_weight()) +
         fmt::format("{} peak memory with {} thread{}\n", FormatBytes(output.peak_memory_bytes),
                     output.threads, output.threads == 1 ? "" : "s");
}

Json PlanToJson(const OutputPlan& output) {
  Json json = Summary(output);
  json["peak_memory_bytes"] = output.peak_memory_bytes;
  Json& tensors = json["tensors"] = Json::array();
  for (const PlanLine& line : output.plan.lines)
    tensors.push_back({{"name", line.name},
                       {"role", line.role_name()},
                       {"layer", line.layer < 0 ? Json() : Json(line.layer)},
                       {"shape", line.shape},
                       {"source_type", line.source_type},
                       {"type", TargetType(line)},
                       {"bytes", line.size_bytes},
                       {"reason", line.reason},
                       {"fallback", line.is_fallback}});
  return json;
}

std::string FormatReport(const ConvertReport& report) {
  const OutputPlan& output = report.output;
  std::string text = FilesAndSizes(output);
  const auto add = [&text](std::string_view what, const std::string& value) {
    text += fmt::format("  {:<16} {}\n", what, value);
  };
  const std::size_t n_fallbacks = CountFallbacks(output.plan);
  add("tensors", n_fallbacks == 0 ? fmt::format("{}", output.plan.lines.size())
                                  : fmt::format("{}, of which {} could not have the wanted type",
                                                output.plan.lines.size(), n_fallbacks));
  add("weights", FormatCount(output.plan.n_weights()));
  add("bytes", fmt::format("{} in, {} out", FormatBytes(report.source_bytes),
                           FormatBytes(output.output_bytes)));
  add("bits per weight", fmt::format("{:.2f}", output.plan.bits_per_weight()));
  add("weighted error",
      fmt::format("{:.3g} (relative RMSE of the quantized weights)", report.relative_rmse));
  if (report.n_nan_zeroed > 0) add("NaN to zero", FormatCount(report.n_nan_zeroed));
  if (report.n_clamped > 0) add("clamped", FormatCount(report.n_clamped));
  add("time", fmt::format("{}, {}", FormatSeconds(report.elapsed_s), FormatRate(Rate(report))));
  add("peak memory", FormatBytes(report.peak_memory_bytes));
  return text;
}

Json ReportToJson(const ConvertReport& report) {
  Json json = Summary(report.output);
  json["source_bytes"] = report.source_bytes;
  json["relative_rmse"] = report.relative_rmse;
  json["n_nan_zeroed"] = report.n_nan_zeroed;
  json["n_clamped"] = report.n_clamped;
  json["elapsed_s"] = report.elapsed_s;
  json["weights_per_second"] = Rate(report);
  json["peak_memory_bytes"] = report.peak_memory_bytes;
  return json;
}

}  // namespace phiq::cli
