// phiq verify: proves an output against the checkpoint that it was made from, and its bytes against
// the checksums that were recorded when they were written.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibration_flags.h"
#include "commands.h"
#include "console.h"
#include "option_values.h"
#include "phiq/inspect.h"
#include "phiq/text.h"
#include "report_flags.h"
#include "table.h"

namespace phiq::cli {
namespace {

constexpr const char* kVerifyExamples = R"(Examples:
  phiq verify phi-3.5-mini-instruct-Q4_K_M.gguf --against Phi-3.5-mini-instruct
  phiq verify phi-onnx --against Phi-3.5-mini-instruct
  phiq verify phi.gguf --against microsoft/phi-4 --calibrate chats.jsonl
  phiq verify phi-3.5-mini-instruct-Q4_K_M.gguf     # only the checksums that it has
  phiq verify --quiet phi.gguf --against microsoft/phi-4 || echo "do not ship it")";

struct VerifyFlags {
  std::string output;
  std::optional<std::string> model;
  SourceFlags source;
  CalibrationFlags calibration;
  std::optional<std::string> tokenizer, threads, memory_limit;
  ReportFlags report;
};

std::string Format(const Verification& verification) {
  std::vector<std::vector<std::string>> rows = {
      {"TENSOR", "TYPE", "MAX ERROR", "RELATIVE RMSE", "BOUND", ""}};
  for (const VerifiedTensor& tensor : verification.tensors)
    rows.push_back({Escape(tensor.name), tensor.type, fmt::format("{:.3g}", tensor.max_error),
                    fmt::format("{:.3g}", tensor.relative_rmse),
                    fmt::format("{:.3g}", tensor.bound), tensor.ok ? "ok" : "BAD"});
  std::string text = verification.tensors.empty() ? "" : FormatTable("llrrrl", rows) + "\n";
  for (const std::string& note : verification.notes) text += fmt::format("note: {}\n", note);
  for (const std::string& problem : verification.problems)
    text += fmt::format("problem: {}\n", problem);
  if (!verification.problems.empty()) return text;
  if (!verification.tensors.empty())
    text += fmt::format("{} tensors, all within their bounds\n", verification.tensors.size());
  if (verification.n_encoded > 0)
    text += fmt::format("{} of them encoded again from the checkpoint: the same bytes\n",
                        verification.n_encoded);
  if (verification.n_checked > 0)
    text += fmt::format("checksums of {} tensors and of all the rest: as they were written\n",
                        verification.n_checked);
  return text;
}

Json ToJson(const VerifyFlags& flags, const Verification& verification) {
  Json tensors = Json::array();
  for (const VerifiedTensor& tensor : verification.tensors)
    tensors.push_back({{"name", tensor.name},
                       {"type", tensor.type},
                       {"max_error", tensor.max_error},
                       {"relative_rmse", tensor.relative_rmse},
                       {"bound", tensor.bound},
                       {"ok", tensor.ok}});
  return {{"path", flags.output},
          {"against", flags.model ? Json(*flags.model) : Json()},
          {"ok", verification.problems.empty()},
          {"problems", verification.problems},
          {"notes", verification.notes},
          {"checksums", verification.n_checked},
          {"encoded_again", verification.n_encoded},
          {"tensors", std::move(tensors)}};
}

int ShowVerification(const VerifyFlags& flags) {
  VerifyOptions options = {.output = ValueOf("OUT", flags.output),
                           .model = ValueOf("--against", flags.model),
                           .ignore_extra = IgnoreExtra(flags.source),
                           .threads = ParseThreads(flags.threads),
                           .adapters = Adapters(flags.source),
                           .pad_vocab = ParsePadVocab(flags.source.pad_vocab),
                           .calibration = ResolveCalibrationFlags(flags.calibration),
                           .tokenizer = ValueOf("--tokenizer", flags.tokenizer)};
  if (flags.memory_limit)
    options.memory_limit_bytes =
        ForOption("--memory-limit", [&] { return ParseSize(*flags.memory_limit); });
  const Verification verification = [&] {
    Reporter reporter(flags.report);
    return Verify(options, reporter.hooks());
  }();
  if (flags.report.json) {
    PrintJson(stdout, ToJson(flags, verification));
  } else if (!flags.report.quiet) {
    Print(stdout, Format(verification));
  }
  if (verification.problems.empty()) return 0;
  spdlog::error("{}: does not match {}: {} problem{}, first: {}", Escape(flags.output),
                flags.model ? Escape(*flags.model) : "its record", verification.problems.size(),
                verification.problems.size() == 1 ? "" : "s", verification.problems.front());
  return static_cast<int>(ErrorCode::kNo);
}

}  // namespace

void AddVerify(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "verify", "Check an output's bytes, and compare every tensor with its checkpoint");
  const auto flags = std::make_shared<VerifyFlags>();
  command
      ->add_option("OUT", flags->output,
                   "An output of quantize (of one in parts: the first of them), or of\n"
                   "the runtime's own converter")
      ->required()
      ->option_text(" ");
  command
      ->add_option("--against", flags->model,
                   "The checkpoint or model that it was made from; without it only the\n"
                   "checksums that phiq recorded in the output are checked")
      ->option_text("MODEL");
  AddSourceFlags(*command, flags->source);
  AddCalibrationFlags(*command,
                      "Calibration: what quantize had, to make codes again that it chose by them",
                      flags->calibration);
  command
      ->add_option("--tokenizer", flags->tokenizer,
                   "The folder that quantize took the tokenizer from")
      ->option_text("FOLDER");
  command->add_option("--threads", flags->threads, "1 to 1024; default: all cores")
      ->option_text("N");
  command
      ->add_option("--memory-limit", flags->memory_limit,
                   "Ceiling of resident memory of a calibration; default 1G")
      ->option_text("SIZE");
  AddReportFlags(*command, flags->report);
  command->footer(kVerifyExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return ShowVerification(*flags); }; });
}

}  // namespace phiq::cli
