// All models that are compared go through the text side by side, a layer of each at a time: what
// stands of each is its hidden states, and a weight is read while it is in the page cache.
#include "convert/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <numeric>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
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

}  // namespace

std::vector<double> MeasureDivergences(const SourceModel& source,
                                       std::span<const Rounding> roundings, const Windows& windows,
                                       unsigned threads, const Hooks& hooks) {
  const std::uint32_t n_layers = source.model.config.n_layers;
  Meter meter(hooks, CountRuns(roundings, n_layers) * windows.ids.size(), "tokens");
  ForwardPass pass({threads, meter.parallel_hooks()});
  const ForwardModel plain(*source.stored, windows.n_ctx);
  std::deque<Walker> walkers;  // which do not move
  for (const Rounding& rounding : roundings) walkers.emplace_back(source, rounding, windows.n_ctx);

  Matrix hidden;
  pass.Embed(plain, windows.ids, hidden);
  for (Walker& walker : walkers)
    if (walker.first_layer < 0) pass.Embed(walker.forward, windows.ids, walker.hidden);
  for (std::int32_t layer = 0; layer < static_cast<std::int32_t>(n_layers); ++layer) {
    meter.layer = static_cast<std::uint32_t>(layer) + 1;
    meter.n_layers = n_layers;
    for (Walker& walker : walkers) {
      if (layer < walker.first_layer) continue;
      if (layer == walker.first_layer) walker.hidden = hidden;
      pass.RunLayer(walker.forward, layer, walker.hidden);
      meter.done += windows.ids.size();
    }
    pass.RunLayer(plain, layer, hidden);
    meter.done += windows.ids.size();
  }

  std::vector<std::size_t> positions;
  std::vector<std::uint32_t> targets;
  for (std::size_t i = 0; i + 1 < windows.ids.size(); ++i) {
    if ((i + 1) % windows.n_ctx == 0) continue;
    positions.push_back(i);
    targets.push_back(windows.ids[i + 1]);
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
    const bool is_source = walker.first_layer == static_cast<std::int32_t>(n_layers);
    add(walker.forward, is_source ? hidden : walker.hidden);
    walker.hidden = {};
  }
  const std::vector<engine::PositionScores> scores =
      engine::ScorePositions(pass.runner(), heads, targets);
  std::vector<double> divergences;
  for (std::size_t w = 1; w < scores.size(); ++w)
    divergences.push_back(std::accumulate(scores[w].kl.begin(), scores[w].kl.end(), 0.0) /
                          static_cast<double>(positions.size()));
  source.stored->CheckUnchanged();
  return divergences;
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

void MeasureSensitivities(const SourceModel& source, const Plan& plan, const Windows& windows,
                          unsigned threads, const Hooks& hooks, std::vector<Sensitivity>& groups) {
  std::vector<Rounding> roundings;
  for (const Sensitivity& group : groups)
    roundings.push_back({&plan, [&group](const PlanLine& line) { return group.Has(line); }});
  const std::vector<double> divergences =
      MeasureDivergences(source, roundings, windows, threads, hooks);
  for (std::size_t g = 0; g < groups.size(); ++g) groups[g].kl = divergences[g];
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
