// The metadata of an output, from a model described by hand.
#include <gmock/gmock.h>

#include <cmath>
#include <string>

#include "formats/gguf/layout.h"

namespace phiq::gguf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Model ByteLevelModel() {
  Model model;
  model.name = "Phi-4-mini-instruct";
  model.config.vocab_size = 4;
  model.config.max_position_embeddings = 131072;
  model.config.original_max_position_embeddings = 4096;
  model.config.rms_norm_eps = 1e-5F;
  model.tokenizer.kind = TokenizerKind::kByteLevelBpe;
  model.tokenizer.pre_tokenizer = PreTokenizer::kO200k;
  model.tokenizer.vocab = {"a", "b", "ab", "<|end|>"};
  model.tokenizer.merges = {{0, 1, 2}};
  return model;
}

Plan PlanOf(std::string type, std::uint64_t n_weights = 1000) {
  Plan plan;
  plan.type = std::move(type);
  plan.lines.emplace_back();
  plan.lines[0].shape = {n_weights};
  return plan;
}

Metadata Build(const Model& model, const Plan& plan = PlanOf("F32"), const Metadata& extra = {}) {
  return BuildMetadata(model, plan, extra, [](const Warning&) {});
}

template <typename T>
T Get(const Metadata& metadata, std::string_view key) {
  const Value* const value = Find(metadata, key);
  if (value == nullptr) throw std::runtime_error("no key " + std::string(key));
  return std::get<T>(*value);
}

TEST(GgufMetadata, NumbersEachFileTypeAsLlamaDoes) {
  const std::vector<std::pair<std::string, std::uint32_t>> kCodes = {
      {"F32", 0},     {"F16", 1},     {"Q4_0", 2},    {"Q4_1", 3},    {"Q8_0", 7},
      {"Q5_0", 8},    {"Q5_1", 9},    {"Q2_K", 10},   {"Q3_K_S", 11}, {"Q3_K_M", 12},
      {"Q3_K_L", 13}, {"Q4_K_S", 14}, {"Q4_K_M", 15}, {"Q5_K_S", 16}, {"Q5_K_M", 17},
      {"Q6_K", 18},   {"IQ4_NL", 25}, {"IQ4_XS", 30}, {"BF16", 32}};
  for (const auto& [type, code] : kCodes) {
    EXPECT_EQ(Get<std::uint32_t>(Build(ByteLevelModel(), PlanOf(type)), "general.file_type"), code)
        << type;
  }
}

TEST(GgufMetadata, LabelsSizesWithTwoDigits) {
  const auto label = [](std::uint64_t n) {
    return Get<std::string>(Build(ByteLevelModel(), PlanOf("F32", n)), "general.size_label");
  };
  EXPECT_EQ(label(3'821'079'552), "3.8B");
  EXPECT_EQ(label(14'659'507'200), "15B");
  EXPECT_EQ(label(4'490'000), "4.5M");
  EXPECT_EQ(label(1'000'000), "1000K");  // not above a million
  EXPECT_EQ(label(300), "0.30K");
}

TEST(GgufMetadata, WritesTheAttentionFactorOfLongRope) {
  Model model = ByteLevelModel();
  EXPECT_EQ(Find(Build(model), "phi3.rope.scaling.attn_factor"), nullptr);
  model.config.long_factor = model.config.short_factor = {1, 2};
  model.config.rope_scaling = RopeScalingType::kLongRope;
  EXPECT_FLOAT_EQ(Get<float>(Build(model), "phi3.rope.scaling.attn_factor"),
                  1.1902381F);  // sqrt(17 / 12)
  model.config.rope_scaling = RopeScalingType::kYarn;
  EXPECT_FLOAT_EQ(Get<float>(Build(model), "phi3.rope.scaling.attn_factor"),
                  1.3465736F);  // 0.1 * ln 32 + 1
  model.config.original_max_position_embeddings = 131072;
  EXPECT_EQ(Get<float>(Build(model), "phi3.rope.scaling.attn_factor"), 1.0F);
}

TEST(GgufMetadata, RefusesAnAttentionFactorThatIsInfinite) {
  Model model = ByteLevelModel();
  model.config.long_factor = model.config.short_factor = {1, 2};
  model.config.rope_scaling = RopeScalingType::kLongRope;
  model.config.original_max_position_embeddings = 1;
  EXPECT_THROW(Build(model), Error);
}

TEST(GgufMetadata, NamesThePreTokenizer) {
  Model model = ByteLevelModel();
  EXPECT_EQ(Get<std::string>(Build(model), "tokenizer.ggml.pre"), "gpt-4o");
  model.tokenizer.pre_tokenizer = PreTokenizer::kCl100k;
  EXPECT_EQ(Get<std::string>(Build(model), "tokenizer.ggml.pre"), "dbrx");
  model.tokenizer.pre_tokenizer = PreTokenizer::kNone;
  EXPECT_THROW(Build(model), Error);
}

TEST(GgufMetadata, WritesWhatTheTokenizerSaysAndNothingElse) {
  Model model = ByteLevelModel();
  const Metadata bare = Build(model);
  for (const char* key : {"bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id",
                          "seperator_token_id", "cls_token_id", "mask_token_id", "add_bos_token",
                          "add_eos_token", "scores"}) {
    EXPECT_EQ(Find(bare, std::string("tokenizer.ggml.") + key), nullptr) << key;
  }
  EXPECT_EQ(Find(bare, "tokenizer.chat_template"), nullptr);
  EXPECT_EQ(Find(bare, "general.alignment"), nullptr);
  model.tokenizer.bos_id = 1;
  model.tokenizer.sep_id = 2;
  model.tokenizer.cls_id = 3;
  model.tokenizer.mask_id = 0;
  model.tokenizer.add_bos = true;
  model.tokenizer.add_eos = false;
  model.tokenizer.chat_template = "{{ x }}";
  const Metadata full = Build(model);
  EXPECT_EQ(Get<std::uint32_t>(full, "tokenizer.ggml.bos_token_id"), 1U);
  EXPECT_EQ(Get<std::uint32_t>(full, "tokenizer.ggml.seperator_token_id"), 2U);
  EXPECT_EQ(Get<std::uint32_t>(full, "tokenizer.ggml.cls_token_id"), 3U);
  EXPECT_EQ(Get<std::uint32_t>(full, "tokenizer.ggml.mask_token_id"), 0U);
  EXPECT_TRUE(Get<bool>(full, "tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(Get<bool>(full, "tokenizer.ggml.add_eos_token"));
  EXPECT_EQ(Get<std::string>(full, "tokenizer.chat_template"), "{{ x }}");
}

// llama.cpp puts a space before each stretch of text of this kind where the key is absent.
TEST(GgufMetadata, SaysWhereNoSpaceIsPutBeforeTheText) {
  constexpr const char* kKey = "tokenizer.ggml.add_space_prefix";
  Model model = ByteLevelModel();
  EXPECT_EQ(Find(Build(model), kKey), nullptr);
  model.tokenizer.kind = TokenizerKind::kSentencePiece;
  EXPECT_FALSE(Get<bool>(Build(model), kKey));
  const auto metaspace = [&](TokenizerStep::Metaspace::Prepend prepend) {
    model.tokenizer.pre_tokenization = {{TokenizerStep::Metaspace{"\u2581", prepend, false}, ""}};
    return Build(model);
  };
  EXPECT_FALSE(Get<bool>(metaspace(TokenizerStep::Metaspace::Prepend::kNever), kKey));
  EXPECT_EQ(Find(metaspace(TokenizerStep::Metaspace::Prepend::kFirst), kKey), nullptr);
  EXPECT_EQ(Find(metaspace(TokenizerStep::Metaspace::Prepend::kAlways), kKey), nullptr);
  model.tokenizer.pre_tokenization.clear();
  model.tokenizer.normalizer = {{TokenizerStep::Prepend{"\u2581"}, ""}};
  EXPECT_EQ(Find(Build(model), kKey), nullptr);
}

TEST(GgufMetadata, NamesTheTokenThatEndsATurn) {
  Model model = ByteLevelModel();
  EXPECT_EQ(Get<std::uint32_t>(Build(model), "tokenizer.ggml.eot_token_id"), 3U);
  model.tokenizer.vocab[3] = "<|im_end|>";
  EXPECT_EQ(Get<std::uint32_t>(Build(model), "tokenizer.ggml.eot_token_id"), 3U);
  model.tokenizer.vocab[3] = "c";
  EXPECT_EQ(Find(Build(model), "tokenizer.ggml.eot_token_id"), nullptr);
}

TEST(GgufMetadata, EncodesSpacesInsideMerges) {
  Model model = ByteLevelModel();
  model.tokenizer.vocab = {"a", "b", " x", "y z"};
  model.tokenizer.merges = {{0, 1, 2}, {2, 3, 0}};
  EXPECT_THAT(Get<std::vector<std::string>>(Build(model), "tokenizer.ggml.merges"),
              ElementsAre("a b", "\u0120x y\u0120z"));
}

TEST(GgufMetadata, KeepsNamedChatTemplates) {
  Model model = ByteLevelModel();
  model.tokenizer.chat_template = "default text";
  model.tokenizer.named_chat_templates = {{"tool_use", "T"}, {"a b", "U"}};
  const Metadata metadata = Build(model);
  EXPECT_THAT(Get<std::vector<std::string>>(metadata, "tokenizer.chat_templates"),
              ElementsAre("tool_use", "a_b"));
  EXPECT_EQ(Get<std::string>(metadata, "tokenizer.chat_template.tool_use"), "T");
  EXPECT_EQ(Get<std::string>(metadata, "tokenizer.chat_template.a_b"), "U");
  EXPECT_EQ(Get<std::string>(metadata, "tokenizer.chat_template"), "default text");
}

TEST(GgufMetadata, RefusesTwoValuesForAKey) {
  Model model = ByteLevelModel();
  model.tokenizer.named_chat_templates = {{"a b", "T"}, {"a-b", "U"}};
  try {
    Build(model);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kBadData);
    EXPECT_STREQ(error.what(), "two values for the metadata key 'tokenizer.chat_template.a_b'");
  }
}

TEST(GgufMetadata, AppendsWhatTheCallerAdds) {
  const Metadata metadata =
      Build(ByteLevelModel(), PlanOf("F32"), {{"phiq.nan_policy", std::string("zero")}});
  EXPECT_EQ(metadata.back().first, "phiq.nan_policy");
}

}  // namespace
}  // namespace phiq::gguf
