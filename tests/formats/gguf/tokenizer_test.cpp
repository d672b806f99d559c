// Token ids from a file's metadata, and metadata that no text can be encoded with.
#include "formats/gguf/tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "formats/gguf/layout.h"
#include "formats/gguf/plan.h"
#include "formats/gguf/vocabulary.h"
#include "model/byte_alphabet.h"
#include "model/golden_token_ids.h"
#include "model/piece_merges.h"
#include "model/token_encoder.h"
#include "phiq/checkpoint.h"
#include "testing/test_data.h"

namespace phiq::gguf {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kData = kTestData;

void IgnoreWarning(const Warning&) {}

// The metadata that phiq writes for a tiny checkpoint.
Metadata WrittenMetadata(const std::string& name) {
  const CheckpointFolder folder = LocateCheckpoint((kData / name).string(), IgnoreWarning);
  const Checkpoint checkpoint = OpenCheckpoint(folder, IgnoreWarning);
  const Model model =
      DescribeModel(folder, ReadModelConfig(folder, IgnoreWarning), checkpoint, {}, IgnoreWarning);
  PlanOptions options;
  options.type = "F32";
  return BuildMetadata(model, *MakePlan(model, options, IgnoreWarning), {}, IgnoreWarning);
}

TokenEncoder EncoderOf(const Metadata& metadata, std::uint32_t vocab_size) {
  return TokenEncoder(ReadTokenizer(metadata, "phi.gguf"), vocab_size);
}

// The ids that llama-tokenize gives with the file of llama.cpp's converter.
void ExpectLlamaCppIds(const TokenEncoder& encoder, const std::string& name) {
  const nlohmann::json golden =
      phiq::testing::ReadTestJson(kData / "golden" / "tokenization" / (name + ".json"));
  ASSERT_GE(golden.size(), 50U);
  for (const nlohmann::json& entry : golden) {
    EXPECT_EQ(encoder.Encode(entry.at("text").get<std::string>()),
              entry.at("ids").get<std::vector<std::uint32_t>>())
        << entry.at("text");
  }
}

TEST(GgufTokenizer, OfPhi3GivesTheIdsOfTheCheckpoint) {
  const TokenEncoder encoder = EncoderOf(WrittenMetadata("phi35-tiny"), 2112);
  phiq::testing::ExpectGoldenTokenIds(encoder, "phi35-tiny");
  ExpectLlamaCppIds(encoder, "phi35-tiny");
}

// GGUF has no rstrip: behind Phi-4-mini's role tokens white space stays, as it does in llama.cpp.
TEST(GgufTokenizer, OfPhi4MiniGivesTheIdsOfLlamaCpp) {
  const TokenEncoder encoder = EncoderOf(WrittenMetadata("phi4mini-tiny"), 2112);
  ExpectLlamaCppIds(encoder, "phi4mini-tiny");
  EXPECT_EQ(phiq::testing::DigestOfIds(encoder, {phiq::testing::HeldoutText()}),
            phiq::testing::GoldenTokenIds("phi4mini-tiny").at("heldout"));
}

// The scores that stand for the merges of a tokenizer.json alone.
TEST(GgufTokenizer, OfThePublishedPhi3GivesItsIds) {
  const Tokenizer tokenizer =
      phiq::ReadTokenizer(LocateCheckpoint((kData / "tokenizers" / "phi-3-mini").string(), nullptr),
                          32064, {}, {}, {}, nullptr);
  Vocabulary vocabulary = BuildVocabulary(tokenizer, 32064, IgnoreWarning);
  const Metadata metadata = {{"general.name", std::string("Phi-3-mini")},
                             {"tokenizer.ggml.model", std::string("llama")},
                             {"tokenizer.ggml.tokens", std::move(vocabulary.tokens)},
                             {"tokenizer.ggml.scores", std::move(vocabulary.scores)},
                             {"tokenizer.ggml.token_type", std::move(vocabulary.types)}};
  phiq::testing::ExpectGoldenTokenIds(EncoderOf(metadata, 32064), "phi-3-mini");
  EXPECT_EQ(MergesFromScores(ReadTokenizer(metadata, "").pieces), tokenizer.merges);
}

// A vocabulary of the 256 bytes, `ab`, `abb`, "<|x|>" and an unused row.
Metadata Small(const std::string& model) {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  for (unsigned byte = 0; byte < 256; ++byte) {
    tokens.push_back(model == "llama" ? fmt::format("<0x{:02X}>", byte)
                                      : ByteLetter(static_cast<std::uint8_t>(byte)));
    types.push_back(model == "llama" ? 6 : 1);
  }
  std::vector<float> scores(tokens.size(), 0);
  const auto add = [&](const char* text, float score, std::int32_t type) {
    tokens.emplace_back(text);
    scores.push_back(score);
    types.push_back(type);
  };
  add("ab", -1, 1);
  add("abb", -2, 1);
  add("<|x|>", 0, 3);
  add("[PAD]", 0, 5);
  add("\xE2\x96\x81", 0, model == "llama" ? 1 : 5);
  if (model == "llama") {
    add("a", -3, 1);
    add("b", -3, 1);
  }
  Metadata metadata = {{"tokenizer.ggml.model", model},
                       {"tokenizer.ggml.pre", std::string("gpt-4o")},
                       {"tokenizer.ggml.tokens", tokens},
                       {"tokenizer.ggml.token_type", types}};
  if (model == "llama") {
    metadata.emplace_back("tokenizer.ggml.scores", scores);
  } else {
    metadata.emplace_back("tokenizer.ggml.merges", std::vector<std::string>{"a b", "ab b"});
  }
  return metadata;
}

constexpr std::uint32_t kAbb = 257, kX = 258, kSpace = 260;  // of Small

template <typename T>
T& Get(Metadata& metadata, const std::string& key) {
  for (auto& [name, value] : metadata) {
    if (name == "tokenizer.ggml." + key) return std::get<T>(value);
  }
  throw std::runtime_error(key);
}

void ExpectRefused(const Metadata& metadata, ErrorCode code, const std::string& message) {
  try {
    EncoderOf(metadata, 300);
    ADD_FAILURE() << "nothing was refused, expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr("phi.gguf: " + message));
  }
}

void ExpectRefused(const std::string& model, const std::function<void(Metadata&)>& edit,
                   const std::string& message, ErrorCode code = ErrorCode::kBadData) {
  Metadata metadata = Small(model);
  edit(metadata);
  ExpectRefused(metadata, code, message);
}

void Erase(Metadata& metadata, const std::string& key) {
  std::erase_if(metadata, [&](const auto& record) { return record.first == key; });
}

TEST(GgufTokenizer, ReadsScoresAndMerges) {
  EXPECT_THAT(EncoderOf(Small("gpt2"), 300).Encode("abb<|x|>"), ::testing::ElementsAre(kAbb, kX));
  EXPECT_THAT(EncoderOf(Small("llama"), 300).Encode("abb<|x|>"),
              ::testing::ElementsAre(kSpace, kAbb, kX));
}

TEST(GgufTokenizer, PutsNoSpaceBeforeTextWhereTheFileSaysSo) {
  Metadata metadata = Small("llama");
  metadata.emplace_back("tokenizer.ggml.add_space_prefix", false);
  EXPECT_THAT(EncoderOf(metadata, 300).Encode("abb"), ::testing::ElementsAre(kAbb));
}

TEST(GgufTokenizer, SwallowsSpaceBehindTokensOfPhi3AsLlamaCppDoes) {
  for (const auto& [name, swallows] :
       {std::pair("my PHI-3", true), std::pair("phi3", true), std::pair("Phi 3", false)}) {
    Metadata metadata = Small("llama");
    metadata.emplace_back("general.name", std::string(name));
    const std::vector<std::uint32_t> ids = EncoderOf(metadata, 300).Encode("<|x|> \n");
    EXPECT_EQ(ids.size() == 1, swallows) << name;
    EXPECT_EQ(ids.front(), kX);
    Get<std::vector<std::string>>(metadata, "tokens")[kX] = "<|endoftext|>";
    EXPECT_EQ(EncoderOf(metadata, 300).Encode("<|endoftext|> ").size(), 3U) << name;
  }
}

TEST(GgufTokenizer, TakesWordsThatAreTokensWholeWherePreSaysSo) {
  Metadata metadata = Small("gpt2");
  Get<std::vector<std::string>>(metadata, "merges") = {"a b"};
  EXPECT_EQ(EncoderOf(metadata, 300).Encode("abb").size(), 2U);
  Get<std::string>(metadata, "pre") = "llama-bpe";
  EXPECT_THAT(EncoderOf(metadata, 300).Encode("abb"), ::testing::ElementsAre(kAbb));
}

TEST(GgufTokenizer, RefusesArraysOfDifferentLengths) {
  ExpectRefused(
      "llama", [](Metadata& m) { Get<std::vector<float>>(m, "scores").pop_back(); },
      "'tokenizer.ggml.scores' has 262 entries but 'tokenizer.ggml.tokens' has 263");
  ExpectRefused(
      "gpt2", [](Metadata& m) { Get<std::vector<std::int32_t>>(m, "token_type").push_back(1); },
      "'tokenizer.ggml.token_type' has 262 entries but 'tokenizer.ggml.tokens' has 261");
}

TEST(GgufTokenizer, RefusesMissingKeysAndOtherTypes) {
  for (const char* key : {"model", "tokens", "token_type", "scores"}) {
    const std::string name = std::string("tokenizer.ggml.") + key;
    ExpectRefused(
        "llama", [&](Metadata& m) { Erase(m, name); }, "'" + name + "' is missing");
  }
  for (const char* key : {"pre", "merges"}) {
    const std::string name = std::string("tokenizer.ggml.") + key;
    ExpectRefused(
        "gpt2", [&](Metadata& m) { Erase(m, name); }, "'" + name + "' is missing");
  }
  ExpectRefused(
      "gpt2",
      [](Metadata& m) {
        Erase(m, "tokenizer.ggml.merges");
        m.emplace_back("tokenizer.ggml.merges", std::vector<float>{1});
      },
      "'tokenizer.ggml.merges' is array of f32, needs an array of strings");
  ExpectRefused(
      "llama",
      [](Metadata& m) { m.emplace_back("tokenizer.ggml.add_space_prefix", std::uint32_t{1}); },
      "'tokenizer.ggml.add_space_prefix' is u32, needs a bool");
}

TEST(GgufTokenizer, RefusesBadTokens) {
  const auto set_type = [](std::int32_t type) {
    return [=](Metadata& m) { Get<std::vector<std::int32_t>>(m, "token_type")[7] = type; };
  };
  ExpectRefused("gpt2", set_type(99),
                "'tokenizer.ggml.token_type' of token 7 is 99, allowed are 1 to 6");
  ExpectRefused("gpt2", set_type(0),
                "'tokenizer.ggml.token_type' of token 7 is 0, allowed are 1 to 6");
  const auto set_token = [](const char* text) {
    return [=](Metadata& m) { Get<std::vector<std::string>>(m, "tokens")[7] = text; };
  };
  ExpectRefused("gpt2", set_token(""), "'tokenizer.ggml.tokens': token 7 '' has no text");
  ExpectRefused("gpt2", set_token("\xFF"), "'tokenizer.ggml.tokens': token 7 '\\xff' is not UTF-8");
  ExpectRefused("gpt2", set_token("ab"), "'tokenizer.ggml.tokens': token 256 'ab' is token 7 too");
  ExpectRefused("gpt2", set_token("x y"),
                "'tokenizer.ggml.tokens': token 7 'x y' has a character that is not in the byte "
                "alphabet");
  ExpectRefused(
      "llama", [](Metadata& m) { Get<std::vector<float>>(m, "scores")[7] = NAN; },
      "'tokenizer.ggml.scores' of token 7 is nan");
}

TEST(GgufTokenizer, RefusesBadMerges) {
  const auto set_merge = [](const char* text) {
    return [=](Metadata& m) { Get<std::vector<std::string>>(m, "merges")[1] = text; };
  };
  for (const char* text : {"ab", " ab", "ab ", " "}) {
    ExpectRefused("gpt2", set_merge(text),
                  fmt::format("'tokenizer.ggml.merges' 1 '{}' does not have two parts", text));
  }
  ExpectRefused("gpt2", set_merge("ab c"),
                "'tokenizer.ggml.merges' 1 needs token 'abc', which 'tokenizer.ggml.tokens' lacks");
  ExpectRefused("gpt2", set_merge("abc d"),
                "'tokenizer.ggml.merges' 1 needs token 'abc', which 'tokenizer.ggml.tokens' lacks");
}

TEST(GgufTokenizer, RefusesTokenizersItDoesNotDo) {
  ExpectRefused(
      "gpt2", [](Metadata& m) { Get<std::string>(m, "model") = "t5"; },
      "'tokenizer.ggml.model' is 't5', phiq encodes with 'llama' and 'gpt2' (give the text as "
      "token ids with --ids)",
      ErrorCode::kUnsupported);
  ExpectRefused(
      "gpt2", [](Metadata& m) { Get<std::string>(m, "pre") = "tekken"; },
      "'tokenizer.ggml.pre' is 'tekken', whose split expression phiq does not know (give the text "
      "as token ids with --ids)",
      ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace phiq::gguf
