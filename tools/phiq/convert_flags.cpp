// The options of `quantize` and `plan`.
#include "convert_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

Error Wrong(std::string_view option, std::string_view what) {
  return {ErrorCode::kUsage, fmt::format("{}: {}", option, what)};
}

// Calls `parse` on an option's value; its complaint then names the option. A complaint about a
// file names that file already.
template <typename Parse>
auto ForOption(std::string_view option, const Parse& parse) {
  try {
    return parse();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw Error(error.code(), fmt::format("{}: {}", option, error.what()));
  }
}

template <typename Value, std::size_t n>
Value ParseChoice(std::string_view option, const std::optional<std::string>& text,
                  const std::array<std::pair<std::string_view, Value>, n>& choices) {
  if (!text) return choices.front().second;
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (name == *text) return value;
    names.emplace_back(name);
  }
  throw Wrong(option, fmt::format("'{}' is not one of {}", Escape(*text), fmt::join(names, ", ")))
      .Hint(DidYouMean(*text, names));
}

// "gguf,onnx": today there is one format to choose, later several share one read of the weights.
std::optional<Format> ParseFormats(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  std::optional<Format> chosen;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text->find(',', begin);
    const std::string word = text->substr(begin, end - begin);
    const Format format = ForOption("--format", [&] { return ParseFormat(word); });
    if (chosen) throw Wrong("--format", fmt::format("'{}' is named twice", word));
    chosen = format;
  }
  return chosen;
}

// Knobs that exist, but not in GGUF.
void RefuseForeignKnobs(const ConvertFlags& flags) {
  struct Knob {
    std::string_view option;
    bool given;
    std::string_view formats;
  };
  for (const auto& [option, given, formats] : {
           Knob{"--group-size", flags.group_size.has_value(), "ONNX, OpenVINO and MLX have"},
           Knob{"--sym", flags.sym, "ONNX and OpenVINO have"},
           Knob{"--asym", flags.asym, "ONNX and OpenVINO have"},
           Knob{"--ratio", flags.ratio.has_value(), "OpenVINO has"},
       })
    if (given)
      throw Wrong(option, fmt::format("not an option of GGUF; {} it, in later versions", formats))
          .Hint("in GGUF --type decides it");
}

PlanOptions ResolvePlan(const ConvertFlags& flags) {
  const std::optional<Format> format = ParseFormats(flags.format);
  std::optional<Profile> profile;
  if (flags.profile) profile = ForOption("--profile", [&] { return LoadProfile(*flags.profile); });
  std::optional<Precision> precision;
  if (flags.precision)
    precision = ForOption("--precision", [&] { return ParsePrecision(*flags.precision); });
  const Target target = ResolveTarget(profile ? &*profile : nullptr, format, precision, flags.type);
  RefuseForeignKnobs(flags);
  if (flags.method && *flags.method != "reference")
    throw Wrong("--method", fmt::format("'{}' is not a method of GGUF", Escape(*flags.method)))
        .Hint("'reference' is the only one in this version");

  PlanOptions options;
  options.format = target.format;
  options.type = target.type;
  options.strict_types = flags.strict_types;
  for (const std::string& rule : flags.tensor_types)
    options.tensor_rules.push_back(
        ForOption("--tensor-type", [&] { return ParseTensorRule(rule); }));
  return options;
}

}  // namespace

unsigned ParseThreads(const std::optional<std::string>& text) {
  if (!text) return 0;
  constexpr unsigned kMost = 1024;
  unsigned value = 0;
  const char* const last = text->data() + text->size();
  const auto [end, status] = std::from_chars(text->data(), last, value);
  if (status != std::errc() || end != last || value < 1 || value > kMost)
    throw Wrong("--threads",
                fmt::format("'{}' is not a whole number from 1 to {}", Escape(*text), kMost))
        .Hint("without the option: all cores");
  return value;
}

ConvertOptions ResolveConvertFlags(const ConvertFlags& flags) {
  ConvertOptions options;
  options.model = flags.model;
  if (flags.output && flags.output->empty()) throw Wrong("--output", "the name is empty");
  options.output = flags.output.value_or("");
  options.plan = ResolvePlan(flags);
  if (flags.split_max_size)
    options.split_max_bytes =
        ForOption("--split-max-size", [&] { return ParseSize(*flags.split_max_size); });
  options.ignore_extra = flags.ignore_extra;
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
  options.force = flags.force;
  options.mkdir = flags.mkdir;
  options.space_check = !flags.no_space_check;
  options.fsync = !flags.no_fsync;
  return options;
}

void LogDecisions(const ConvertOptions& options) {
  spdlog::info("{}: {} {}, {}, memory limit {}", Escape(options.model),
               FormatName(options.plan.format), options.plan.type,
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
  value("--format", flags.format, "NAME,...", "gguf (default)");
  value("--type", flags.type, "NAME",
        "The format's own type instead of --precision, e.g. Q4_K_M\n(phiq profiles --types)");
  list("--tensor-type", flags.tensor_types, "REGEX=TYPE",
       "Type of the tensors whose checkpoint name matches; repeatable,\nthe last match wins");
  value("--method", flags.method, "NAME",
        "reference (default): the bytes that llama-quantize writes");
  toggle("--strict-types", flags.strict_types,
         "A type that does not fit a tensor's shape is an error");
  value("--group-size", flags.group_size, "N", "Weights per scale (not in GGUF)");
  toggle("--sym", flags.sym, "Symmetric codes (not in GGUF)");
  toggle("--asym", flags.asym, "Codes with a zero point (not in GGUF)");
  value("--ratio", flags.ratio, "R", "Part of the layers in int4 (not in GGUF)");

  group = "Output";
  value("-o,--output", flags.output, "OUT", "File to write; - is standard output");
  value("--split-max-size", flags.split_max_size, "SIZE",
        "Split into files of at most SIZE (e.g. 2G)");
  toggle("--force", flags.force, "Replace an output that exists");
  toggle("--mkdir", flags.mkdir, "Make the output's folder");
  toggle("--no-space-check", flags.no_space_check, "Start even if the disk seems too full");
  toggle("--no-fsync", flags.no_fsync, "Faster, but a power loss may leave a broken output");

  group = "Input";
  value("--nan", flags.nan, "POLICY", "NaN in weights: error (default) or zero");
  value("--overflow", flags.overflow, "POLICY",
        "Weights too large for the type: error (default), clamp, or f32\n(keep the tensor as F32)");
  list("--ignore-extra", flags.ignore_extra, "GLOB",
       "Tensors that the model may have besides; repeatable");

  group = "Resources";
  value("--threads", flags.threads, "N", "1 to 1024; default: all cores");
  value("--memory-limit", flags.memory_limit, "SIZE", "Ceiling of resident memory; default 1G");
  AddReportFlags(command, flags.report);
  group = kReportGroup;
  toggle("--verbose", flags.report.verbose, "Say what was decided");
}

}  // namespace phiq::cli
