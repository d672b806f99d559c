// Plans a LiteRT file: a type for every tensor, and the lengths for which it is made.
#include "formats/litert/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "formats/format.h"
#include "formats/litert/recipe.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::litert {
namespace {

constexpr std::uint32_t kDefaultGroup = 32;
constexpr std::array<std::uint32_t, 4> kGroups = {32, 64, 128, 0};  // 0: the row
constexpr std::uint32_t kDefaultLength = 4096;
constexpr std::array<std::uint32_t, 3> kPrefillLengths = {16, 128, 1024};
constexpr std::array<std::string_view, 3> kTensorTypes = {"float", "int8", "int4"};
constexpr std::array<int, 3> kTensorBits = {0, 8, 4};

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

int BitsOfRule(const TensorRule& rule) {
  const std::string type = LowerAscii(rule.type);
  if (type == "fp32") return 0;
  const auto* found = std::ranges::find(kTensorTypes, type);
  if (found == kTensorTypes.end())
    throw UnknownTensorType(rule,
                            std::vector<std::string>(kTensorTypes.begin(), kTensorTypes.end()));
  return kTensorBits[static_cast<std::size_t>(found - kTensorTypes.begin())];
}

class Planner {
 public:
  Planner(const Model& model, const PlanOptions& options, const WarningFn& warn)
      : model_(model),
        config_(model.config),
        options_(options),
        warn_(warn),
        recipe_(FindRecipe(options.type)),
        given_group_size_(FindGroupSize(options)),
        group_size_(given_group_size_.value_or(kDefaultGroup)) {
    for (const TensorRule& rule : options.tensor_rules) bits_of_rule_.push_back(BitsOfRule(rule));
    plan_.type = recipe_.name;
    RefuseExperts(config_, "LiteRT");
    CheckModel();
    CheckKnobs();
    ChooseGraph();
  }

  std::unique_ptr<GraphPlan> Make() {
    const std::vector<std::optional<std::size_t>> deciding =
        MatchRules(options_.tensor_rules, SubjectsOf(model_));
    const bool tied = IsTied(model_);
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      PlanLine line = LineOf(model_.tensors[i]);
      if (StaysFloat(line.role)) {
        line.reason = FloatReason(line.role);
      } else {
        const bool is_shared = tied && line.role == TensorRole::kTokenEmbedding;
        Decide(line, deciding[i], is_shared ? ", tied: the output head too" : "");
      }
      SetSize(line);
      CheckSize(line);
      plan_.lines.push_back(std::move(line));
    }
    AddDecisions();
    return std::make_unique<GraphPlan>(std::move(plan_));
  }

 private:
  void CheckModel() const {
    if (config_.rope_scaling == RopeScalingType::kYarn) {
      throw Error(ErrorCode::kUnsupported, "rope type yarn is not written to LiteRT")
          .In("config.json");
    }
  }

  void CheckKnobs() const {
    const bool has_groups =
        recipe_.bits == 4 || std::ranges::find(bits_of_rule_, 4) != bits_of_rule_.end();
    if (given_group_size_ && !has_groups)
      throw Usage(fmt::format("--group-size: type {} has no groups", recipe_.name));
    if (std::ranges::find(kGroups, group_size_) == kGroups.end())
      throw Usage(fmt::format("--group-size {}: LiteRT has 32, 64, 128, and 'row'", group_size_));
  }

  void ChooseGraph() {
    constexpr std::uint32_t kStep = kPrefillLengths.front();
    const std::uint32_t context = config_.max_position_embeddings;
    const std::optional<std::uint32_t> given =
        FindCount(options_, "max-length", 1, std::numeric_limits<std::int32_t>::max());
    std::uint32_t length = given.value_or(std::min(context, kDefaultLength));
    if (given && length > context)
      throw Usage(fmt::format("--max-length {}: the model's context is {}", length, context));
    if (given && length % kStep != 0) {
      throw Usage(fmt::format("--max-length {}: is not a multiple of {}, in which prompts are read",
                              length, kStep))
          .Hint(fmt::format("multiples of {} are read fastest", kPrefillLengths.back()));
    }
    length -= length % kStep;
    if (length == 0) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("max_position_embeddings {} is below {}, the tokens that a LiteRT "
                              "file reads at once",
                              context, kStep))
          .In("config.json");
    }
    plan_.graph = {length, PrefillLengths(length), NeedsLongFactors(config_, length)};
    is_length_given_ = given.has_value();
  }

  void Decide(PlanLine& line, std::optional<std::size_t> rule, std::string_view shared) {
    int bits = recipe_.BitsOf(line.role);
    std::string reason = fmt::format("{}: default", recipe_.name);
    if (rule) {
      bits = bits_of_rule_[*rule];
      reason = RuleReason(options_.tensor_rules[*rule]);
    } else if (bits != recipe_.bits) {
      const bool is_attention =
          line.role == TensorRole::kAttentionQkv || line.role == TensorRole::kAttentionOutput;
      reason = fmt::format("{}: {} keep{} {} bits", recipe_.name,
                           is_attention ? "attention" : "embedding and head",
                           is_attention ? "s" : "", bits);
    }
    const auto set = [&](int bits_of_line) {
      line.encoding = EncodingOf(bits_of_line, group_size_);
      line.method = bits_of_line == 0 ? &kGgml : &kNearest;
    };
    set(bits);
    line.reason = reason + std::string(shared);
    const std::uint64_t multiple = group_size_ == 0 ? 2 : group_size_;
    if (bits != 4 || line.row_elements() % multiple == 0) return;
    set(8);
    TakeFallback(line,
                 fmt::format("row of {} is not a multiple of {}: int4 -> int8", line.row_elements(),
                             multiple),
                 options_.strict_types, warn_);
  }

  // Sizes of tensors are 32-bit numbers in the file.
  static void CheckSize(const PlanLine& line) {
    constexpr auto kMost = std::uint64_t{std::numeric_limits<std::int32_t>::max()};
    for (const std::uint64_t dim : line.shape) {
      if (dim <= kMost) continue;
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("has a dimension of {}, a LiteRT file takes {}", dim, kMost))
          .Tensor(line.name);
    }
  }

  void AddDecisions() {
    const auto add = [&](std::string_view subject, std::string value, std::string reason) {
      plan_.decisions.push_back({std::string(subject), std::move(value), std::move(reason)});
    };
    const GraphChoices& graph = plan_.graph;
    const std::uint64_t cache_bytes = std::uint64_t{2} * sizeof(float) * config_.n_layers *
                                      config_.n_kv_heads * config_.head_dim * graph.cache_length;
    add("cache", fmt::format("{} tokens", graph.cache_length),
        fmt::format("{}: prompt and answer together; {} of memory on the device",
                    is_length_given_ ? "--max-length" : "default", FormatBytes(cache_bytes)));
    add("signatures", fmt::format("decode, prefill of {}", fmt::join(graph.prefill_lengths, ", ")),
        "the engine reads a prompt in pieces of these lengths");
    if (config_.rope_scaling == RopeScalingType::kLongRope) AddFactors();
    if (config_.sliding_window > 0 && config_.sliding_window < graph.cache_length) AddWindow();
    if (std::ranges::any_of(plan_.lines, [](const PlanLine& line) {
          return std::holds_alternative<GroupEncoding>(line.encoding);
        })) {
      add("activations", "int8", "the CPU kernels quantize each row of them as the model runs");
    }
  }

  // A file has one set of angles, whatever the length of a text.
  void AddFactors() {
    const GraphChoices& graph = plan_.graph;
    const std::uint32_t original = config_.original_max_position_embeddings;
    plan_.decisions.push_back(
        {"rotary factors", graph.long_factors ? "long" : "short",
         graph.long_factors
             ? fmt::format("the cache is longer than the original context of {}: texts of up to {} "
                           "tokens, for which the model has short factors, are answered otherwise "
                           "than by the model",
                           original, original)
             : fmt::format("the cache is within the original context of {}: as the model at every "
                           "length",
                           original)});
  }

  // The engine makes the mask.
  void AddWindow() {
    const std::uint32_t window = config_.sliding_window, length = plan_.graph.cache_length;
    plan_.decisions.push_back(
        {"sliding window", "ignored",
         fmt::format("the engine sees the whole text: beyond {} tokens answers are not the model's",
                     window)});
    if (!warn_) return;
    warn_({ErrorCode::kBadData,
           fmt::format("config.json: sliding_window {} is below the cache of {} tokens, and "
                       "LiteRT-LM ignores it: texts longer than the window differ from the model's "
                       "(--max-length {} ends before that)",
                       window, length, window - window % kPrefillLengths.front())});
  }

  const Model& model_;
  const ModelConfig& config_;
  const PlanOptions& options_;
  const WarningFn& warn_;
  const Recipe& recipe_;
  const std::optional<std::uint32_t> given_group_size_;
  const std::uint32_t group_size_;
  std::vector<int> bits_of_rule_;
  bool is_length_given_ = false;
  GraphPlan plan_;
};

}  // namespace

std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const WarningFn& warn) {
  return Planner(model, options, warn).Make();
}

std::vector<std::uint32_t> PrefillLengths(std::uint32_t cache_length) {
  std::vector<std::uint32_t> lengths;
  for (const std::uint32_t length : kPrefillLengths)
    if (length <= cache_length && cache_length % length == 0) lengths.push_back(length);
  return lengths;
}

bool NeedsLongFactors(const ModelConfig& config, std::uint32_t cache_length) noexcept {
  return config.rope_scaling == RopeScalingType::kLongRope &&
         cache_length > config.original_max_position_embeddings;
}

}  // namespace phiq::litert
