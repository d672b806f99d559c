// config.json in every shape that Phi checkpoints have it.
#include "model/fixture.h"
#include "phiq/model.h"

namespace phiq::testing {
namespace {

// The tiny checkpoint's configuration with some keys changed.
ModelConfig ReadEdited(const nlohmann::json& changes) {
  const SideFiles files("phi35-tiny");
  files.Edit("config.json", [&](nlohmann::json& config) {
    for (const auto& [key, value] : changes.items()) {
      if (value == "(remove)") {
        config.erase(key);
      } else {
        config[key] = value;
      }
    }
  });
  return ReadModelConfig(files.Folder(), nullptr);
}

TEST(ModelConfig, ReadsTheClassicShape) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4-mini-instruct");
  const ModelConfig config =
      ReadModelConfig(LocateCheckpoint(checkpoint.path().string(), nullptr), nullptr);
  EXPECT_EQ(config.architecture, "Phi3ForCausalLM");
  EXPECT_EQ(config.vocab_size, 200064U);
  EXPECT_EQ(config.hidden_size, 3072U);
  EXPECT_EQ(config.intermediate_size, 8192U);
  EXPECT_EQ(config.n_layers, 32U);
  EXPECT_EQ(config.n_heads, 24U);
  EXPECT_EQ(config.n_kv_heads, 8U);
  EXPECT_EQ(config.head_dim, 128U);
  EXPECT_EQ(config.rope_dim, 96U);  // 0.75 * 3072 / 24
  EXPECT_EQ(config.rms_norm_eps, 1e-5F);
  EXPECT_EQ(config.rope_theta, 10000.0F);
  EXPECT_EQ(config.max_position_embeddings, 131072U);
  EXPECT_EQ(config.original_max_position_embeddings, 4096U);
  EXPECT_EQ(config.sliding_window, 262144U);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.rope_scaling, RopeScalingType::kLongRope);
  EXPECT_EQ(config.long_factor.size(), 48U);
  EXPECT_EQ(config.long_factor.back(), 64.0F);
  EXPECT_EQ(config.short_factor.back(), 1.25F);
  EXPECT_EQ(config.bos_token_id, 199999U);
}

TEST(ModelConfig, ReadsTheNewerShapeLikeTheClassicOne) {
  const HeaderOnlyCheckpoint classic("Phi-4-mini-instruct");
  const HeaderOnlyCheckpoint newer("Phi-4-mini-reasoning");
  ASSERT_TRUE(newer.config().contains("rope_parameters"));
  const ModelConfig a =
      ReadModelConfig(LocateCheckpoint(classic.path().string(), nullptr), nullptr);
  const ModelConfig b = ReadModelConfig(LocateCheckpoint(newer.path().string(), nullptr), nullptr);
  EXPECT_EQ(b.rope_dim, a.rope_dim);
  EXPECT_EQ(b.rope_theta, a.rope_theta);
  EXPECT_EQ(b.original_max_position_embeddings, a.original_max_position_embeddings);
  EXPECT_EQ(b.rope_scaling, a.rope_scaling);
  EXPECT_EQ(b.long_factor, a.long_factor);
  EXPECT_EQ(b.short_factor, a.short_factor);
}

TEST(ModelConfig, TakesRopeScalingBeforeRopeParametersBeforeTopLevel) {
  nlohmann::json changes = {{"rope_theta", 5.0}, {"rope_scaling", nullptr}};
  EXPECT_EQ(ReadEdited(changes).rope_theta, 5.0F);
  changes["rope_parameters"] = {{"rope_theta", 7.0}};
  EXPECT_EQ(ReadEdited(changes).rope_theta, 7.0F);
  changes["rope_scaling"] = {{"rope_type", "default"}};  // whole: its theta is the top level's
  EXPECT_EQ(ReadEdited(changes).rope_theta, 5.0F);
  changes["rope_theta"] = nullptr;
  changes["rope_scaling"] = {{"rope_theta", 6.0}};
  EXPECT_EQ(ReadEdited(changes).rope_theta, 6.0F);
}

TEST(ModelConfig, RefusesRopeSettingsThatVersionsOfTransformersReadDifferently) {
  for (const char* key : {"rope_theta", "partial_rotary_factor"}) {
    ExpectError(
        ErrorCode::kUnsupported, std::string("'") + key + "' is 1.0, but 0.5 in rope_scaling", [&] {
          ReadEdited({{key, 1.0}, {"rope_scaling", {{"rope_type", "default"}, {key, 0.5}}}});
        });
  }
}

TEST(ModelConfig, TakesTheOriginalLengthOfTheTopLevelOrOfTheClass) {
  constexpr const char* kKey = "original_max_position_embeddings";
  const auto length = [&](const nlohmann::json& outer, const nlohmann::json& inner,
                          std::size_t n_warnings) {
    const SideFiles files("phi35-tiny");
    files.Edit("config.json", [&](nlohmann::json& config) {
      config["rope_scaling"][kKey] = inner;
      config[kKey] = outer;
    });
    WarningList warnings;
    const std::uint32_t found =
        ReadModelConfig(files.Folder(), warnings.fn()).original_max_position_embeddings;
    EXPECT_EQ(warnings.texts().size(), n_warnings);
    return found;
  };
  EXPECT_EQ(length(512, nullptr, 0), 512U);
  EXPECT_EQ(length(512, 512, 0), 512U);
  EXPECT_EQ(length(512, 256, 1), 512U);
  EXPECT_EQ(length(nullptr, 256, 1), 4096U);  // Phi3Config's
  EXPECT_EQ(length(nullptr, nullptr, 0), 4096U);
}

TEST(ModelConfig, KnowsEveryNameOfNoScaling) {
  for (const nlohmann::json& scaling :
       {nlohmann::json(nullptr), nlohmann::json{{"rope_type", "default"}}}) {
    const ModelConfig config = ReadEdited({{"rope_scaling", scaling}});
    EXPECT_EQ(config.rope_scaling, RopeScalingType::kNone);
    EXPECT_TRUE(config.long_factor.empty());
  }
}

TEST(ModelConfig, KnowsEveryNameOfLongRope) {
  nlohmann::json scaling =
      ReadTestJson(TestData() / "phi35-tiny" / "config.json").at("rope_scaling");
  for (const char* type : {"su", "LongRope"}) {
    scaling["type"] = type;
    EXPECT_EQ(ReadEdited({{"rope_scaling", scaling}}).rope_scaling, RopeScalingType::kLongRope)
        << type;
  }
  scaling["type"] = "yarn";
  EXPECT_EQ(ReadEdited({{"rope_scaling", scaling}}).rope_scaling, RopeScalingType::kYarn);
}

TEST(ModelConfig, FillsInWhatMayBeAbsent) {
  const ModelConfig config = ReadEdited({{"original_max_position_embeddings", "(remove)"},
                                         {"num_key_value_heads", "(remove)"},
                                         {"sliding_window", nullptr},
                                         {"eos_token_id", {2048, 2055}}});
  EXPECT_EQ(config.n_kv_heads, 4U);
  EXPECT_EQ(config.sliding_window, 0U);
  EXPECT_FALSE(config.eos_token_id.has_value());
}

// No text needs it.
TEST(ModelConfig, LeavesOutAPaddingIdThatCannotBe) {
  for (const nlohmann::json& value : std::vector<nlohmann::json>{-1, 2112, "x"}) {
    const SideFiles files("phi35-tiny");
    files.Edit("config.json", [&](nlohmann::json& json) { json["pad_token_id"] = value; });
    WarningList warnings;
    EXPECT_EQ(ReadModelConfig(files.Folder(), warnings.fn()).pad_token_id, std::nullopt);
    ASSERT_EQ(warnings.texts().size(), 1U);
    EXPECT_THAT(warnings.texts()[0], ::testing::HasSubstr("'pad_token_id' is " + value.dump()));
  }
}

TEST(ModelConfig, TakesTransformersDefaultOfTheOriginalContext) {
  nlohmann::json changes = {{"original_max_position_embeddings", "(remove)"},
                            {"max_position_embeddings", 131072}};
  EXPECT_EQ(ReadEdited(changes).original_max_position_embeddings, 4096U);
  changes["rope_scaling"] = nullptr;
  EXPECT_EQ(ReadEdited(changes).original_max_position_embeddings, 131072U);
}

TEST(ModelConfig, ReadsTheTorchDType) {
  EXPECT_EQ(ReadEdited({}).torch_dtype, DType::kBF16);
  EXPECT_EQ(ReadEdited({{"torch_dtype", "float16"}}).torch_dtype, DType::kF16);
  EXPECT_EQ(ReadEdited({{"torch_dtype", "auto"}}).torch_dtype, std::nullopt);
  EXPECT_EQ(ReadEdited({{"torch_dtype", 16}}).torch_dtype, std::nullopt);
  EXPECT_EQ(ReadEdited({{"torch_dtype", "(remove)"}, {"dtype", "float32"}}).torch_dtype,
            std::nullopt);
}

TEST(ModelConfig, NamesKeyValueAndRangeOfABadNumber) {
  struct Case {
    const char* key;
    nlohmann::json value;
    const char* message;
  };
  const Case cases[] = {
      {"hidden_size", "(remove)", "'hidden_size' is missing, needs a whole number from 1 to 65536"},
      {"hidden_size", "256", "'hidden_size' is \"256\", needs a whole number from 1 to 65536"},
      {"hidden_size", 0, "'hidden_size' is 0, needs"},
      {"num_hidden_layers", -1, "'num_hidden_layers' is -1, needs a whole number from 1 to 1024"},
      {"num_hidden_layers", 1000000000, "'num_hidden_layers' is 1000000000, needs"},
      {"vocab_size", 9223372036854775808U,
       "'vocab_size' is 9223372036854775808, needs a whole number from 1 to 1048576"},
      {"vocab_size", 1048577, "'vocab_size' is 1048577"},
      {"intermediate_size", 1.5, "'intermediate_size' is 1.5"},
      {"num_attention_heads", 5, "'num_attention_heads' is 5, needs a divisor of hidden_size 256"},
      {"num_key_value_heads", 3,
       "'num_key_value_heads' is 3, needs a divisor of num_attention_heads 4"},
      {"num_key_value_heads", 8, "'num_key_value_heads' is 8, needs a whole number from 1 to 4"},
      {"head_dim", 96, "'head_dim' is 96, needs 64"},
      {"rms_norm_eps", 0.0, "'rms_norm_eps' is 0.0, needs a finite number above 0"},
      {"rope_theta", 1e300, "'rope_theta' is 1e+300"},
      {"partial_rotary_factor", 1.5, "'partial_rotary_factor' is 1.5"},
      {"max_position_embeddings", 1, "'max_position_embeddings' is 1"},
      {"tie_word_embeddings", "yes", "'tie_word_embeddings' is \"yes\""},
      {"eos_token_id", 2112, "'eos_token_id' is 2112, needs a token id below 2112"},
      {"rope_scaling", "longrope", "'rope_scaling' is \"longrope\", needs an object"},
  };
  for (const Case& c : cases) {
    ExpectError(ErrorCode::kBadData, c.message, [&] { ReadEdited({{c.key, c.value}}); });
  }
  // 0.26 * 256 = 66.56 -> 66 / 4 heads = 16; 0.27 * 256 = 69.12 -> 69 / 4 = 17, which is odd.
  ExpectError(ErrorCode::kBadData, "gives 17", [&] {
    ReadEdited({{"partial_rotary_factor", 0.27}});
  });
}

TEST(ModelConfig, RefusesBadRopeFactors) {
  const nlohmann::json good =
      ReadTestJson(TestData() / "phi35-tiny" / "config.json").at("rope_scaling");
  const auto refuse = [&](const char* message, const std::function<void(nlohmann::json&)>& edit) {
    nlohmann::json scaling = good;
    edit(scaling);
    ExpectError(ErrorCode::kBadData, message, [&] { ReadEdited({{"rope_scaling", scaling}}); });
  };
  refuse("needs an array of 32 numbers (half the rotated dimensions), has 33",
         [](nlohmann::json& s) { s["long_factor"].push_back(1.0); });
  refuse("'short_factor[3]' is 0, needs a finite number above 0",
         [](nlohmann::json& s) { s["short_factor"][3] = 0; });
  refuse("'long_factor[0]' is 1e+300", [](nlohmann::json& s) { s["long_factor"][0] = 1e300; });
  refuse("'long_factor[1]' is \"1\"", [](nlohmann::json& s) { s["long_factor"][1] = "1"; });
  refuse("'short_factor' is missing", [](nlohmann::json& s) { s.erase("short_factor"); });
  refuse("'type' is missing", [](nlohmann::json& s) { s.erase("type"); });
  refuse("'rope_type' is \"yarn\", needs the same as 'type'",
         [](nlohmann::json& s) { s["rope_type"] = "yarn"; });
}

TEST(ModelConfig, RefusesWhatWouldBeAnotherModel) {
  const auto refuse = [](const char* message, const nlohmann::json& changes) {
    ExpectError(ErrorCode::kUnsupported, message, [&] { ReadEdited(changes); });
  };
  refuse("architecture [\"GemmaForCausalLM\"] is not supported (phiq converts Phi3ForCausalLM",
         {{"architectures", {"GemmaForCausalLM"}}});
  refuse("architecture [\"PhiForCausalLM\"] is not supported: Phi-1, Phi-1.5 and Phi-2",
         {{"architectures", {"PhiForCausalLM"}}});
  refuse("model_type \"phi3\" is not supported with PhiMoEForCausalLM, only phimoe",
         {{"architectures", {"PhiMoEForCausalLM"}}});
  refuse("architecture [\"Phi3ForCausalLM\",\"X\"]", {{"architectures", {"Phi3ForCausalLM", "X"}}});
  refuse("architecture (none given)", {{"architectures", nullptr}, {"model_type", nullptr}});
  refuse("already quantized", {{"quantization_config", {{"quant_method", "gptq"}}}});
  refuse("attention_bias true", {{"attention_bias", true}});
  refuse("hidden_act \"gelu\"", {{"hidden_act", "gelu"}});
  refuse("model_type \"phi\"", {{"model_type", "phi"}});
  refuse("rope scaling type \"linear\"", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}});
}

TEST(ModelConfig, TakesTheClassOfTheModelTypeWhereNoneIsNamed) {
  const ModelConfig config = ReadEdited({{"architectures", "(remove)"}});
  EXPECT_EQ(config.architecture, "Phi3ForCausalLM");
  EXPECT_EQ(config.class_name, "Phi3ForCausalLM");
}

// What Phi3Config, LlamaConfig and MistralConfig of transformers 5.23.0 hold when made without
// arguments.
TEST(ModelConfig, TakesTheDefaultsOfTheClass) {
  nlohmann::json changes = {{"num_key_value_heads", "(remove)"},
                            {"max_position_embeddings", "(remove)"},
                            {"original_max_position_embeddings", "(remove)"},
                            {"rms_norm_eps", "(remove)"},
                            {"sliding_window", "(remove)"},
                            {"num_attention_heads", 16},
                            {"rope_scaling", nullptr}};
  const ModelConfig phi3 = ReadEdited(changes);
  EXPECT_EQ(phi3.n_kv_heads, 16U);
  EXPECT_EQ(phi3.max_position_embeddings, 4096U);
  EXPECT_EQ(phi3.rms_norm_eps, 1e-5F);
  EXPECT_EQ(phi3.sliding_window, 0U);
  changes["architectures"] = {"LlamaForCausalLM"};
  changes["model_type"] = "llama";
  const ModelConfig llama = ReadEdited(changes);
  EXPECT_EQ(llama.architecture, "Phi3ForCausalLM");
  EXPECT_EQ(llama.class_name, "LlamaForCausalLM");
  EXPECT_EQ(llama.n_kv_heads, 16U);
  EXPECT_EQ(llama.max_position_embeddings, 2048U);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6F);
  changes["architectures"] = {"MistralForCausalLM"};
  changes["model_type"] = "mistral";
  const ModelConfig mistral = ReadEdited(changes);
  EXPECT_EQ(mistral.n_kv_heads, 8U);
  EXPECT_EQ(mistral.max_position_embeddings, 131072U);
  EXPECT_EQ(mistral.sliding_window, 4096U);
  changes["sliding_window"] = nullptr;  // written out: none
  EXPECT_EQ(ReadEdited(changes).sliding_window, 0U);
}

TEST(ModelConfig, DoesNotLookAtTheWindowOfALlama) {
  const ModelConfig config = ReadEdited({{"architectures", {"LlamaForCausalLM"}},
                                         {"model_type", "llama"},
                                         {"rope_scaling", nullptr},
                                         {"sliding_window", 16}});
  EXPECT_EQ(config.sliding_window, 0U);
}

TEST(ModelConfig, TakesAnAttentionFactorThatIsWrittenOut) {
  nlohmann::json scaling =
      ReadTestJson(TestData() / "phi35-tiny" / "config.json").at("rope_scaling");
  // sqrt(1 + ln(4096 / 512) / ln(512)) = sqrt(1 + 1 / 3), as 512 = 8^3.
  scaling["attention_factor"] = std::sqrt(4.0 / 3.0);
  EXPECT_FALSE(ReadEdited({{"rope_scaling", scaling}}).attention_factor.has_value());
  scaling["attention_factor"] = 1.25;
  EXPECT_EQ(ReadEdited({{"rope_scaling", scaling}}).attention_factor, 1.25F);
  scaling["factor"] = 2.0;  // settled by the other
  EXPECT_EQ(ReadEdited({{"rope_scaling", scaling}}).attention_factor, 1.25F);
  scaling.erase("attention_factor");
  ExpectError(ErrorCode::kUnsupported, "rope 'factor' is 2.0, but", [&] {
    ReadEdited({{"rope_scaling", scaling}});
  });
  scaling["factor"] = 8;  // 4096 / 512
  EXPECT_FALSE(ReadEdited({{"rope_scaling", scaling}}).attention_factor.has_value());
}

TEST(ModelConfig, RefusesAFileThatIsNoObject) {
  const SideFiles files("phi35-tiny");
  files.WriteText("config.json", "[]");
  ExpectError(ErrorCode::kBadData, "config.json: holds array, needs a JSON object",
              [&] { ReadModelConfig(files.Folder(), nullptr); });
  files.Remove("config.json");
  ExpectError(ErrorCode::kInput, "config.json: not found",
              [&] { ReadModelConfig(files.Folder(), nullptr); });
}

}  // namespace
}  // namespace phiq::testing
