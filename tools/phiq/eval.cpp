// phiq eval: perplexity, and what a model lost against another.
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "console.h"
#include "eval_flags.h"
#include "eval_output.h"
#include "html_file.h"
#include "html_report.h"
#include "option_values.h"
#include "phiq/evaluate.h"
#include "phiq/text.h"
#include "report_flags.h"

namespace phiq::cli {
namespace {

constexpr const char* kEvalExamples = R"(Examples:
  phiq eval phi-Q4_K_M.gguf --text wiki.test.raw
  phiq eval phi-Q4_K_M.gguf --text wiki.test.raw --against Phi-3.5-mini-instruct --chunks 40
  phiq eval a.gguf b.gguf phi-onnx --text wiki.test.raw --against Phi-3.5-mini-instruct --html cost.html
  phiq eval phi.gguf --text t.txt --against phi-4 --max-kl 0.05 --quiet || echo "do not ship it"

Weights are decoded as the file stores them; activations stay float32, which some runtimes round to
8 bits. Perplexities of different texts, tokenizers, --ctx or --protocol cannot be compared.)";

struct Flags {
  std::vector<std::string> models;
  std::optional<std::string> text, ids, against, threads, memory_limit;
  HtmlFile html;
  SourceFlags source;
  EvalFlags eval;
  ReportFlags report;
};

int ShowEvaluation(const Flags& flags) {
  EvalOptions options;
  options.models = ValuesOf("PATH", flags.models);
  options.reference = ValueOf("--against", flags.against);
  options.text = ValueOf("--text", flags.text);
  options.ids = ValueOf("--ids", flags.ids);
  options.ignore_extra = IgnoreExtra(flags.source);
  options.adapters = Adapters(flags.source);
  options.pad_vocab = ParsePadVocab(flags.source.pad_vocab);
  options.threads = ParseThreads(flags.threads);
  if (flags.memory_limit)
    options.memory_limit_bytes =
        ForOption("--memory-limit", [&] { return ParseSize(*flags.memory_limit); });
  ResolveEvalFlags(flags.eval, options);
  flags.html.Check(flags.report.json);
  const EvalReport report = [&] {
    Reporter reporter(flags.report);
    return Evaluate(options, reporter.hooks());
  }();
  if (flags.html.is_wanted()) flags.html.Write(EvalHtml(report));
  if (flags.report.json) {
    PrintJson(stdout, EvaluationToJson(report));
  } else if (!flags.report.quiet) {
    Print(flags.html.table_stream(), FormatEvaluation(report));
  }
  for (const std::string& threshold : report.unmet) spdlog::error("{}", threshold);
  return report.unmet.empty() ? 0 : static_cast<int>(ErrorCode::kNo);
}

}  // namespace

void AddEval(CLI::App& app, Command& chosen) {
  CLI::App* command =
      app.add_subcommand("eval", "Measure perplexity, and divergence from a reference model");
  const auto flags = std::make_shared<Flags>();
  command
      ->add_option("PATH", flags->models,
                   "Checkpoints or outputs of phiq; several share the reference's work")
      ->required()
      ->option_text(" ")
      ->take_all();
  const auto add = [&](const char* name, auto& value, const char* text, const char* description) {
    command->add_option(name, value, description)->option_text(text);
  };
  add("--text", flags->text, "FILE", "The text, UTF-8");
  add("--ids", flags->ids, "FILE", "Token ids instead: numbers with white space between them");
  add("--against", flags->against, "MODEL",
      "Reference: the checkpoint, or another output. Adds KL divergence\nand same-top-token rate");
  AddEvalFlags(*command, "Windows", "Thresholds (exit 1 when one is not met)", flags->eval);
  flags->html.AddTo(*command);
  add("--threads", flags->threads, "N", "1 to 1024; default: all cores");
  add("--memory-limit", flags->memory_limit, "SIZE", "Ceiling of resident memory; default 1G");
  AddSourceFlags(*command, flags->source);
  AddReportFlags(*command, flags->report);
  command->footer(kEvalExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return ShowEvaluation(*flags); }; });
}

}  // namespace phiq::cli
