// mlx-lm takes what the file says and defaults the rest, so every key that it would default is
// written; the reader refuses what mlx-lm would compute otherwise.
#include "formats/mlx/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "formats/mlx/tensor_names.h"
#include "model/architecture.h"
#include "model/float_types.h"
#include "model/rope.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::mlx {
namespace {

constexpr std::string_view kQuantization = "quantization";
constexpr std::string_view kRopeScaling = "rope_scaling";

bool Has(const Json& object, std::string_view key) { return FindMember(object, key) != nullptr; }

// What the checkpoint says in the keys that mlx-lm reads, the rotary embedding above all.
// Configurations may keep all of it in rope_scaling or else rope_parameters, which win over the
// outermost object as they do in ReadModelConfig. mlx-lm does not look there and would silently
// take other values.
class MlxKeys {
 public:
  MlxKeys(Json& json, const ModelConfig& config) : json_(json), config_(config) {}

  // Without these mlx-lm computes another model, or none.
  void CompleteModel() {
    for (const std::string_view key : {"rope_theta", "partial_rotary_factor"}) {
      SetFromRope(key);
      if (!Has(json_, key)) json_.erase(key);  // mlx-lm computes with a null
    }
    if (config_.rope_scaling == RopeScalingType::kLongRope) {
      constexpr std::string_view kOriginal = "original_max_position_embeddings";
      constexpr std::uint32_t kOwnDefault = 4096;  // mlx-lm's
      const std::uint32_t original = config_.original_max_position_embeddings;
      if (!Has(json_, kOriginal) && (FindInRope(kOriginal) != nullptr || original != kOwnDefault))
        Set(kOriginal, original);
      CompleteScaling();
    } else if (Has(json_, kRopeScaling) && !json_[kRopeScaling].empty()) {
      Set(kRopeScaling, nullptr);  // "default", which mlx-lm does not know
    }
    Add("model_type", ArchitectureOf(config_).classes.front().model_type);
  }
  const std::vector<std::string>& set() const noexcept { return set_; }

 private:
  const Json* FindInRope(std::string_view key) const {
    for (const std::string_view name : {kRopeScaling, std::string_view("rope_parameters")}) {
      const Json* const object = FindMember(json_, name);
      if (object != nullptr && !object->empty()) return FindMember(*object, key);
    }
    return nullptr;
  }
  void Set(std::string_view key, Json value) {
    json_[key] = std::move(value);
    set_.emplace_back(key);
  }
  void Add(std::string_view key, Json value) {
    if (!Has(json_, key)) Set(key, std::move(value));
  }
  void SetFromRope(std::string_view key) {
    const Json* value = FindInRope(key);
    if (value != nullptr && (!Has(json_, key) || json_[key] != *value)) Set(key, Json(*value));
  }

  void CompleteScaling() {
    Json scaling = Has(json_, kRopeScaling) ? json_[kRopeScaling] : Json::object();
    const Json before = scaling;
    const Json* type = FindInRope("type");
    if (type == nullptr) type = FindInRope("rope_type");
    scaling["type"] = LowerAscii(type->get<std::string>());
    for (const std::string_view key : {"long_factor", "short_factor"}) {
      const Json* factors = FindInRope(key);
      scaling[key] = factors != nullptr ? *factors : json_[key];
    }
    if (config_.n_experts > 0) {
      // mlx-lm's phimoe asks for both.
      for (const std::string_view key : {"short_mscale", "long_mscale"}) {
        const Json* scale = FindInRope(key);
        const float own = key.starts_with("long") ? LongRopeAttentionFactor(config_)
                                                  : RopeAttentionFactor(config_);
        scaling[key] = scale != nullptr ? *scale : Json(std::stod(fmt::format("{}", own)));
      }
    }
    if (before.empty()) {
      set_.emplace_back(kRopeScaling);
    } else {
      for (const auto& [key, value] : scaling.members()) {
        const Json* const old = before.find(key);
        if (old == nullptr || *old != value)
          set_.push_back(fmt::format("{}.{}", kRopeScaling, key));
      }
    }
    json_[kRopeScaling] = std::move(scaling);
  }

  Json& json_;
  const ModelConfig& config_;
  std::vector<std::string> set_;
};

// Norms are never quantized.
FloatType TypeOfNorms(const FolderPlan& plan) {
  const auto norm = std::ranges::find(plan.lines, TensorRole::kOutputNorm, &PlanLine::role);
  return FloatTypeOf(std::get<GgmlType>(norm->encoding)).value();
}

std::string_view TorchName(FloatType type) noexcept {
  return type == FloatType::kF32 ? "float32" : type == FloatType::kF16 ? "float16" : "bfloat16";
}

Json EntryOf(const GroupEncoding& groups) {
  Json entry;
  entry["group_size"] = groups.group_size;
  entry["bits"] = BitsOf(groups.code);
  entry["mode"] = ModeName(groups);
  return entry;
}

Json QuantizationOf(const FolderPlan& plan) {
  const Json common = EntryOf(*plan.common);
  Json json = common;
  for (const PlanLine& line : plan.lines) {
    const auto* groups = std::get_if<GroupEncoding>(&line.encoding);
    if (groups == nullptr) continue;
    Json entry = EntryOf(*groups);
    if (plan.lists_all || entry != common)
      json[ModuleOf(TensorName({line.role, line.layer}, line.name))] = std::move(entry);
  }
  return json;
}

// Reads the entries of `quantization`.
class QuantizationReader {
 public:
  explicit QuantizationReader(std::string path) : path_(std::move(path)) {}

  GroupEncoding Read(const Json& object, std::string_view what) const {
    const Json* mode = FindMember(object, "mode");
    const GroupEncoding groups = mode == nullptr ? kAffine : ParseMode(*mode, what);
    // mlx-lm's recipes write null for a group size that was not asked for.
    const std::uint32_t bits =
        Number(object, "bits", what).value_or(static_cast<std::uint32_t>(BitsOf(groups.code)));
    const std::size_t group_size = Number(object, "group_size", what).value_or(groups.group_size);
    if (groups.offset == Offset::kBias
            ? IsAffine(bits, group_size)
            : std::cmp_equal(bits, BitsOf(groups.code)) && group_size == groups.group_size) {
      const Code code = IsFloat(groups.code) ? groups.code : UnsignedCode(static_cast<int>(bits));
      return {code, group_size, groups.scale, groups.offset};
    }
    throw Bad(fmt::format("{} has {} bits and groups of {}, which mode {} does not have", what,
                          bits, group_size, ModeName(groups)));
  }

  Error Bad(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }

 private:
  // What an entry without bits or group size means.
  static constexpr GroupEncoding kAffine = {Code::kU4, 64, ScaleType::kBF16, Offset::kBias};

  static bool IsAffine(std::uint32_t bits, std::size_t group_size) {
    constexpr std::array<std::uint32_t, 6> kBits = {2, 3, 4, 5, 6, 8};
    constexpr std::array<std::size_t, 3> kGroups = {32, 64, 128};
    return std::ranges::find(kBits, bits) != kBits.end() &&
           std::ranges::find(kGroups, group_size) != kGroups.end();
  }

  GroupEncoding ParseMode(const Json& value, std::string_view what) const {
    for (const GroupEncoding& groups : {kAffine, kMxfp4, kMxfp8, kNvfp4}) {
      if (value == ModeName(groups)) return groups;
    }
    throw Bad(
        fmt::format("{} has mode {}, known are affine, mxfp4, mxfp8 and nvfp4", what, Show(value)));
  }

  std::optional<std::uint32_t> Number(const Json& object, std::string_view key,
                                      std::string_view what) const {
    const Json* value = FindMember(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() > 1024)
      throw Bad(fmt::format("{}: '{}' is {}, needs a small whole number", what, key, Show(*value)));
    return value->get<std::uint32_t>();
  }

  std::string path_;
};

}  // namespace

std::string_view ModeName(const GroupEncoding& groups) noexcept {
  if (groups.offset == Offset::kBias) return "affine";
  if (groups.code == Code::kE4M3) return "mxfp8";
  return groups.scale == ScaleType::kE4M3 ? "nvfp4" : "mxfp4";
}

std::string ModuleOf(std::string_view weight_name) {
  constexpr std::string_view kWeight = ".weight";
  if (weight_name.ends_with(kWeight)) weight_name.remove_suffix(kWeight.size());
  return std::string(weight_name);
}

SideFile MakeConfig(const SideFiles& source, const ModelConfig& config, const SideFile& generation,
                    FolderPlan& plan) {
  const std::optional<std::string> text = source.ReadFile(kConfigName, limits::kConfigBytes);
  if (!text) throw Error(ErrorCode::kInput, "not found").In(SidePath(source, kConfigName));
  // Read once more, for the order of its keys.
  Json json = ParseJson(*text, kConfigName);
  // mlx-lm drops the first two. The others mean something to mlx-lm alone: pairs that the model
  // does not rotate, and code to run in place of its phi3.
  for (const char* key : {"_name_or_path", "vision_config", "rope_traditional", "model_file"})
    json.erase(key);
  const Json ids = ParseJson(TextOf(generation), generation.name);
  if (const Json* const eos = FindMember(ids, "eos_token_id");
      eos != nullptr && *eos != Json::array())
    json["eos_token_id"] = *eos;
  MlxKeys keys(json, config);
  keys.CompleteModel();
  if (!keys.set().empty()) {
    plan.decisions.push_back({std::string(kConfigName),
                              fmt::format("+{}", fmt::join(keys.set(), ", +")),
                              "what the checkpoint says under newer names or elsewhere, where "
                              "mlx-lm reads it"});
  }
  // Of the folder's floats: what mlx-lm would convert it by.
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (key == std::string_view("torch_dtype") || json.contains(key))
      json[key] = TorchName(TypeOfNorms(plan));
  }
  if (plan.common) {
    Json quantization = QuantizationOf(plan);
    json[kQuantization] = quantization;
    json["quantization_config"] = std::move(quantization);  // where Hugging Face looks
  }
  json.SortMembers();  // those of the outermost object alone, as mlx-lm does
  return {std::string(kConfigName), BytesOf(json.dump(4, /*ensure_ascii=*/true))};
}

std::vector<std::string> KeysThatMlxMisses(const SideFiles& source, const ModelConfig& config) {
  const std::optional<std::string> text = source.ReadFile(kConfigName, limits::kConfigBytes);
  Json json = text ? ParseJson(*text, kConfigName) : Json::object();
  MlxKeys keys(json, config);
  keys.CompleteModel();
  return keys.set();
}

std::optional<Quantization> ReadQuantization(const SideFiles& source) {
  const std::optional<Json> config = ReadJsonObject(source, kConfigName, limits::kConfigBytes);
  const Json* object = config ? FindMember(*config, kQuantization) : nullptr;
  if (object == nullptr) return std::nullopt;
  const QuantizationReader reader(SidePath(source, kConfigName));
  if (!object->is_object()) {
    throw reader.Bad(fmt::format("'{}' is {}, needs an object", kQuantization, Show(*object)));
  }
  for (const char* key : {"group_size", "bits"}) {
    if (FindMember(*object, key) == nullptr)
      throw reader.Bad(fmt::format("'{}' lacks '{}'", kQuantization, key));
  }
  Quantization quantization;
  quantization.common = reader.Read(*object, fmt::format("'{}'", kQuantization));
  for (const auto& [key, value] : object->members()) {
    if (key == "group_size" || key == "bits" || key == "mode") continue;
    const std::string what = fmt::format("'{}' of '{}'", kQuantization, Escape(key));
    if (value == false) {
      quantization.modules[key] = std::nullopt;
    } else if (value.is_object()) {
      quantization.modules[key] = reader.Read(value, what);
    } else {
      throw reader.Bad(fmt::format("{} is {}, needs an object or false", what, Show(value)));
    }
  }
  return quantization;
}

}  // namespace phiq::mlx
