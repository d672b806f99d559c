// What of tokenizer.json has an operator, and what is refused by name.
#include "formats/openvino/tokenizer_steps.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

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
  tokenizer.merges = {{"a", "b"}};
  tokenizer.added_tokens = {{.id = 4, .content = "<|end|>", .special = true}};
  return tokenizer;
}

std::string File(const std::string& more) {
  return fmt::format(R"({{"model": {{"type": "BPE", "unk_token": "<unk>"}}{}}})", more);
}

TokenizerSteps Read(TokenizerKind kind, const std::string& more) {
  return ReadTokenizerSteps(File(more), "tokenizer.json", SmallTokenizer(kind));
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
  tokenizer.merges = {{"\xC4\xA0", "a"}};
  const TokenizerSteps steps = ReadTokenizerSteps(
      File(
          R"(, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})"),
      "tokenizer.json", tokenizer);
  EXPECT_THAT(steps.vocab, ElementsAre(" ", "a", " a", "", "<|end|>"));
  EXPECT_EQ(steps.merges[0].first, " ");
  EXPECT_THAT(steps.splits, IsEmpty());
}

TEST(TokenizerSteps, KeepTheSplitOfAByteLevelTokenizer) {
  const TokenizerSteps steps = Read(TokenizerKind::kByteLevelBpe, R"(, "pre_tokenizer": {
      "type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Removed", "invert": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})");
  ASSERT_EQ(steps.splits.size(), 1U);
  EXPECT_EQ(steps.splits[0].expression, "\\p{N}");
  EXPECT_EQ(steps.splits[0].behaviour, "remove");
  EXPECT_TRUE(steps.splits[0].invert);
}

TEST(TokenizerSteps, PutSpecialTokensWhereTheTemplateHasThem) {
  const TokenizerSteps steps = Read(TokenizerKind::kSentencePiece, R"(, "post_processor": {
      "type": "TemplateProcessing", "single": [
        {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|end|>"}}]})");
  EXPECT_EQ(steps.first_special, std::nullopt);
  EXPECT_EQ(steps.last_special, 4U);
}

TEST(TokenizerSteps, RefuseWhatHasNoOperator) {
  for (const char* step :
       {R"(, "normalizer": {"type": "NFKC"})",
        R"(, "normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "$1"})",
        R"(, "pre_tokenizer": {"type": "Metaspace"})",
        R"(, "post_processor": {"type": "TemplateProcessing", "single": []})",
        R"(, "decoder": {"type": "Strip", "content": " ", "start": 2, "stop": 0})"}) {
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
