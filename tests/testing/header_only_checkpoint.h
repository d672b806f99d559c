// Checkpoints with the true shapes of published models and no weights: a safetensors header over a
// sparse file, so that 29 GB of Phi-4 cost a few kilobytes. Shapes are worked out here from the
// architecture's description, independently of the code under test.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "testing/test_data.h"

namespace phiq::testing {

// The configurations in tests/data/configs.
inline const std::vector<std::string> kPublishedModels = {
    "Phi-3-mini-4k-instruct",   "Phi-3-mini-128k-instruct",   "Phi-3.5-mini-instruct",
    "Phi-3-medium-4k-instruct", "Phi-3-medium-128k-instruct", "Phi-4",
    "Phi-4-reasoning",          "Phi-4-mini-instruct",        "Phi-4-mini-reasoning"};

struct HeaderTensor {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::string dtype = "BF16";
};

inline nlohmann::json ReadTestJson(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("no test data at " + path.string());
  return nlohmann::json::parse(in);
}

inline void WriteTestFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

// The tensors that transformers' Phi3ForCausalLM saves, in its order.
inline std::vector<HeaderTensor> Phi3Tensors(const nlohmann::json& config) {
  const auto get = [&](const char* key) { return config.at(key).get<std::uint64_t>(); };
  const std::uint64_t hidden = get("hidden_size");
  const std::uint64_t inner = get("intermediate_size");
  const std::uint64_t vocab = get("vocab_size");
  const std::uint64_t kv = hidden / get("num_attention_heads") * get("num_key_value_heads");
  std::vector<HeaderTensor> tensors = {{"model.embed_tokens.weight", {vocab, hidden}}};
  for (std::uint64_t i = 0; i < get("num_hidden_layers"); ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tensors.push_back({layer + "self_attn.o_proj.weight", {hidden, hidden}});
    tensors.push_back({layer + "self_attn.qkv_proj.weight", {hidden + 2 * kv, hidden}});
    tensors.push_back({layer + "mlp.gate_up_proj.weight", {2 * inner, hidden}});
    tensors.push_back({layer + "mlp.down_proj.weight", {hidden, inner}});
    tensors.push_back({layer + "input_layernorm.weight", {hidden}});
    tensors.push_back({layer + "post_attention_layernorm.weight", {hidden}});
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.value("tie_word_embeddings", false))
    tensors.push_back({"lm_head.weight", {vocab, hidden}});
  return tensors;
}

// A safetensors file whose data is a hole: every weight reads as zero.
inline void WriteSparseSafetensors(const std::filesystem::path& path,
                                   const std::vector<HeaderTensor>& tensors) {
  nlohmann::ordered_json header;
  std::uint64_t end = 0;
  for (const HeaderTensor& tensor : tensors) {
    std::uint64_t size_bytes = tensor.dtype == "F32" ? 4 : 2;
    for (const std::uint64_t dim : tensor.shape) size_bytes *= dim;
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {end, end + size_bytes}}};
    end += size_bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string bytes;
  for (int shift = 0; shift < 64; shift += 8)
    bytes.push_back(static_cast<char>(text.size() >> shift));
  WriteTestFile(path, bytes + text);
  std::filesystem::resize_file(path, 8 + text.size() + end);
}

// A folder of its own in the temporary directory, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "phiq-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("cannot make a temporary folder");
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A whole checkpoint folder: config.json, model.safetensors, and the tokenizer of the tiny
// checkpoint of the same kind (its vocabulary is smaller than vocab_size: the rest is padding).
class HeaderOnlyCheckpoint {
 public:
  explicit HeaderOnlyCheckpoint(const std::string& name)
      : HeaderOnlyCheckpoint(name, ReadTestJson(DataFolder() / "configs" / (name + ".json"))) {}
  HeaderOnlyCheckpoint(const std::string& name, nlohmann::json config)
      : path_(temp_.path() / name), config_(std::move(config)) {
    std::filesystem::create_directory(path_);
    WriteTestFile(path_ / "config.json", config_.dump());
    WriteSparseSafetensors(path_ / "model.safetensors", Phi3Tensors(config_));
    CopyTokenizer();
  }

  const std::filesystem::path& path() const { return path_; }
  const nlohmann::json& config() const { return config_; }

 private:
  static std::filesystem::path DataFolder() { return kTestData; }

  void CopyTokenizer() const {
    const bool byte_level = config_.at("vocab_size").get<std::uint64_t>() > 32064;
    const std::filesystem::path tiny = DataFolder() / (byte_level ? "phi4mini-tiny" : "phi35-tiny");
    for (const char* file : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                             "added_tokens.json", "special_tokens_map.json"}) {
      if (std::filesystem::exists(tiny / file))
        std::filesystem::copy_file(tiny / file, path_ / file);
    }
    if (config_.at("vocab_size") == 100352) UseCl100kSplit();
  }

  // Phi-4 splits by cl100k's expression where Phi-4-mini has o200k's.
  void UseCl100kSplit() const {
    nlohmann::json tokenizer = ReadTestJson(path_ / "tokenizer.json");
    for (nlohmann::json& step : tokenizer.at("pre_tokenizer").at("pretokenizers")) {
      if (step.at("type") == "Split") {
        step["pattern"] = {
            {"Regex",
             "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
             " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}};
      }
    }
    WriteTestFile(path_ / "tokenizer.json", tokenizer.dump());
  }

  TempFolder temp_;
  std::filesystem::path path_;
  nlohmann::json config_;
};

}  // namespace phiq::testing
