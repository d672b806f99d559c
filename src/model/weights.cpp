// Fills the names and sizes of an architecture's table in for one configuration.
#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "phiq/error.h"

namespace phiq {
namespace {

constexpr std::string_view kLayerMark = "{}";
constexpr std::string_view kWeightEnd = ".weight";

bool IsOfLayer(const WeightSpec& spec) { return spec.name.find(kLayerMark) != spec.name.npos; }

std::string NameOf(std::string_view pattern, std::int32_t layer) {
  std::string name(pattern);
  if (const std::size_t at = name.find(kLayerMark); at != std::string::npos)
    name.replace(at, kLayerMark.size(), fmt::format("{}", layer));
  return name;
}

bool IsThere(const ModelConfig& config, const WeightSpec& spec) {
  return spec.is_there == nullptr || spec.is_there(config);
}

const WeightSpec* FindSpec(const ModelConfig& config, TensorRole role) {
  const std::span<const WeightSpec> specs = ArchitectureOf(config).weights;
  const auto found = std::ranges::find(specs, role, &WeightSpec::role);
  return found == specs.end() || !IsThere(config, *found) ? nullptr : &*found;
}

const WeightSpec& SpecOf(const ModelConfig& config, TensorRole role) {
  if (const WeightSpec* found = FindSpec(config, role)) return *found;
  throw Error(ErrorCode::kInternal,
              fmt::format("{} has no weight {}", config.architecture, RoleName(role)));
}

WeightShape ShapeOf(const ModelConfig& config, const WeightSpec& spec) {
  const std::uint64_t n_matrices = spec.n_matrices == nullptr ? 1 : spec.n_matrices(config);
  return {n_matrices * spec.n_rows(config), spec.row_elements(config), n_matrices};
}

WeightInfo InfoOf(const ModelConfig& config, const WeightSpec& spec, WeightId id) {
  WeightInfo info;
  info.id = id;
  info.name = NameOf(spec.name, id.layer);
  info.shape = ShapeOf(config, spec);
  info.keys = spec.keys;
  std::uint64_t row = 0;
  for (const PartSpec& part : spec.parts) {
    const std::uint64_t n_rows = part.n_rows(config);
    info.parts.push_back({part.part, NameOf(part.name, id.layer), row, n_rows});
    row += n_rows;
  }
  if (!spec.matrix_name.empty()) {
    const std::uint64_t n_rows = spec.n_rows(config);
    for (std::uint64_t i = 0; i < info.shape.n_matrices; ++i) {
      const std::string name = NameOf(spec.matrix_name, id.layer);
      info.parts.push_back(
          {TensorPart::kWhole, NameOf(name, static_cast<std::int32_t>(i)), i * n_rows, n_rows});
    }
  }
  if (!spec.stack.name.empty()) {
    info.stack = {NameOf(spec.stack.name, id.layer),
                  spec.stack.first_row == nullptr ? 0 : spec.stack.first_row(config),
                  spec.stack.matrix_rows(config)};
  }
  return info;
}

// The layer that stands in `name` where `pattern` has its mark; -1: the pattern has none.
std::optional<std::int32_t> MatchName(std::string_view pattern, std::string_view name) {
  const std::size_t at = pattern.find(kLayerMark);
  if (at == std::string_view::npos)
    return pattern == name ? std::optional<std::int32_t>(-1) : std::nullopt;
  const std::string_view end = pattern.substr(at + kLayerMark.size());
  if (!name.starts_with(pattern.substr(0, at)) || !name.ends_with(end)) return std::nullopt;
  std::int32_t layer = 0;
  const auto [stop, problem] = std::from_chars(name.data() + at, name.data() + name.size(), layer);
  if (problem != std::errc() || layer < 0 || NameOf(pattern, layer) != name) return std::nullopt;
  return layer;
}

}  // namespace

const Architecture* FindArchitecture(std::string_view class_name) noexcept {
  const std::span<const Architecture* const> all = Architectures();
  const auto found = std::ranges::find(all, class_name, &Architecture::class_name);
  return found == all.end() ? nullptr : *found;
}

const Architecture& ArchitectureOf(const ModelConfig& config) {
  if (const Architecture* found = FindArchitecture(config.architecture)) return *found;
  throw Error(ErrorCode::kInternal,
              fmt::format("no architecture is called '{}'", config.architecture));
}

Network NetworkOf(const ModelConfig& config) { return ArchitectureOf(config).network(config); }

std::vector<WeightInfo> WeightsOf(const ModelConfig& config) {
  const std::span<const WeightSpec> specs = ArchitectureOf(config).weights;
  std::vector<WeightInfo> weights;
  for (auto spec = specs.begin(); spec != specs.end();) {
    if (!IsOfLayer(*spec)) {
      if (IsThere(config, *spec)) weights.push_back(InfoOf(config, *spec, {spec->role}));
      ++spec;
      continue;
    }
    const auto end = std::find_if_not(spec, specs.end(), IsOfLayer);
    for (std::uint32_t i = 0; i < config.n_layers; ++i) {
      for (auto of_layer = spec; of_layer != end; ++of_layer) {
        if (!IsThere(config, *of_layer)) continue;
        weights.push_back(
            InfoOf(config, *of_layer, {of_layer->role, static_cast<std::int32_t>(i)}));
      }
    }
    spec = end;
  }
  return weights;
}

std::vector<std::uint64_t> DimsOf(TensorRole role, const WeightShape& shape, std::uint64_t n_rows) {
  if (IsVector(role)) return {shape.row_elements};
  if (shape.n_matrices == 1 || n_rows != shape.n_rows) return {n_rows, shape.row_elements};
  return {shape.n_matrices, n_rows / shape.n_matrices, shape.row_elements};
}

std::vector<std::uint64_t> DimsOf(const WeightInfo& weight) {
  return DimsOf(weight.id.role, weight.shape, weight.shape.n_rows);
}

bool HasWeight(const ModelConfig& config, TensorRole role) {
  return FindSpec(config, role) != nullptr;
}

WeightInfo InfoOf(const ModelConfig& config, WeightId id) {
  return InfoOf(config, SpecOf(config, id.role), id);
}

std::string CheckpointName(const ModelConfig& config, WeightId id) {
  return NameOf(SpecOf(config, id.role).name, id.layer);
}

std::string ModuleName(const ModelConfig& config, WeightId id) {
  std::string name = CheckpointName(config, id);
  if (name.ends_with(kWeightEnd)) name.resize(name.size() - kWeightEnd.size());
  return name;
}

std::optional<WeightId> FindWeight(std::string_view name) {
  for (const Architecture* architecture : Architectures()) {
    for (const WeightSpec& spec : architecture->weights) {
      if (const std::optional<std::int32_t> layer = MatchName(spec.name, name))
        return WeightId{spec.role, *layer};
    }
  }
  return std::nullopt;
}

WeightShape ShapeOf(const ModelConfig& config, TensorRole role) {
  return ShapeOf(config, SpecOf(config, role));
}

}  // namespace phiq
