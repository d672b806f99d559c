// The options of `quantize` and `plan`.
#include "convert_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "option_values.h"
#include "phiq/error.h"
#include "phiq/format.h"
#include "phiq/profile.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

// "gguf,onnx"; empty without the option.
std::vector<std::string> ParseFormats(const std::optional<std::string>& text) {
  std::vector<std::string> formats;
  if (!text) return formats;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text->find(',', begin);
    const std::string given = text->substr(begin, end - begin);
    ForOption("--format", [&] { CheckFormatName(given); });
    const std::string word = LowerAscii(given);
    if (std::ranges::find(formats, word) != formats.end())
      throw Wrong("--format", fmt::format("'{}' is named twice", word));
    formats.push_back(word);
  }
  return formats;
}

bool IsFormat(std::string_view word) {
  return std::ranges::find(FormatNames(), word) != FormatNames().end();
}

// "64", or "onnx=64" for one format.
KnobValue ParseKnob(const std::string& name, const std::string& text) {
  const std::size_t equals = text.find('=');
  const std::string format = LowerAscii(std::string_view(text).substr(0, equals));
  if (equals == std::string::npos || !IsFormat(format)) return {name, text, ""};
  return {name, text.substr(equals + 1), format};
}

// Whether --method names one for this format.
bool IsMethodGiven(const ConvertFlags& flags, std::string_view format) {
  const auto found = flags.knobs.find("method");
  return found != flags.knobs.end() &&
         std::ranges::any_of(found->second, [&](const std::string& text) {
           const std::string of = ParseKnob("method", text).format;
           return of.empty() || of == format;
         });
}

std::vector<PlanOptions> ResolveTargetFlags(const ConvertFlags& flags) {
  TargetRequest request;
  request.formats = ParseFormats(flags.format);
  std::optional<Profile> profile;
  if (flags.profile) profile = ForOption("--profile", [&] { return LoadProfile(*flags.profile); });
  if (profile) request.profile = &*profile;
  if (flags.precision)
    request.precision = ForOption("--precision", [&] { return ParsePrecision(*flags.precision); });
  for (const auto& [name, texts] : flags.knobs)
    for (const std::string& text : texts) request.knobs.push_back(ParseKnob(name, text));
  for (const auto& [name, text] : flags.switches)
    if (text) request.knobs.push_back({name, "", *text == "true" ? "" : LowerAscii(*text)});
  if (request.formats.size() > 1 && !flags.tensor_types.empty())
    throw Wrong("--tensor-type", "each format has types of its own").Hint("one format at a time");
  std::vector<PlanOptions> targets = ResolveTargets(request);
  for (PlanOptions& target : targets) {
    target.strict_types = flags.strict_types;
    target.is_method_chosen = IsMethodGiven(flags, target.format);
    for (const std::string& rule : flags.tensor_types)
      target.tensor_rules.push_back(
          ForOption("--tensor-type", [&] { return ParseTensorRule(rule); }));
  }
  return targets;
}

// The name of a file that is written besides.
std::string FileOf(std::string_view option, const std::optional<std::string>& text) {
  std::string name = ValueOf(option, text);
  if (name == "-" || name == "/dev/stdout")
    throw Wrong(option, "standard output already carries the report").Hint("give a file name");
  return name;
}

// The text or the importance matrix, and the method that takes most of it where none is named.
std::optional<CalibrationOptions> ResolveCalibration(const ConvertFlags& flags,
                                                     std::vector<PlanOptions>& targets) {
  std::optional<CalibrationOptions> calibration = ResolveCalibrationFlags(flags.calibration);
  const bool has_text = calibration && calibration->has_text();
  if (!has_text) {
    const std::pair<const char*, bool> kOfText[] = {
        {"--calibration-out", flags.calibration_out.has_value()},
        {"--shrink", flags.shrink.has_value()},
        {"--imatrix-out", flags.imatrix_out.has_value()},
        {"--no-correction", flags.no_correction}};
    for (const auto& [option, is_given] : kOfText)
      if (is_given) throw NeedsText(option);
  }
  if (!calibration) {
    for (const PlanOptions& target : targets) {
      if (target.method == "feedback")
        throw Wrong("--method", "feedback needs a text")
            .Hint("--calibrate self or --calibrate FILE");
      if (target.method == "imatrix")
        throw Wrong("--method", "imatrix needs a text or an importance matrix")
            .Hint("--calibrate self, --calibrate FILE or --imatrix FILE");
    }
    return std::nullopt;
  }
  calibration->imatrix_out = FileOf("--imatrix-out", flags.imatrix_out);
  calibration->ids_out = FileOf("--calibration-out", flags.calibration_out);
  calibration->corrects = !flags.no_correction;
  if (flags.shrink)
    calibration->shrink = static_cast<float>(ParseNumber("--shrink", *flags.shrink, 0, 1));
  for (PlanOptions& target : targets)
    if (target.method == "reference" && !IsMethodGiven(flags, target.format))
      target.method = has_text ? "feedback" : "imatrix";
  return calibration;
}

// A size or a loss, for which types are chosen.
std::optional<MixOptions> ResolveMix(const ConvertFlags& flags) {
  MixOptions mix;
  constexpr double kMostBits = 32, kMostKl = 100;
  if (flags.target_size)
    mix.size_bytes = ForOption("--target-size", [&] { return ParseSize(*flags.target_size); });
  if (flags.target_bpw)
    mix.bits_per_weight = ParseNumber("--target-bpw", *flags.target_bpw, 0, kMostBits);
  if (flags.target_kl) mix.kl = ParseNumber("--target-kl", *flags.target_kl, 0, kMostKl);
  if (flags.device_memory)
    mix.device_memory_bytes =
        ForOption("--device-memory", [&] { return ParseSize(*flags.device_memory); });
  mix.sensitivities = ValueOf("--sensitivity", flags.sensitivities);
  const int n = int{flags.target_size.has_value()} + int{flags.target_bpw.has_value()} +
                int{flags.target_kl.has_value()} + int{flags.device_memory.has_value()};
  if (n > 1)
    throw Wrong("--target-size", "excludes --target-bpw, --target-kl and --device-memory")
        .Hint("give one of them");
  if (n == 0 && !flags.sensitivities) return std::nullopt;
  return mix;
}

constexpr std::uint32_t kMostContext = std::numeric_limits<std::int32_t>::max();

// Lines of at most 63 characters, which stand beside the names of the options.
std::string Wrap(std::string_view text) {
  constexpr std::size_t kWidth = 63;
  std::string wrapped;
  std::size_t column = 0;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (column > 0 && column + 1 + word.size() > kWidth) {
      wrapped += '\n';
      column = 0;
    } else if (column > 0) {
      wrapped += ' ';
      ++column;
    }
    wrapped += word;
    column += word.size();
  }
  return wrapped;
}

// "ONNX, OpenVINO and MLX".
std::string JoinTitles(const std::vector<std::string_view>& formats) {
  std::string text;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    text += i == 0 ? "" : i + 1 == formats.size() ? " and " : ", ";
    text += FormatTitle(formats[i]);
  }
  return text;
}

// An option that one or several formats have.
struct SharedKnob {
  std::string_view name, value, meaning;
  std::vector<std::string_view> owners;

  // "Weights per scale. ONNX: 16, 32 (default); MLX: 64".
  std::string Description() const {
    std::string text(meaning);
    std::string_view separator = ". ";
    for (const std::string_view format : owners) {
      const std::span<const Knob> knobs = KnobsOf(format);
      const std::string_view range = std::ranges::find(knobs, name, &Knob::name)->range;
      if (range.empty()) continue;
      text += fmt::format("{}{}: {}", separator, FormatTitle(format), range);
      separator = "; ";
    }
    return Wrap(text);
  }
};

// Those that most formats have first.
std::vector<SharedKnob> CollectKnobs() {
  std::vector<SharedKnob> shared;
  for (const std::string_view format : FormatNames()) {
    for (const Knob& knob : KnobsOf(format)) {
      auto found = std::ranges::find(shared, knob.name, &SharedKnob::name);
      if (found == shared.end())
        found = shared.insert(found, {knob.name, knob.value, knob.meaning, {}});
      found->owners.push_back(format);
    }
  }
  std::ranges::stable_sort(shared, std::ranges::greater(),
                           [](const SharedKnob& knob) { return knob.owners.size(); });
  return shared;
}

std::string MethodsText() {
  std::string text =
      "reference (default without a text): the bytes that the runtime's own tool writes; feedback "
      "(default with one), imatrix, search: see --calibrate";
  for (const std::string_view format : FormatNames()) {
    if (!MethodsOf(format).empty())
      text += fmt::format("; {}: {}", FormatTitle(format), fmt::join(MethodsOf(format), ", "));
  }
  return Wrap(text);
}

std::string FormatsText() {
  std::string text;
  for (const std::string_view format : FormatNames())
    text += text.empty() ? fmt::format("{} (default)", format) : fmt::format(", {}", format);
  return Wrap(text + "; several share one read of the weights");
}

std::string TypesText() {
  std::vector<std::string_view> types;  // one of each, of middling size
  for (const std::string_view format : FormatNames()) {
    const std::vector<TypeName> names = TypeNames(format);
    types.push_back(names[names.size() / 2].name);
  }
  return Wrap(
      fmt::format("The format's own type instead of --precision, e.g. {} (phiq profiles --types)",
                  fmt::join(types, ", ")));
}

}  // namespace

ConvertOptions ResolveConvertFlags(const ConvertFlags& flags) {
  ConvertOptions options;
  options.model = ValueOf("MODEL", flags.model);
  options.output = ValueOf("--output", flags.output);
  options.targets = ResolveTargetFlags(flags);
  ForOption("--output", [&] { CheckOutputName(options.output, options.targets); });
  options.calibration = ResolveCalibration(flags, options.targets);
  options.mix = ResolveMix(flags);
  if (flags.ctx) options.n_ctx = ParseCount("--ctx", *flags.ctx, 4, kMostContext);
  options.ignore_extra = ValuesOf("--ignore-extra", flags.ignore_extra);
  options.adapters = ValuesOf("--adapter", flags.adapters);
  options.pad_vocab = ParsePadVocab(flags.pad_vocab);
  options.tokenizer = ValueOf("--tokenizer", flags.tokenizer);
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
  options.resume = flags.resume;
  options.mkdir = flags.mkdir;
  options.space_check = !flags.no_space_check;
  options.fsync = !flags.no_fsync;
  options.sha256 = flags.sha256;
  return options;
}

void LogDecisions(const ConvertOptions& options) {
  std::vector<std::string> targets;
  for (const PlanOptions& target : options.targets)
    targets.push_back(fmt::format("{} {}", target.format, target.type));
  spdlog::info("{}: {}, {}, memory limit {}", Escape(options.model), fmt::join(targets, ", "),
               options.threads == 0 ? "all cores" : fmt::format("{} threads", options.threads),
               FormatBytes(options.memory_limit_bytes));
}

void AddConvertFlags(CLI::App& command, ConvertFlags& flags) {
  std::string group;
  const auto value = [&](const std::string& name, auto& variable, std::string_view text,
                         const std::string& description) {
    AddValue(command, group, name, variable, text, description);
  };
  const auto list = [&](const std::string& name, std::vector<std::string>& variable,
                        std::string_view text, const std::string& description) {
    AddList(command, group, name, variable, text, description);
  };
  const auto toggle = [&](const char* name, bool& variable, const char* description) {
    AddSwitch(command, name, variable, description)->group(group);
  };

  command
      .add_option("MODEL", flags.model,
                  "A folder with config.json and *.safetensors, one of those files,\n"
                  "or organisation/name in the local Hugging Face cache; or a model in\n"
                  "one of the formats, whose quality was lost before")
      ->required()
      ->option_text(" ");

  group = "Target";
  value("--profile", flags.profile, "NAME|FILE",
        "Target device (phiq profiles), or a JSON file like one");
  value("--precision", flags.precision, "NAME", "int4 (default), int8, fp16, bf16, fp32");
  value("--format", flags.format, "NAME,...", FormatsText());
  list("--type", flags.knobs["type"], "NAME", TypesText());
  list("--tensor-type", flags.tensor_types, "REGEX=TYPE",
       "Type of the tensors whose checkpoint name matches; repeatable,\nthe last match wins");
  list("--method", flags.knobs["method"], "NAME", MethodsText());
  toggle("--strict-types", flags.strict_types,
         "A type that does not fit a tensor's shape is an error");

  for (const SharedKnob& knob : CollectKnobs()) {
    group = JoinTitles(knob.owners);
    const std::string name(knob.name), option = "--" + name;
    if (knob.value.empty()) {
      command.add_flag(option, flags.switches[name], knob.Description())
          ->multi_option_policy(CLI::MultiOptionPolicy::Throw)
          ->group(group);
    } else {
      list(option, flags.knobs[name], knob.value, knob.Description());
    }
  }

  group = "Calibration: a text says which errors of weights matter";
  AddCalibrationFlags(command, group, flags.calibration);
  value("--calibration-out", flags.calibration_out, "FILE",
        "Write the text's token ids, to be read by --calibration-ids (with\nthe same "
        "--calibration-ctx)");
  value("--imatrix-out", flags.imatrix_out, "FILE",
        "Write the text's importance matrix; .dat: in the older form");
  toggle("--no-correction", flags.no_correction,
         "With feedback, do not make up for what earlier layers lost: half the\ntime, more lost");
  value("--shrink", flags.shrink, "R",
        "Share of each correlation that feedback leaves out; default 0.2");

  group = "Size or loss: types chosen tensor by tensor, by the calibration text";
  value("--target-size", flags.target_size, "SIZE",
        "The least loss in at most SIZE bytes of output (e.g. 2.4G)");
  value("--target-bpw", flags.target_bpw, "N", "The same, in at most N bits per weight");
  value("--target-kl", flags.target_kl, "X",
        "The least size whose mean KL divergence on held-back text is at\nmost X");
  value("--device-memory", flags.device_memory, "SIZE",
        "The least loss in what a device of SIZE has beside its runtime's cache\nand working "
        "memory (e.g. 4G)");
  value("--ctx", flags.ctx, "N",
        "Tokens of context that those are for; default 4096. Of --eval-text\ntokens of a window; "
        "default 512");
  value("--sensitivity", flags.sensitivities, "FILE",
        "What kinds of tensors are worth: read where the file exists, else\nmeasured and written "
        "there");

  group = "Output";
  value("-o,--output", flags.output, "OUT",
        "File or folder to write; - is standard output (of one file); with\nseveral formats the "
        "folder for all");
  toggle("--force", flags.force, "Replace an output that exists");
  toggle("--resume", flags.resume,
         "Keep what is done when the run is interrupted or killed, and go on\nfrom what the same "
         "command has kept");
  toggle("--skip-existing", flags.skip_existing,
         "Leave an output that exists, write the others; exit 0 when\nnothing is left to do");
  toggle("--mkdir", flags.mkdir, "Make the output's folder");
  toggle("--no-space-check", flags.no_space_check, "Start even if the disk seems too full");
  toggle("--no-fsync", flags.no_fsync, "Faster, but a power loss may leave a broken output");

  group = "Input";
  value("--nan", flags.nan, "POLICY", "NaN in weights: error (default) or zero");
  value("--overflow", flags.overflow, "POLICY",
        "Weights too large for F16: error (default), clamp, or f32 (keep\nthe tensor as F32)");
  list("--ignore-extra", flags.ignore_extra, "GLOB",
       "Tensors that the model may have besides; repeatable");
  list("--adapter", flags.adapters, "DIR",
       "LoRA adapter (PEFT) to merge in float32 first; repeatable, in this\norder");
  value("--tokenizer", flags.tokenizer, "FOLDER",
        "Where the tokenizer's files are, for a model that has none; also\n"
        "config.json, where the model's numbers do not tell it");
  value("--pad-vocab", flags.pad_vocab, "N",
        "Rows of embedding and head for tokens that have none, up to a\nmultiple of N: the mean of "
        "the others, as transformers resizes");

  group = "Resources";
  value("--threads", flags.threads, "N", "1 to 1024; default: all cores");
  value("--memory-limit", flags.memory_limit, "SIZE", "Ceiling of resident memory; default 1G");
  AddReportFlags(command, flags.report);
  group = kReportGroup;
  toggle("-v,--verbose", flags.report.verbose, "Say what was decided");
}

}  // namespace phiq::cli
