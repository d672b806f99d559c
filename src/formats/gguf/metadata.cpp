// The metadata of a GGUF output, in the order of llama.cpp's converter.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>

#include "base/ascii.h"
#include "base/checked.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/model_name.h"
#include "formats/gguf/vocabulary.h"
#include "formats/tokenizer_notes.h"
#include "model/generation.h"
#include "model/rope.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

// llama.cpp's own numbers for file types (not ggml's). On disk: never renumber.
struct FileType {
  std::string_view name;
  std::uint32_t code;
};
constexpr std::array<FileType, 19> kFileTypes = {{
    {"F32", 0},     {"F16", 1},     {"Q4_0", 2},    {"Q4_1", 3},    {"Q8_0", 7},
    {"Q5_0", 8},    {"Q5_1", 9},    {"Q2_K", 10},   {"Q3_K_S", 11}, {"Q3_K_M", 12},
    {"Q3_K_L", 13}, {"Q4_K_S", 14}, {"Q4_K_M", 15}, {"Q5_K_S", 16}, {"Q5_K_M", 17},
    {"Q6_K", 18},   {"IQ4_NL", 25}, {"IQ4_XS", 30}, {"BF16", 32},
}};

std::uint32_t FileTypeCode(std::string_view type) {
  for (const FileType& known : kFileTypes) {
    if (known.name == type) return known.code;
  }
  throw Error(ErrorCode::kInternal, fmt::format("no GGUF file type '{}'", type));
}

// "3.8B": two significant digits, as llama.cpp's converter labels sizes.
std::string SizeLabel(const Plan& plan) {
  double n_weights = 0;
  std::uint64_t n_experts = 0;
  for (const PlanLine& line : plan.lines) {
    // Of experts one is counted, and their number stands before: "16x4.1B".
    const bool is_of_experts = line.shape.size() == 3;
    std::uint64_t n = CheckedProduct(line.shape).value();
    if (is_of_experts) n /= n_experts = line.shape.front();
    n_weights += static_cast<double>(n);
  }
  const auto [scale, suffix] = n_weights > 1e12  ? std::pair(1e12, 'T')
                               : n_weights > 1e9 ? std::pair(1e9, 'B')
                               : n_weights > 1e6 ? std::pair(1e6, 'M')
                                                 : std::pair(1e3, 'K');
  const double scaled = n_weights / scale;
  const double rounded = std::nearbyint(scaled);
  const int n_decimals = rounded >= 10 ? 0 : rounded >= 1 ? 1 : 2;
  const std::string count = n_experts > 0 ? fmt::format("{}x", n_experts) : "";
  return fmt::format("{}{:.{}f}{}", count, scaled, n_decimals, suffix);
}

std::string_view ArchitectureName(const ModelConfig& config) {
  return config.n_experts > 0 ? "phimoe" : "phi3";
}

void AddModel(const ModelConfig& config, Metadata& out) {
  const auto add = [&](std::string_view key, Value value) {
    out.emplace_back(fmt::format("{}.{}", ArchitectureName(config), key), std::move(value));
  };
  add("context_length", config.max_position_embeddings);
  add("rope.scaling.original_context_length", config.original_max_position_embeddings);
  add("embedding_length", config.hidden_size);
  add("feed_forward_length", config.intermediate_size);
  add("block_count", config.n_layers);
  add("attention.head_count", config.n_heads);
  add("attention.head_count_kv", config.n_kv_heads);
  add("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  add("rope.dimension_count", config.rope_dim);
  add("rope.freq_base", config.rope_theta);
  if (!config.long_factor.empty()) add("rope.scaling.attn_factor", RopeAttentionFactor(config));
  add("attention.sliding_window", config.sliding_window);
  if (config.n_experts > 0) {
    add("expert_count", config.n_experts);
    add("expert_used_count", config.n_experts_per_token);
  }
}

std::string_view PreTokenizerName(const Tokenizer& tokenizer) {
  if (tokenizer.kind == TokenizerKind::kSentencePiece)
    return "default";  // llama.cpp ignores it there
  switch (tokenizer.pre_tokenizer) {
    case PreTokenizer::kCl100k:
      return "dbrx";  // the same split, without llama-bpe's extras
    case PreTokenizer::kO200k:
      return "gpt-4o";
    case PreTokenizer::kNone:
      break;
  }
  throw Error(ErrorCode::kUnsupported, "byte-level tokenizer without a split expression")
      .In("tokenizer.json");
}

// llama.cpp splits a merge at its first space, so a space inside a part takes its byte-alphabet
// form.
std::vector<std::string> MergeStrings(const Tokenizer& tokenizer) {
  std::vector<std::string> merges;
  merges.reserve(tokenizer.merges.size());
  const auto add_part = [&](const std::string& part) {
    for (const char c : part) {
      if (c == ' ') {
        merges.back() += "\xC4\xA0";
      } else {
        merges.back().push_back(c);
      }
    }
  };
  for (const Merge& merge : tokenizer.merges) {
    merges.emplace_back();
    add_part(tokenizer.vocab[merge.left]);
    merges.back().push_back(' ');
    add_part(tokenizer.vocab[merge.right]);
  }
  return merges;
}

// The token that ends a turn of a chat. llama.cpp guesses it by walking a hash map, so the answer
// could differ from build to build.
std::optional<std::uint32_t> FindEndOfTurn(const std::vector<std::string>& tokens) {
  for (const std::string_view text : {"<|end|>", "<|im_end|>"}) {
    const auto found = std::find(tokens.begin(), tokens.end(), text);
    if (found != tokens.end()) return static_cast<std::uint32_t>(found - tokens.begin());
  }
  return std::nullopt;
}

void AddChatTemplates(const Tokenizer& tokenizer, Metadata& out) {
  std::vector<std::string> names;
  for (const auto& [name, text] : tokenizer.named_chat_templates) {
    std::string key_part = name;
    std::replace_if(
        key_part.begin(), key_part.end(), [](char c) { return !IsAsciiAlphanumeric(c); }, '_');
    out.emplace_back("tokenizer.chat_template." + key_part, text);
    names.push_back(std::move(key_part));
  }
  if (!names.empty()) out.emplace_back("tokenizer.chat_templates", std::move(names));
  if (!tokenizer.chat_template.empty())
    out.emplace_back("tokenizer.chat_template", tokenizer.chat_template);
}

void AddTokenizer(const Tokenizer& tokenizer, Vocabulary vocabulary, Metadata& out) {
  const bool is_bpe = tokenizer.kind == TokenizerKind::kByteLevelBpe;
  const auto add = [&](std::string_view key, Value value) {
    out.emplace_back(fmt::format("tokenizer.ggml.{}", key), std::move(value));
  };
  const auto add_if_known = [&](std::string_view key, const auto& value) {
    if (value) add(key, *value);
  };
  const std::optional<std::uint32_t> end_of_turn = FindEndOfTurn(vocabulary.tokens);
  add("model", is_bpe ? std::string("gpt2") : std::string("llama"));
  add("pre", std::string(PreTokenizerName(tokenizer)));
  add("tokens", std::move(vocabulary.tokens));
  if (!is_bpe) add("scores", std::move(vocabulary.scores));
  add("token_type", std::move(vocabulary.types));
  if (is_bpe) add("merges", MergeStrings(tokenizer));
  add_if_known("bos_token_id", tokenizer.bos_id);
  add_if_known("eos_token_id", tokenizer.eos_id);
  add_if_known("eot_token_id", end_of_turn);
  add_if_known("unknown_token_id", tokenizer.unk_id);
  add_if_known("seperator_token_id", tokenizer.sep_id);  // spelt so in GGUF
  add_if_known("padding_token_id", tokenizer.pad_id);
  add_if_known("cls_token_id", tokenizer.cls_id);
  add_if_known("mask_token_id", tokenizer.mask_id);
  add_if_known("add_bos_token", tokenizer.add_bos);
  add_if_known("add_eos_token", tokenizer.add_eos);
  // Absent it means true for this kind, and false for the other.
  if (!is_bpe && !AddsSpacePrefix(tokenizer)) add("add_space_prefix", false);
  AddChatTemplates(tokenizer, out);
}

void CheckUnique(const Metadata& metadata) {
  std::unordered_set<std::string_view> keys;
  for (const auto& [key, value] : metadata) {
    if (!keys.insert(key).second) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("two values for the metadata key '{}'", Escape(key)));
    }
  }
}

}  // namespace

std::optional<std::string> FindFileType(std::uint32_t code) {
  for (const FileType& known : kFileTypes) {
    if (known.code == code) return std::string(known.name);
  }
  return std::nullopt;
}

std::vector<Decision> TokenizerDecisions(const Model& model) {
  std::vector<Decision> decisions;
  const std::string name = GeneralName(model.name, model.tokenizer);
  if (name != model.name) {
    decisions.push_back({"general.name", name,
                         fmt::format("instead of {}: llama.cpp takes its treatment of special "
                                     "tokens from the name",
                                     Escape(model.name))});
  }
  TokenizerRuntime llama_cpp = {.name = "llama.cpp",
                                .strips = TokenizerRuntime::Strips::kAsToldByName,
                                .only_known_steps = true};
  const bool is_phi3 = SaysPhi3(name);
  llama_cpp.strips_behind = [is_phi3](const AddedToken& token) {
    return is_phi3 && (token.special || token.content == "</s>") && token.content != "<unk>" &&
           token.content != "<s>" && token.content != "<|endoftext|>";
  };
  for (Decision& difference : TokenizerDifferences(model.tokenizer, llama_cpp))
    decisions.push_back(std::move(difference));
  return decisions;
}

std::vector<Decision> StopDecisions(const SideFiles& files, const Model& model) {
  // What llama.cpp takes for an end besides the one that is said to be: llama-vocab.cpp.
  constexpr auto kEnds = std::to_array<std::string_view>(
      {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>",
       "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>"});
  const Tokenizer& tokenizer = model.tokenizer;
  const auto text_of = [&](std::uint32_t id) {
    const auto added = std::ranges::lower_bound(tokenizer.added_tokens, id, {}, &AddedToken::id);
    if (added != tokenizer.added_tokens.end() && added->id == id) return added->content;
    if (id < tokenizer.vocab.size()) return tokenizer.vocab[id];
    return id < tokenizer.pieces.size() ? tokenizer.pieces[id].text : std::string();
  };
  std::vector<std::uint32_t> missed = ReadStopIds(files, model.config.vocab_size);
  std::erase_if(missed, [&](std::uint32_t id) {
    return tokenizer.eos_id == id || std::ranges::find(kEnds, text_of(id)) != kEnds.end();
  });
  if (missed.empty()) return {};
  return {{"eos_token_id",
           fmt::format("without {}{}", missed.front(),
                       missed.size() == 1 ? "" : fmt::format(" and {} more", missed.size() - 1)),
           fmt::format("GGUF has one end of text: llama.cpp does not stop at '{}'",
                       Escape(text_of(missed.front())))}};
}

Metadata BuildMetadata(const Model& model, const Plan& plan, const Metadata& extra,
                       const WarningFn& warn) {
  Vocabulary vocabulary = BuildVocabulary(model.tokenizer, model.config.vocab_size, warn);
  Metadata out;
  out.emplace_back("general.architecture", std::string(ArchitectureName(model.config)));
  out.emplace_back("general.type", std::string("model"));
  out.emplace_back("general.name", GeneralName(model.name, model.tokenizer));
  out.emplace_back("general.size_label", SizeLabel(plan));
  AddModel(model.config, out);
  out.emplace_back("general.file_type", FileTypeCode(plan.type));
  out.emplace_back("general.quantization_version", std::uint32_t{2});
  AddTokenizer(model.tokenizer, std::move(vocabulary), out);
  out.insert(out.end(), extra.begin(), extra.end());
  CheckUnique(out);
  return out;
}

}  // namespace phiq::gguf
