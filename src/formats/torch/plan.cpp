// Plans a folder: the matrices of the layers get codes, everything else stays as it is; then rules.
// What a runtime makes of the choices is said in decisions, for most of it shows only there.
#include "formats/torch/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "formats/format.h"
#include "model/float_types.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"
#include "plan/lines.h"

namespace phiq::torch {
namespace {

Error Usage(std::string message) { return {ErrorCode::kUsage, std::move(message)}; }

// A matrix that becomes codes; nullptr: floats.
const GroupEncoding* CodesOf(const PlanLine& line) {
  return std::get_if<GroupEncoding>(&line.encoding);
}

class Planner {
 public:
  Planner(const Model& model, const PlanOptions& options)
      : model_(model),
        options_(options),
        group_size_(FindGroupSize(options)),
        symmetric_(FindSymmetric(options)),
        type_(FindType(options.type)) {
    CheckModel(model.config);
    CheckKnobs();
    for (const TensorRule& rule : options.tensor_rules) rule_types_.push_back(TypeOfRule(rule));
  }

  std::unique_ptr<FolderPlan> Make(const WarningFn& warn) {
    auto made = std::make_unique<FolderPlan>();
    FolderPlan& plan = *made;
    plan.type = type_.name;
    plan.box = type_.box;
    plan.version = PHIQ_VERSION;
    const std::vector<std::optional<std::size_t>> deciding =
        MatchRules(options_.tensor_rules, SubjectsOf(model_));
    for (std::size_t i = 0; i < model_.tensors.size(); ++i) {
      PlanLine line = LineOf(model_.tensors[i]);
      Decide(model_.tensors[i], line, deciding[i]);
      FitToShape(model_.tensors[i], line, warn);
      SetSize(line);
      plan.lines.push_back(std::move(line));
    }
    if (std::ranges::none_of(plan.lines, [](const PlanLine& line) { return CodesOf(line); })) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("no weight is left to be quantized as {}", type_.name));
    }
    AddRuntimes(plan);
    if (IsAffine() && type_.box == Box::kPacked) {
      Warn(warn, "--asym",
           "transformers 5.23 with compressed-tensors 0.20 does not load zero points of this "
           "format unless it is told to dequantize; vLLM does");
    }
    return made;
  }

 private:
  bool IsAffine() const { return !symmetric_.value_or(type_.box != Box::kAwq); }

  void CheckKnobs() const {
    const auto refuse = [&](std::string_view option, std::string_view why) {
      throw Usage(fmt::format("{}: {} {}", option, type_.name, why));
    };
    if (group_size_) {
      if (type_.box == Box::kIntegers)
        refuse("--group-size", "has a scale for each row, as its products ask for");
      const std::uint32_t n = *group_size_;
      if (n != 0 && n != 32 && n != 64 && n != 128)
        throw Usage(fmt::format("--group-size {}: the kernels have 32, 64, 128 and row", n));
    }
    if (!IsAffine() || type_.box == Box::kAwq) return;
    if (type_.box == Box::kGptq) refuse("--asym", "is symmetric: vLLM takes no other");
    if (type_.bits != 4) refuse("--asym", "is symmetric; with zero points there are W4A16 and AWQ");
  }

  // nullptr: floats.
  const Type* TypeOfRule(const TensorRule& rule) const {
    if (!IsCompressedTensors(type_.box)) {
      throw Usage(fmt::format("--tensor-type: in {} all matrices have one type", type_.name));
    }
    std::vector<std::string> known = {std::string(kFloat)};
    if (LowerAscii(rule.type) == kFloat) return nullptr;
    for (const Type& type : Types()) {
      if (type.box != type_.box) continue;
      if (LowerAscii(type.name) == LowerAscii(rule.type)) return &type;
      known.emplace_back(type.name);
    }
    throw UnknownTensorType(rule, known);
  }

  // What scales are, and a float stays.
  FloatType FloatTypeOfTensor(const ModelTensor& tensor) const {
    // DescribeModel has refused every other dtype.
    return FloatTypeOf(model_.config.torch_dtype.value_or(tensor.dtype)).value();
  }

  GroupEncoding EncodingOf(const Type& type, const ModelTensor& tensor) const {
    const ScaleType scale = ScaleTypeOf(FloatTypeOfTensor(tensor));
    GroupEncoding codes = {Code::kI8, 0, scale, Offset::kNone};
    if (type.box != Box::kIntegers) {
      const bool is_affine = IsAffine() && type.bits == 4;
      codes = {UnsignedCode(type.bits), group_size_.value_or(kDefaultGroup), scale,
               is_affine ? Offset::kZeroPoint : Offset::kMiddle};
    }
    codes.positive_scales = true;  // as those of llm-compressor are
    return codes;
  }

  void Decide(const ModelTensor& tensor, PlanLine& line, std::optional<std::size_t> rule) const {
    line.encoding = GgmlTypeOf(FloatTypeOf(tensor.dtype).value());
    if (StaysFloat(line.role)) {
      line.reason = FloatReason(line.role);
      return;
    }
    const Type* const type = rule ? rule_types_[*rule] : &type_;
    line.reason =
        rule ? RuleReason(options_.tensor_rules[*rule]) : fmt::format("{}: default", type_.name);
    if (line.role == TensorRole::kTokenEmbedding) {
      const bool is_tied = IsTied(model_);
      if (!rule) {
        line.reason = is_tied ? "embedding, tied: the output head too" : "embedding";
      } else if (type != nullptr) {
        throw Error(ErrorCode::kUnsupported,
                    fmt::format("{}: transformers and vLLM have no quantized embedding{}",
                                line.reason, is_tied ? ", and the output head is tied to it" : ""))
            .Tensor(line.name);
      }
      return;
    }
    if (!rule && line.role == TensorRole::kOutputHead) {
      line.reason = "output head";
      if (IsCompressedTensors(type_.box))
        line.reason +=
            fmt::format(": --tensor-type {}={} quantizes it", ModuleOf(line.name), type_.name);
      return;
    }
    if (type == nullptr) return;
    line.encoding = EncodingOf(*type, tensor);
    line.method = &kMinMax;
  }

  // Groups and words of 32 bits are whole: no loader takes others.
  void FitToShape(const ModelTensor& tensor, PlanLine& line, const WarningFn& warn) const {
    const GroupEncoding* const codes = CodesOf(line);
    if (codes == nullptr || type_.box == Box::kIntegers) return;
    const std::uint64_t n = line.row_elements();
    const auto per_word = static_cast<std::uint64_t>(32 / BitsOf(codes->code));
    std::string why;
    if (codes->group_size != 0 && n % codes->group_size != 0) {
      why = fmt::format("row of {} is not a multiple of {}", n, codes->group_size);
    } else if (n % per_word != 0) {
      why = fmt::format("row of {} is not a multiple of {}", n, per_word);
    } else if ((HasZeroPoints(*codes) || !IsCompressedTensors(type_.box)) &&
               line.n_rows() % per_word != 0) {
      why = fmt::format("{} rows are not a multiple of {}", line.n_rows(), per_word);
    }
    if (why.empty()) return;
    if (!IsCompressedTensors(type_.box)) {
      throw Error(ErrorCode::kUnsupported, fmt::format("{}, which {} needs", why, type_.name))
          .Tensor(line.name);
    }
    const Encoding floats = GgmlTypeOf(FloatTypeOf(tensor.dtype).value());
    std::string reason =
        fmt::format("{}: {} -> {}", why, EncodingName(line.encoding), EncodingName(floats));
    line.encoding = floats;
    line.method = &kGgml;
    TakeFallback(line, std::move(reason), options_.strict_types, warn);
  }

  // Who loads the folder, and who does not.
  void AddRuntimes(FolderPlan& plan) const {
    std::set<std::string> kinds;
    bool has_8_bits = false, has_rows = false, fits_marlin = true;
    for (const PlanLine& line : plan.lines) {
      const GroupEncoding* const codes = CodesOf(line);
      if (codes == nullptr) continue;
      kinds.insert(EncodingName(line.encoding));
      has_8_bits = has_8_bits || BitsOf(codes->code) == 8;
      has_rows = has_rows || codes->group_size == 0;
      fits_marlin = fits_marlin && line.n_rows() % 64 == 0 && line.row_elements() % 128 == 0;
    }
    const auto add = [&](std::string_view who, std::string_view what, std::string_view why) {
      plan.decisions.push_back({std::string(who), std::string(what), std::string(why)});
    };
    const bool weights_only = type_.box != Box::kIntegers;
    plan.needs = IsCompressedTensors(type_.box) ? "transformers with compressed-tensors, or vLLM"
                                                : "vLLM, or transformers with gptqmodel";
    if (IsCompressedTensors(type_.box)) {
      if (IsAffine()) {
        add("transformers", "with dequantize=True",
            "5.23 with compressed-tensors 0.20 expects zero points that are not packed: "
            "quantization_config=CompressedTensorsConfig(dequantize=True) loads them");
      } else {
        add("transformers", "full size in memory",
            "it decompresses the weights when it first uses them; vLLM keeps the codes");
      }
    }
    if (weights_only && has_8_bits)
      add("vLLM on CPUs", "no", "it has no kernel for 8-bit weights and 16-bit activations");
    if (weights_only && !fits_marlin)
      add("vLLM on GPUs", "its slower kernels",
          "Marlin wants rows in multiples of 64 and columns of 128");
    if (type_.box == Box::kAwq) {
      add("llama.cpp's converter", "no", "it does not read AWQ");
    } else if (kinds.size() > 1) {
      add("llama.cpp's converter", "no", "it reads folders of one config group");
    } else if (has_rows && weights_only) {
      add("llama.cpp's converter", "no", "it reads weights of whole rows with 8 bits only");
    }
    if (type_.box != Box::kAwq) add("mlx-lm", "no", "of such folders it reads those of AWQ");
    if (type_.box == Box::kIntegers)
      add("activations", "int8", "quantized for each token as the model runs");
  }

  const Model& model_;
  const PlanOptions& options_;
  const std::optional<std::uint32_t> group_size_;
  const std::optional<bool> symmetric_;
  const Type& type_;
  std::vector<const Type*> rule_types_;
};

}  // namespace

std::unique_ptr<FolderPlan> MakePlan(const Model& model, const PlanOptions& options,
                                     const WarningFn& warn) {
  return Planner(model, options).Make(warn);
}

}  // namespace phiq::torch
