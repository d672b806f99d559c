// What is written is the least that every loader takes; what is read is held against what they do
// with it: some mistakes stop them, and others they compute nonsense with.
#include "formats/torch/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "base/pcre2.h"
#include "model/side_file.h"
#include "model/weights.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::torch {
namespace {

constexpr std::string_view kKey = "quantization_config";
constexpr std::string_view kOrigin = "phiq";
constexpr std::string_view kLinear = "Linear";
constexpr std::string_view kRegex = "re:";
constexpr std::string_view kPacked = "pack-quantized", kIntegers = "int-quantized";

std::string HeadModule(const ModelConfig& config) {
  return ModuleName(config, {TensorRole::kOutputHead, -1});
}

// --- writing

Json OriginOf(const FolderPlan& plan) {
  Json json;
  json["version"] = plan.version;
  json["type"] = plan.type;
  for (const auto& [key, value] : plan.facts) json[key] = value;
  return json;
}

Json WeightArguments(const GroupEncoding& codes) {
  Json json;
  json["num_bits"] = BitsOf(codes.code);
  json["type"] = "int";
  json["symmetric"] = !HasZeroPoints(codes);
  json["strategy"] = codes.group_size == 0 ? "channel" : "group";
  if (codes.group_size != 0) json["group_size"] = codes.group_size;
  json["dynamic"] = false;
  return json;
}

Json ActivationArguments() {
  return Json::object({{"num_bits", 8},
                       {"type", "int"},
                       {"symmetric", true},
                       {"strategy", "token"},
                       {"dynamic", true}});
}

std::string_view FormatName(Box box) noexcept { return box == Box::kPacked ? kPacked : kIntegers; }

// The modules of each encoding. The first is that of most modules of the layers.
struct Modules {
  GroupEncoding codes;
  std::vector<std::string> names;  // of the layers
  bool has_head = false;
};
std::vector<Modules> ModulesOf(const FolderPlan& plan) {
  std::vector<Modules> all;
  for (const PlanLine& line : plan.lines) {
    const auto* const codes = std::get_if<GroupEncoding>(&line.encoding);
    if (codes == nullptr) continue;
    auto found = std::ranges::find(all, *codes, &Modules::codes);
    if (found == all.end()) found = all.insert(all.end(), {*codes, {}, false});
    if (line.role == TensorRole::kOutputHead) {
      found->has_head = true;
    } else {
      found->names.emplace_back(ModuleOf(line.name));
    }
  }
  std::ranges::stable_sort(all, std::greater<>(),
                           [](const Modules& modules) { return modules.names.size(); });
  return all;
}

// What of the matrices stays as floats. Of a tied model the head, too: loaders find it among the
// modules.
Json IgnoredOf(const ModelConfig& config, const FolderPlan& plan) {
  Json ignored = Json::array();
  bool has_head = false;
  for (const PlanLine& line : plan.lines) {
    if (!IsLinear(line.role)) continue;
    has_head = has_head || line.role == TensorRole::kOutputHead;
    if (!std::holds_alternative<GroupEncoding>(line.encoding))
      ignored.push_back(ModuleOf(line.name));
  }
  if (!has_head) ignored.push_back(HeadModule(config));
  return ignored;
}

Json CompressedTensors(const ModelConfig& config, const FolderPlan& plan) {
  Json groups = Json::object();
  const std::vector<Modules> all = ModulesOf(plan);
  for (std::size_t i = 0; i < all.size(); ++i) {
    Json targets = Json::array();
    if (all.size() == 1) {
      targets.push_back(kLinear);
    } else {
      for (const std::string& name : all[i].names) targets.push_back(name);
    }
    // To vLLM the head is no Linear, so it has a target of its own.
    if (all[i].has_head) targets.push_back(fmt::format("{}.*{}$", kRegex, HeadModule(config)));
    Json group;
    group["targets"] = std::move(targets);
    group["weights"] = WeightArguments(all[i].codes);
    group["input_activations"] = plan.box == Box::kIntegers ? ActivationArguments() : Json(nullptr);
    group["output_activations"] = nullptr;
    group["format"] = FormatName(plan.box);
    groups[fmt::format("group_{}", i)] = std::move(group);
  }
  Json json;
  json["quant_method"] = QuantMethod(plan.box);
  json["format"] = FormatName(plan.box);
  json["quantization_status"] = "compressed";
  json["config_groups"] = std::move(groups);
  json["ignore"] = IgnoredOf(config, plan);
  json["kv_cache_scheme"] = nullptr;
  json["global_compression_ratio"] = nullptr;
  return json;
}

// Readers of GPTQ and AWQ take -1 for whole rows.
Json GroupSizeOf(const GroupEncoding& codes) {
  return codes.group_size == 0 ? Json(-1) : Json(codes.group_size);
}

Json QuantizationOf(const ModelConfig& config, const FolderPlan& plan) {
  Json json;
  if (IsCompressedTensors(plan.box)) {
    json = CompressedTensors(config, plan);
  } else {
    const GroupEncoding codes = ModulesOf(plan).front().codes;
    json["quant_method"] = QuantMethod(plan.box);
    json["bits"] = BitsOf(codes.code);
    json["group_size"] = GroupSizeOf(codes);
    if (plan.box == Box::kGptq) {
      json["sym"] = true;
      json["desc_act"] = false;
      json[HeadModule(config)] = false;  // the key is called as the module is
      json["checkpoint_format"] = "gptq";
      json["pack_dtype"] = "int32";
      json["dynamic"] = Json::object();
    } else {
      json["zero_point"] = true;
      json["version"] = "gemm";
      json["modules_to_not_convert"] = nullptr;
    }
  }
  json[kOrigin] = OriginOf(plan);
  return json;
}

}  // namespace

SideFile MakeConfig(const SideFiles& source, const ModelConfig& config, const FolderPlan& plan) {
  const std::optional<std::string> text = source.ReadFile(kConfigName, limits::kConfigBytes);
  if (!text) throw Error(ErrorCode::kInput, "not found").In(SidePath(source, kConfigName));
  Json json = ParseJson(*text, kConfigName);
  // Both loaders have the model built in: nobody should be asked to trust code.
  json.erase("auto_map");
  json.erase(kKey);
  json[kKey] = QuantizationOf(config, plan);
  return {std::string(kConfigName), BytesOf(json.dump(2) + "\n")};
}

SideFile MakeGptqConfig(const ModelConfig& config, const FolderPlan& plan) {
  return {std::string(kGptqConfigName), BytesOf(QuantizationOf(config, plan).dump(2) + "\n")};
}

// --- reading

// A regular expression over modules' names.
struct Quantization::Pattern {
  std::string text;
  pcre2::Code code;
  pcre2::MatchData data;
  pcre2::MatchContext context;

  bool Fits(const std::string& module) const {
    const int result = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(module.data()),
                                   module.size(), 0, 0, data.get(), context.get());
    if (result >= 0) return true;
    if (result == PCRE2_ERROR_NOMATCH) return false;
    throw Error(ErrorCode::kBadData,
                fmt::format("'{}' cannot be matched, {}", Escape(text), pcre2::Message(result)))
        .In(kConfigName);
  }
};

const Scheme* Quantization::SchemeOf(const std::string& module) const {
  const std::string linear(kLinear);
  if (ignored_.contains(module) || ignored_.contains(linear)) return nullptr;
  if (std::ranges::any_of(ignored_patterns_, [&](const auto& one) { return one->Fits(module); }))
    return nullptr;
  // As compressed-tensors looks: names, then patterns, then classes.
  if (const auto found = named_.find(module); found != named_.end())
    return &schemes_[found->second];
  for (const auto& [pattern, scheme] : patterns_)
    if (pattern->Fits(module)) return &schemes_[scheme];
  const auto all = named_.find(linear);
  return all == named_.end() ? nullptr : &schemes_[all->second];
}

// Reads the object, naming the key of what it refuses.
class QuantizationReader {
 public:
  QuantizationReader(const SideFiles& source, const ModelConfig& model)
      : path_(SidePath(source, kConfigName)), head_(HeadModule(model)) {
    const std::optional<Json> config = ReadJsonObject(source, kConfigName, limits::kConfigBytes);
    if (!config) throw Error(ErrorCode::kInput, "not found").In(path_);
    const Json* const object = FindMember(*config, kKey);
    if (object == nullptr || !object->is_object())
      throw Bad(fmt::format("'{}' is missing, or no object", kKey));
    json_ = *object;
  }

  Quantization Read() {
    const std::string method = Text(json_, "quant_method").value_or("");
    if (method == QuantMethod(Box::kPacked)) {
      ReadCompressedTensors();
    } else if (method == QuantMethod(Box::kGptq)) {
      ReadGptq();
    } else if (method == QuantMethod(Box::kAwq)) {
      ReadAwq();
    } else {
      throw Unsupported(fmt::format("quant_method '{}' is none of compressed-tensors, gptq and awq",
                                    Escape(method)));
    }
    ReadOrigin();
    return std::move(read_);
  }

 private:
  // What a file may make us try.
  static constexpr std::size_t kMostPatterns = 64;
  static constexpr std::uint32_t kMatchLimit = 10'000;  // steps a name

  Error Bad(std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message)).In(path_);
  }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message)).In(path_);
  }
  std::optional<std::string> Text(const Json& object, std::string_view key) const {
    return JsonString(object, key, path_);
  }
  std::optional<bool> Flag(const Json& object, std::string_view key) const {
    return JsonBool(object, key, path_);
  }

  void ReadCompressedTensors() {
    const std::string format = Text(json_, "format").value_or("");
    if (format != kPacked && format != kIntegers)
      throw Unsupported(
          fmt::format("format '{}' is neither {} nor {}", Escape(format), kPacked, kIntegers));
    read_.box_ = format == kPacked ? Box::kPacked : Box::kIntegers;
    const std::optional<std::string> status = Text(json_, "quantization_status");
    if (status != "compressed") {
      read_.problems_.push_back(fmt::format(
          "{}: quantization_status is {}, not 'compressed': transformers loads the folder without "
          "a message and computes nonsense",
          kConfigName, status ? fmt::format("'{}'", Escape(*status)) : "missing"));
    }
    const Json* const kv = FindMember(json_, "kv_cache_scheme");
    if (kv != nullptr) throw Unsupported("kv_cache_scheme is not read");
    const Json* const groups = FindMember(json_, "config_groups");
    if (groups == nullptr || !groups->is_object() || groups->empty())
      throw Bad("'config_groups' is missing, or no object");
    for (const auto& [name, group] : groups->members()) ReadGroup(name, group);
    ForEachName("ignore", FindMember(json_, "ignore"), [&](const std::string& name) {
      if (name.starts_with(kRegex)) {
        read_.ignored_patterns_.push_back(MakePattern(name));
      } else {
        read_.ignored_.insert(name);
      }
    });
  }

  void ReadGroup(const std::string& name, const Json& object) {
    const std::string where = fmt::format("'config_groups' '{}'", Escape(name));
    if (!object.is_object()) throw Bad(fmt::format("{} is {}", where, Show(object)));
    KnowKeys(where, object,
             {"targets", "weights", "input_activations", "output_activations", "format"});
    const std::string format =
        Text(object, "format")
            .value_or(read_.box_ == Box::kPacked ? std::string(kPacked) : std::string(kIntegers));
    if (format != (read_.box_ == Box::kPacked ? kPacked : kIntegers))
      throw Unsupported(fmt::format("{} has a format of its own, '{}'", where, Escape(format)));
    const Json* const weights = FindMember(object, "weights");
    if (weights == nullptr || !weights->is_object())
      throw Bad(fmt::format("{}: 'weights' is missing, or no object", where));
    const std::size_t scheme = read_.schemes_.size();
    read_.schemes_.push_back(ReadScheme(where, *weights));
    ForEachName(where, FindMember(object, "targets"), [&](const std::string& target) {
      if (target.starts_with(kRegex)) {
        read_.patterns_.emplace_back(MakePattern(target), scheme);
      } else {
        read_.named_.try_emplace(target, scheme);
      }
    });
    CheckActivations(where, object);
  }

  void CheckActivations(const std::string& where, const Json& group) const {
    if (FindMember(group, "output_activations") != nullptr)
      throw Unsupported(fmt::format("{}: output_activations are not read", where));
    const Json* const input = FindMember(group, "input_activations");
    if (read_.box_ == Box::kPacked) {
      if (input != nullptr)
        throw Unsupported(fmt::format("{}: {} with input_activations is not read", where, kPacked));
      return;
    }
    if (input == nullptr || !input->is_object() || Flag(*input, "dynamic").value_or(false) != true)
      throw Unsupported(
          fmt::format("{}: input_activations are not 'dynamic', which is all that phiq reads of {}",
                      where, kIntegers));
    KnowArguments(where + " 'input_activations'", *input);
    // As the note on what is not measured says.
    if (Text(*input, "type").value_or("int") != "int" || ReadBits(where, *input, "num_bits") != 8 ||
        !Flag(*input, "symmetric").value_or(true) ||
        Text(*input, "strategy").value_or("") != "token")
      throw Unsupported(fmt::format(
          "{}: input_activations are no symmetric integers of 8 bits, a scale a token", where));
  }

  Scheme ReadScheme(const std::string& where, const Json& weights) const {
    KnowArguments(where + " 'weights'", weights);
    // "weight" is how codes were chosen; "group" gives them another order, which is gone.
    const Json* const order = FindMember(weights, "actorder");
    if (order != nullptr && *order != false && *order != "weight" && *order != "static")
      throw Bad(
          fmt::format("{}: 'actorder' {} is no longer in compressed-tensors, and loaders refuse it",
                      where, Show(*order)));
    if (Text(weights, "type").value_or("int") != "int")
      throw Unsupported(fmt::format("{}: codes are not integers", where));
    if (Flag(weights, "dynamic").value_or(false))
      throw Bad(fmt::format("{}: weights cannot be 'dynamic'", where));
    Scheme scheme;
    scheme.bits = ReadBits(where, weights, "num_bits");
    scheme.symmetric = Flag(weights, "symmetric").value_or(true);
    const Json* const size = FindMember(weights, "group_size");
    // As compressed-tensors concludes where it is left out.
    const std::string by_size = size == nullptr ? "tensor" : *size == -1 ? "channel" : "group";
    const std::string strategy = LowerAscii(Text(weights, "strategy").value_or(by_size));
    if (strategy == "channel") {
      if (size != nullptr && *size != -1)
        throw Bad(fmt::format("{}: strategy channel with group_size {}", where, Show(*size)));
      scheme.group_size = 0;
    } else if (strategy == "group") {
      scheme.group_size = ReadGroupSize(where, size);
    } else {
      throw Unsupported(
          fmt::format("{}: strategy '{}' is neither group nor channel", where, Escape(strategy)));
    }
    const bool is_row_of_bytes = scheme.bits == 8 && scheme.symmetric && scheme.group_size == 0;
    if (read_.box_ == Box::kIntegers && !is_row_of_bytes)
      throw Unsupported(
          fmt::format("{}: {} is read with 8 bits, symmetric, a scale a row", where, kIntegers));
    if (!scheme.symmetric && scheme.bits != 4)
      throw Unsupported(fmt::format("{}: zero points are read of 4 bits", where));
    return scheme;
  }

  int ReadBits(std::string_view where, const Json& object, std::string_view key) const {
    const std::uint64_t bits = JsonUnsigned(object, key, path_).value_or(0);
    for (const int known : {2, 3, 4, 5, 6, 8})
      if (bits == static_cast<std::uint64_t>(known)) return known;
    throw Unsupported(fmt::format("{}: {} is {}, read are 2, 3, 4, 5, 6 and 8", where, key, bits));
  }

  std::size_t ReadGroupSize(std::string_view where, const Json* size) const {
    constexpr std::uint64_t kMost = 1U << 20;
    if (size != nullptr && size->is_number_unsigned()) {
      const auto n = size->get<std::uint64_t>();
      if (n >= 1 && n <= kMost) return static_cast<std::size_t>(n);
    }
    throw Bad(fmt::format("{}: group_size is {}, needs a whole number from 1 to {}", where,
                          size == nullptr ? "missing" : Show(*size), kMost));
  }

  // GPTQ and AWQ: -1 is a whole row.
  std::size_t ReadGroupSizeOrRow() const {
    const Json* const size = FindMember(json_, "group_size");
    return size != nullptr && *size == -1 ? 0 : ReadGroupSize(kKey, size);
  }

  template <typename Use>
  void ForEachName(std::string_view where, const Json* names, const Use& use) const {
    if (names == nullptr) return;
    if (!names->is_array())
      throw Bad(fmt::format("{}: {} is no list of names", where, Show(*names)));
    for (const Json& name : *names) {
      if (!name.is_string()) throw Bad(fmt::format("{}: {} is no name", where, Show(name)));
      use(name.text());
    }
  }

  std::shared_ptr<const Quantization::Pattern> MakePattern(const std::string& text) {
    auto pattern = std::make_shared<Quantization::Pattern>();
    pattern->text = text;
    if (++n_patterns_ > kMostPatterns)
      throw Bad(fmt::format("more than {} patterns of modules", kMostPatterns));
    const std::string_view source = std::string_view(text).substr(kRegex.size());
    int code = 0;
    std::size_t offset = 0;
    // Anchored: Python's re.match.
    pattern->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                      PCRE2_NEVER_UTF | PCRE2_ANCHORED, &code, &offset, nullptr));
    if (!pattern->code)
      throw Bad(fmt::format("'{}' is a bad pattern, {} at position {}", Escape(text),
                            pcre2::Message(code), offset));
    pattern->data.reset(pcre2_match_data_create_from_pattern(pattern->code.get(), nullptr));
    pattern->context.reset(pcre2_match_context_create(nullptr));
    if (!pattern->data || !pattern->context) throw Error(ErrorCode::kResources, "out of memory");
    pcre2_set_match_limit(pattern->context.get(), kMatchLimit);
    return pattern;
  }

  void KnowKeys(std::string_view where, const Json& object,
                std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : object.members()) {
      if (std::ranges::find(known, key) == known.end())
        throw Bad(fmt::format("{}: '{}' is a key that loaders refuse", where, Escape(key)));
    }
  }

  // Of weights or activations.
  void KnowArguments(std::string_view where, const Json& arguments) const {
    KnowKeys(where, arguments,
             {"num_bits", "type", "symmetric", "strategy", "group_size", "dynamic", "actorder",
              "block_structure", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"});
  }

  // All matrices of the layers, and not the head.
  void AddLayers(const Scheme& scheme) {
    read_.schemes_.push_back(scheme);
    read_.named_.emplace(kLinear, 0);
    read_.ignored_.insert(head_);
  }

  void ReadGptq() {
    read_.box_ = Box::kGptq;
    Scheme scheme;
    scheme.bits = ReadBits(kKey, json_, "bits");
    if (scheme.bits != 4 && scheme.bits != 8)
      throw Unsupported(fmt::format("GPTQ of {} bits: read are 4 and 8", scheme.bits));
    scheme.group_size = ReadGroupSizeOrRow();
    if (!Flag(json_, "sym").value_or(true))
      throw Unsupported("GPTQ with zero points ('sym' false) is not read");
    if (Flag(json_, "desc_act").value_or(false))
      throw Unsupported("GPTQ in the order of activations ('desc_act') is not read");
    if (Flag(json_, head_).value_or(false))
      throw Unsupported(fmt::format("GPTQ with a quantized output head ('{}') is not read", head_));
    if (const Json* dynamic = FindMember(json_, "dynamic");
        dynamic != nullptr && !(dynamic->is_object() && dynamic->empty()))
      throw Unsupported("GPTQ with other settings for some modules ('dynamic') is not read");
    const std::string format = Text(json_, "checkpoint_format").value_or("gptq");
    if (format != "gptq" && format != "gptq_v2")
      throw Unsupported(
          fmt::format("checkpoint_format '{}' is neither gptq nor gptq_v2", Escape(format)));
    read_.is_less_one_ = format == "gptq";
    AddLayers(scheme);
  }

  void ReadAwq() {
    read_.box_ = Box::kAwq;
    Scheme scheme;
    scheme.bits = ReadBits(kKey, json_, "bits");
    if (scheme.bits != 4) throw Unsupported(fmt::format("AWQ of {} bits: read are 4", scheme.bits));
    scheme.group_size = ReadGroupSizeOrRow();
    scheme.symmetric = false;
    if (!Flag(json_, "zero_point").value_or(true))
      throw Unsupported("AWQ without zero points is not read");
    if (LowerAscii(Text(json_, "version").value_or("gemm")) != "gemm")
      throw Unsupported("AWQ of another version than gemm is not read");
    if (const Json* others = FindMember(json_, "modules_to_not_convert");
        others != nullptr && *others != Json::array() && *others != Json::array({head_}))
      throw Unsupported("AWQ with modules_to_not_convert is not read");
    AddLayers(scheme);
  }

  void ReadOrigin() {
    const Json* const origin = FindMember(json_, kOrigin);
    if (origin == nullptr || !origin->is_object()) return;
    Quantization::Origin& read = read_.origin_.emplace();
    for (const auto& [key, value] : origin->members()) {
      if (!value.is_string())
        throw Bad(fmt::format("'{}' '{}' is {}, needs a text", kOrigin, Escape(key), Show(value)));
      if (key == "version") {
        read.version = value.text();
      } else if (key == "type") {
        read.type = value.text();
      } else {
        read.facts.emplace_back(key, value.text());
      }
    }
  }

  std::string path_, head_;
  Json json_;
  Quantization read_;
  std::size_t n_patterns_ = 0;
};

Quantization Quantization::Read(const SideFiles& source, const ModelConfig& model) {
  return QuantizationReader(source, model).Read();
}

}  // namespace phiq::torch
