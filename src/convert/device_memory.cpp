// Sums of what is known from the configuration; how a runtime keeps it is its format's to say.
#include "convert/device_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/format.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint32_t kDefaultContext = 4096;

std::uint32_t ContextOf(const ModelConfig& config, const RuntimeMemory& memory,
                        std::optional<std::uint32_t> wanted) {
  const std::uint32_t trained = config.max_position_embeddings;
  if (!wanted)
    return memory.cache_fixed > 0 ? memory.cache_fixed : std::min(kDefaultContext, trained);
  if (*wanted > trained)
    throw Error(ErrorCode::kUsage,
                fmt::format("--ctx {}: the model's context is {}", *wanted, trained));
  if (memory.cache_fixed > 0 && *wanted > memory.cache_fixed)
    throw Error(ErrorCode::kUsage, fmt::format("--ctx {}: the output has room for {} tokens",
                                               *wanted, memory.cache_fixed))
        .Hint(fmt::format("--max-length {}", *wanted));
  return *wanted;
}

std::uint64_t RoundUp(std::uint64_t n, std::uint64_t step) { return (n + step - 1) / step * step; }

}  // namespace

std::optional<DeviceMemory> DeviceMemoryOf(const ModelConfig& config, const Plan& plan,
                                           std::uint64_t files_bytes,
                                           std::optional<std::uint32_t> n_ctx) {
  const Format& format = FindFormat(plan.format);
  if (format.runtime_memory == nullptr) return std::nullopt;
  const RuntimeMemory memory = format.runtime_memory(plan);
  DeviceMemory device;
  device.files_bytes = files_bytes;
  device.n_ctx = ContextOf(config, memory, n_ctx);
  const std::uint64_t n_cached =
      memory.cache_fixed > 0 ? memory.cache_fixed : RoundUp(device.n_ctx, memory.cache_step);
  const std::uint64_t head_bits =
      std::uint64_t{config.head_dim} * memory.cache_bits + memory.cache_head_bits;
  device.cache_bytes = n_cached * 2 * config.n_layers * config.n_kv_heads * head_bits / 8;
  const std::uint64_t n_tokens = std::min(memory.n_at_once, device.n_ctx);
  const std::uint64_t n_mlps = config.n_experts > 0 ? config.n_experts_per_token : 1;
  // Gate, up and their product; queries, keys, values and what attention makes of them.
  const std::uint64_t inner = 3 * n_mlps * config.intermediate_size;
  const std::uint64_t attention =
      2 * std::uint64_t{config.n_heads + config.n_kv_heads} * config.head_dim;
  std::uint64_t floats = n_tokens * (3 * config.hidden_size + std::max(inner, attention));
  floats += (memory.has_all_logits ? n_tokens : 1) * config.vocab_size;
  if (memory.has_scores) floats += n_tokens * n_cached * config.n_heads;
  device.working_bytes = floats * sizeof(float);
  device.rule = fmt::format("{}: {} bits a key or value, {} tokens of a prompt at once{}",
                            memory.runtime, memory.cache_bits, FormatCount(n_tokens),
                            memory.has_scores ? ", with all scores" : "");
  return device;
}

}  // namespace phiq
