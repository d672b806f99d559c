// The name that llama.cpp reads as an instruction.
#include "formats/gguf/model_name.h"

#include <gtest/gtest.h>

namespace phiq::gguf {
namespace {

const std::vector<std::string> kPhi3Tokens = {"<unk>",         "<s>",      "</s>",
                                              "<|endoftext|>", "<|user|>", "<|end|>"};

Tokenizer SentencePieceTokenizer(bool rstrip) {
  Tokenizer tokenizer;
  tokenizer.kind = TokenizerKind::kSentencePiece;
  tokenizer.added_tokens = {{4, "<|user|>", true, false, rstrip},
                            {5, "<|end|>", true, false, rstrip}};
  return tokenizer;
}

struct Named {
  std::string name;
  int n_warnings = 0;
};

Named NameOf(const std::string& model_name, const Tokenizer& tokenizer,
             const std::vector<std::string>& tokens = kPhi3Tokens) {
  Named named;
  named.name =
      GeneralName(model_name, tokenizer, tokens, [&](const Warning&) { ++named.n_warnings; });
  return named;
}

TEST(GgufModelName, KeepsANameThatIsRight) {
  for (const char* name :
       {"Phi-3.5-mini-instruct", "phi35-tiny", "Phi-3-mini-4k-instruct", "my-PHI-3"}) {
    const Named named = NameOf(name, SentencePieceTokenizer(true));
    EXPECT_EQ(named.name, name);
    EXPECT_EQ(named.n_warnings, 0);
  }
  const Named bpe = NameOf("Phi-4-mini-instruct", Tokenizer());
  EXPECT_EQ(bpe.name, "Phi-4-mini-instruct");
  EXPECT_EQ(bpe.n_warnings, 0);
}

TEST(GgufModelName, SaysPhi3WhereRoleTokensSwallowSpace) {
  EXPECT_EQ(NameOf("my-model", SentencePieceTokenizer(true)).name, "Phi-3-my-model");
  EXPECT_EQ(NameOf("Phi 3.5 mini", SentencePieceTokenizer(true)).name, "Phi-3.5 mini");
  EXPECT_EQ(NameOf("phi_3_tuned", SentencePieceTokenizer(true)).name, "phi-3_tuned");
  EXPECT_EQ(NameOf("my-model", SentencePieceTokenizer(true)).n_warnings, 1);
}

TEST(GgufModelName, AvoidsPhi3WhereRoleTokensKeepSpace) {
  const Named named = NameOf("Phi-3-vision-PHI3", SentencePieceTokenizer(false));
  EXPECT_EQ(named.name, "Phi 3-vision-PHI 3");
  EXPECT_EQ(named.n_warnings, 1);
}

TEST(GgufModelName, AvoidsPhi3ForByteLevelVocabularies) {
  EXPECT_EQ(NameOf("phi-3-experiments-phi4", Tokenizer()).name, "phi 3-experiments-phi4");
  EXPECT_EQ(NameOf("phiphi33", Tokenizer()).name, "phiphi 33");
}

TEST(GgufModelName, AvoidsPhi3WhenATokenThatLlamaLooksUpIsMissing) {
  EXPECT_EQ(
      NameOf("phi-3", SentencePieceTokenizer(true), {"<unk>", "<s>", "<|endoftext|>", "<|user|>"})
          .name,
      "phi 3");
}

TEST(GgufModelName, IsCleanBoundedUtf8) {
  EXPECT_EQ(NameOf("a\xFF\nb\xC3\xA9\x7F", Tokenizer()).name, "a__b\xC3\xA9_");
  EXPECT_EQ(NameOf("", Tokenizer()).name, "model");
  EXPECT_EQ(NameOf(std::string(300, 'x'), Tokenizer()).name, std::string(255, 'x'));
  // Never half a character: 254 bytes, then two-byte letters.
  EXPECT_EQ(NameOf(std::string(254, 'x') + "\xC3\xA9", Tokenizer()).name, std::string(254, 'x'));
  EXPECT_EQ(NameOf(std::string(255, 'x'), SentencePieceTokenizer(true)).name,
            "Phi-3-" + std::string(249, 'x'));
}

}  // namespace
}  // namespace phiq::gguf
