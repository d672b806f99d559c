// Renders OutputPlan and ConvertReport.
#include "plan_output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <vector>

#include "output_errors.h"
#include "phiq/text.h"
#include "table.h"

namespace phiq::cli {
namespace {

std::size_t CountFallbacks(const Plan& plan) {
  return static_cast<std::size_t>(std::count_if(
      plan.lines.begin(), plan.lines.end(), [](const PlanLine& line) { return line.is_fallback; }));
}

double Rate(const ConvertReport& report) {
  if (report.elapsed_s <= 0) return 0;
  const Plan& plan = *report.planned.outputs.front().plan;
  return static_cast<double>(plan.n_weights()) / report.elapsed_s;
}

// A line for each file; one for all of a folder.
std::string FilesAndSizes(const OutputPlan& output) {
  std::string text;
  if (output.is_folder) {
    const std::filesystem::path folder =
        std::filesystem::path(output.files.front().path).parent_path();
    return fmt::format("{}/: {} bytes ({}) in {} files\n", Escape(folder.string()),
                       FormatCount(output.output_bytes), FormatBytes(output.output_bytes),
                       output.files.size());
  }
  for (const PlannedFile& file : output.files)
    text += fmt::format("{}: {} bytes ({})\n", Escape(file.path), FormatCount(file.size_bytes),
                        FormatBytes(file.size_bytes));
  return text;
}

// How the types were chosen.
std::string MixText(const MixReport& mix) {
  if (!mix.recipe.empty()) return fmt::format("the recipe {}, for want of a text", mix.recipe);
  if (mix.is_to_come)
    return "which layers keep 8 bits is measured when the model has written its text: in no more "
           "bytes than these";
  if (mix.rules.empty()) return "those of the type; what others would lose is above";
  std::string text = fmt::format("tensor by tensor; predicted KL {:.3g}", mix.predicted_kl);
  if (mix.n_tokens > 0)
    text += fmt::format(", {:.3g} measured on {} held-back tokens", mix.measured_kl,
                        FormatCount(mix.n_tokens));
  return text + " (reference codes)";
}

std::string RulesText(const MixReport& mix) {
  std::string text;
  for (const TensorRule& rule : mix.rules)
    text += fmt::format("--tensor-type '{}={}'\n", rule.pattern, rule.type);
  return text;
}

Json MixToJson(const MixReport& mix) {
  if (!mix.recipe.empty()) return {{"recipe", mix.recipe}};
  if (mix.is_to_come) return {{"to_come", true}};
  Json rules = Json::array(), frontier = Json::array();
  for (const TensorRule& rule : mix.rules)
    rules.push_back(fmt::format("{}={}", rule.pattern, rule.type));
  const Json measured = mix.n_tokens > 0 ? Json(mix.measured_kl) : Json();
  for (const MixReport::Point& point : mix.frontier)
    frontier.push_back({{"data_bytes", point.data_bytes},
                        {"bits_per_weight", point.bits_per_weight},
                        {"predicted_kl", point.predicted_kl},
                        {"measured_kl", point.is_chosen ? measured : Json()},
                        {"chosen", point.is_chosen}});
  return {{"tensor_types", rules},
          {"predicted_kl", rules.empty() ? Json() : Json(mix.predicted_kl)},
          {"measured_kl", measured},
          {"n_tokens", mix.n_tokens},
          {"estimated_s", mix.seconds},
          {"frontier", frontier}};
}

std::string FrontierText(const MixReport& mix) {
  if (mix.frontier.empty()) return "";
  std::vector<std::vector<std::string>> rows = {
      {"BYTES", "BITS PER WEIGHT", "PREDICTED KL", "MEASURED KL", ""}};
  for (const MixReport::Point& point : mix.frontier)
    rows.push_back(
        {FormatCount(point.data_bytes), fmt::format("{:.2f}", point.bits_per_weight),
         fmt::format("{:.3g}", point.predicted_kl),
         point.is_chosen && mix.n_tokens > 0 ? fmt::format("{:.3g}", mix.measured_kl) : "",
         point.is_chosen ? "chosen" : ""});
  return FormatTable("rrrrl", rows) + "\n";
}

// "device: 2.40 GiB at a context of 4096 tokens: ...".
std::string DeviceText(const DeviceMemory& device) {
  return fmt::format("{} at a context of {} tokens: {} of files, {} of cache, {} to work in ({})",
                     FormatBytes(device.total_bytes()), FormatCount(device.n_ctx),
                     FormatBytes(device.files_bytes), FormatBytes(device.cache_bytes),
                     FormatBytes(device.working_bytes), device.rule);
}

// What a plan and a report both say of an output.
Json Summary(const OutputPlan& output) {
  Json files = Json::array();
  for (const PlannedFile& file : output.files)
    if (file.sha256.empty()) {
      files.push_back({{"path", file.path}, {"bytes", file.size_bytes}});
    } else {
      files.push_back({{"path", file.path}, {"bytes", file.size_bytes}, {"sha256", file.sha256}});
    }
  Json json = {{"model", output.model_name},
               {"architecture", output.architecture},
               {"format", output.plan->format},
               {"type", output.plan->type},
               {"files", std::move(files)},
               {"output_bytes", output.output_bytes},
               {"n_tensors", output.plan->lines.size()},
               {"n_fallbacks", CountFallbacks(*output.plan)},
               {"n_weights", output.plan->n_weights()},
               {"bits_per_weight", output.plan->bits_per_weight()}};
  if (output.mix) json["types"] = MixToJson(*output.mix);
  if (output.device)
    json["device"] = {{"n_ctx", output.device->n_ctx},
                      {"cache_bytes", output.device->cache_bytes},
                      {"working_bytes", output.device->working_bytes},
                      {"total_bytes", output.device->total_bytes()},
                      {"rule", output.device->rule}};
  if (output.plan->decisions.empty()) return json;
  Json& decisions = json["decisions"] = Json::array();
  for (const Decision& decision : output.plan->decisions)
    decisions.push_back(
        {{"subject", decision.subject}, {"value", decision.value}, {"reason", decision.reason}});
  return json;
}

// One output's object, or the list of several beside what they share.
Json Join(std::vector<Json> outputs, Json shared) {
  Json json = Json::object();
  if (outputs.size() == 1) {
    json = std::move(outputs.front());
  } else {
    json["outputs"] = std::move(outputs);
  }
  json.update(shared);
  Keep(std::move(shared));
  return json;
}

// What of the text is run through the model.
std::string CalibrationText(const CalibrationPlan& calibration) {
  std::string files;
  for (const std::string& file : calibration.files)
    files += (files.empty() ? "" : ", ") + Escape(file);
  if (!calibration.imatrix.empty())
    return fmt::format("importance matrix {} of {} inputs", Escape(calibration.imatrix),
                       calibration.n_inputs);
  return fmt::format("{} tokens of {} in windows of {}, {} more held back",
                     FormatCount(calibration.n_tokens), files, calibration.n_ctx,
                     FormatCount(calibration.n_held_back));
}

Json CalibrationToJson(const CalibrationPlan& calibration) {
  if (!calibration.imatrix.empty())
    return {{"imatrix", calibration.imatrix},
            {"files", calibration.files},
            {"sha256", calibration.sha256},
            {"n_inputs", calibration.n_inputs}};
  Json json = {{"files", calibration.files},
               {"sha256", calibration.sha256},
               {"n_tokens", calibration.n_tokens},
               {"n_held_back", calibration.n_held_back},
               {"n_ctx", calibration.n_ctx},
               {"shrink", calibration.shrink},
               {"widest_block", calibration.widest_block},
               {"n_corrected", calibration.n_corrected},
               {"scratch_bytes", calibration.scratch_bytes},
               {"notes", calibration.notes},
               {"estimated_s", calibration.seconds}};
  if (calibration.sha256.empty()) json["sha256"] = nullptr;  // a plan: the text is not written yet
  if (calibration.n_own_windows > 0)
    json["own_text"] = {{"n_windows", calibration.n_own_windows},
                        {"windows_at_once", calibration.n_own_at_once},
                        {"weight_readings", calibration.n_own_readings}};
  return json;
}

std::string OutputErrorText(const std::vector<OutputError>& errors) {
  const auto n_better = std::ranges::count_if(
      errors, [](const OutputError& error) { return error.error < error.reference; });
  std::string text = fmt::format(
      "{:.3g} of the reference's mean squared error on held-back text; smaller in {} of "
      "{} tensors",
      MeanRatio(errors), n_better, errors.size());
  const auto n_fallbacks = std::ranges::count_if(errors, &OutputError::is_fallback);
  if (n_fallbacks > 0) text += fmt::format(", {} of them by another method", n_fallbacks);
  return text;
}

// "attention_qkv of layers 0, 3; expert_down of layer 1 (expert 2); output_head".
std::string InputNames(const std::vector<InputCorrection>& inputs) {
  std::map<std::string, std::vector<std::string>> layers;
  for (const InputCorrection& input : inputs) {
    std::vector<std::string>& of_role = layers[input.role];
    if (input.layer < 0) continue;
    of_role.push_back(fmt::format("{}", input.layer));
    if (input.expert >= 0) of_role.back() += fmt::format(" (expert {})", input.expert);
  }
  std::string text;
  for (const auto& [role, of_role] : layers) {
    text += (text.empty() ? "" : "; ") + role;
    if (of_role.empty()) continue;
    text += fmt::format(" of layer{} {}", of_role.size() == 1 ? "" : "s", fmt::join(of_role, ", "));
  }
  return text;
}

std::string CorrectionText(const std::vector<InputCorrection>& inputs) {
  std::vector<InputCorrection> left = inputs;
  std::erase_if(left, [](const InputCorrection& input) { return input.is_used; });
  std::string text = fmt::format("of {} of {} inputs", inputs.size() - left.size(), inputs.size());
  if (!left.empty())
    text += "; on held-back text not worth it for the weights of " + InputNames(left);
  return text;
}

Json CorrectionsToJson(const std::vector<InputCorrection>& inputs) {
  Json json = Json::array();
  for (const InputCorrection& input : inputs)
    json.push_back({{"role", input.role},
                    {"layer", input.layer < 0 ? Json() : Json(input.layer)},
                    {"expert", input.expert < 0 ? Json() : Json(input.expert)},
                    {"used", input.is_used},
                    {"error_without", input.without},
                    {"error_with", input.with}});
  return json;
}

// Of all experts those that a text says little of; "": it does of each.
std::string ExpertsText(const std::vector<ExpertTokens>& experts) {
  const auto n_rare = std::ranges::count(experts, false, &ExpertTokens::has_own);
  if (n_rare == 0) return "";
  return fmt::format(
      "{} of {} experts see too few tokens: they have the statistics of all that pass their layer",
      n_rare, experts.size());
}

Json ExpertsToJson(const std::vector<ExpertTokens>& experts) {
  Json json = Json::array();
  for (const ExpertTokens& expert : experts)
    json.push_back({{"layer", expert.layer},
                    {"expert", expert.expert},
                    {"n_tokens", expert.n_tokens},
                    {"own_statistics", expert.has_own}});
  return json;
}

Json OutputErrorsToJson(const std::vector<OutputError>& errors) {
  Json json = Json::array();
  for (const OutputError& error : errors)
    json.push_back({{"tensor", error.tensor},
                    {"role", error.role},
                    {"layer", error.layer < 0 ? Json() : Json(error.layer)},
                    {"expert", error.expert < 0 ? Json() : Json(error.expert)},
                    {"method", error.method},
                    {"error", error.error},
                    {"reference_error", error.reference},
                    {"seen_error", error.seen},
                    {"fallback", error.is_fallback}});
  return json;
}

std::string FormatOutput(const OutputPlan& output) {
  const Plan& plan = *output.plan;
  std::vector<std::vector<std::string>> rows = {
      {"TENSOR", "ROLE", "SHAPE", "FROM", "TO", "BYTES", "WHY"}};
  for (const PlanLine& line : plan.lines)
    rows.push_back({Escape(line.display_name()), std::string(line.role_name()),
                    FormatShape(line.shape), line.source_type, EncodingName(line.encoding),
                    FormatCount(line.size_bytes), line.reason});
  std::string text = FormatTable("lllllrl", rows);
  if (!plan.decisions.empty()) {
    std::vector<std::vector<std::string>> decided = {{"DECISION", "VALUE", "WHY"}};
    for (const Decision& decision : plan.decisions)
      decided.push_back({Escape(decision.subject), Escape(decision.value), decision.reason});
    text.push_back('\n');
    text += FormatTable("lll", decided);
  }
  text.push_back('\n');
  if (output.mix)
    text += FrontierText(*output.mix) + RulesText(*output.mix) + "types: " + MixText(*output.mix) +
            "\n";
  if (output.mix && output.mix->seconds > 0)
    text += fmt::format("types: about {} to measure what they are worth\n",
                        FormatSeconds(output.mix->seconds));
  const std::string device =
      output.device ? fmt::format("device: {}\n", DeviceText(*output.device)) : "";
  return text +
         fmt::format("{} ({}) -> {} {}\n", Escape(output.model_name), Escape(output.architecture),
                     plan.format, plan.type) +
         FilesAndSizes(output) +
         fmt::format("{} tensors, {} weights, {:.2f} bits per weight\n", plan.lines.size(),
                     FormatCount(plan.n_weights()), plan.bits_per_weight()) +
         device;
}

}  // namespace

std::string FormatPlan(const ConversionPlan& conversion) {
  std::string text;
  for (const OutputPlan& output : conversion.outputs) {
    text += FormatOutput(output);
    if (conversion.outputs.size() > 1) text.push_back('\n');
  }
  if (conversion.calibration) {
    text += fmt::format("calibration: {}", CalibrationText(*conversion.calibration));
    if (conversion.calibration->seconds > 0)
      text += fmt::format("; about {}", FormatSeconds(conversion.calibration->seconds));
    text += '\n';
    if (conversion.calibration->n_own_windows > 0)
      text += fmt::format(
          "calibration: the model writes {} windows of it, {} at once: {} readings of its "
          "weights\n",
          FormatCount(conversion.calibration->n_own_windows),
          FormatCount(conversion.calibration->n_own_at_once),
          FormatCount(conversion.calibration->n_own_readings));
    if (conversion.calibration->n_corrected > 0)
      text += fmt::format(
          "calibration: with correction: beside the text's hidden states those of {} output{}\n",
          conversion.calibration->n_corrected, conversion.calibration->n_corrected == 1 ? "" : "s");
    if (conversion.calibration->scratch_bytes > 0)
      text += fmt::format("calibration: hidden states, {}, in files beside the output\n",
                          FormatBytes(conversion.calibration->scratch_bytes));
    for (const std::string& note : conversion.calibration->notes)
      text += fmt::format("calibration: {}\n", Escape(note));
  }
  return text + fmt::format("{} peak memory with {} thread{}\n",
                            FormatBytes(conversion.peak_memory_bytes), conversion.threads,
                            conversion.threads == 1 ? "" : "s");
}

Json PlanToJson(const ConversionPlan& conversion) {
  std::vector<Json> outputs;
  for (const OutputPlan& output : conversion.outputs) {
    Json& json = outputs.emplace_back(Summary(output));
    Json& tensors = json["tensors"] = Json::array();
    for (const PlanLine& line : output.plan->lines)
      tensors.push_back({{"name", line.display_name()},
                         {"role", line.role_name()},
                         {"layer", line.layer < 0 ? Json() : Json(line.layer)},
                         {"shape", line.shape},
                         {"source_type", line.source_type},
                         {"type", EncodingName(line.encoding)},
                         {"bytes", line.size_bytes},
                         {"reason", line.reason},
                         {"fallback", line.is_fallback}});
  }
  Json shared = {{"threads", conversion.threads},
                 {"peak_memory_bytes", conversion.peak_memory_bytes}};
  if (conversion.calibration) shared["calibration"] = CalibrationToJson(*conversion.calibration);
  return Join(std::move(outputs), std::move(shared));
}

std::string FormatReport(const ConvertReport& report) {
  std::string text;
  const auto add = [&text](std::string_view what, const std::string& value) {
    text += fmt::format("  {:<16} {}\n", what, value);
  };
  for (const std::string& path : report.skipped)
    text += fmt::format("{}: exists, skipped\n", Escape(path));
  if (report.planned.outputs.empty()) return text;
  for (std::size_t i = 0; i < report.planned.outputs.size(); ++i) {
    const OutputPlan& output = report.planned.outputs[i];
    text += FilesAndSizes(output);
    const std::size_t n_fallbacks = CountFallbacks(*output.plan);
    add("tensors", n_fallbacks == 0 ? fmt::format("{}", output.plan->lines.size())
                                    : fmt::format("{}, of which {} could not have the wanted type",
                                                  output.plan->lines.size(), n_fallbacks));
    add("weights", FormatCount(output.plan->n_weights()));
    add("bytes", fmt::format("{} in, {} out", FormatBytes(report.source_bytes),
                             FormatBytes(output.output_bytes)));
    add("bits per weight", fmt::format("{:.2f}", output.plan->bits_per_weight()));
    if (output.mix) add("types", MixText(*output.mix));
    if (output.device) add("device", DeviceText(*output.device));
    add("weighted error",
        fmt::format("{:.3g} (relative RMSE of every eighth row of the quantized weights)",
                    report.relative_rmse[i]));
    if (!report.output_errors[i].empty())
      add("output error", OutputErrorText(report.output_errors[i]));
    if (!report.corrections[i].empty()) add("correction", CorrectionText(report.corrections[i]));
    for (const PlannedFile& file : output.files)
      if (!file.sha256.empty())
        add("SHA-256", fmt::format("{}  {}", file.sha256, Escape(file.path)));
    if (!output.plan->needs.empty()) add("needs", output.plan->needs);
    for (const Decision& decision : output.plan->decisions)
      add("note", fmt::format("{}: {} ({})", Escape(decision.subject), Escape(decision.value),
                              decision.reason));
  }
  if (report.planned.calibration) add("calibration", CalibrationText(*report.planned.calibration));
  if (const std::string experts = ExpertsText(report.experts); !experts.empty())
    add("experts", experts);
  if (report.resumed_at)
    add("resumed", fmt::format("{} of {} stages were done", report.resumed_at->n_stages_done,
                               report.resumed_at->n_stages));
  if (report.n_nan_zeroed > 0) add("NaN to zero", FormatCount(report.n_nan_zeroed));
  if (report.n_clamped > 0) add("clamped", FormatCount(report.n_clamped));
  add("time", fmt::format("{}, {}", FormatSeconds(report.elapsed_s), FormatRate(Rate(report))));
  add("peak memory", FormatBytes(report.peak_memory_bytes));
  return text;
}

namespace {

Json ResumePointToJson(const std::optional<ResumePoint>& point) {
  if (!point) return nullptr;
  return {{"stages_done", point->n_stages_done},
          {"stages", point->n_stages},
          {"tensors_done", point->n_tensors_done}};
}

}  // namespace

Json ReportToJson(const ConvertReport& report) {
  std::vector<Json> outputs;
  for (std::size_t i = 0; i < report.planned.outputs.size(); ++i) {
    Json& json = outputs.emplace_back(Summary(report.planned.outputs[i]));
    json["relative_rmse"] = report.relative_rmse[i];
    if (!report.output_errors[i].empty())
      json["output_errors"] = OutputErrorsToJson(report.output_errors[i]);
    if (!report.corrections[i].empty())
      json["corrections"] = CorrectionsToJson(report.corrections[i]);
  }
  Json shared = {{"skipped", report.skipped},
                 {"threads", report.planned.threads},
                 {"resumed_at", ResumePointToJson(report.resumed_at)},
                 {"source_bytes", report.source_bytes},
                 {"n_nan_zeroed", report.n_nan_zeroed},
                 {"n_clamped", report.n_clamped},
                 {"elapsed_s", report.elapsed_s},
                 {"weights_per_second", Rate(report)},
                 {"peak_memory_bytes", report.peak_memory_bytes}};
  if (report.planned.calibration)
    shared["calibration"] = CalibrationToJson(*report.planned.calibration);
  if (!report.experts.empty()) shared["experts"] = ExpertsToJson(report.experts);
  return Join(std::move(outputs), std::move(shared));
}

}  // namespace phiq::cli
