// Reports as the commands make them, but of invented numbers: for the tests of their pages.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "phiq/compare.h"
#include "phiq/convert.h"
#include "phiq/evaluate.h"

namespace phiq::testing {

// Divergences between models that are about right: log-normal, with a long tail.
inline std::vector<float> SampleKl(std::mt19937& rng, std::size_t n, double median) {
  std::normal_distribution<double> normal(std::log(median), 1.3);
  std::vector<float> kl(n);
  for (float& value : kl) value = static_cast<float>(std::exp(normal(rng)));
  return kl;
}

inline Divergence SampleDivergence(std::mt19937& rng, std::size_t n, double median) {
  Divergence divergence;
  divergence.kl = SampleKl(rng, n, median);
  std::vector<float> sorted = divergence.kl;
  std::ranges::sort(sorted);
  const auto quantile = [&](double q) {
    return static_cast<double>(sorted[static_cast<std::size_t>(q * static_cast<double>(n - 1))]);
  };
  divergence.median_kl = quantile(0.5);
  divergence.p90_kl = quantile(0.9);
  divergence.p99_kl = quantile(0.99);
  divergence.p999_kl = quantile(0.999);
  divergence.max_kl = quantile(1);
  divergence.mean_kl.value =
      std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(n);
  divergence.mean_kl.standard_error = divergence.mean_kl.value / 70;
  divergence.same_top = {1 - std::sqrt(median) / 2, 0.0027};
  divergence.log_ppl_ratio = {median, median / 9};
  divergence.ppl_ratio = std::exp(median);
  return divergence;
}

// `n_models` at most 20, of the files that llama.cpp's types would make of one model.
inline EvalReport SampleEval(std::size_t n_models, std::size_t n_layers, bool has_reference) {
  struct Type {
    const char* name;
    double bits, median_kl;
  };
  constexpr Type kTypes[] = {
      {"Q4_K_M", 4.86, 8e-3},   {"Q8_0", 8.5, 6e-5},      {"Q4_0", 4.55, 1.3e-2},
      {"Q2_K", 3.3, 0.11},      {"Q6_K", 6.56, 7e-4},     {"IQ4_XS", 4.32, 1.05e-2},
      {"Q5_K_M", 5.7, 2.1e-3},  {"Q3_K_M", 4.12, 2.5e-2}, {"F16", 16, 3e-8},
      {"BF16", 16, 7e-7},       {"Q5_K_S", 5.55, 2.4e-3}, {"Q4_K_S", 4.66, 8.6e-3},
      {"Q4_1", 5.0, 1.0e-2},    {"Q5_0", 5.55, 3.4e-3},   {"Q5_1", 6.0, 2.7e-3},
      {"IQ4_NL", 4.55, 1.0e-2}, {"Q3_K_L", 4.5, 2.2e-2},  {"Q3_K_S", 3.64, 4e-2},
      {"F32", 32, 1e-13},       {"Q2_K_S", 3.0, 0.16}};
  std::mt19937 rng(1);
  EvalReport report;
  report.n_ctx = 256;
  report.n_tokens = 33000;
  report.n_windows = 64;
  report.n_scored_per_window = 127;
  report.n_scored = report.n_windows * report.n_scored_per_window;
  report.elapsed_s = 73.4;
  report.tokens_per_second = 1234.5;
  report.peak_memory_bytes = 2'900'000'000;
  if (has_reference) {
    report.reference.emplace();
    report.reference->path = "models/Phi-3.5-mini-instruct";
    report.reference->kind = "checkpoint";
    report.reference->types = "BF16";
    report.reference->bits_per_weight = 16;
    report.reference->data_bytes = 7'642'000'000;
    report.reference->perplexity = {14.2083, 0.2519};
  }
  for (std::size_t i = 0; i < n_models; ++i) {
    const Type& type = kTypes[i];
    EvaluatedModel model;
    model.path = std::string("out/phi-3.5-mini-instruct-") + type.name + ".gguf";
    model.kind = "gguf";
    model.types = i % 2 == 0 ? std::string(type.name) + ", Q6_K, F32" : type.name;
    model.bits_per_weight = type.bits;
    model.data_bytes = static_cast<std::uint64_t>(3.821e9 * type.bits / 8);
    model.perplexity = {14.2083 * std::exp(type.median_kl), 0.253};
    if (has_reference) {
      model.divergence =
          SampleDivergence(rng, static_cast<std::size_t>(report.n_scored), type.median_kl);
      double error = std::sqrt(type.median_kl) / 3;
      for (std::size_t layer = 0; layer < n_layers; ++layer) {
        model.hidden_error.push_back(error);
        error *= 1.0 + 0.1 * static_cast<double>(rng() % 100) / 100;
      }
    }
    report.models.push_back(std::move(model));
  }
  return report;
}

// A checkpoint against its Q4_K_M file: matrices in Q4_K, some in Q6_K, norms as they were.
inline Comparison SampleComparison(std::int32_t n_layers) {
  std::mt19937 rng(1);
  Comparison comparison;
  comparison.a = {"models/Phi-3.5-mini-instruct", "checkpoint", 16, 7'642'000'000};
  comparison.b = {"out/phi-3.5-mini-instruct-Q4_K_M.gguf", "gguf", 4.86, 2'320'000'000};
  comparison.relative_rmse = 0.07123;
  comparison.max_error = 0.4312;
  const auto add = [&](std::string name, TensorRole role, std::int32_t layer, std::uint64_t rows,
                       std::uint64_t columns, const char* type, double bits, double error) {
    ComparedTensor tensor;
    tensor.name = std::move(name);
    tensor.role = role;
    tensor.layer = layer;
    tensor.shape = {rows};
    if (columns > 1) tensor.shape.push_back(columns);
    tensor.type_a = "BF16";
    tensor.type_b = type;
    tensor.bits_per_weight_a = 16;
    tensor.bits_per_weight_b = bits;
    const double noise = 1 + 0.15 * (static_cast<double>(rng() % 1000) / 1000 - 0.5);
    tensor.relative_rmse = error * noise;
    tensor.rmse = 0.024 * tensor.relative_rmse;
    tensor.max_error = 7.3 * tensor.rmse;
    tensor.snr_db = -20 * std::log10(tensor.relative_rmse);  // infinite when equal
    tensor.cosine = 1 - 0.5 * tensor.relative_rmse * tensor.relative_rmse;
    tensor.share = static_cast<double>(rows * columns) * tensor.rmse * tensor.rmse;
    comparison.n_weights += rows * columns;
    comparison.tensors.push_back(std::move(tensor));
  };
  add("model.embed_tokens.weight", TensorRole::kTokenEmbedding, -1, 32064, 3072, "Q4_K", 4.5, 0.08);
  for (std::int32_t layer = 0; layer < n_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const bool is_better = layer % 3 == 0;  // as Q4_K_M does
    const char* mixed = is_better ? "Q6_K" : "Q4_K";
    const double bits = is_better ? 6.5625 : 4.5, better = is_better ? 0.25 : 1;
    const double depth = 1 + 0.4 * std::abs(2.0 * layer / n_layers - 1);
    add(prefix + "input_layernorm.weight", TensorRole::kAttentionNorm, layer, 3072, 1, "F32", 32,
        0);
    for (const char* part : {"q", "k", "v"})
      add(prefix + "self_attn.qkv_proj.weight[" + part + "]", TensorRole::kAttentionQkv, layer,
          3072, 3072, *part == 'v' ? mixed : "Q4_K", *part == 'v' ? bits : 4.5,
          *part == 'v' ? 0.074 * better * depth : 0.07 * depth + (*part == 'k' ? 0.009 : 0));
    add(prefix + "self_attn.o_proj.weight", TensorRole::kAttentionOutput, layer, 3072, 3072, "Q4_K",
        4.5, 0.066);
    add(prefix + "post_attention_layernorm.weight", TensorRole::kMlpNorm, layer, 3072, 1, "F32", 32,
        0);
    for (const char* part : {"gate", "up"})
      add(prefix + "mlp.gate_up_proj.weight[" + part + "]", TensorRole::kMlpGateUp, layer, 8192,
          3072, "Q4_K", 4.5, *part == 'g' ? 0.072 * depth : 0.071);
    add(prefix + "mlp.down_proj.weight", TensorRole::kMlpDown, layer, 3072, 8192, mixed, bits,
        0.077 * better * depth);
  }
  add("model.norm.weight", TensorRole::kOutputNorm, -1, 3072, 1, "F32", 32, 0);
  add("lm_head.weight", TensorRole::kOutputHead, -1, 32064, 3072, "Q6_K", 6.5625, 0.019);
  double sum = 0;
  for (const ComparedTensor& tensor : comparison.tensors) sum += tensor.share;
  for (ComparedTensor& tensor : comparison.tensors) tensor.share /= sum;
  std::ranges::stable_sort(comparison.tensors, std::greater<>(), &ComparedTensor::share);
  return comparison;
}

// Two outputs of one text, whose codes help more in later layers.
inline ConvertReport SampleConversion(std::int32_t n_layers) {
  std::mt19937 rng(1);
  ConvertReport report;
  for (const auto& [format, type, left] :
       {std::tuple("gguf", "Q4_K_M", 0.55), {"onnx", "int4", 0.4}}) {
    auto plan = std::make_shared<Plan>();
    plan->format = format;
    plan->type = type;
    OutputPlan& output = report.planned.outputs.emplace_back();
    output.plan = std::move(plan);
    output.files.push_back({std::string("out/phi.") + format, 2'320'000'000});
    std::vector<OutputError>& errors = report.output_errors.emplace_back();
    report.corrections.emplace_back();
    const auto add = [&](std::string tensor, TensorRole role, std::int32_t layer) {
      OutputError& error = errors.emplace_back();
      error.tensor = std::move(tensor);
      error.role = RoleName(role);
      error.layer = layer;
      error.method = "feedback";
      error.reference = 0.01 * (2 + layer);
      const double depth = n_layers > 1 ? static_cast<double>(layer) / n_layers : 0;
      error.error = error.reference * left * (1.2 - 0.5 * depth) *
                    (0.9 + 0.2 * static_cast<double>(rng() % 1000) / 1000);
      error.seen = 0.8 * error.error;
      error.is_fallback = layer == 1;
    };
    for (std::int32_t layer = 0; layer < n_layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      for (const char* part : {"q", "k", "v"})
        add(prefix + "self_attn.qkv_proj.weight[" + part + "]", TensorRole::kAttentionQkv, layer);
      add(prefix + "self_attn.o_proj.weight", TensorRole::kAttentionOutput, layer);
      for (const char* part : {"gate", "up"})
        add(prefix + "mlp.gate_up_proj.weight[" + part + "]", TensorRole::kMlpGateUp, layer);
      add(prefix + "mlp.down_proj.weight", TensorRole::kMlpDown, layer);
    }
    add("lm_head.weight", TensorRole::kOutputHead, -1);
  }
  report.planned.calibration.emplace();
  report.planned.calibration->n_tokens = 8192;
  report.planned.calibration->n_held_back = 1024;
  report.planned.calibration->n_ctx = 512;
  report.elapsed_s = 812.5;
  report.peak_memory_bytes = 912'000'000;
  return report;
}

}  // namespace phiq::testing
