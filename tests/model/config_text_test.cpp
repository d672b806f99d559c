// A config.json that is made of a configuration says the same configuration again.
#include "model/config_text.h"

#include "model/fixture.h"
#include "phiq/model.h"

namespace phiq::testing {
namespace {

class OneFile final : public phiq::SideFiles {
 public:
  explicit OneFile(std::string text) : text_(std::move(text)) {}
  std::filesystem::path PathOf(std::string_view name) const override { return name; }
  std::optional<std::string> ReadFile(std::string_view name, std::uint64_t) const override {
    return name == "config.json" ? std::optional(text_) : std::nullopt;
  }
  std::vector<std::string> Names() const override { return {"config.json"}; }
  std::uint64_t SizeBytes(std::string_view) const noexcept override { return text_.size(); }

 private:
  const std::string text_;
};

void ExpectSame(const ModelConfig& config) {
  WarningList warnings;
  const ModelConfig again = ReadModelConfig(OneFile(MakeConfigText(config)), warnings.fn());
  EXPECT_THAT(warnings.texts(), ::testing::IsEmpty());
  EXPECT_EQ(again.architecture, config.architecture);
  EXPECT_EQ(again.vocab_size, config.vocab_size);
  EXPECT_EQ(again.hidden_size, config.hidden_size);
  EXPECT_EQ(again.intermediate_size, config.intermediate_size);
  EXPECT_EQ(again.n_layers, config.n_layers);
  EXPECT_EQ(again.n_heads, config.n_heads);
  EXPECT_EQ(again.n_kv_heads, config.n_kv_heads);
  EXPECT_EQ(again.head_dim, config.head_dim);
  EXPECT_EQ(again.rope_dim, config.rope_dim);
  EXPECT_EQ(again.n_experts, config.n_experts);
  EXPECT_EQ(again.n_experts_per_token, config.n_experts_per_token);
  EXPECT_EQ(again.router_epsilon, config.router_epsilon);
  EXPECT_EQ(again.attention_bias, config.attention_bias);
  EXPECT_EQ(again.lm_head_bias, config.lm_head_bias);
  EXPECT_EQ(again.rms_norm_eps, config.rms_norm_eps);
  EXPECT_EQ(again.rope_theta, config.rope_theta);
  EXPECT_EQ(again.max_position_embeddings, config.max_position_embeddings);
  EXPECT_EQ(again.original_max_position_embeddings, config.original_max_position_embeddings);
  EXPECT_EQ(again.sliding_window, config.sliding_window);
  EXPECT_EQ(again.tie_word_embeddings, config.tie_word_embeddings);
  EXPECT_EQ(again.rope_scaling, config.rope_scaling);
  EXPECT_EQ(again.long_factor, config.long_factor);
  EXPECT_EQ(again.short_factor, config.short_factor);
  EXPECT_EQ(again.attention_factor, config.attention_factor);
  EXPECT_EQ(again.long_attention_factor, config.long_attention_factor);
  EXPECT_EQ(again.bos_token_id, config.bos_token_id);
  EXPECT_EQ(again.eos_token_id, config.eos_token_id);
  EXPECT_EQ(again.pad_token_id, config.pad_token_id);
  EXPECT_EQ(again.torch_dtype, config.torch_dtype);
}

ModelConfig Read(const std::string& base) {
  return ReadModelConfig(LocateCheckpoint((TestData() / base).string(), nullptr), nullptr);
}

TEST(MakeConfigText, SaysTheConfigurationOfEveryModel) {
  for (const char* name : {"phi35-tiny", "phi4mini-tiny", "phimoe-tiny"}) {
    SCOPED_TRACE(name);
    ExpectSame(Read(name));
  }
  for (const auto& entry : std::filesystem::directory_iterator(TestData() / "configs")) {
    SCOPED_TRACE(entry.path());
    const HeaderOnlyCheckpoint checkpoint(entry.path().stem().string());
    ExpectSame(ReadModelConfig(LocateCheckpoint(checkpoint.path().string(), nullptr), nullptr));
  }
}

TEST(MakeConfigText, HasWhatIsUnusual) {
  ModelConfig config = Read("phi35-tiny");
  config.attention_factor = 1.25F;
  config.rope_theta = 250000.1F;
  config.rms_norm_eps = 3.3e-6F;
  config.sliding_window = 0;
  config.bos_token_id = config.pad_token_id = std::nullopt;
  config.torch_dtype = std::nullopt;
  ExpectSame(config);
  config = Read("phimoe-tiny");
  config.attention_factor = 1.5F;
  config.long_attention_factor = 1.75F;
  config.attention_bias = false;
  ExpectSame(config);
}

// transformers 4 asks for three keys there, and takes ids of its own for keys that are missing.
TEST(MakeConfigText, HasWhatTransformersChecks) {
  ModelConfig config = Read("phi35-tiny");
  config.pad_token_id = std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(MakeConfigText(config));
  EXPECT_EQ(json["rope_scaling"].size(), 3U);
  EXPECT_TRUE(json.contains("pad_token_id"));
  EXPECT_TRUE(json["pad_token_id"].is_null());
  EXPECT_EQ(json["rope_scaling"]["long_factor"],
            ReadTestJson(TestData() / "phi35-tiny/config.json")["rope_scaling"]["long_factor"]);
}

}  // namespace
}  // namespace phiq::testing
