// All models that are compared go through the text side by side, a layer of each at a time: what
// stands of each is its hidden states, and a weight is read while it is in the page cache.
#include "convert/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "convert/memory.h"
#include "convert/rates.h"
#include "convert/rounded_model.h"
#include "engine/scoring.h"
#include "io/input_file.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

using engine::ForwardModel;
using engine::ForwardPass;
using engine::Matrix;

constexpr std::int32_t kParts = 4;  // of the depth

// A model on its way. Up to the first layer that it rounds, it is the source.
struct Walker {
  Walker(const SourceModel& source, const Rounding& rounding, std::uint32_t n_ctx)
      : model(source, *rounding.plan, rounding.takes), forward(model, n_ctx) {
    std::int32_t first = static_cast<std::int32_t>(source.model.config.n_layers);
    for (const PlanLine& line : rounding.plan->lines) {
      if (line.table || !rounding.takes(line) || line.role == TensorRole::kOutputHead) continue;
      first = std::min(first, line.layer);
    }
    first_layer = first;
  }

  RoundedModel model;
  ForwardModel forward;
  std::int32_t first_layer = 0;  // -1: its embedding is rounded
  Matrix hidden;
};

// Layers that are run, over all models.
std::uint64_t CountRuns(std::span<const Rounding> roundings, std::uint32_t n_layers) {
  std::uint64_t runs = n_layers;
  for (const Rounding& rounding : roundings) {
    std::int32_t first = static_cast<std::int32_t>(n_layers);
    for (const PlanLine& line : rounding.plan->lines)
      if (!line.table && rounding.takes(line) && line.role != TensorRole::kOutputHead)
        first = std::min(first, std::max(line.layer, 0));
    runs += n_layers - static_cast<std::uint32_t>(first);
  }
  return runs;
}

std::optional<TensorRole> FindRole(std::string_view name) {
  for (auto r = 0; r <= static_cast<int>(TensorRole::kOutputHeadBias); ++r)
    if (RoleName(static_cast<TensorRole>(r)) == name) return static_cast<TensorRole>(r);
  return std::nullopt;
}

// As many windows as memory bears, beside each other.
std::size_t WindowsAtOnce(const ModelConfig& config, std::size_t n_roundings,
                          const Windows& windows, const Measuring& measuring) {
  const auto n_bytes = [&](std::uint64_t n) {
    return RunBytes(config, 1 + n_roundings, n, windows.n_ctx, measuring.threads);
  };
  if (n_bytes(1) > measuring.memory_bytes)
    throw Error(ErrorCode::kResources,
                fmt::format("--memory-limit: measuring what types are worth needs {}, {} are left",
                            FormatBytes(n_bytes(1)), FormatBytes(measuring.memory_bytes)))
        .Hint("a larger --memory-limit, or a smaller --calibration-ctx");
  std::uint64_t n = windows.ids.size() / windows.n_ctx;
  while (n_bytes(n) > measuring.memory_bytes) --n;
  return n;
}

// Runs all models over one batch of windows, in lock step, and adds up the divergence of each.
// Returns   the positions that have a next token.
std::size_t RunBatch(const ForwardModel& plain, std::deque<Walker>& walkers, const Windows& batch,
                     ForwardPass& pass, Meter& meter, std::span<double> sums) {
  const std::int32_t n_layers = static_cast<std::int32_t>(plain.config().n_layers);
  Matrix hidden;
  pass.Embed(plain, batch.ids, hidden);
  for (Walker& walker : walkers)
    if (walker.first_layer < 0) pass.Embed(walker.forward, batch.ids, walker.hidden);
  for (std::int32_t layer = 0; layer < n_layers; ++layer) {
    meter.layer = static_cast<std::uint32_t>(layer) + 1;
    meter.n_layers = plain.config().n_layers;
    for (Walker& walker : walkers) {
      if (layer < walker.first_layer) continue;
      if (layer == walker.first_layer) walker.hidden = hidden;
      pass.RunLayer(walker.forward, layer, walker.hidden);
      meter.done += batch.ids.size();
    }
    pass.RunLayer(plain, layer, hidden);
    meter.done += batch.ids.size();
  }

  std::vector<std::size_t> positions;
  std::vector<std::uint32_t> targets;
  for (std::size_t i = 0; i + 1 < batch.ids.size(); ++i) {
    if ((i + 1) % batch.n_ctx == 0) continue;
    positions.push_back(i);
    targets.push_back(batch.ids[i + 1]);
  }
  std::vector<Matrix> inputs(walkers.size() + 1);
  std::vector<engine::HeadInput> heads;
  const auto add = [&](const ForwardModel& model, const Matrix& state) {
    Matrix& input = inputs[heads.size()];
    pass.NormalizeOutput(model, state, positions, input);
    heads.push_back({&model, &input});
  };
  add(plain, hidden);
  for (Walker& walker : walkers) {
    add(walker.forward, walker.first_layer == n_layers ? hidden : walker.hidden);
    walker.hidden = {};
  }
  const std::vector<engine::PositionScores> scores =
      engine::ScorePositions(pass.runner(), heads, targets);
  for (std::size_t w = 0; w < sums.size(); ++w)
    for (const double kl : scores[w + 1].kl) sums[w] += kl;  // in the text's order
  return positions.size();
}

// Of MeasureDivergences: products of every token with the layers that are run and with the heads,
// and codes that are chosen anew for each batch of windows.
double EstimateSeconds(const SourceModel& source, std::span<const Rounding> roundings,
                       const Windows& windows, const Measuring& measuring) {
  const ModelConfig& config = source.model.config;
  double of_layers = 0, of_head = 0;  // weights that a token meets
  for (const WeightInfo& weight : WeightsOf(config)) {
    if (StaysFloat(weight.id.role)) continue;
    const auto n = static_cast<double>(weight.shape.n_rows * weight.shape.row_elements);
    // Each token uses some of the experts.
    if (weight.id.layer >= 0)
      of_layers +=
          IsOfExperts(weight.id.role) ? n * config.n_experts_per_token / config.n_experts : n;
    if (weight.id.role == TensorRole::kOutputHead) of_head = n;
  }
  const auto n_tokens = static_cast<double>(windows.ids.size());
  const double of_runs = static_cast<double>(CountRuns(roundings, config.n_layers)) * of_layers /
                         static_cast<double>(config.n_layers);
  const double of_heads = static_cast<double>(1 + roundings.size()) * of_head;
  double seconds = 2 * n_tokens * (of_runs + of_heads) / MeasureProductRate(measuring.threads);
  double n_rounded = 0;
  const PlanLine* largest = nullptr;
  for (const Rounding& rounding : roundings) {
    for (const PlanLine& line : rounding.plan->lines) {
      if (line.table || !rounding.takes(line) || IsExact(line.encoding)) continue;
      n_rounded += static_cast<double>(line.n_elements());
      if (largest == nullptr || line.n_elements() > largest->n_elements()) largest = &line;
    }
  }
  const std::size_t n_windows = windows.ids.size() / windows.n_ctx,
                    n_at_once = WindowsAtOnce(config, roundings.size(), windows, measuring);
  const auto n_batches = static_cast<double>((n_windows + n_at_once - 1) / n_at_once);
  if (largest != nullptr)
    seconds +=
        n_batches * n_rounded / MeasureEncodingRate(*largest->method, *largest, measuring.threads);
  return seconds;
}

}  // namespace

std::uint64_t MeasuringBytes(const ModelConfig& config, std::size_t n_roundings,
                             const Windows& windows, const Measuring& measuring) {
  return RunBytes(config, 1 + n_roundings, WindowsAtOnce(config, n_roundings, windows, measuring),
                  windows.n_ctx, measuring.threads);
}

std::vector<double> MeasureDivergences(const SourceModel& source,
                                       std::span<const Rounding> roundings, const Windows& windows,
                                       const Measuring& measuring) {
  const ModelConfig& config = source.model.config;
  const std::size_t n_at_once =
      WindowsAtOnce(config, roundings.size(), windows, measuring) * windows.n_ctx;
  Meter meter(measuring.hooks, CountRuns(roundings, config.n_layers) * windows.ids.size(),
              "tokens");
  meter.estimated_s = measuring.estimated_s;
  meter.Tell();
  ForwardPass pass({measuring.threads, meter.parallel_hooks()});
  const ForwardModel plain(*source.stored, windows.n_ctx);
  std::deque<Walker> walkers;  // which do not move
  for (const Rounding& rounding : roundings) walkers.emplace_back(source, rounding, windows.n_ctx);

  std::vector<double> sums(roundings.size());
  std::size_t n_positions = 0;
  for (std::size_t first = 0; first < windows.ids.size(); first += n_at_once) {
    const Windows batch = {
        windows.ids.subspan(first, std::min(n_at_once, windows.ids.size() - first)), windows.n_ctx};
    n_positions += RunBatch(plain, walkers, batch, pass, meter, sums);
  }
  source.stored->CheckUnchanged();
  // No divergence is below 0, but a sum of rounded terms that nearly cancel can be.
  for (double& sum : sums) sum = std::max(0.0, sum / static_cast<double>(n_positions));
  return sums;
}

std::vector<Sensitivity> GroupsOf(const Plan& plan, std::uint32_t n_layers) {
  std::vector<Sensitivity> groups;
  const auto n = static_cast<std::int32_t>(n_layers);
  for (const PlanLine& line : plan.lines) {
    if (line.table || StaysFloat(line.role)) continue;
    auto found = std::ranges::find_if(groups, [&](const auto& group) { return group.Has(line); });
    if (found == groups.end()) {
      Sensitivity group{line.role};
      if (line.layer >= 0) {
        // The part that has the layer: part p begins at the first layer l with l * kParts / n >= p.
        const std::int32_t part = line.layer * kParts / n;
        group.first_layer = (part * n + kParts - 1) / kParts;
        group.end_layer = ((part + 1) * n + kParts - 1) / kParts;
      }
      found = groups.insert(groups.end(), group);
    }
    found->n_weights += line.n_elements();
  }
  return groups;
}

double MeasureSensitivities(const SourceModel& source, const Plan& plan, const Windows& windows,
                            const Measuring& measuring, std::vector<Sensitivity>& groups) {
  std::vector<Rounding> roundings;
  for (const Sensitivity& group : groups)
    roundings.push_back({&plan, [&group](const PlanLine& line) { return group.Has(line); }});
  Measuring told = measuring;
  told.estimated_s = EstimateSeconds(source, roundings, windows, measuring);
  const std::vector<double> divergences = MeasureDivergences(source, roundings, windows, told);
  for (std::size_t g = 0; g < groups.size(); ++g) groups[g].kl = divergences[g];
  return told.estimated_s;
}

std::string FormatSensitivities(const Sensitivities& sensitivities) {
  Json groups = Json::array();
  for (const Sensitivity& group : sensitivities.groups)
    groups.push_back(Json::object({{"role", RoleName(group.role)},
                                   {"first_layer", group.first_layer},
                                   {"end_layer", group.end_layer},
                                   {"n_weights", group.n_weights},
                                   {"kl", group.kl}}));
  return Json::object({{"phiq", "sensitivities"},
                       {"format", sensitivities.format},
                       {"type", sensitivities.type},
                       {"model", sensitivities.model},
                       {"text", sensitivities.text},
                       {"n_tokens", sensitivities.n_tokens},
                       {"groups", std::move(groups)}})
             .dump(1) +
         "\n";
}

Sensitivities ReadSensitivities(const std::string& path) {
  const Json json = ParseJson(ReadWholeFile(path, limits::kConfigBytes), path);
  const auto bad = [&](std::string_view key) {
    return Error(ErrorCode::kBadData, fmt::format("{}: missing, or not what it should be", key))
        .In(path)
        .Hint("a file that phiq wrote for --sensitivity is wanted");
  };
  if (JsonString(json, "phiq", path) != "sensitivities") throw bad("phiq");
  const auto text = [&](std::string_view key) {
    const auto value = JsonString(json, key, path);
    if (!value) throw bad(key);
    return *value;
  };
  const auto number = [&](const Json& object, std::string_view key, double least, double most) {
    const auto value = JsonNumber(object, key, path);
    if (!value || !(*value >= least && *value <= most)) throw bad(key);
    return *value;
  };
  constexpr double kMostLayers = 1 << 20;
  constexpr double kMostKl = 1e6;
  constexpr double kMostWeights = 1e15;
  Sensitivities read;
  read.format = text("format");
  read.type = text("type");
  read.model = text("model");
  read.text = text("text");
  read.n_tokens = static_cast<std::uint64_t>(number(json, "n_tokens", 1, kMostWeights));
  const Json* groups = json.find("groups");
  if (groups == nullptr || !groups->is_array() || groups->empty()) throw bad("groups");
  for (const Json& one : *groups) {
    Sensitivity group;
    const auto role_name = JsonString(one, "role", path);
    const std::optional<TensorRole> role = role_name ? FindRole(*role_name) : std::nullopt;
    if (!role) throw bad("role");
    group.role = *role;
    group.first_layer = static_cast<std::int32_t>(number(one, "first_layer", -1, kMostLayers));
    group.end_layer = static_cast<std::int32_t>(number(one, "end_layer", 0, kMostLayers));
    group.n_weights = static_cast<std::uint64_t>(number(one, "n_weights", 1, kMostWeights));
    group.kl = number(one, "kl", 0, kMostKl);
    read.groups.push_back(group);
  }
  return read;
}

}  // namespace phiq
