// A table of options, and a guess at operands. An entry says what phiq has, so it is right only
// while phiq has it: the tests run every option that a hint names.
#include "peer_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "phiq/error.h"
#include "phiq/format.h"
#include "phiq/text.h"

namespace phiq::cli {
namespace {

struct PeerOption {
  std::string_view name, hint;
};

constexpr std::string_view kCalibrate =
    "here it is --calibrate FILE, a text of your own, or --calibrate self";
constexpr std::string_view kNoCode = "not needed: no code of a model is run";

// clang-format off
constexpr PeerOption kOfQuantize[] = {
    // llama-quantize
    {"--output-tensor-type", "here it is --tensor-type 'lm_head=TYPE'"},
    {"--token-embedding-type", "here it is --tensor-type 'embed_tokens=TYPE'"},
    {"--leave-output-tensor", "here it is --tensor-type 'lm_head=F16'"},
    {"--keep-split", "here it is --split-max-size SIZE"},
    {"--allow-requantize", "not needed: phiq starts from the checkpoint"},
    {"--include-weights", "--imatrix FILE serves every weight that the file has"},
    {"--exclude-weights", "--imatrix FILE serves every weight that the file has"},
    // convert_hf_to_gguf.py
    {"--outfile", "here it is --output OUT"},
    {"--outtype", "here it is --type NAME"},
    {"--split-max-tensors", "here it is --split-max-size SIZE"},
    {"--remote", "nothing is downloaded: MODEL may be organisation/name in the local hub cache"},
    {"--model-name", "the name is that of MODEL's folder"},
    // mlx_lm.convert
    {"--hf-path", "here it is the operand MODEL"},
    {"--mlx-path", "here it is --output OUT, with --format mlx"},
    {"--quantize", "here quantizing is the default; --precision says to what"},
    {"--q-bits", "here it is --precision int4 or int8, or --type 2bit ... 8bit with --format mlx"},
    {"--q-group-size", "here it is --group-size N"},
    {"--q-mode", "here it is --type mxfp4, mxfp8 or nvfp4, with --format mlx"},
    {"--quant-predicate", "here it is --type mixed_4_6 and its like, with --format mlx"},
    {"--dtype", "here it is --precision fp16, bf16 or fp32"},
    {"--upload-repo", "nothing is uploaded"},
    {"--dequantize", "phiq starts from the checkpoint; --precision fp16 is without codes"},
    // optimum-cli export openvino
    {"--model", "here it is the operand MODEL"},
    {"-m", "here it is the operand MODEL"},
    {"--weight-format", "here it is --precision NAME, with --format openvino"},
    {"--quant-mode", "here it is --precision NAME or --type NAME"},
    {"--backup-precision", "the layers that --ratio leaves have 8 bits"},
    {"--trust-remote-code", kNoCode},
    {"--trust_remote_code", kNoCode},
    {"--task", "not needed: phiq writes text generation with a cache"},
    {"--library", "not needed: phiq reads the checkpoint itself"},
    {"--framework", "not needed: phiq reads the checkpoint itself"},
    {"--dataset", kCalibrate},
    {"--num-samples", "here it is --calibration-tokens N"},
    {"--awq", "not done; --calibrate FILE with --method feedback serves instead"},
    {"--gptq", "here it is --calibrate FILE, whose --method is feedback"},
    {"--scale-estimation", "here it is --calibrate FILE, or --method search"},
    {"--lora-correction", "not done; --calibrate FILE changes no sizes"},
    {"--all-layers", "here it is --ratio 1"},
    // onnxruntime-genai's model builder
    {"--model_name", "here it is the operand MODEL"},
    {"--input", "here it is the operand MODEL"},
    {"-i", "here it is the operand MODEL"},
    {"-p", "here it is --precision NAME"},
    {"-e", "here it is --ep NAME"},
    {"--execution_provider", "here it is --ep NAME"},
    {"-c", "nothing is downloaded: MODEL may be organisation/name in the local hub cache"},
    {"--cache_dir", "nothing is downloaded: MODEL may be organisation/name in the local hub cache"},
    {"--extra_options", "here they are --group-size, --sym, --asym, --accuracy-level, --method and --type"},
    // auto-round
    {"--bits", "here it is --precision int4 or int8, or --type NAME"},
    {"--scheme", "here it is --precision NAME or --type NAME"},
    {"--output_dir", "here it is --output OUT"},
    {"--iters", kCalibrate},
    {"--nsamples", "here it is --calibration-tokens N"},
    {"--seqlen", "here it is --calibration-ctx N"},
    {"--device", "phiq computes on the CPU"},
    // llama.cpp and mlx_lm.fuse, of adapters
    {"--lora", "here it is --adapter DIR"},
    {"--lora-scaled", "here it is --adapter DIR"},
    {"--adapter-path", "here it is --adapter DIR"},
    // what any of them may have
    {"--out", "here it is --output OUT"},
    {"--output-dir", "here it is --output OUT"},
    {"--quantization", "here it is --precision NAME or --type NAME"},
    {"--nthreads", "here it is --threads N"},
    {"-t", "here it is --threads N"},
};

constexpr PeerOption kOfEval[] = {
    // llama-perplexity
    {"-m", "here it is the operand PATH"},
    {"--model", "here it is the operand PATH"},
    {"-f", "here it is --text FILE"},
    {"--file", "here it is --text FILE"},
    {"-c", "here it is --ctx N"},
    {"--ctx-size", "here it is --ctx N"},
    {"--kl-divergence", "here it is --against MODEL"},
    {"--kl-divergence-base", "here it is --against MODEL"},
    {"-t", "here it is --threads N"},
    {"--lora", "here it is --adapter DIR"},
};

// Words for what a command does.
constexpr PeerOption kCommands[] = {
    {"build", "quantize"},     {"convert", "quantize"},   {"export", "quantize"},
    {"builder", "quantize"},   {"quant", "quantize"},     {"perplexity", "eval"},
    {"ppl", "eval"},           {"benchmark", "eval"},     {"diff", "compare"},
    {"info", "inspect"},       {"show", "inspect"},       {"dump", "inspect"},
    {"check", "verify"},       {"test", "verify"},        {"types", "profiles --types"},
};
// clang-format on

std::span<const PeerOption> OptionsFor(std::string_view command) {
  if (command == "quantize" || command == "plan") return kOfQuantize;
  if (command == "eval") return kOfEval;
  return {};
}

template <typename Known>
bool IsKnown(const Known& names, std::string_view word) {
  return std::ranges::any_of(
      names, [&](const auto& name) { return LowerAscii(name) == LowerAscii(word); });
}

bool IsPrecision(std::string_view word) {
  try {
    ParsePrecision(word);
    return true;
  } catch (const Error&) {
    return false;
  }
}

bool IsType(std::string_view word) {
  return std::ranges::any_of(FormatNames(), [&](std::string_view format) {
    std::vector<std::string> names;
    for (const TypeName& type : TypeNames(format)) names.emplace_back(type.name);
    return IsKnown(names, word);
  });
}

bool IsNumber(std::string_view word) {
  return !word.empty() && word.size() <= 4 &&
         std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string PeerOptionHint(std::string_view command, std::string_view option) {
  for (const PeerOption& known : OptionsFor(command))
    if (known.name == option) return std::string(known.hint);
  return "";
}

std::string PeerCommandHint(std::string_view command) {
  for (const PeerOption& known : kCommands)
    if (known.name == command) return fmt::format("here it is `phiq {}`", known.hint);
  return "";
}

std::string PeerOperandHint(const std::vector<std::string>& operands) {
  std::string options;
  const auto add = [&](std::string_view option, std::string_view word) {
    options += fmt::format(" {} {}", option, Escape(word));
  };
  for (const std::string& operand : operands) {
    if (IsPrecision(operand)) {
      add("--precision", operand);
    } else if (IsType(operand)) {
      add("--type", operand);
    } else if (IsNumber(operand)) {
      add("--threads", operand);
    } else if (operand.find_first_of("./") != std::string::npos) {
      add("-o", operand);
    } else {
      return "";
    }
  }
  return options.empty() ? "" : "here it is" + options;
}

}  // namespace phiq::cli
