// Figures as tables and JSON from one place, so that both say the same.
#include "eval_output.h"

#include <fmt/format.h>

#include <string_view>
#include <vector>

#include "phiq/text.h"
#include "table.h"

namespace phiq::cli {
namespace {

std::string_view ProtocolName(EvalProtocol protocol) {
  return protocol == EvalProtocol::kLlamaCpp ? "llama.cpp" : "all";
}

std::string Format(const Estimate& estimate, int n_decimals) {
  return fmt::format("{:.{}f} ± {:.{}f}", estimate.value, n_decimals, estimate.standard_error,
                     n_decimals);
}

std::vector<std::string> Row(const EvaluatedModel& model) {
  return {Escape(model.path), model.types, fmt::format("{:.2f}", model.bits_per_weight),
          Format(model.perplexity, 4)};
}

Json ToJson(const Estimate& estimate) {
  return {{"value", estimate.value}, {"standard_error", estimate.standard_error}};
}

Json ToJson(const EvaluatedModel& model) {
  Json json = {{"path", model.path},        {"kind", model.kind},
               {"types", model.types},      {"bits_per_weight", model.bits_per_weight},
               {"bytes", model.data_bytes}, {"perplexity", ToJson(model.perplexity)}};
  if (!model.divergence) return json;
  const Divergence& divergence = *model.divergence;
  json["ppl_ratio"] = divergence.ppl_ratio;
  json["log_ppl_ratio"] = ToJson(divergence.log_ppl_ratio);
  json["kl"] = {
      {"mean", divergence.mean_kl.value}, {"standard_error", divergence.mean_kl.standard_error},
      {"median", divergence.median_kl},   {"p90", divergence.p90_kl},
      {"p99", divergence.p99_kl},         {"p999", divergence.p999_kl},
      {"max", divergence.max_kl}};
  json["same_top"] = ToJson(divergence.same_top);
  json["hidden_error"] = model.hidden_error;
  return json;
}

}  // namespace

std::string FormatEvaluation(const EvalReport& report) {
  std::string text = fmt::format(
      "{} window{} of {} tokens, {} scored ({})\n\n", FormatCount(report.n_windows),
      report.n_windows == 1 ? "" : "s", report.n_ctx, FormatCount(report.n_scored),
      report.protocol == EvalProtocol::kLlamaCpp ? "second halves, as llama.cpp" : "all positions");
  std::vector<std::vector<std::string>> rows = {{"MODEL", "TYPES", "BITS", "PERPLEXITY"}};
  if (report.reference) {
    for (const char* title :
         {"RATIO", "MEAN KL", "MEDIAN", "90 %", "99 %", "99.9 %", "MAX", "SAME TOP"})
      rows.front().emplace_back(title);
    rows.push_back(Row(*report.reference));
    rows.back()[0] += " (reference)";
    rows.back().resize(rows.front().size());
  }
  for (const EvaluatedModel& model : report.models) {
    std::vector<std::string>& row = rows.emplace_back(Row(model));
    if (!model.divergence) continue;
    const Divergence& divergence = *model.divergence;
    row.push_back(fmt::format("{:.5f} ± {:.5f}", divergence.ppl_ratio,
                              divergence.ppl_ratio * divergence.log_ppl_ratio.standard_error));
    row.push_back(Format(divergence.mean_kl, 6));
    for (const double kl : {divergence.median_kl, divergence.p90_kl, divergence.p99_kl,
                            divergence.p999_kl, divergence.max_kl})
      row.push_back(fmt::format("{:.5f}", kl));
    row.push_back(fmt::format("{:.2f} ± {:.2f} %", 100 * divergence.same_top.value,
                              100 * divergence.same_top.standard_error));
  }
  text += FormatTable(report.reference ? "llrrrrrrrrrr" : "llrr", rows);
  text += fmt::format("\n{}, {}, peak memory {}\n", FormatSeconds(report.elapsed_s),
                      FormatRate(report.tokens_per_second, "tokens"),
                      FormatBytes(report.peak_memory_bytes));
  return text;
}

Json EvaluationToJson(const EvalReport& report) {
  Json models = Json::array();
  for (const EvaluatedModel& model : report.models) models.push_back(ToJson(model));
  return {{"protocol", ProtocolName(report.protocol)},
          {"n_ctx", report.n_ctx},
          {"n_tokens", report.n_tokens},
          {"n_windows", report.n_windows},
          {"n_scored", report.n_scored},
          {"reference", report.reference ? ToJson(*report.reference) : Json()},
          {"models", std::move(models)},
          {"unmet", report.unmet},
          {"ok", report.unmet.empty()},
          {"elapsed_s", report.elapsed_s},
          {"tokens_per_second", report.tokens_per_second},
          {"peak_memory_bytes", report.peak_memory_bytes}};
}

}  // namespace phiq::cli
