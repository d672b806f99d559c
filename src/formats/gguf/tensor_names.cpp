// One table: roles on the left, llama.cpp's names of its phi3 and phimoe tensors on the right.
#include "formats/gguf/tensor_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/limits.h"
#include "base/parse_number.h"
#include "phiq/error.h"

namespace phiq::gguf {
namespace {

using enum TensorRole;
constexpr auto kNames = std::to_array<std::pair<TensorRole, std::string_view>>({
    {kTokenEmbedding, "token_embd.weight"},
    {kOutputNorm, "output_norm.weight"},
    {kOutputHead, "output.weight"},
    {kAttentionNorm, "attn_norm.weight"},  // of the layers: behind "blk.3."
    {kAttentionQkv, "attn_qkv.weight"},
    {kAttentionOutput, "attn_output.weight"},
    {kMlpNorm, "ffn_norm.weight"},
    {kMlpGateUp, "ffn_up.weight"},  // gate and up, as in the checkpoint
    {kMlpDown, "ffn_down.weight"},
    {kAttentionQuery, "attn_q.weight"},
    {kAttentionKey, "attn_k.weight"},
    {kAttentionValue, "attn_v.weight"},
    {kRouter, "ffn_gate_inp.weight"},
    {kExpertGate, "ffn_gate_exps.weight"},
    {kExpertUp, "ffn_up_exps.weight"},
    {kExpertDown, "ffn_down_exps.weight"},
    {kAttentionNormBias, "attn_norm.bias"},
    {kAttentionQueryBias, "attn_q.bias"},
    {kAttentionKeyBias, "attn_k.bias"},
    {kAttentionValueBias, "attn_v.bias"},
    {kAttentionOutputBias, "attn_output.bias"},
    {kMlpNormBias, "ffn_norm.bias"},
    {kOutputNormBias, "output_norm.bias"},
    {kOutputHeadBias, "output.bias"},
});

}  // namespace

std::string TensorName(WeightId weight) {
  const auto found =
      std::ranges::find(kNames, weight.role, &std::pair<TensorRole, std::string_view>::first);
  if (found == kNames.end()) {
    throw Error(ErrorCode::kInternal,
                fmt::format("no GGUF name for a weight {}", RoleName(weight.role)));
  }
  if (weight.layer < 0) return std::string(found->second);
  return fmt::format("blk.{}.{}", weight.layer, found->second);
}

std::string TensorName(const PlanLine& line) {
  if (!line.table) return TensorName(WeightId{line.role, line.layer});
  if (*line.table == ConfigTable::kLongFactor) return std::string(kLongFactorsName);
  if (*line.table == ConfigTable::kShortFactor) return std::string(kShortFactorsName);
  throw Error(ErrorCode::kInternal, fmt::format("no GGUF name for plan line '{}'", line.name));
}

std::uint32_t LayersBefore(std::string_view name) {
  constexpr std::string_view kBegin = "blk.";
  if (!name.starts_with(kBegin)) return 0;
  name.remove_prefix(kBegin.size());
  const auto layer = ParseNumber<std::uint32_t>(name.substr(0, name.find('.')));
  return layer && *layer < limits::kLayers ? *layer + 1 : 0;
}

}  // namespace phiq::gguf
