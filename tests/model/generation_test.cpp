// Special ids and sampling: generation_config.json over config.json.
#include "model/generation.h"

#include "model/fixture.h"

namespace phiq::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// The tiny checkpoint's files: 2112 ids, <|endoftext|> 2048, <|end|> 2055; the chat template ends
// turns with <|end|>.
class Generation : public ::testing::Test {
 protected:
  GenerationConfig Read() {
    const CheckpointFolder folder = files.Folder();
    Model model;
    model.config = ReadModelConfig(folder, nullptr);
    model.tokenizer = ReadTokenizer(folder, model.config.vocab_size, model.config.bos_token_id,
                                    model.config.eos_token_id, model.config.pad_token_id, nullptr);
    if (without_tokenizer_eos) model.tokenizer.eos_id.reset();
    return ReadGenerationConfig(folder, model);
  }
  std::string Refusal(ErrorCode code = ErrorCode::kBadData) {
    try {
      Read();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      const std::string text = error.what();
      const std::size_t name = text.find("config.json") != std::string::npos
                                   ? text.rfind('/', text.find("config.json"))
                                   : std::string::npos;
      return name == std::string::npos ? text : text.substr(name + 1);
    }
    return "no error";
  }
  void EditConfig(const std::function<void(nlohmann::json&)>& edit) {
    files.Edit("config.json", edit);
  }
  void EditGeneration(const std::function<void(nlohmann::json&)>& edit) {
    files.Edit("generation_config.json", edit);
  }

  SideFiles files{"phi35-tiny"};
  bool without_tokenizer_eos = false;
};

TEST_F(Generation, ReadsBothFiles) {
  const GenerationConfig config = Read();
  EXPECT_EQ(config.bos_token_id, 1U);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2055, 2049, 2048));  // in the file's order
  EXPECT_EQ(config.pad_token_id, 2048U);
  EXPECT_THAT(config.added_eos, IsEmpty());
  EXPECT_FALSE(config.do_sample);
  EXPECT_EQ(config.temperature, 1.0);
  EXPECT_EQ(config.top_k, 50U);
  EXPECT_EQ(config.top_p, 1.0);
}

TEST_F(Generation, LetsGenerationConfigWin) {
  EditConfig([](nlohmann::json& json) {
    json["bos_token_id"] = 3;
    json["eos_token_id"] = {4, 5};
    json["pad_token_id"] = 6;
    json["temperature"] = 0.1;  // sampling stands in generation_config.json alone
  });
  EditGeneration([](nlohmann::json& json) {
    json["bos_token_id"] = 7;
    json["eos_token_id"] = {2055, 8};
    json["pad_token_id"] = 9;
    json["do_sample"] = true;
    json["temperature"] = 0.5;
    json["top_k"] = 40;
    json["top_p"] = 1;
  });
  const GenerationConfig config = Read();
  EXPECT_EQ(config.bos_token_id, 7U);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2055, 8, 4, 5));
  EXPECT_THAT(config.added_eos, ElementsAre(Pair(4, HasSubstr("config.json stops there")),
                                            Pair(5, HasSubstr("config.json stops there"))));
  EXPECT_EQ(config.pad_token_id, 9U);
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.temperature, 0.5);
  EXPECT_EQ(config.top_k, 40U);
  EXPECT_EQ(config.top_p, 1.0);
}

TEST_F(Generation, TakesFromConfigWhatTheOtherFileLeavesOut) {
  EditGeneration([](nlohmann::json& json) {
    json.erase("bos_token_id");
    json["pad_token_id"] = nullptr;
    json["temperature"] = nullptr;
  });
  const GenerationConfig config = Read();
  EXPECT_EQ(config.bos_token_id, 1U);
  EXPECT_EQ(config.pad_token_id, 2048U);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2055, 2049, 2048));
  EXPECT_EQ(config.temperature, 1.0);
}

TEST_F(Generation, NeedsNoGenerationConfig) {
  files.Remove("generation_config.json");
  const GenerationConfig config = Read();
  // config.json says 2048 alone; turns of the chat template end with <|end|>.
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2048, 2055));
  EXPECT_THAT(config.added_eos, ElementsAre(Pair(2055, HasSubstr("<|end|> ends a turn"))));
  EXPECT_EQ(config.bos_token_id, 1U);
  EXPECT_EQ(config.pad_token_id, 2048U);
}

TEST_F(Generation, AddsTheTurnEndThatPhi4LeavesOut) {
  EditGeneration([](nlohmann::json& json) { json["eos_token_id"] = 2048; });
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json["chat_template"] = "{{ message['content'] + '<|im_end|>' }}";
    json["added_tokens_decoder"]["2055"]["content"] = "<|im_end|>";
  });
  files.Edit("tokenizer.json", [](nlohmann::json& json) {
    for (nlohmann::json& token : json["added_tokens"])
      if (token["id"] == 2055) token["content"] = "<|im_end|>";
  });
  files.Edit("added_tokens.json", [](nlohmann::json& json) {
    json.erase("<|end|>");
    json["<|im_end|>"] = 2055;
  });
  const GenerationConfig config = Read();
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2048, 2055));
  EXPECT_THAT(config.added_eos, ElementsAre(Pair(2055, HasSubstr("<|im_end|> ends a turn"))));
}

TEST_F(Generation, AddsNoTurnEndThatTheChatTemplateDoesNotUse) {
  EditGeneration([](nlohmann::json& json) { json["eos_token_id"] = 2048; });
  files.Edit("tokenizer_config.json",
             [](nlohmann::json& json) { json["chat_template"] = "{{ message['content'] }}"; });
  EXPECT_THAT(Read().eos_token_ids, ElementsAre(2048));
}

TEST_F(Generation, FallsBackToTheTokenizersEnd) {
  for (const char* name : {"config.json", "generation_config.json"})
    files.Edit(name, [](nlohmann::json& json) { json.erase("eos_token_id"); });
  EXPECT_THAT(Read().eos_token_ids, ElementsAre(2048, 2055));
}

TEST_F(Generation, PadsWithTheFirstEndWhenNoPadIsGiven) {
  for (const char* name : {"config.json", "generation_config.json"})
    files.Edit(name, [](nlohmann::json& json) { json.erase("pad_token_id"); });
  EXPECT_EQ(Read().pad_token_id, 2055U);
}

TEST_F(Generation, TakesMinusOneForNoneAndAnIdOnce) {
  EditGeneration([](nlohmann::json& json) {
    json["pad_token_id"] = -1;
    json["eos_token_id"] = {2048, 2048, 2055};
  });
  EditConfig([](nlohmann::json& json) { json.erase("pad_token_id"); });
  EXPECT_THAT(Read().eos_token_ids, ElementsAre(2048, 2055));
  EXPECT_EQ(Read().pad_token_id, 2048U);
}

TEST_F(Generation, TakesMinusOneForAllTokens) {
  EditGeneration([](nlohmann::json& json) { json["top_k"] = -1; });
  EXPECT_EQ(Read().top_k, 0U);
}

TEST_F(Generation, RefusesSamplingThatNoRuntimeTakes) {
  const auto refusal = [&](const char* key, const nlohmann::json& value) {
    EditGeneration([&](nlohmann::json& json) {
      for (const char* other : {"top_k", "top_p", "temperature"}) json.erase(other);
      json[key] = value;
    });
    return Refusal();
  };
  EXPECT_EQ(refusal("top_k", 2147483648U),
            "generation_config.json: 'top_k' is 2147483648, allowed is 0 to 2147483647");
  EXPECT_EQ(refusal("temperature", -5),
            "generation_config.json: 'temperature' is -5, allowed is 0 or more");
  EXPECT_EQ(refusal("top_p", 7), "generation_config.json: 'top_p' is 7, allowed is 0 to 1");
}

TEST_F(Generation, RefusesAModelThatNeverStops) {
  without_tokenizer_eos = true;
  for (const char* name : {"config.json", "generation_config.json"})
    files.Edit(name, [](nlohmann::json& json) { json["eos_token_id"] = nlohmann::json::array(); });
  files.Edit("tokenizer_config.json",
             [](nlohmann::json& json) { json["chat_template"] = "{{ message['content'] }}"; });
  EXPECT_EQ(Refusal(),
            "config.json: no 'eos_token_id' here or in generation_config.json (without one "
            "generation never stops)");
}

TEST_F(Generation, RefusesIdsOutsideOfTheVocabulary) {
  EditGeneration([](nlohmann::json& json) { json["eos_token_id"] = {2055, 2112}; });
  EXPECT_EQ(
      Refusal(),
      "generation_config.json: 'eos_token_id' is [2055,2112], allowed are token ids below 2112 "
      "(--pad-vocab N adds rows, up to a multiple of N)");
  EditGeneration([](nlohmann::json& json) { json["eos_token_id"] = {2055, 2111}; });
  EXPECT_THAT(Read().eos_token_ids, ElementsAre(2055, 2111, 2048));
}

// No text needs it.
TEST_F(Generation, LeavesOutAPaddingIdThatCannotBe) {
  for (const nlohmann::json& value : std::vector<nlohmann::json>{-1, 2112, 4294967296 + 5, "x"}) {
    EditGeneration([&](nlohmann::json& json) { json["pad_token_id"] = value; });
    EXPECT_EQ(Read().pad_token_id, 2048U);  // config.json's
  }
  EditConfig([](nlohmann::json& json) { json["pad_token_id"] = -1; });
  EXPECT_EQ(Read().pad_token_id, 2055U);  // the first end of text
}

TEST_F(Generation, RefusesIdsThatAreNone) {
  for (const auto& [value, shown] : std::vector<std::pair<nlohmann::json, std::string>>{
           {-2, "-2"},
           {1.5, "1.5"},
           {"2048", "\"2048\""},
           {true, "true"},
           {nlohmann::json::array({1, -2}), "[1,-2]"}}) {
    EditGeneration([&](nlohmann::json& json) { json["bos_token_id"] = value; });
    EXPECT_EQ(Refusal(), "generation_config.json: 'bos_token_id' is " + shown +
                             ", allowed are token ids below 2112");
  }
}

TEST_F(Generation, RefusesValuesOfAnotherKind) {
  EditGeneration([](nlohmann::json& json) { json["temperature"] = "warm"; });
  EXPECT_THAT(Refusal(), ::testing::HasSubstr("temperature"));
  EditGeneration([](nlohmann::json& json) {
    json.erase("temperature");
    json["top_k"] = -2;
  });
  EXPECT_THAT(Refusal(), ::testing::HasSubstr("top_k"));
  EditGeneration([](nlohmann::json& json) {
    json.erase("top_k");
    json["do_sample"] = 1;
  });
  EXPECT_THAT(Refusal(), ::testing::HasSubstr("do_sample"));
}

}  // namespace
}  // namespace phiq::testing
