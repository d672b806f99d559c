// The name that llama.cpp reads as an instruction.
#include "formats/gguf/model_name.h"

#include <gtest/gtest.h>

namespace phiq::gguf {
namespace {

Tokenizer SentencePieceTokenizer(bool rstrip) {
  Tokenizer tokenizer;
  tokenizer.kind = TokenizerKind::kSentencePiece;
  tokenizer.vocab = {"<unk>", "<s>", "</s>"};
  tokenizer.added_tokens = {{3, "<|endoftext|>", true, false, false},
                            {4, "<|user|>", true, false, rstrip},
                            {5, "<|end|>", true, false, rstrip}};
  return tokenizer;
}

std::string NameOf(const std::string& model_name, const Tokenizer& tokenizer) {
  return GeneralName(model_name, tokenizer);
}

TEST(GgufModelName, KeepsANameThatIsRight) {
  for (const char* name :
       {"Phi-3.5-mini-instruct", "phi35-tiny", "Phi-3-mini-4k-instruct", "my-PHI-3"}) {
    EXPECT_EQ(NameOf(name, SentencePieceTokenizer(true)), name);
  }
  EXPECT_EQ(NameOf("Phi-4-mini-instruct", Tokenizer()), "Phi-4-mini-instruct");
}

TEST(GgufModelName, SaysPhi3WhereRoleTokensSwallowSpace) {
  EXPECT_EQ(NameOf("my-model", SentencePieceTokenizer(true)), "Phi-3-my-model");
  EXPECT_EQ(NameOf("Phi 3.5 mini", SentencePieceTokenizer(true)), "Phi-3.5 mini");
  EXPECT_EQ(NameOf("phi_3_tuned", SentencePieceTokenizer(true)), "phi-3_tuned");
}

TEST(GgufModelName, AvoidsPhi3WhereRoleTokensKeepSpace) {
  EXPECT_EQ(NameOf("Phi-3-vision-PHI3", SentencePieceTokenizer(false)), "Phi 3-vision-PHI 3");
}

TEST(GgufModelName, AvoidsPhi3ForByteLevelVocabularies) {
  EXPECT_EQ(NameOf("phi-3-experiments-phi4", Tokenizer()), "phi 3-experiments-phi4");
  EXPECT_EQ(NameOf("phiphi33", Tokenizer()), "phiphi 33");
}

TEST(GgufModelName, AvoidsPhi3WhenATokenThatLlamaLooksUpIsMissing) {
  Tokenizer tokenizer = SentencePieceTokenizer(true);
  tokenizer.vocab = {"<unk>", "<s>"};
  EXPECT_EQ(NameOf("phi-3", tokenizer), "phi 3");
  tokenizer.pieces = {{"</s>", 0, PieceType::kControl}};
  EXPECT_EQ(NameOf("phi-3", tokenizer), "phi-3");
}

TEST(GgufModelName, IsCleanBoundedUtf8) {
  EXPECT_EQ(NameOf("a\xFF\nb\xC3\xA9\x7F", Tokenizer()), "a__b\xC3\xA9_");
  EXPECT_EQ(NameOf("", Tokenizer()), "model");
  EXPECT_EQ(NameOf(std::string(300, 'x'), Tokenizer()), std::string(255, 'x'));
  // Never half a character: 254 bytes, then two-byte letters.
  EXPECT_EQ(NameOf(std::string(254, 'x') + "\xC3\xA9", Tokenizer()), std::string(254, 'x'));
  EXPECT_EQ(NameOf(std::string(255, 'x'), SentencePieceTokenizer(true)),
            "Phi-3-" + std::string(249, 'x'));
}

}  // namespace
}  // namespace phiq::gguf
