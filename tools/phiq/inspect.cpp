// phiq inspect: what is in a checkpoint or in one of our outputs.
#include "phiq/inspect.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "commands.h"
#include "console.h"
#include "option_values.h"
#include "phiq/text.h"
#include "report_flags.h"
#include "table.h"

namespace phiq::cli {
namespace {

constexpr const char* kInspectExamples = R"(Examples:
  phiq inspect phi-3.5-mini-instruct-Q4_K_M.gguf
  phiq inspect phi-4-mini-instruct-onnx-int4 --check
  phiq inspect microsoft/phi-4 --json | jq .n_weights
  phiq inspect --check phi.gguf && echo sound)";

struct InspectFlags {
  std::string path;
  bool check = false;
  std::optional<std::string> threads;
  ReportFlags report;
};

std::string Format(const Inspection& inspection) {
  std::string text = fmt::format("{}: {}\n\n", Escape(inspection.path), inspection.kind);
  std::vector<std::vector<std::string>> metadata;
  for (const auto& [key, value] : inspection.metadata) metadata.push_back({key, value});
  text += FormatTable("ll", metadata);
  std::vector<std::vector<std::string>> tensors = {{"TENSOR", "TYPE", "SHAPE", "BYTES"}};
  for (const InspectedTensor& tensor : inspection.tensors)
    tensors.push_back({Escape(tensor.name), tensor.type, FormatShape(tensor.shape),
                       FormatCount(tensor.size_bytes)});
  text += "\n" + FormatTable("lllr", tensors);
  text += fmt::format("\n{} tensors, {} weights, {} ({:.2f} bits per weight)\n",
                      inspection.tensors.size(), FormatCount(inspection.n_weights),
                      FormatBytes(inspection.data_bytes), inspection.bits_per_weight());
  for (const std::string& note : inspection.notes) text += fmt::format("note: {}\n", note);
  for (const std::string& problem : inspection.problems)
    text += fmt::format("problem: {}\n", problem);
  return text;
}

Json ToJson(const Inspection& inspection) {
  Json metadata = Json::object();
  for (const auto& [key, value] : inspection.metadata) metadata[key] = value;
  Json tensors = Json::array();
  for (const InspectedTensor& tensor : inspection.tensors)
    tensors.push_back({{"name", tensor.name},
                       {"type", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.size_bytes},
                       {"file", tensor.file}});
  return {{"path", inspection.path},
          {"kind", inspection.kind},
          {"metadata", std::move(metadata)},
          {"n_weights", inspection.n_weights},
          {"data_bytes", inspection.data_bytes},
          {"bits_per_weight", inspection.bits_per_weight()},
          {"tensors", std::move(tensors)},
          {"notes", inspection.notes},
          {"problems", inspection.problems}};
}

int ShowInspection(const InspectFlags& flags) {
  const InspectOptions options = {.check = flags.check, .threads = ParseThreads(flags.threads)};
  const std::string path = ValueOf("PATH", flags.path);
  const Inspection inspection = [&] {
    Reporter reporter(flags.report);
    return Inspect(path, options, reporter.hooks());
  }();
  if (flags.report.json) {
    PrintJson(stdout, ToJson(inspection));
  } else if (!flags.report.quiet) {
    Print(stdout, Format(inspection));
  }
  if (inspection.problems.empty()) return 0;
  spdlog::error("{}: {} problem{} found", Escape(flags.path), inspection.problems.size(),
                inspection.problems.size() == 1 ? "" : "s");
  return static_cast<int>(ErrorCode::kNo);
}

}  // namespace

void AddInspect(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Show a checkpoint or an output: metadata, tensors, types, bits per weight");
  const auto flags = std::make_shared<InspectFlags>();
  command->add_option("PATH", flags->path, "A checkpoint as for quantize, or an output of it")
      ->required()
      ->option_text(" ");
  AddSwitch(*command, "--check", flags->check,
            "Read every weight too: NaN and Inf are problems (exit 1)");
  command->add_option("--threads", flags->threads, "1 to 1024; default: all cores")
      ->option_text("N");
  AddReportFlags(*command, flags->report);
  command->footer(kInspectExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return ShowInspection(*flags); }; });
}

}  // namespace phiq::cli
