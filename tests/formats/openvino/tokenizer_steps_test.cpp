// What of tokenizer.json has an operator, and what is refused by name.
#include "formats/openvino/tokenizer_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/json.h"
#include "model/tokenizer_steps.h"
#include "phiq/error.h"

namespace phiq::openvino {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Tokenizer SmallTokenizer(TokenizerKind kind) {
  Tokenizer tokenizer;
  tokenizer.kind = kind;
  tokenizer.vocab = {"a", "b", "ab"};
  tokenizer.merges = {{0, 1, 2}};
  tokenizer.unk_token = "<unk>";
  tokenizer.added_tokens = {{.id = 4, .content = "<|end|>", .special = true}};
  return tokenizer;
}

// `components` of tokenizer.json.
void SetSteps(const std::string& components, Tokenizer& tokenizer) {
  const Json file = ParseJson("{" + components + "}", "tokenizer.json");
  const auto steps = [&](const char* name) {
    const Json* const component = file.find(name);
    return component == nullptr ? std::vector<TokenizerStep>() : ReadSteps(*component);
  };
  tokenizer.normalizer = steps("normalizer");
  tokenizer.pre_tokenization = steps("pre_tokenizer");
  tokenizer.post_processor = steps("post_processor");
  tokenizer.decoder = steps("decoder");
}

TokenizerSteps Read(TokenizerKind kind, const std::string& components) {
  Tokenizer tokenizer = SmallTokenizer(kind);
  SetSteps(components, tokenizer);
  return ReadTokenizerSteps(tokenizer);
}

TEST(TokenizerSteps, HaveAddedTokensInTheVocabularyAndGapsEmpty) {
  const TokenizerSteps steps = Read(TokenizerKind::kSentencePiece, "");
  EXPECT_THAT(steps.vocab, ElementsAre("a", "b", "ab", "", "<|end|>"));
  EXPECT_EQ(steps.unk_token, "<unk>");
}

TEST(TokenizerSteps, HaveBytesForTheLettersOfAByteLevelTokenizer) {
  Tokenizer tokenizer = SmallTokenizer(TokenizerKind::kByteLevelBpe);
  tokenizer.vocab = {"\xC4\xA0", "a",
                     "\xC4\xA0"
                     "a"};  // U+0120 stands for the blank
  SetSteps(
      R"("pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})",
      tokenizer);
  const TokenizerSteps steps = ReadTokenizerSteps(tokenizer);
  EXPECT_THAT(steps.vocab, ElementsAre(" ", "a", " a", "", "<|end|>"));
  EXPECT_EQ(steps.merges[0].first, " ");
  EXPECT_THAT(steps.splits, IsEmpty());
}

TEST(TokenizerSteps, KeepTheSplitOfAByteLevelTokenizer) {
  const TokenizerSteps steps = Read(TokenizerKind::kByteLevelBpe, R"("pre_tokenizer": {
      "type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Removed", "invert": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  ASSERT_EQ(steps.splits.size(), 1U);
  EXPECT_EQ(steps.splits[0].expression, "\\p{N}");
  EXPECT_EQ(steps.splits[0].behaviour, "remove");
  EXPECT_TRUE(steps.splits[0].invert);
}

TEST(TokenizerSteps, PutSpecialTokensWhereTheTemplateHasThem) {
  const TokenizerSteps steps = Read(TokenizerKind::kSentencePiece, R"("post_processor": {
      "type": "TemplateProcessing", "single": [
        {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|end|>"}}]})");
  EXPECT_EQ(steps.first_special, std::nullopt);
  EXPECT_EQ(steps.last_special, 4U);
}

// tokenizer_config.json has the last word on BOS and EOS.
TEST(TokenizerSteps, PutBosAndEosWhereTheFlagsSay) {
  Tokenizer tokenizer = SmallTokenizer(TokenizerKind::kSentencePiece);
  tokenizer.bos_id = 0;
  tokenizer.eos_id = 4;
  tokenizer.add_bos = true;
  EXPECT_EQ(ReadTokenizerSteps(tokenizer).first_special, 0U);
  SetSteps(R"("post_processor": {"type": "TemplateProcessing", "single": [
      {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|end|>"}}]})",
           tokenizer);
  tokenizer.add_eos = false;
  EXPECT_EQ(ReadTokenizerSteps(tokenizer).first_special, 0U);
  EXPECT_EQ(ReadTokenizerSteps(tokenizer).last_special, std::nullopt);
}

TEST(TokenizerSteps, MarkSpacesAsMetaspaceDoes) {
  const auto read = [](const std::string& more) {
    return Read(TokenizerKind::kSentencePiece,
                R"("pre_tokenizer": {"type": "Metaspace", "replacement": "_")" + more + "}");
  };
  const TokenizerSteps always = read("");
  ASSERT_EQ(always.normalizations.size(), 2U);
  EXPECT_EQ(always.normalizations[0].expression, " ");
  EXPECT_EQ(always.normalizations[0].replacement, "_");
  EXPECT_EQ(always.normalizations[1].expression, R"((?:^)(?!_)([\s\S]))");
  EXPECT_EQ(always.normalizations[1].replacement, "_$1");
  EXPECT_FALSE(always.first_mark.has_value());
  ASSERT_EQ(always.splits.size(), 1U);
  EXPECT_EQ(always.splits[0].expression, R"(_(?:(?!_)[\s\S])*)");
  EXPECT_EQ(always.splits[0].behaviour, "isolate");
  const TokenizerSteps first = read(R"(, "prepend_scheme": "first", "split": false)");
  EXPECT_EQ(first.normalizations.size(), 1U);
  ASSERT_TRUE(first.first_mark.has_value());
  EXPECT_EQ(first.first_mark->expression, R"((?!_| )[\s\S])");
  EXPECT_THAT(first.splits, IsEmpty());
  const TokenizerSteps never = read(R"(, "prepend_scheme": "never", "split": false)");
  EXPECT_EQ(never.normalizations.size(), 1U);
  EXPECT_FALSE(never.first_mark.has_value());
}

TEST(TokenizerSteps, RefuseWhatHasNoOperator) {
  for (const char* step :
       {R"("normalizer": {"type": "NFKC"})",
        R"("normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "$1"})",
        R"("pre_tokenizer": {"type": "Whitespace"})", R"("decoder": {"type": "Metaspace"})",
        R"("normalizer": {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"})",
        R"("post_processor": {"type": "TemplateProcessing", "single": []})",
        R"("decoder": {"type": "Strip", "content": " ", "start": 2, "stop": 0})"}) {
    try {
      Read(TokenizerKind::kSentencePiece, step);
      ADD_FAILURE() << step;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << step;
      EXPECT_THAT(error.what(), HasSubstr("has no counterpart in an OpenVINO tokenizer"));
    }
  }
}

TEST(QuoteExpression, LeavesLettersAndOtherScriptsAlone) {
  EXPECT_EQ(QuoteExpression("<|end|>"), R"(\<\|end\|\>)");
  EXPECT_EQ(QuoteExpression("\xE2\x96\x81 a_1"), "\xE2\x96\x81 a_1");
}

}  // namespace
}  // namespace phiq::openvino
