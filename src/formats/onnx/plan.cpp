// Plans an ONNX folder: options that fit together, an encoding for every tensor, and the oldest
// onnxruntime that runs the result.
#include "formats/onnx/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "formats/format.h"
#include "formats/onnx/recipe.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::onnx {
namespace {

constexpr std::uint32_t kDefaultGroup = 32;  // the builder's
constexpr std::array<std::uint32_t, 5> kGroups = {16, 32, 64, 128, 256};
// onnxruntime-genai reserves the cache for this many tokens at once: 131072 tokens of Phi-3.5-mini
// are 103 GB.
constexpr std::uint32_t kDefaultMaxLength = 4096;

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

// What a tensor was asked to be: 0 bits are floats.
struct Wanted {
  int bits = 0;
  std::string reason;
  bool by_rule = false;
};

class Planner {
 public:
  Planner(const Model& model, const PlanOptions& options, const WarningFn& warn)
      : model_(model),
        options_(options),
        knobs_(ReadOptions(options)),
        warn_(warn),
        recipe_(FindRecipe(options.type)) {
    plan_.type = recipe_.name;
    ChooseGraph();
    CheckModel();
  }

  std::unique_ptr<GraphPlan> Make() {
    DecideWanted();
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      const ModelTensor& tensor = model_.tensors[i];
      if (StaysFloat(tensor.role)) {
        AddFloats(LineOf(tensor), std::string(FloatReason(tensor.role)));
      } else if (tensor.role == TensorRole::kTokenEmbedding) {
        AddEmbedding(i);
      } else if (IsOfExperts(tensor.role)) {
        AddExperts(LineOf(tensor), wanted_[i]);
      } else {
        AddMatrix(LineOf(tensor), wanted_[i]);
      }
    }
    if (tied_ && !shared_) {
      PlanLine head = LineOf(model_.tensors[embedding_]);
      head.name = CheckpointName(model_.config, {TensorRole::kOutputHead});
      head.role = TensorRole::kOutputHead;
      AddMatrix(head, wanted_.back());
    }
    AddTables();
    CheckExpertsAreAlike();
    for (PlanLine& line : plan_.lines) SetSize(line);
    AddDecisions();
    plan_.needs =
        fmt::format("onnxruntime {} or newer", OnnxRuntimeName(plan_.graph.min_onnxruntime));
    return std::make_unique<GraphPlan>(std::move(plan_));
  }

 private:
  // By its recipe or by a rule some tensor may become integers.
  bool HasCodes() const {
    return recipe_.bits > 0 || std::ranges::any_of(options_.tensor_rules, [](const auto& rule) {
             return LowerAscii(rule.type).starts_with("int");
           });
  }

  bool IsDynamic() const { return knobs_.activations == Activations::kDynamic; }

  // Provider, float type, method and their contradictions.
  void ChooseGraph() {
    GraphChoices& graph = plan_.graph;
    graph.ep = knobs_.ep;
    graph.activations = knobs_.activations;
    const bool on_cpu = graph.ep == ExecutionProvider::kCpu;
    const bool floats32 = recipe_.name == "fp32" || (recipe_.bits > 0 && on_cpu);
    graph.float_type = floats32 ? FloatType::kF32 : FloatType::kF16;
    if (floats32 && (graph.ep == ExecutionProvider::kCuda || graph.ep == ExecutionProvider::kDml)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("fp32 for --ep {} is not written: no onnxruntime has the attention "
                              "operator for it",
                              ExecutionProviderName(graph.ep)))
          .Hint("use fp16, int8 or int4");
    }
    const auto refuse_knob = [&](bool given, std::string_view option, std::string_view why) {
      if (given) throw Usage(fmt::format("{}: {}", option, why));
    };
    if (!HasCodes()) {
      const std::string why = fmt::format("type {} has no integer codes", recipe_.name);
      refuse_knob(knobs_.group_size.has_value(), "--group-size", why);
      refuse_knob(knobs_.symmetric.has_value(), "--sym, --asym", why);
      refuse_knob(knobs_.accuracy_level.has_value(), "--accuracy-level", why);
      refuse_knob(options_.method != "reference", "--method", why);
    }
    if (IsDynamic()) {
      constexpr std::string_view kWhy =
          "with --activations dynamic there is one scale for each output, symmetric";
      refuse_knob(recipe_.name != "int8", "--activations dynamic", "needs int8");
      refuse_knob(!on_cpu, "--activations dynamic", "is for --ep cpu");
      refuse_knob(knobs_.group_size.has_value(), "--group-size", kWhy);
      refuse_knob(knobs_.symmetric == false, "--asym", kWhy);
      refuse_knob(knobs_.accuracy_level.has_value(), "--accuracy-level", kWhy);
      refuse_knob(options_.method != "reference", "--method", kWhy);
    }
    const bool has_default_level = on_cpu || graph.ep == ExecutionProvider::kWebGpu;
    graph.accuracy_level = knobs_.accuracy_level.value_or(has_default_level ? 4 : 0);
    graph.max_length = knobs_.max_length.value_or(
        std::min(model_.config.max_position_embeddings, kDefaultMaxLength));
    if (graph.max_length > model_.config.max_position_embeddings) {
      throw Usage(fmt::format("--max-length {}: the model's context is {}", graph.max_length,
                              model_.config.max_position_embeddings));
    }
    ChooseSpec();
  }

  void ChooseSpec() {
    groups_.scale = ScaleTypeOf(plan_.graph.float_type);
    groups_.group_size = knobs_.group_size.value_or(kDefaultGroup);
    if (std::ranges::find(kGroups, groups_.group_size) == kGroups.end()) {
      throw Usage(
          fmt::format("--group-size {}: ONNX has {}",
                      groups_.group_size == 0 ? "row" : fmt::format("{}", groups_.group_size),
                      fmt::join(kGroups, ", ")));
    }
    if (options_.method == "rtn") method_ = &kRtn;
    if (options_.method == "k_quant") method_ = &kKQuant;
    if (recipe_.method != nullptr) {
      if (options_.method != "reference" && method_ != recipe_.method) {
        throw Usage(fmt::format("--method {} contradicts type {}", options_.method, recipe_.name));
      }
      method_ = recipe_.method;
    }
    const bool symmetric = knobs_.symmetric.value_or(method_ != &kKQuant);
    if (method_ == &kKQuant && symmetric) {
      throw Usage("--sym: k_quant always has zero points");
    }
    groups_.offset = symmetric ? Offset::kMiddle : Offset::kZeroPoint;
    plan_.graph.names = method_ == &kMlas ? OnnxNames::kBlockwise : OnnxNames::kWeightOnly;
  }

  // What is written for experts: the operators of the CPU provider, in float32.
  void CheckExperts() const {
    const auto refuse = [&](std::string message, std::string_view hint) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: {}", model_.config.architecture, message))
          .Hint(hint);
    };
    if (plan_.graph.ep != ExecutionProvider::kCpu)
      refuse("experts are written for the CPU provider only", "leave --ep away");
    if (plan_.graph.float_type != FloatType::kF32)
      refuse(fmt::format("type {} is not written", recipe_.name), "use fp32, int8 or int4");
    if (IsDynamic()) refuse("--activations dynamic has no operator for experts", "leave it away");
    if (method_ != &kMlas || HasZeroPoints(groups_))
      refuse("codes with zero points, rtn and k_quant are not written for experts",
             "use int8 or int4, and no --asym");
  }

  // What GroupQueryAttention can compute.
  void CheckModel() const {
    const ModelConfig& config = model_.config;
    const auto refuse = [](std::string message) {
      throw Error(ErrorCode::kUnsupported, std::move(message)).In("config.json");
    };
    if (config.n_experts > 0) CheckExperts();
    if (config.rope_scaling == RopeScalingType::kYarn)
      refuse("rope type yarn is not written to ONNX");
    if (config.head_dim % 16 != 0) {
      refuse(
          fmt::format("head size {} is not a multiple of 16, which onnxruntime's rotary "
                      "attention needs",
                      config.head_dim));
    }
    if (config.rope_dim % 16 != 0) {
      refuse(
          fmt::format("{} rotated dimensions are not a multiple of 16, which onnxruntime's "
                      "rotary attention needs",
                      config.rope_dim));
    }
  }

  int BitsOfRule(const TensorRule& rule) const {
    const bool is_half = plan_.graph.float_type == FloatType::kF16;
    const std::string type = LowerAscii(rule.type);
    if (type == "float" || type == (is_half ? "fp16" : "fp32")) return 0;
    if (type == "int8") return 8;
    if (type == "int4" && !IsDynamic()) return 4;
    if (type == "fp16" || type == "fp32") {
      throw Usage(fmt::format("{}: this graph computes in {}", RuleReason(rule),
                              is_half ? "float16" : "float32"))
          .Hint("'float' is what it has");
    }
    std::vector<std::string> known = {"float", "int8"};
    if (!IsDynamic()) known.emplace_back("int4");
    throw UnknownTensorType(rule, known);
  }

  // By recipe and rules, one for each model tensor; for the head of a tied model one more.
  void DecideWanted() {
    tied_ = IsTied(model_);
    std::vector<RuleSubject> subjects;
    std::vector<TensorRole> roles;
    std::vector<std::int32_t> layers;
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      const ModelTensor& tensor = model_.tensors[i];
      subjects.push_back({{tensor.name}, StaysFloat(tensor.role)});
      roles.push_back(tensor.role);
      layers.push_back(tensor.layer);
      if (tensor.role == TensorRole::kTokenEmbedding) embedding_ = i;
    }
    if (tied_) {
      subjects.push_back({{CheckpointName(model_.config, {TensorRole::kOutputHead})}, false});
      roles.push_back(TensorRole::kOutputHead);
      layers.push_back(-1);
    }
    std::vector<int> bits_of_rule;
    for (const TensorRule& rule : options_.tensor_rules) bits_of_rule.push_back(BitsOfRule(rule));
    const std::vector<std::optional<std::size_t>> deciding =
        MatchRules(options_.tensor_rules, subjects);
    wanted_.resize(subjects.size());
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      if (deciding[i]) {
        wanted_[i] = {bits_of_rule[*deciding[i]], RuleReason(options_.tensor_rules[*deciding[i]]),
                      true};
      } else if (roles[i] == TensorRole::kOutputHead && recipe_.head_bits != recipe_.bits) {
        wanted_[i] = {recipe_.head_bits, fmt::format("{}: more bits in the head", recipe_.name),
                      false};
      } else if (roles[i] != TensorRole::kTokenEmbedding) {
        wanted_[i] = {recipe_.bits, fmt::format("{}: default", recipe_.name), false};
      }
    }
    if (!wanted_[embedding_].by_rule) DecideEmbedding();
  }

  // Without a rule: floats, or what a tied head is.
  void DecideEmbedding() {
    Wanted& embedding = wanted_[embedding_];
    embedding = {0, "embedding: kept, as the runtime's own builder does", false};
    if (!tied_) return;
    const Wanted& head = wanted_.back();
    if (head.bits > 0 && !recipe_.shares_tied_embedding) {
      embedding.reason += IsDynamic() ? ""
                                      : fmt::format(
                                            " (--tensor-type {}=int{} shares the "
                                            "head's tensor)",
                                            EmbeddingWord(), head.bits);
      return;
    }
    if (head.bits == 8 && !Runs(OnnxRuntime::k1_24)) {
      embedding.reason = fmt::format("an 8-bit embedding needs onnxruntime 1.24, not {}",
                                     OnnxRuntimeName(*knobs_.min_onnxruntime));
      return;
    }
    embedding = {head.bits, "tied: the output head too", false};
  }

  // A short pattern of a rule that finds the embedding: the last word of its name.
  std::string EmbeddingWord() const {
    const std::string name = ModuleName(model_.config, {TensorRole::kTokenEmbedding});
    return name.substr(name.rfind('.') + 1);
  }

  // True when the output may need `version`.
  bool Runs(OnnxRuntime version) const {
    return !knobs_.min_onnxruntime || *knobs_.min_onnxruntime >= version;
  }

  void Need(OnnxRuntime version, std::string_view tensor, std::string_view why) {
    if (!Runs(version)) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{} onnxruntime {}, --min-onnxruntime says {}", why,
                              OnnxRuntimeName(version), OnnxRuntimeName(*knobs_.min_onnxruntime)))
          .Tensor(tensor)
          .Hint("choose other types, or a newer --min-onnxruntime");
    }
    if (version > plan_.graph.min_onnxruntime) {
      plan_.graph.min_onnxruntime = version;
      needed_by_ = why;
    }
  }

  void AddFloats(PlanLine line, std::string reason) {
    line.encoding = plan_.graph.float_type == FloatType::kF16 ? GgmlType::kF16 : GgmlType::kF32;
    line.reason = std::move(reason);
    plan_.lines.push_back(std::move(line));
  }

  // A matrix product's weight; gate and up (and on dml q, k and v) are products of their own.
  void AddMatrix(const PlanLine& line, const Wanted& wanted) {
    const ModelConfig& config = model_.config;
    std::vector<WeightPart> parts;
    if (line.role == TensorRole::kMlpGateUp ||
        (line.role == TensorRole::kAttentionQkv && plan_.graph.ep == ExecutionProvider::kDml))
      parts = InfoOf(config, {line.role, line.layer}).parts;
    if (parts.empty()) parts.push_back({TensorPart::kWhole, "", 0, line.n_rows()});
    for (const WeightPart& part : parts) {
      PlanLine piece = line;
      piece.part = part.part;
      piece.first_row = part.first_row;
      piece.shape[0] = part.n_rows;
      int bits = wanted.bits;
      std::string reason = wanted.reason;
      if (recipe_.more_bits_in_some_layers && !wanted.by_rule &&
          HasMoreBits(config, line.role, part.part, line.layer)) {
        bits = 8;
        reason = fmt::format("{}: more bits in the outer eighths and every third layer between",
                             recipe_.name);
      }
      if (bits == 0) {
        AddFloats(std::move(piece), std::move(reason));
        continue;
      }
      if (!IsDynamic() && bits == 8) NeedEightBits(piece.name);
      SetMatrixEncoding(piece, bits);
      piece.reason = std::move(reason);
      plan_.lines.push_back(std::move(piece));
    }
  }

  // Operators of their own: 4 bits in groups, or 8 bits with one scale a row (in groups the CPU
  // provider rounds the activations).
  void AddExperts(PlanLine line, const Wanted& wanted) {
    Need(OnnxRuntime::k1_24, line.name, "experts need");
    if (wanted.bits == 0) return AddFloats(std::move(line), wanted.reason);
    const ModelConfig& config = model_.config;
    const bool fits = config.hidden_size % groups_.group_size == 0 &&
                      config.intermediate_size % groups_.group_size == 0;
    if (wanted.bits == 4 && fits) {
      SetMatrixEncoding(line, 4);
      line.reason = wanted.reason;
    } else {
      line.encoding = GroupEncoding{Code::kU8, 0, ScaleType::kF32, Offset::kMiddle};
      line.method = &kNearest;
      line.reason = wanted.reason + ", experts one scale a row";
      if (wanted.bits == 4) {
        TakeFallback(line,
                     fmt::format("rows of {} and {} are not multiples of {}: int4 -> int8",
                                 config.hidden_size, config.intermediate_size, groups_.group_size),
                     options_.strict_types, warn_);
      }
    }
    plan_.lines.push_back(std::move(line));
  }

  // One operator has the three matrices of a layer, and one number of bits.
  void CheckExpertsAreAlike() const {
    std::map<std::int32_t, const PlanLine*> of_layer;
    for (const PlanLine& line : plan_.lines) {
      if (line.table || !IsOfExperts(line.role)) continue;
      const PlanLine* const first = of_layer.try_emplace(line.layer, &line).first->second;
      if (first->encoding == line.encoding) continue;
      throw Usage(
          fmt::format("--tensor-type: the experts of layer {} are one operator with one "
                      "type, not {} and {}",
                      line.layer, EncodingName(first->encoding), EncodingName(line.encoding)));
    }
  }

  void NeedEightBits(std::string_view tensor) {
    // 1.22's CPU kernel loads such a model at any level, and fails when it runs it at another
    // than 4.
    if (plan_.graph.ep == ExecutionProvider::kCpu && plan_.graph.accuracy_level != 4) {
      Need(OnnxRuntime::k1_24, tensor, "8-bit MatMulNBits at another accuracy_level than 4 needs");
    } else {
      Need(OnnxRuntime::k1_22, tensor, "8-bit MatMulNBits needs");
    }
  }

  void SetMatrixEncoding(PlanLine& line, int bits) const {
    GroupEncoding groups = groups_;
    groups.code = UnsignedCode(bits);
    if (IsDynamic()) groups = {Code::kI8, 0, ScaleType::kF32, Offset::kNone};
    line.encoding = groups;
    line.method = IsDynamic() ? &kNearest : method_;
  }

  // Why an embedding with rows of n weights cannot be looked up in blocks; empty when it can.
  std::string WhyNoBlocks(std::uint64_t n, int bits) const {
    if (bits == 0) return "";
    if (n % groups_.group_size != 0)
      return fmt::format("row of {} is not a multiple of {}", n, groups_.group_size);
    // Two 4-bit zero points share a byte, and in UINT4 tensors a row may begin in the middle of
    // one.
    if (bits == 4 && HasZeroPoints(groups_) && !shared_ && n / groups_.group_size % 2 != 0)
      return fmt::format("row of {} has an odd number of zero points", n);
    return "";
  }

  // One tensor for embedding and head: floats in every runtime, codes since 1.24.
  bool CanShare(int bits) const {
    return tied_ && bits == wanted_.back().bits &&
           (bits == 0 || (!IsDynamic() && Runs(OnnxRuntime::k1_24)));
  }

  // Floats instead of blocks.
  void FallBack(PlanLine& line, Wanted& wanted, const std::string& why) {
    line.is_fallback = true;
    wanted = {0, fmt::format("{}: int{} -> float", why, wanted.bits), wanted.by_rule};
    shared_ = false;
    if (options_.strict_types) {
      throw Error(ErrorCode::kUnsupported, wanted.reason)
          .Tensor(line.name)
          .Hint("--strict-types forbids fallbacks");
    }
    if (warn_)
      warn_(
          {ErrorCode::kBadData, fmt::format("tensor '{}': {}", Escape(line.name), wanted.reason)});
  }

  void AddEmbedding(std::size_t i) {
    Wanted& wanted = wanted_[i];
    PlanLine line = LineOf(model_.tensors[i]);
    shared_ = CanShare(wanted.bits);
    if (const std::string why = WhyNoBlocks(line.row_elements(), wanted.bits); !why.empty())
      FallBack(line, wanted, why);
    if (wanted.bits == 0) return AddFloats(std::move(line), wanted.reason);
    if (shared_) {
      Need(OnnxRuntime::k1_24, line.name, "a UINT8 embedding needs");
      SetMatrixEncoding(line, wanted.bits);
      line.reason = wanted.by_rule ? wanted.reason + ", tied: the output head too" : wanted.reason;
    } else {
      GroupEncoding groups = groups_;
      groups.code = UnsignedCode(wanted.bits);
      // INT4 tensors are older than UINT8 ones, but need zero points to be unsigned.
      if (wanted.bits == 4 && !HasZeroPoints(groups)) {
        groups.code = Code::kI4;
        groups.offset = Offset::kNone;
      }
      if (wanted.bits == 8) Need(OnnxRuntime::k1_24, line.name, "a UINT8 embedding needs");
      line.encoding = groups;
      line.method = &kGather;
      line.reason = wanted.by_rule || !tied_
                        ? wanted.reason
                        : fmt::format(
                              "of its own: one tensor for embedding and head needs "
                              "onnxruntime 1.24, not {}",
                              OnnxRuntimeName(*knobs_.min_onnxruntime));
    }
    plan_.lines.push_back(std::move(line));
  }

  void AddTables() {
    using enum ConfigTable;
    const ModelConfig& config = model_.config;
    const bool is_long = !config.long_factor.empty() &&
                         config.original_max_position_embeddings < config.max_position_embeddings;
    std::vector<ConfigTable> tables = {kCos, kSin};
    if (is_long && plan_.graph.ep == ExecutionProvider::kDml) {
      tables = {kCosShortLong, kSinShortLong};
    } else if (is_long) {
      tables = {kCosLong, kSinLong, kCosShort, kSinShort};
    }
    for (const ConfigTable table : tables)
      AddFloats(LineOf(config, table, ""), "rotary angles of every position");
  }

  // What an older runtime would get instead of one tensor for embedding and head.
  std::string_view HintOfSharing() const {
    const int bits = wanted_[embedding_].bits;
    // A rule holds in older runtimes too, and some 8-bit products need 1.24 anyway.
    if (!shared_ || bits == 0 || wanted_[embedding_].by_rule) return "";
    if (bits == 8 && plan_.graph.accuracy_level != 4) return "";
    return bits == 4 ? " (--min-onnxruntime 1.20 gives the embedding an INT4 tensor of its own)"
                     : " (--min-onnxruntime 1.22 keeps the embedding in floats)";
  }

  void AddDecisions() {
    const auto add = [&](std::string_view subject, std::string value, std::string reason) {
      plan_.decisions.push_back({std::string(subject), std::move(value), std::move(reason)});
    };
    const GraphChoices& graph = plan_.graph;
    add("execution provider", std::string(ExecutionProviderName(graph.ep)),
        fmt::format("activations, caches and scales are {}",
                    graph.float_type == FloatType::kF16 ? "float16" : "float32"));
    add("onnxruntime", fmt::format("{} or newer", OnnxRuntimeName(graph.min_onnxruntime)),
        needed_by_.empty() ? "the oldest that runs opset 21"
                           : fmt::format("{} it{}", needed_by_, HintOfSharing()));
    if (graph.activations == Activations::kDynamic) {
      add("activations", "uint8",
          "--activations dynamic: plain ONNX operators, quantized for each product");
    } else if (std::ranges::any_of(plan_.lines, [](const PlanLine& line) {
                 return std::holds_alternative<GroupEncoding>(line.encoding);
               })) {
      add("accuracy_level", fmt::format("{}", graph.accuracy_level),
          graph.accuracy_level == 4 ? "activations become int8 in blocks as the model runs"
                                    : "of MatMulNBits");
    }
    const ModelConfig& config = model_.config;
    if (HasSlidingWindow(config)) {
      add("local_window_size", fmt::format("{}", config.sliding_window),
          "the model attends to so many tokens");
    }
    add("search.max_length", fmt::format("{}", graph.max_length),
        knobs_.max_length
            ? "--max-length"
            : fmt::format("the runtime reserves the cache for it at once; the context is {}",
                          config.max_position_embeddings));
  }

  const Model& model_;
  const PlanOptions& options_;
  const Options knobs_;
  const WarningFn& warn_;
  const Recipe& recipe_;
  GraphPlan plan_;
  GroupEncoding groups_;           // of the integer matrices, but for the code
  const Method* method_ = &kMlas;  // theirs
  std::vector<Wanted> wanted_;
  std::size_t embedding_ = 0;
  bool tied_ = false;
  bool shared_ = false;  // one tensor serves embedding and head
  std::string needed_by_;
};

}  // namespace

std::unique_ptr<GraphPlan> MakePlan(const Model& model, const PlanOptions& options,
                                    const WarningFn& warn) {
  return Planner(model, options, warn).Make();
}

}  // namespace phiq::onnx
