// phiq plan: what `quantize` would do, without doing it.
#include <cstdio>
#include <memory>

#include "commands.h"
#include "console.h"
#include "convert_flags.h"
#include "phiq/convert.h"
#include "plan_output.h"

namespace phiq::cli {
namespace {

constexpr const char* kPlanExamples = R"(Examples:
  phiq plan Phi-3.5-mini-instruct
  phiq plan Phi-3.5-mini-instruct --type Q6_K --json | jq .output_bytes
  phiq plan Phi-4-mini-instruct --format onnx --min-onnxruntime 1.20)";

}  // namespace

int ShowPlan(const ConvertFlags& flags) {
  const ConvertOptions options = ResolveConvertFlags(flags);
  Reporter reporter(flags.report);
  LogDecisions(options);
  const ConversionPlan output = PlanOutput(options, reporter.hooks());
  if (flags.report.json) {
    PrintJson(stdout, PlanToJson(output));
  } else if (!flags.report.quiet) {
    Print(stdout, FormatPlan(output));
  }
  return 0;
}

void AddPlan(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "plan", "Show what quantize would write: each tensor's type, exact sizes, peak memory");
  const auto flags = std::make_shared<ConvertFlags>();
  AddConvertFlags(*command, *flags);
  command->footer(kPlanExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return ShowPlan(*flags); }; });
}

}  // namespace phiq::cli
