// A further model, as one file: Phi-3's function, and not one of its names. The test's program takes
// this list of architectures instead of the library's.
#include <array>

#include "model/architecture.h"

namespace phiq {
namespace {

using enum TensorRole;

std::uint64_t One(const ModelConfig&) { return 1; }
std::uint64_t Tokens(const ModelConfig& config) { return config.vocab_size; }
std::uint64_t Width(const ModelConfig& config) { return config.hidden_size; }
std::uint64_t Inner(const ModelConfig& config) { return config.intermediate_size; }
std::uint64_t GateAndUp(const ModelConfig& config) { return 2 * Inner(config); }
std::uint64_t Query(const ModelConfig& config) {
  return std::uint64_t{config.n_heads} * config.head_dim;
}
std::uint64_t Key(const ModelConfig& config) {
  return std::uint64_t{config.n_kv_heads} * config.head_dim;
}
std::uint64_t AllOfThem(const ModelConfig& config) { return Query(config) + 2 * Key(config); }

constexpr std::array kQkvParts = {PartSpec{TensorPart::kQuery, "block.{}.ask", Query},
                                  PartSpec{TensorPart::kKey, "block.{}.find", Key},
                                  PartSpec{TensorPart::kValue, "block.{}.tell", Key}};
constexpr std::array kGateUpParts = {PartSpec{TensorPart::kGate, "block.{}.door", Inner},
                                     PartSpec{TensorPart::kUp, "block.{}.wide", Inner}};

constexpr std::array kWeights = {
    WeightSpec{kTokenEmbedding, "words.weight", Tokens, Width, "vocab_size, hidden_size"},
    WeightSpec{kAttentionNorm, "block.{}.calm.weight", One, Width, "hidden_size"},
    WeightSpec{kAttentionQkv, "block.{}.look.all.weight", AllOfThem, Width, "heads, hidden_size",
               kQkvParts},
    WeightSpec{kAttentionOutput, "block.{}.look.out.weight", Width, Query, "hidden_size"},
    WeightSpec{kMlpNorm, "block.{}.calm_again.weight", One, Width, "hidden_size"},
    WeightSpec{kMlpGateUp, "block.{}.think.in.weight", GateAndUp, Width,
               "2 * intermediate_size, hidden_size", kGateUpParts},
    WeightSpec{kMlpDown, "block.{}.think.out.weight", Width, Inner,
               "hidden_size, intermediate_size"},
    WeightSpec{kOutputNorm, "last_calm.weight", One, Width, "hidden_size"},
    WeightSpec{kOutputHead, "say.weight", Tokens, Width, "vocab_size, hidden_size"}};

Network MadeUpNetwork(const ModelConfig& config) { return kPhi3.network(config); }

constexpr std::array kClasses = {ModelClass{"MadeUpForCausalLM", "made_up", {}}};

constexpr Architecture kMadeUp = {"MadeUpForCausalLM", kClasses, "", kWeights, MadeUpNetwork};

}  // namespace

std::span<const Architecture* const> Architectures() noexcept {
  static constexpr std::array<const Architecture*, 2> kAll = {&kPhi3, &kMadeUp};
  return kAll;
}

}  // namespace phiq
