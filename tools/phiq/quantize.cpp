// phiq quantize: the main job.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "commands.h"
#include "console.h"
#include "convert_flags.h"
#include "phiq/convert.h"
#include "phiq/error.h"
#include "plan_output.h"
#include "signals.h"

namespace phiq::cli {
namespace {

constexpr const char* kExamples = R"(Examples:
  phiq quantize Phi-3.5-mini-instruct
  phiq quantize Phi-3.5-mini-instruct --profile iot --precision int8
  phiq quantize microsoft/phi-4 --type Q4_K_M --tensor-type 'lm_head=Q8_0'
  phiq quantize phi-4 --type Q8_0 --split-max-size 4G -o out/phi-4.gguf --mkdir
  phiq quantize Phi-4-mini-instruct --type F16 -o - | ssh board 'cat > phi.gguf'
  phiq quantize Phi-3.5-mini-instruct --profile mobile -o phi-onnx
  phiq quantize phi-4 --format gguf,onnx --precision int8 -o out

Without -o the output is named after the model and the type, in this folder:
phi-3.5-mini-instruct-Q4_K_M.gguf, a file, or phi-3.5-mini-instruct-onnx-int4, a folder
for onnxruntime-genai. It gets its name when all of it is written and on the disk;
until then, and on any failure, nothing is there.)";

int Quantize(const ConvertFlags& flags) {
  if (flags.dry_run) return ShowPlan(flags);
  const ConvertOptions options = ResolveConvertFlags(flags);
  const bool to_stdout = options.output == "-";
  if (to_stdout && flags.report.json)
    throw Error(ErrorCode::kUsage, "--json: standard output already carries the model")
        .Hint("give -o a file name");

  CatchStopSignals();
  const ConvertReport report = [&] {
    Reporter reporter(flags.report);
    LogDecisions(options);
    return Convert(options, reporter.hooks());
  }();
  DieOfStopSignal();  // asked too late: the output is complete, but the caller shall see it

  if (flags.report.json) {
    PrintJson(stdout, ReportToJson(report));
  } else if (!flags.report.quiet) {
    Print(to_stdout ? stderr : stdout, FormatReport(report));
  }
  return 0;
}

}  // namespace

void AddQuantize(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand("quantize", "Convert a checkpoint: the main job");
  const auto flags = std::make_shared<ConvertFlags>();
  AddConvertFlags(*command, *flags);
  AddSwitch(*command, "--dry-run", flags->dry_run, "Write nothing: same as phiq plan")
      ->group("Output");
  command->footer(kExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return Quantize(*flags); }; });
}

}  // namespace phiq::cli
