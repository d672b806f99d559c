// phiq compare: what an encoding did to each tensor.
#include "phiq/compare.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "commands.h"
#include "console.h"
#include "html_file.h"
#include "html_report.h"
#include "option_values.h"
#include "phiq/file.h"
#include "phiq/text.h"
#include "report_flags.h"
#include "table.h"

namespace phiq::cli {
namespace {

constexpr const char* kCompareExamples = R"(Examples:
  phiq compare Phi-3.5-mini-instruct phi-3.5-mini-instruct-Q4_K_M.gguf
  phiq compare phi-Q4_0.gguf phi-onnx-int4 --top 10       the ten worst tensors
  phiq compare microsoft/phi-4 phi.gguf --json | jq .relative_rmse

The tensors stand in the order of their share of the whole squared error. REL. RMSE is
sqrt(sum (a - b)^2 / sum a^2), SNR is -20 log10 of it; docs/evaluation.md has all formulas.
What it means for the model's output, `phiq eval` tells.)";

struct CompareFlags {
  std::string a, b;
  std::optional<std::string> threads, top;
  HtmlFile html;
  SourceFlags source;
  ReportFlags report;
};

std::string FormatSnr(double relative_rmse) {
  if (relative_rmse == 0) return "exact";
  return std::isfinite(relative_rmse) ? fmt::format("{:.1f}", -20 * std::log10(relative_rmse))
                                      : "-inf";
}

std::string Format(const Comparison& comparison, std::optional<std::size_t> top) {
  std::vector<std::vector<std::string>> rows = {
      {"TENSOR", "TYPES", "BITS", "MAX ERROR", "RMSE", "REL. RMSE", "SNR dB", "COSINE", "SHARE"}};
  const std::size_t n_shown = std::min(top.value_or(SIZE_MAX), comparison.tensors.size());
  for (std::size_t i = 0; i < n_shown; ++i) {
    const ComparedTensor& tensor = comparison.tensors[i];
    rows.push_back(
        {tensor.name, fmt::format("{} -> {}", tensor.type_a, tensor.type_b),
         fmt::format("{:.2f} -> {:.2f}", tensor.bits_per_weight_a, tensor.bits_per_weight_b),
         fmt::format("{:.3g}", tensor.max_error), fmt::format("{:.3g}", tensor.rmse),
         fmt::format("{:.3g}", tensor.relative_rmse), FormatSnr(tensor.relative_rmse),
         fmt::format("{:.6f}", tensor.cosine), fmt::format("{:.1f} %", 100 * tensor.share)});
  }
  std::string text = FormatTable("lllrrrrrr", rows);
  if (n_shown < comparison.tensors.size())
    text += fmt::format("... and {} more\n", comparison.tensors.size() - n_shown);
  const std::string snr =
      comparison.relative_rmse == 0 ? "exact" : FormatSnr(comparison.relative_rmse) + " dB";
  return text + fmt::format(
                    "\n{} tensors, {} weights, {:.2f} -> {:.2f} bits per weight: relative "
                    "RMSE {:.3g} ({}), max error {:.3g}\n",
                    comparison.tensors.size(), FormatCount(comparison.n_weights),
                    comparison.a.bits_per_weight, comparison.b.bits_per_weight,
                    comparison.relative_rmse, snr, comparison.max_error);
}

Json ToJson(const ComparedSide& side) {
  return {{"path", side.path},
          {"kind", side.kind},
          {"bits_per_weight", side.bits_per_weight},
          {"data_bytes", side.data_bytes}};
}

// Infinite numbers become null: JSON has none.
Json ToJson(const Comparison& comparison, std::optional<std::size_t> top) {
  Json tensors = Json::array();
  for (const ComparedTensor& tensor : comparison.tensors) {
    if (top && tensors.size() == *top) break;
    Json layer;
    if (tensor.layer >= 0) layer = tensor.layer;
    tensors.push_back({{"name", tensor.name},
                       {"role", RoleName(tensor.role)},
                       {"layer", layer},
                       {"shape", tensor.shape},
                       {"type_a", tensor.type_a},
                       {"type_b", tensor.type_b},
                       {"bits_per_weight_a", tensor.bits_per_weight_a},
                       {"bits_per_weight_b", tensor.bits_per_weight_b},
                       {"max_error", tensor.max_error},
                       {"rmse", tensor.rmse},
                       {"relative_rmse", tensor.relative_rmse},
                       {"snr_db", tensor.snr_db},
                       {"cosine", tensor.cosine},
                       {"share", tensor.share}});
  }
  return {{"a", ToJson(comparison.a)},         {"b", ToJson(comparison.b)},
          {"n_weights", comparison.n_weights}, {"relative_rmse", comparison.relative_rmse},
          {"max_error", comparison.max_error}, {"tensors", std::move(tensors)}};
}

int ShowComparison(const CompareFlags& flags) {
  std::optional<std::size_t> top;
  if (flags.top)
    top = ParseCount("--top", *flags.top, 1, std::numeric_limits<std::uint32_t>::max());
  flags.html.Check(flags.report.json);
  const CompareOptions options = {.a = ValueOf("A", flags.a),
                                  .b = ValueOf("B", flags.b),
                                  .ignore_extra = IgnoreExtra(flags.source),
                                  .threads = ParseThreads(flags.threads),
                                  .adapters = Adapters(flags.source),
                                  .pad_vocab = ParsePadVocab(flags.source.pad_vocab)};
  const Comparison comparison = [&] {
    Reporter reporter(flags.report);
    return Compare(options, reporter.hooks());
  }();
  if (flags.html.is_wanted()) flags.html.Write(CompareHtml(comparison));
  if (flags.report.json) {
    PrintJson(stdout, ToJson(comparison, top));
  } else if (!flags.report.quiet) {
    Print(flags.html.table_stream(), Format(comparison, top));
  }
  return 0;
}

}  // namespace

void AddCompare(CLI::App& app, Command& chosen) {
  CLI::App* command = app.add_subcommand(
      "compare", "Show how far the weights of two models are apart, tensor by tensor");
  const auto flags = std::make_shared<CompareFlags>();
  command
      ->add_option("A", flags->a,
                   "What errors are measured from: a checkpoint as for quantize, or an\n"
                   "output of it")
      ->required()
      ->option_text(" ");
  command->add_option("B", flags->b, "What is measured: any of these")
      ->required()
      ->option_text(" ");
  command->add_option("--top", flags->top, "Only the N tensors of the largest share")
      ->option_text("N");
  flags->html.AddTo(*command);
  command->add_option("--threads", flags->threads, "1 to 1024; default: all cores")
      ->option_text("N");
  AddSourceFlags(*command, flags->source);
  AddReportFlags(*command, flags->report);
  command->footer(kCompareExamples);
  command->callback([&chosen, flags] { chosen = [flags] { return ShowComparison(*flags); }; });
}

}  // namespace phiq::cli
