// The options of `quantize` and `plan`.
#include "convert_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "option_values.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

// The value of --ratio. NNCF takes 0 for 1, so 0 is refused.
double ParseRatio(const std::string& text) {
  const auto value = ReadNumber<double>(text);
  if (!value || !(*value > 0 && *value <= 1)) {
    throw Wrong("--ratio", fmt::format("'{}' is not a number above 0 and at most 1", Escape(text)))
        .Hint("--precision int8 is what 0 would be");
  }
  return *value;
}

// 0 stands for a whole row, which NNCF's users know as -1.
std::uint32_t ParseGroupSize(const std::string& text) {
  if (text == "row" || text == "-1") return 0;
  return ParseCount("--group-size", text, 1, 1U << 20);
}

// "gguf,onnx"; empty without the option.
std::vector<Format> ParseFormats(const std::optional<std::string>& text) {
  std::vector<Format> formats;
  if (!text) return formats;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text->find(',', begin);
    const std::string word = text->substr(begin, end - begin);
    const Format format = ForOption("--format", [&] { return ParseFormat(word); });
    if (std::ranges::find(formats, format) != formats.end())
      throw Wrong("--format", fmt::format("'{}' is named twice", word));
    formats.push_back(format);
  }
  return formats;
}

// "onnx, openvino and mlx have it".
std::string OwnersText(std::span<const Format> owners) {
  std::string text;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    const bool is_last = i + 1 == owners.size();
    text += i == 0 ? "" : is_last ? " and " : ", ";
    text += FormatName(owners[i]);
  }
  return text + (owners.size() == 1 ? " has it" : " have it");
}

// Options that not every format has.
void RefuseForeignOptions(const ConvertFlags& flags, const std::vector<Target>& targets) {
  struct Knob {
    std::string_view option;
    bool given;
    std::vector<Format> formats;
    bool is_encoding = false;  // which GGUF's types say themselves
  };
  const std::vector<Format> onnx = {Format::kOnnx};
  const std::vector<Format> openvino = {Format::kOpenVino};
  const std::vector<Format> mlx = {Format::kMlx};
  const std::vector<Format> signed_or_not = {Format::kOnnx, Format::kOpenVino};
  const std::vector<Format> grouped = {Format::kOnnx, Format::kOpenVino, Format::kMlx};
  const bool is_onnx_method = flags.method && LowerAscii(*flags.method) != "reference";
  for (const auto& [option, given, formats, is_encoding] : {
           Knob{"--group-size", flags.group_size.has_value(), grouped, true},
           Knob{"--sym", flags.sym, signed_or_not, true},
           Knob{"--asym", flags.asym, signed_or_not, true},
           Knob{"--ratio", flags.ratio.has_value(), openvino, true},
           Knob{"--method", is_onnx_method, onnx, true},
           Knob{"--ep", flags.ep.has_value(), onnx},
           Knob{"--min-onnxruntime", flags.min_onnxruntime.has_value(), onnx},
           Knob{"--activations", flags.activations.has_value(), onnx},
           Knob{"--accuracy-level", flags.accuracy_level.has_value(), onnx},
           Knob{"--max-length", flags.max_length.has_value(), onnx},
           Knob{"--mlx-rounding", flags.mlx_rounding.has_value(), mlx},
       }) {
    const bool has_it = std::ranges::any_of(targets, [&](const Target& target) {
      return std::ranges::find(formats, target.format) != formats.end();
    });
    if (!given || has_it) continue;
    const Format format = targets.front().format;
    throw Wrong(option,
                fmt::format("not an option of {}; {}", FormatName(format), OwnersText(formats)))
        .Hint(is_encoding && format == Format::kGguf ? "in GGUF --type decides it" : "");
  }
}

// A name that says what the output is not: a GGUF called x.onnx, a folder called y.gguf. It would
// mislead whoever, or whatever, opens it by its name.
void CheckOutputName(const ConvertOptions& options) {
  struct Ending {
    std::string_view text, of;
    std::optional<Format> format;
  };
  constexpr Ending kEndings[] = {{".gguf", "a GGUF file", Format::kGguf},
                                 {".onnx", "the graph in an ONNX folder", Format::kOnnx},
                                 {".xml", "the graph in an OpenVINO folder", Format::kOpenVino},
                                 {".safetensors", "the weights in a folder", std::nullopt}};
  const std::string name = LowerAscii(options.output);
  const Format format = options.targets.front().format;
  const bool is_folder = options.targets.size() > 1 || format != Format::kGguf;
  for (const Ending& ending : kEndings) {
    if (!name.ends_with(ending.text)) continue;
    if (!is_folder && ending.format == format) return;
    const std::string made =
        options.targets.size() > 1
            ? "several formats make a folder"
            : fmt::format("{} makes a {}", FormatName(format), is_folder ? "folder" : "GGUF file");
    const std::string other = ending.format && ending.format != format
                                  ? fmt::format("--format {}, or ", FormatName(*ending.format))
                                  : "";
    throw Wrong("--output", fmt::format("'{}' is named like {}, but {}", Escape(options.output),
                                        ending.of, made))
        .Hint(other + "another name");
  }
}

OnnxOptions ResolveOnnx(const ConvertFlags& flags, const std::optional<Profile>& profile) {
  OnnxOptions onnx;
  if (profile && profile->ep) onnx.ep = *profile->ep;
  if (flags.ep) onnx.ep = ForOption("--ep", [&] { return ParseExecutionProvider(*flags.ep); });
  if (flags.min_onnxruntime) {
    onnx.min_onnxruntime = ParseChoice<OnnxRuntime, 4>("--min-onnxruntime", flags.min_onnxruntime,
                                                       {{{"1.20", OnnxRuntime::k1_20},
                                                         {"1.22", OnnxRuntime::k1_22},
                                                         {"1.24", OnnxRuntime::k1_24},
                                                         {"current", OnnxRuntime::kCurrent}}});
  }
  onnx.activations = ParseChoice<Activations, 2>(
      "--activations", flags.activations,
      {{{"float", Activations::kFloat}, {"dynamic", Activations::kDynamic}}});
  if (flags.accuracy_level)
    onnx.accuracy_level =
        static_cast<int>(ParseCount("--accuracy-level", *flags.accuracy_level, 0, 4));
  if (flags.max_length)
    onnx.max_length = ParseCount("--max-length", *flags.max_length, 1, 1U << 30);
  return onnx;
}

void ResolveOpenVino(const ConvertFlags& flags, PlanOptions& options) {
  if (flags.ratio) options.openvino.ratio = ParseRatio(*flags.ratio);
  // A type that the user names says itself whether it is symmetric: the planner compares.
  if (!options.symmetric || flags.type) return;
  options.type = ForOption(*options.symmetric ? "--sym" : "--asym",
                           [&] { return OpenVinoTypeWith(options.type, *options.symmetric); });
}

std::vector<PlanOptions> ResolveTargets(const ConvertFlags& flags) {
  const std::vector<Format> formats = ParseFormats(flags.format);
  std::optional<Profile> profile;
  if (flags.profile) profile = ForOption("--profile", [&] { return LoadProfile(*flags.profile); });
  std::optional<Precision> precision;
  if (flags.precision)
    precision = ForOption("--precision", [&] { return ParsePrecision(*flags.precision); });
  if (formats.size() > 1 && flags.type)
    throw Wrong("--type", "each format has types of its own").Hint("use --precision");
  if (formats.size() > 1 && !flags.tensor_types.empty())
    throw Wrong("--tensor-type", "each format has types of its own").Hint("one format at a time");
  if (flags.sym && flags.asym) throw Wrong("--sym", "contradicts --asym");
  const std::string method = ParseChoice<std::string, 3>(
      "--method", flags.method,
      {{{"reference", "reference"}, {"rtn", "rtn"}, {"k_quant", "k_quant"}}});
  const auto rounding =
      ParseChoice<MlxRounding, 2>("--mlx-rounding", flags.mlx_rounding,
                                  {{{"cpu", MlxRounding::kCpu}, {"metal", MlxRounding::kMetal}}});

  std::vector<Target> targets;
  const Profile* chosen = profile ? &*profile : nullptr;
  if (formats.empty()) {
    targets.push_back(ResolveTarget(chosen, std::nullopt, precision, flags.type));
  } else {
    for (const Format format : formats)
      targets.push_back(ResolveTarget(chosen, format, precision, flags.type));
  }
  RefuseForeignOptions(flags, targets);

  PlanOptions shared;
  shared.strict_types = flags.strict_types;
  for (const std::string& rule : flags.tensor_types)
    shared.tensor_rules.push_back(
        ForOption("--tensor-type", [&] { return ParseTensorRule(rule); }));
  std::vector<PlanOptions> options;
  for (const Target& target : targets) {
    PlanOptions& one = options.emplace_back(shared);
    one.format = target.format;
    one.type = target.type;
    if (target.format == Format::kGguf) continue;
    if (flags.group_size) one.group_size = ParseGroupSize(*flags.group_size);
    if (flags.sym || flags.asym) one.symmetric = flags.sym;
    if (target.format == Format::kOnnx) {
      one.method = method;
      one.onnx = ResolveOnnx(flags, profile);
    } else if (target.format == Format::kOpenVino) {
      ResolveOpenVino(flags, one);
    } else {
      one.mlx.rounding = rounding;
    }
  }
  return options;
}

}  // namespace

ConvertOptions ResolveConvertFlags(const ConvertFlags& flags) {
  ConvertOptions options;
  options.model = flags.model;
  if (flags.output && flags.output->empty()) throw Wrong("--output", "the name is empty");
  options.output = flags.output.value_or("");
  options.targets = ResolveTargets(flags);
  CheckOutputName(options);
  if (flags.split_max_size)
    options.split_max_bytes =
        ForOption("--split-max-size", [&] { return ParseSize(*flags.split_max_size); });
  options.ignore_extra = flags.ignore_extra;
  options.adapters = flags.adapters;
  options.nan = ParseChoice<NanPolicy, 2>(
      "--nan", flags.nan, {{{"error", NanPolicy::kError}, {"zero", NanPolicy::kZero}}});
  options.overflow = ParseChoice<OverflowPolicy, 3>("--overflow", flags.overflow,
                                                    {{{"error", OverflowPolicy::kError},
                                                      {"clamp", OverflowPolicy::kClamp},
                                                      {"f32", OverflowPolicy::kF32}}});
  options.threads = ParseThreads(flags.threads);
  if (flags.memory_limit)
    options.memory_limit_bytes =
        ForOption("--memory-limit", [&] { return ParseSize(*flags.memory_limit); });
  if (flags.force && flags.skip_existing) throw Wrong("--skip-existing", "contradicts --force");
  options.force = flags.force;
  options.skip_existing = flags.skip_existing;
  options.mkdir = flags.mkdir;
  options.space_check = !flags.no_space_check;
  options.fsync = !flags.no_fsync;
  return options;
}

void LogDecisions(const ConvertOptions& options) {
  std::vector<std::string> targets;
  for (const PlanOptions& target : options.targets)
    targets.push_back(fmt::format("{} {}", FormatName(target.format), target.type));
  spdlog::info("{}: {}, {}, memory limit {}", Escape(options.model), fmt::join(targets, ", "),
               options.threads == 0 ? "all cores" : fmt::format("{} threads", options.threads),
               FormatBytes(options.memory_limit_bytes));
}

void AddConvertFlags(CLI::App& command, ConvertFlags& flags) {
  std::string group;
  const auto value = [&](const char* name, auto& variable, const char* text,
                         const char* description) {
    return command.add_option(name, variable, description)->option_text(text)->group(group);
  };
  const auto list = [&](const char* name, auto& variable, const char* text,
                        const char* description) {
    value(name, variable, text, description)->allow_extra_args(false)->take_all();
  };
  const auto toggle = [&](const char* name, bool& variable, const char* description) {
    AddSwitch(command, name, variable, description)->group(group);
  };

  command
      .add_option("MODEL", flags.model,
                  "A folder with config.json and *.safetensors, one of those files,\n"
                  "or organisation/name in the local Hugging Face cache")
      ->required()
      ->option_text(" ");

  group = "Target";
  value("--profile", flags.profile, "NAME|FILE",
        "Target device (phiq profiles), or a JSON file like one");
  value("--precision", flags.precision, "NAME", "int4 (default), int8, fp16, bf16, fp32");
  value("--format", flags.format, "NAME,...",
        "gguf (default), onnx, openvino, mlx; several share one read of\nthe weights");
  value("--type", flags.type, "NAME",
        "The format's own type instead of --precision, e.g. Q4_K_M,\nk_quant_mixed, INT4_ASYM, "
        "mixed_4_6 (phiq profiles --types)");
  list("--tensor-type", flags.tensor_types, "REGEX=TYPE",
       "Type of the tensors whose checkpoint name matches; repeatable,\nthe last match wins");
  value("--method", flags.method, "NAME",
        "reference (default): the bytes that the runtime's own tool\nwrites; ONNX: rtn, k_quant");
  toggle("--strict-types", flags.strict_types,
         "A type that does not fit a tensor's shape is an error");

  group = "ONNX, OpenVINO and MLX";
  value("--group-size", flags.group_size, "N",
        "Weights per scale. ONNX: 16, 32 (default), 64, 128, 256;\nOpenVINO, 4-bit types: 128 "
        "(default), any even number, row;\nMLX: 32, 64 (default), 128");
  group = "ONNX and OpenVINO";
  toggle("--sym", flags.sym, "Symmetric codes (default, but for int8 in OpenVINO)");
  toggle("--asym", flags.asym, "Codes with a zero point");

  group = "OpenVINO";
  value("--ratio", flags.ratio, "R",
        "Share of the layers' weights in 4 bits, at most 1; default 0.6:\nthose that 8 bits serve "
        "best keep them");

  group = "MLX";
  value("--mlx-rounding", flags.mlx_rounding, "KIND",
        "Ties as MLX rounds them on the cpu (default) or on metal");

  group = "ONNX";
  value("--ep", flags.ep, "NAME", "Execution provider: cpu (default), cuda, dml, webgpu");
  value("--min-onnxruntime", flags.min_onnxruntime, "VERSION",
        "Oldest runtime to serve: 1.20, 1.22, 1.24, current");
  value("--accuracy-level", flags.accuracy_level, "N",
        "Of MatMulNBits: 4 computes on int8 activations, 1 on float32");
  value("--activations", flags.activations, "KIND",
        "float (default), or dynamic: int8 products in plain operators");
  value("--max-length", flags.max_length, "N",
        "Tokens that the runtime reserves memory for; default 4096");

  group = "Output";
  value("-o,--output", flags.output, "OUT",
        "File or folder to write; - is standard output (GGUF); with\nseveral formats the folder "
        "for all");
  value("--split-max-size", flags.split_max_size, "SIZE",
        "Split a GGUF into files of at most SIZE (e.g. 2G)");
  toggle("--force", flags.force, "Replace an output that exists");
  toggle("--skip-existing", flags.skip_existing,
         "Leave an output that exists, write the others; exit 0 when\nnothing is left to do");
  toggle("--mkdir", flags.mkdir, "Make the output's folder");
  toggle("--no-space-check", flags.no_space_check, "Start even if the disk seems too full");
  toggle("--no-fsync", flags.no_fsync, "Faster, but a power loss may leave a broken output");

  group = "Input";
  value("--nan", flags.nan, "POLICY", "NaN in weights: error (default) or zero");
  value("--overflow", flags.overflow, "POLICY",
        "Weights too large for the type: error (default), clamp, or f32\n(keep the tensor as F32)");
  list("--ignore-extra", flags.ignore_extra, "GLOB",
       "Tensors that the model may have besides; repeatable");
  list("--adapter", flags.adapters, "DIR",
       "LoRA adapter (PEFT) to merge in float32 first; repeatable, in this\norder");

  group = "Resources";
  value("--threads", flags.threads, "N", "1 to 1024; default: all cores");
  value("--memory-limit", flags.memory_limit, "SIZE", "Ceiling of resident memory; default 1G");
  AddReportFlags(command, flags.report);
  group = kReportGroup;
  toggle("-v,--verbose", flags.report.verbose, "Say what was decided");
}

}  // namespace phiq::cli
