// genai_config.json holds what the runtime would guess; the tokenizer's files are copied but for
// what onnxruntime-extensions cannot read.
#include "formats/onnx/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "formats/onnx/layout.h"
#include "formats/tokenizer_files.h"
#include "formats/tokenizer_notes.h"
#include "model/generation.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

// Classes of byte-pair tokenizers that every version of onnxruntime-genai knows (with "Fast" behind
// or not).
constexpr std::array<std::string_view, 6> kKnownClasses = {
    "LlamaTokenizer",   "GPT2Tokenizer",  "CodeLlamaTokenizer",
    "CodeGenTokenizer", "Qwen2Tokenizer", "GPTNeoXTokenizer"};

bool IsKnownClass(std::string_view name) {
  if (name.ends_with("Fast")) name.remove_suffix(4);
  return std::ranges::find(kKnownClasses, name) != kKnownClasses.end();
}

// The runtime wants a number that fits; transformers writes 1e30 for "no limit".
bool IsLength(const Json& value) {
  return value.is_number() && value.get<double>() >= 1 && value.get<double>() < 0x1p31;
}

// tokenizer_config.json with what the runtime cannot read replaced; nullopt when nothing is.
std::optional<std::string> PatchTokenizerConfig(const std::string& text, const std::string& path,
                                                const Model& model, GraphPlan& plan) {
  Json json = ParseJson(text, path, limits::kJsonDepth);
  if (!json.is_object()) throw Error(ErrorCode::kBadData, "is not a JSON object").In(path);
  bool changed = false;
  const auto decide = [&](const char* key, std::string shown, std::string reason) {
    plan.decisions.push_back(
        {fmt::format("{}: {}", kTokenizerConfig, key), std::move(shown), std::move(reason)});
    changed = true;
  };
  const Json* const name = json.find("tokenizer_class");
  const bool is_named = name != nullptr && name->is_string();
  if (!is_named || !IsKnownClass(name->text())) {
    const char* const wanted =
        model.tokenizer.kind == TokenizerKind::kSentencePiece ? "LlamaTokenizer" : "GPT2Tokenizer";
    decide("tokenizer_class", wanted,
           is_named ? fmt::format("not every onnxruntime-genai knows {}", Escape(name->text()))
                    : "the runtime chooses the tokenizer by it");
    json["tokenizer_class"] = wanted;
  }
  Json* const length = json.find("model_max_length");
  if (length != nullptr && !IsLength(*length)) {
    decide("model_max_length", fmt::format("{}", model.config.max_position_embeddings),
           "the context; it was no length");
    *length = model.config.max_position_embeddings;
  }
  const std::string& wanted = model.tokenizer.chat_template;
  const Json* const chat = json.find("chat_template");
  const bool is_list = chat != nullptr && chat->is_array();
  if (wanted.empty() && is_list) {
    decide("chat_template", "removed", "the runtime reads one template, and none is the default");
    json.erase("chat_template");
  } else if (!wanted.empty() && (chat == nullptr || *chat != wanted)) {
    decide("chat_template", fmt::format("{} bytes", wanted.size()),
           is_list ? "the runtime reads one template, not a list"
                   : "it stands in a file of its own in the checkpoint");
    json["chat_template"] = wanted;
  }
  if (!changed) return std::nullopt;
  return json.dump(2) + "\n";
}

Json ProviderOptions(ExecutionProvider ep) {
  using Pair = std::pair<std::string_view, Json>;
  const auto options_of = [](std::string_view name, std::initializer_list<Pair> options) {
    return Json::array({Json::object({{name, Json::object(options)}})});
  };
  switch (ep) {
    case ExecutionProvider::kCpu:
      break;
    case ExecutionProvider::kCuda:
      return options_of("cuda", {{"enable_cuda_graph", "0"}});
    case ExecutionProvider::kDml:
      return options_of("dml", {{"enable_graph_capture", "1"}});
    case ExecutionProvider::kWebGpu:
      return options_of("webgpu", {{"enableGraphCapture", "0"}, {"validationMode", "basic"}});
  }
  return Json::array();
}

// Only keys that every version of the runtime takes: unknown ones are fatal there.
std::string GenaiConfigText(const GenerationConfig& generation, const ModelConfig& config,
                            const GraphChoices& graph) {
  Json inputs = Json::object({{"input_ids", "input_ids"}, {"attention_mask", "attention_mask"}});
  if (graph.ep == ExecutionProvider::kDml) inputs["position_ids"] = "position_ids";
  inputs["past_key_names"] = "past_key_values.%d.key";
  inputs["past_value_names"] = "past_key_values.%d.value";
  Json decoder;
  decoder["session_options"] = Json::object(
      {{"log_id", "onnxruntime-genai"}, {"provider_options", ProviderOptions(graph.ep)}});
  decoder["filename"] = kModelFile;
  decoder["head_size"] = config.head_dim;
  decoder["hidden_size"] = config.hidden_size;
  decoder["inputs"] = std::move(inputs);
  decoder["outputs"] = Json::object({{"logits", "logits"},
                                     {"present_key_names", "present.%d.key"},
                                     {"present_value_names", "present.%d.value"}});
  decoder["num_attention_heads"] = config.n_heads;
  decoder["num_hidden_layers"] = config.n_layers;
  decoder["num_key_value_heads"] = config.n_kv_heads;

  Json model;
  model["bos_token_id"] = generation.bos_token_id.value_or(1);
  model["context_length"] = config.max_position_embeddings;
  model["decoder"] = std::move(decoder);
  if (generation.eos_token_ids.size() == 1) {
    model["eos_token_id"] = generation.eos_token_ids.front();
  } else {
    model["eos_token_id"] = generation.eos_token_ids;
  }
  model["pad_token_id"] = generation.pad_token_id;
  model["type"] = "phi3";
  model["vocab_size"] = config.vocab_size;

  Json search;
  search["diversity_penalty"] = 0.0;
  search["do_sample"] = generation.do_sample;
  search["early_stopping"] = true;
  search["length_penalty"] = 1.0;
  search["max_length"] = graph.max_length;
  search["min_length"] = 0;
  search["no_repeat_ngram_size"] = 0;
  search["num_beams"] = 1;
  search["num_return_sequences"] = 1;
  search["past_present_share_buffer"] = true;
  search["repetition_penalty"] = 1.0;
  search["temperature"] = generation.temperature;
  search["top_k"] = generation.top_k;
  search["top_p"] = generation.top_p;

  Json root;
  root["model"] = std::move(model);
  root["search"] = std::move(search);
  return root.dump(4) + "\n";
}

}  // namespace

std::vector<Decision> TokenizerDecisions(const Model& model) {
  return TokenizerDifferences(model.tokenizer,
                              {.name = "onnxruntime-genai",
                               .strips = TokenizerRuntime::Strips::kAsTokenizerJson,
                               .always_prefixes_space = true,
                               .plain_steps = true,
                               .one_template = true});
}

std::vector<SideFile> MakeSideFiles(const SideFiles& source, const Model& model, GraphPlan& plan) {
  std::vector<SideFile> files =
      ReadTokenizerFiles(source, std::array{kTokenizerJson, kTokenizerConfig}, "onnxruntime-genai");
  for (SideFile& file : files) {
    if (file.name != kTokenizerConfig) continue;
    const std::string text(TextOf(file));
    if (const std::optional<std::string> patched =
            PatchTokenizerConfig(text, source.PathOf(file.name).string(), model, plan))
      file.content = BytesOf(*patched);
  }
  for (Decision& difference : TokenizerDecisions(model))
    plan.decisions.push_back(std::move(difference));
  const GenerationConfig generation = ReadGenerationConfig(source, model);
  for (const auto& [id, reason] : generation.added_eos) {
    plan.decisions.push_back(
        {fmt::format("{}: eos_token_id", kConfigFile), fmt::format("+{}", id), reason});
  }
  files.push_back(
      {std::string(kConfigFile), BytesOf(GenaiConfigText(generation, model.config, plan.graph))});
  return files;
}

}  // namespace phiq::onnx
