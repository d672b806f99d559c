// phiq quantize: the main job.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "commands.h"
#include "console.h"
#include "convert_flags.h"
#include "eval_flags.h"
#include "eval_output.h"
#include "html_file.h"
#include "html_report.h"
#include "option_values.h"
#include "phiq/convert.h"
#include "phiq/error.h"
#include "plan_output.h"
#include "signals.h"

namespace phiq::cli {
namespace {

constexpr const char* kQuantizeExamples = R"(Examples:
  phiq quantize Phi-3.5-mini-instruct
  phiq quantize Phi-3.5-mini-instruct --profile iot --precision int8
  phiq quantize microsoft/phi-4 --type Q4_K_M --tensor-type 'lm_head=Q8_0'
  phiq quantize phi-4 --type Q8_0 --split-max-size 4G -o out/phi-4.gguf --mkdir
  phiq quantize Phi-4-mini-instruct --type F16 -o - | ssh board 'cat > phi.gguf'
  phiq quantize Phi-3.5-mini-instruct --profile mobile -o phi-onnx
  phiq quantize phi-4 --format gguf,onnx --precision int8 -o out
  phiq quantize phi-4 --eval-text wiki.test.raw --chunks 40 --max-kl 0.05
  phiq quantize phi-4 --calibrate self --calibrate chats.jsonl --html worth.html
  phiq quantize phi-4 --calibrate self --device-memory 8G --ctx 4096

Without -o the output is named after the model and the type, in this folder:
phi-3.5-mini-instruct-Q4_K_M.gguf, a file, or phi-3.5-mini-instruct-onnx-int4, a folder
for onnxruntime-genai. It gets its name when all of it is written and on the disk;
until then, and on any failure, nothing is there.)";

struct QuantizeFlags {
  ConvertFlags convert;
  HtmlFile html;
  std::optional<std::string> eval_text;
  EvalFlags eval;
};

// --eval-text and its options; nullopt without.
std::optional<EvalOptions> ResolveEvaluation(const QuantizeFlags& flags) {
  if (!flags.eval_text) {
    if (flags.eval.any() || (flags.convert.ctx && !flags.convert.device_memory))
      throw Error(ErrorCode::kUsage, "--ctx, --chunks, --protocol and the thresholds need a text")
          .Hint("--eval-text FILE names it");
    return std::nullopt;
  }
  EvalOptions evaluation;
  evaluation.text = ValueOf("--eval-text", flags.eval_text);
  EvalFlags eval = flags.eval;
  eval.ctx = flags.convert.ctx;
  ResolveEvalFlags(eval, evaluation);
  return evaluation;
}

// --html FILE: the page gets its name with the outputs.
void ResolvePage(const QuantizeFlags& flags, ConvertOptions& options) {
  flags.html.Check(flags.convert.report.json);
  if (!flags.html.is_wanted()) return;
  if (!options.calibration || !options.calibration->has_text())
    throw Wrong("--html", "needs a text: the page says what that is worth")
        .Hint("--calibrate self or --calibrate FILE");
  if (flags.html.is_standard_output()) {
    if (options.output == "-")
      throw Wrong("--html", "standard output already carries the model")
          .Hint("give --html or -o a file name");
  } else {
    options.page = {flags.html.path(),
                    [](const ConvertReport& report) { return QuantizeHtml(report); }};
  }
}

int Quantize(const QuantizeFlags& all_flags, const std::string& line) {
  const ConvertFlags& flags = all_flags.convert;
  ConvertOptions options = ResolveConvertFlags(flags);
  options.command = line;
  options.evaluation = ResolveEvaluation(all_flags);
  // Then it is that of the evaluation.
  if (!flags.device_memory) options.n_ctx.reset();
  if (options.evaluation) options.evaluation->threads = options.threads;
  ResolvePage(all_flags, options);
  if (flags.dry_run) return ShowPlan(flags);
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
    Json json = ReportToJson(report);
    if (report.evaluation) json["evaluation"] = EvaluationToJson(*report.evaluation);
    PrintJson(stdout, std::move(json));
  } else if (!flags.report.quiet) {
    std::string text = FormatReport(report);
    if (report.evaluation) text += "\n" + FormatEvaluation(*report.evaluation);
    // The output is what was asked for, the report comes besides.
    if (to_stdout || !StandardOutputWasClosed())
      Print(to_stdout ? stderr : all_flags.html.table_stream(), text);
  }
  if (all_flags.html.is_standard_output()) Print(stdout, QuantizeHtml(report));
  return 0;
}

}  // namespace

void AddQuantize(CLI::App& app, Command& chosen, const std::string& line) {
  CLI::App* command = app.add_subcommand("quantize", "Convert a checkpoint: the main job");
  const auto flags = std::make_shared<QuantizeFlags>();
  AddConvertFlags(*command, flags->convert);
  AddSwitch(*command, "--dry-run", flags->convert.dry_run, "Write nothing: same as phiq plan")
      ->group("Output");
  AddSwitch(*command, "--sha256", flags->convert.sha256,
            "Report the SHA-256 of every file, read again")
      ->group("Output");
  flags->html.AddTo(*command, "Output");
  const std::string group = "Evaluation, before the output gets its name";
  command
      ->add_option(
          "--eval-text", flags->eval_text,
          "Text to measure the output on, against the checkpoint; with a\nthreshold that is "
          "not met nothing is written (exit 1)")
      ->option_text("FILE")
      ->group(group);
  AddEvalFlags(*command, group, group, flags->eval);
  command->footer(kQuantizeExamples);
  command->callback(
      [&chosen, flags, line] { chosen = [flags, line] { return Quantize(*flags, line); }; });
}

}  // namespace phiq::cli
