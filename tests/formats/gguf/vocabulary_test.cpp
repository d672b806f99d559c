// Token arrays from tokenizer facts.
#include "formats/gguf/vocabulary.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <string>

namespace phiq::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Built {
  Vocabulary vocabulary;
  std::vector<std::string> warnings;
};

Built Build(const Tokenizer& tokenizer, std::uint32_t vocab_size) {
  Built built;
  built.vocabulary = BuildVocabulary(tokenizer, vocab_size, [&](const Warning& warning) {
    built.warnings.push_back(warning.text);
  });
  return built;
}

std::string ErrorOf(const Tokenizer& tokenizer, std::uint32_t vocab_size) {
  try {
    Build(tokenizer, vocab_size);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadData);
    return error.what();
  }
  return "no error";
}

Tokenizer WithPieces() {
  Tokenizer tokenizer;
  tokenizer.kind = TokenizerKind::kSentencePiece;
  tokenizer.pieces = {{"<unk>", 0, PieceType::kUnknown},     {"<s>", 0, PieceType::kControl},
                      {"<0x41>", 0, PieceType::kByte},       {"a", -1.5F, PieceType::kNormal},
                      {"user", -2, PieceType::kUserDefined}, {"unused", -3, PieceType::kUnused}};
  return tokenizer;
}

TEST(GgufVocabulary, TakesPiecesAndPadsTheRest) {
  const Built built = Build(WithPieces(), 8);
  EXPECT_THAT(built.vocabulary.tokens,
              ElementsAre("<unk>", "<s>", "<0x41>", "a", "user", "unused", "[PAD6]", "[PAD7]"));
  EXPECT_THAT(built.vocabulary.scores, ElementsAre(0, 0, 0, -1.5F, -2, -3, -10000, -10000));
  EXPECT_THAT(built.vocabulary.types, ElementsAre(2, 3, 6, 1, 1, 5, 5, 5));
  EXPECT_TRUE(built.warnings.empty());  // rows behind the vocabulary are usual
}

TEST(GgufVocabulary, AddedTokensOverwritePieces) {
  Tokenizer tokenizer = WithPieces();
  tokenizer.added_tokens = {{0, "<unk>", true, false, false}, {7, "<|VII|>", false, false, false}};
  const Built built = Build(tokenizer, 8);
  EXPECT_THAT(built.vocabulary.tokens,
              ElementsAre("<unk>", "<s>", "<0x41>", "a", "user", "unused", "[PAD6]", "<|VII|>"));
  EXPECT_THAT(built.vocabulary.scores, ElementsAre(-1000, 0, 0, -1.5F, -2, -3, -10000, -1000));
  EXPECT_THAT(built.vocabulary.types, ElementsAre(3, 3, 6, 1, 1, 5, 5, 4));
}

TEST(GgufVocabulary, LeavesOutAddedTokensWithoutARow) {
  Tokenizer tokenizer = WithPieces();
  tokenizer.added_tokens = {{8, "<|far|>", true, false, false}};
  const Built built = Build(tokenizer, 8);
  EXPECT_EQ(built.vocabulary.tokens.size(), 8U);
  EXPECT_EQ(built.vocabulary.tokens[7], "[PAD7]");
  tokenizer = Tokenizer();  // byte-level
  tokenizer.vocab = {"a"};
  tokenizer.added_tokens = {{9, "<|x|>", true, false, false}};
  EXPECT_THAT(Build(tokenizer, 2).vocabulary.tokens, ElementsAre("a", "[PAD1]"));
}

TEST(GgufVocabulary, RefusesMorePiecesThanRows) {
  EXPECT_EQ(ErrorOf(WithPieces(), 5), "token 'unused' has id 5 but the embedding has 5 rows");
}

TEST(GgufVocabulary, RefusesATokenThatStandsTwice) {
  Tokenizer tokenizer = WithPieces();
  tokenizer.pieces[5].text = "a";
  EXPECT_EQ(ErrorOf(tokenizer, 8), "ids 3 and 5 have the same token 'a'");
}

TEST(GgufVocabulary, PadsDifferFromRealTokens) {
  Tokenizer tokenizer = WithPieces();
  tokenizer.pieces[3].text = "[PAD6]";
  EXPECT_EQ(Build(tokenizer, 7).vocabulary.tokens[6], "[PAD6]_");
}

TEST(GgufVocabulary, WarnsOfIdsInsideThatNoTokenHas) {
  Tokenizer tokenizer;
  tokenizer.vocab = {"a", "", "b", ""};
  tokenizer.added_tokens = {{5, "<|x|>", true, false, false}};
  const Built built = Build(tokenizer, 8);
  EXPECT_THAT(built.vocabulary.tokens,
              ElementsAre("a", "[PAD1]", "b", "[PAD3]", "[PAD4]", "<|x|>", "[PAD6]", "[PAD7]"));
  ASSERT_EQ(built.warnings.size(), 1U);
  EXPECT_THAT(built.warnings[0],
              HasSubstr("3 ids inside the vocabulary have no token, the first is 1"));
}

TEST(GgufVocabulary, ScoresTokensByTheirFirstMerge) {
  Tokenizer tokenizer;
  tokenizer.kind = TokenizerKind::kSentencePiece;
  tokenizer.vocab = {"<unk>", "<0x0A>", "a", "b", "ab", "abb", "<0x0a>"};
  tokenizer.merges = {{2, 3, 4}, {4, 3, 5}, {2, 6, 5}};
  tokenizer.added_tokens = {{0, "<unk>", true, false, false}};
  const Built built = Build(tokenizer, 7);
  EXPECT_THAT(built.vocabulary.scores, ElementsAre(-1000, 0, -4, -4, -1, -2, -4));
  EXPECT_THAT(built.vocabulary.types, ElementsAre(3, 6, 1, 1, 1, 1, 1));
}

TEST(GgufVocabulary, GivesPhi3ItsOriginalScores) {
  Tokenizer tokenizer;
  tokenizer.kind = TokenizerKind::kSentencePiece;
  for (int i = 0; i < 32000; ++i) tokenizer.vocab.push_back(fmt::format("t{}", i));
  tokenizer.vocab[259] = "\u2581\u2581";
  tokenizer.vocab[260] = "\u2581t";
  tokenizer.vocab[261] = "er";
  tokenizer.vocab[268] = "\u2581\u2581\u2581\u2581";
  tokenizer.vocab[31999] = "\u7ED9";
  const Vocabulary vocabulary = Build(tokenizer, 32000).vocabulary;
  EXPECT_EQ(vocabulary.scores[259], -1e9F);
  EXPECT_EQ(vocabulary.scores[260], -1);
  EXPECT_EQ(vocabulary.scores[261], -2);
  EXPECT_EQ(vocabulary.scores[268], -1e9F);
  EXPECT_EQ(vocabulary.scores[31999], -31740);
}

TEST(GgufVocabulary, ByteLevelTokensStayInTheirAlphabet) {
  Tokenizer tokenizer;
  tokenizer.vocab = {"!", "\u0120the"};
  tokenizer.added_tokens = {{2, "<|end|>", true, false, false},
                            {3, "<|tool|>", false, false, false},
                            {4, "plain\u2581word\u2581", false, false, false}};
  const Built built = Build(tokenizer, 6);
  EXPECT_THAT(built.vocabulary.tokens,
              ElementsAre("!", "\u0120the", "<|end|>", "<|tool|>", "plain word ", "[PAD5]"));
  EXPECT_THAT(built.vocabulary.types, ElementsAre(1, 1, 3, 3, 4, 5));
  EXPECT_TRUE(built.vocabulary.scores.empty());
}

}  // namespace
}  // namespace phiq::gguf
