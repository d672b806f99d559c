// One table: a node's path gives the weight's name.
#include "formats/onnx/weight_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "phiq/error.h"

namespace phiq::onnx {
namespace {

constexpr std::string_view kLayerMark = "{}";

struct Node {
  TensorRole role = TensorRole::kTokenEmbedding;
  TensorPart part = TensorPart::kWhole;
  std::string_view path;
};

using enum TensorRole;
// Gate and up are never one product.
constexpr std::array kNodes = {
    Node{kTokenEmbedding, TensorPart::kWhole, "/model/embed_tokens"},
    Node{kOutputHead, TensorPart::kWhole, "/lm_head"},
    // As if there were one layer more.
    Node{kOutputNorm, TensorPart::kWhole, "/model/layers.{}/final_norm_layernorm"},
    Node{kAttentionNorm, TensorPart::kWhole, "/model/layers.{}/input_layernorm"},
    Node{kAttentionQkv, TensorPart::kWhole, "/model/layers.{}/attn/qkv_proj"},
    Node{kAttentionQkv, TensorPart::kQuery, "/model/layers.{}/attn/q_proj"},
    Node{kAttentionQkv, TensorPart::kKey, "/model/layers.{}/attn/k_proj"},
    Node{kAttentionQkv, TensorPart::kValue, "/model/layers.{}/attn/v_proj"},
    Node{kAttentionOutput, TensorPart::kWhole, "/model/layers.{}/attn/o_proj"},
    Node{kMlpNorm, TensorPart::kWhole, "/model/layers.{}/post_attention_layernorm"},
    Node{kMlpGateUp, TensorPart::kGate, "/model/layers.{}/mlp/gate_proj"},
    Node{kMlpGateUp, TensorPart::kUp, "/model/layers.{}/mlp/up_proj"},
    Node{kMlpDown, TensorPart::kWhole, "/model/layers.{}/mlp/down_proj"},
    Node{kAttentionQuery, TensorPart::kWhole, "/model/layers.{}/attn/q_proj"},
    Node{kAttentionKey, TensorPart::kWhole, "/model/layers.{}/attn/k_proj"},
    Node{kAttentionValue, TensorPart::kWhole, "/model/layers.{}/attn/v_proj"},
    Node{kRouter, TensorPart::kWhole, "/model/layers.{}/moe/router"},
    Node{kExpertGate, TensorPart::kWhole, "/model/layers.{}/moe/experts/gate_proj"},
    Node{kExpertUp, TensorPart::kWhole, "/model/layers.{}/moe/experts/up_proj"},
    Node{kExpertDown, TensorPart::kWhole, "/model/layers.{}/moe/experts/down_proj"},
    Node{kAttentionNormBias, TensorPart::kWhole, "/model/layers.{}/input_layernorm"},
    Node{kAttentionQueryBias, TensorPart::kWhole, "/model/layers.{}/attn/q_proj"},
    Node{kAttentionKeyBias, TensorPart::kWhole, "/model/layers.{}/attn/k_proj"},
    Node{kAttentionValueBias, TensorPart::kWhole, "/model/layers.{}/attn/v_proj"},
    Node{kAttentionOutputBias, TensorPart::kWhole, "/model/layers.{}/attn/o_proj"},
    Node{kMlpNormBias, TensorPart::kWhole, "/model/layers.{}/post_attention_layernorm"},
    Node{kOutputNormBias, TensorPart::kWhole, "/model/layers.{}/final_norm_layernorm"},
    Node{kOutputHeadBias, TensorPart::kWhole, "/lm_head"}};

const Node* FindNode(TensorRole role, TensorPart part) {
  const auto found = std::ranges::find_if(
      kNodes, [&](const Node& node) { return node.role == role && node.part == part; });
  return found == kNodes.end() ? nullptr : &*found;
}

const Node& NodeOf(TensorRole role, TensorPart part) {
  if (const Node* node = FindNode(role, part)) return *node;
  throw Error(ErrorCode::kInternal, fmt::format("no node reads that part of {}", RoleName(role)));
}

// "/model/layers.{}/attn/o_proj" -> "model.layers.{}.attn.o_proj.MatMul.weight".
std::string NamePattern(const Node& node) {
  std::string name(node.path.substr(1));
  std::ranges::replace(name, '/', '.');
  switch (node.role) {
    case kAttentionNormBias:
    case kMlpNormBias:
    case kOutputNormBias:
      return name + ".bias";
    case kTokenEmbedding:
    case kExpertGate:
    case kExpertUp:
    case kExpertDown:
      return name + ".weight";
    default:
      return name + (IsBias(node.role)   ? ".Add.bias"
                     : IsNorm(node.role) ? ".weight"
                                         : ".MatMul.weight");
  }
}

std::string InLayer(std::string pattern, const ModelConfig& config, WeightId weight) {
  const std::size_t at = pattern.find(kLayerMark);
  if (at == std::string::npos) return pattern;
  const bool is_last = weight.role == kOutputNorm || weight.role == kOutputNormBias;
  const std::int64_t layer = is_last ? config.n_layers : weight.layer;
  return pattern.replace(at, kLayerMark.size(), fmt::format("{}", layer));
}

}  // namespace

std::string NodePath(const ModelConfig& config, WeightId weight, TensorPart part) {
  return InLayer(std::string(NodeOf(weight.role, part).path), config, weight);
}

std::string WeightName(const ModelConfig& config, WeightId weight, TensorPart part) {
  return InLayer(NamePattern(NodeOf(weight.role, part)), config, weight);
}

std::pair<std::string, std::string> AroundLayer(TensorRole role) {
  const std::string pattern = NamePattern(NodeOf(role, TensorPart::kWhole));
  const std::size_t at = pattern.find(kLayerMark);
  return {pattern.substr(0, at), pattern.substr(at + kLayerMark.size())};
}

std::string ExpertName(std::string_view module, TensorRole role) {
  const std::string pattern = NamePattern(NodeOf(role, TensorPart::kWhole));
  return std::string(module) + pattern.substr(pattern.rfind(".experts."));
}

std::string ExpertGateUpName(std::string_view module) {
  return std::string(module) + ".experts.gate_up_proj.weight";
}

std::vector<NamedRows> PossibleWeights(const ModelConfig& config) {
  std::vector<NamedRows> weights;
  for (const WeightInfo& weight : WeightsOf(config)) {
    const auto add = [&](TensorPart part, std::uint64_t first_row, std::uint64_t n_rows) {
      if (FindNode(weight.id.role, part) == nullptr) return;
      weights.push_back({WeightName(config, weight.id, part), weight.id, part, first_row, n_rows});
    };
    add(TensorPart::kWhole, 0, weight.shape.n_rows);
    for (const WeightPart& part : weight.parts)
      if (part.part != TensorPart::kWhole) add(part.part, part.first_row, part.n_rows);
  }
  return weights;
}

std::string_view TableKind(std::string_view name) noexcept {
  constexpr std::string_view kPrefix = "model.rope.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  return name;
}

std::optional<ConfigTable> FindTable(const ModelConfig& config, std::string_view name,
                                     std::uint64_t n_rows) {
  using enum ConfigTable;
  name = TableKind(name);
  const std::uint32_t n_positions = config.max_position_embeddings;  // 0: not known
  const bool is_both = n_positions > 0 && n_rows > n_positions;
  if (name == "cos_cache") return is_both ? kCosShortLong : kCos;
  if (name == "sin_cache") return is_both ? kSinShortLong : kSin;
  if (name == "cos_cache_large") return kCosLong;
  if (name == "sin_cache_large") return kSinLong;
  if (name == "cos_cache_small") return kCosShort;
  if (name == "sin_cache_small") return kSinShort;
  return std::nullopt;
}

}  // namespace phiq::onnx
