// config.json of an MLX folder: what mlx-lm reads of it, written and read.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/mlx/plan.h"
#include "formats/side_files.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::mlx {

inline constexpr std::string_view kConfigName = "config.json";

// "model.layers.3.mlp.down_proj": what MLX calls the module that has the weight of that name.
std::string ModuleOf(std::string_view weight_name);

// The checkpoint's config.json with the quantized modules, the ids that end a text, and the keys
// that mlx-lm reads where the checkpoint has newer ones (an addition is a decision of the plan).
//
// `generation`  the folder's generation_config.json.
// Throws   kInput: no config.json.
// Source   docs/formats/mlx.md "config.json".
SideFile MakeConfig(const SideFiles& source, const ModelConfig& config, const SideFile& generation,
                    FolderPlan& plan);

// The keys of a folder's config.json that mlx-lm does not find, or with another value than `config`
// has from elsewhere: it then computes another model. None in phiq's own.
std::vector<std::string> KeysThatMlxMisses(const SideFiles& source, const ModelConfig& config);

// How config.json says that modules are quantized.
struct Quantization {
  GroupEncoding common;  // of modules without an entry; floats that scales are mean nothing
  std::map<std::string, std::optional<GroupEncoding>> modules;  // nullopt: floats
};

// "affine", "mxfp4": what config.json calls such codes.
std::string_view ModeName(const GroupEncoding& groups) noexcept;

// nullopt: nothing is quantized.
// Throws   kBadData: modes, bits or group sizes that MLX does not have, entries of the wrong kind.
std::optional<Quantization> ReadQuantization(const SideFiles& source);

}  // namespace phiq::mlx
