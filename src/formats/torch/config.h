// config.json of such a folder: what loaders read of how its weights are quantized, written and
// read.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/side_files.h"
#include "formats/torch/plan.h"
#include "phiq/checkpoint.h"
#include "phiq/model.h"

namespace phiq::torch {

inline constexpr std::string_view kConfigName = "config.json";

// The checkpoint's config.json with the quantized modules, and without code of its own.
//
// Throws   kInput: no config.json.
// Source   docs/formats/torch.md "config.json".
SideFile MakeConfig(const SideFiles& source, const ModelConfig& config, const FolderPlan& plan);

// The same object as "quantization_config" of config.json, for loaders of GPTQ that look for it in
// a file of its own.
inline constexpr std::string_view kGptqConfigName = "quantize_config.json";
SideFile MakeGptqConfig(const ModelConfig& config, const FolderPlan& plan);

// How some modules are quantized.
struct Scheme {
  int bits = 4;
  bool symmetric = true;
  std::size_t group_size = 128;  // 0: the whole row

  bool operator==(const Scheme&) const = default;
};

// How config.json says that modules are quantized.
class Quantization {
 public:
  // Throws   kBadData: what loaders refuse. kUnsupported: formats that phiq does not read.
  static Quantization Read(const SideFiles& source, const ModelConfig& model);

  Box box() const noexcept { return box_; }
  // GPTQ: file version 1, which stores zero points less 1.
  bool is_less_one() const noexcept { return is_less_one_; }
  // nullptr: floats.
  // Throws   kBadData: a pattern that cannot be matched.
  const Scheme* SchemeOf(const std::string& module) const;
  // What loads without a message and computes something else.
  const std::vector<std::string>& problems() const noexcept { return problems_; }
  // What phiq wrote down of itself: version, type and facts; nullopt: it did not write the folder.
  struct Origin {
    std::string version, type;
    Facts facts;
  };
  const std::optional<Origin>& origin() const noexcept { return origin_; }

 private:
  struct Pattern;
  friend class QuantizationReader;

  Box box_ = Box::kPacked;
  bool is_less_one_ = true;
  std::vector<Scheme> schemes_;
  // By modules' names, and by the class of all of them; of each the first that a file says.
  std::map<std::string, std::size_t> named_;
  std::vector<std::pair<std::shared_ptr<const Pattern>, std::size_t>> patterns_;
  std::set<std::string> ignored_;
  std::vector<std::shared_ptr<const Pattern>> ignored_patterns_;
  std::vector<std::string> problems_;
  std::optional<Origin> origin_;
};

}  // namespace phiq::torch
