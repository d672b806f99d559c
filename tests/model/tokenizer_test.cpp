// Tokenizers of published models, and what is refused in others.
#include "phiq/tokenizer.h"

#include "model/fixture.h"

namespace phiq::testing {
namespace {

constexpr std::uint32_t kRows = 2112;  // of both tiny checkpoints

Tokenizer Read(const SideFiles& files, std::uint32_t vocab_size = kRows,
               const WarningFn& warn = nullptr) {
  return ReadTokenizer(files.Folder(), vocab_size, std::nullopt, std::nullopt, std::nullopt, warn);
}

using Edit = std::function<void(nlohmann::json&)>;

// The message of a tiny checkpoint whose file `name` was changed.
void ExpectRefused(const std::string& base, const std::string& name, ErrorCode code,
                   const char* message, const Edit& edit) {
  const SideFiles files(base);
  files.Edit(name, edit);
  ExpectError(code, message, [&] { Read(files); });
}

TEST(Tokenizer, ReadsSentencePiece) {
  const SideFiles files("phi35-tiny");
  const Tokenizer tokenizer = Read(files);
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(tokenizer.pre_tokenizer, PreTokenizer::kNone);
  ASSERT_EQ(tokenizer.pieces.size(), 2048U);
  EXPECT_EQ(tokenizer.pieces[0].text, "<unk>");
  EXPECT_EQ(tokenizer.pieces[3].text, "<0x00>");
  EXPECT_EQ(tokenizer.pieces[3].type, PieceType::kByte);
  EXPECT_EQ(tokenizer.vocab.size(), 2048U);
  EXPECT_EQ(tokenizer.merges.size(), 2515U);
  EXPECT_EQ(tokenizer.vocab[tokenizer.merges[0].left], "t");
  EXPECT_EQ(tokenizer.vocab[tokenizer.merges[0].right], "h");
  EXPECT_EQ(tokenizer.vocab[tokenizer.merges[0].result], "th");
  EXPECT_TRUE(tokenizer.overruled_tokens.empty());
  ASSERT_EQ(tokenizer.added_tokens.size(), 14U);
  EXPECT_EQ(tokenizer.added_tokens[2].content, "</s>");
  EXPECT_FALSE(tokenizer.added_tokens[2].special);
  EXPECT_TRUE(tokenizer.added_tokens[2].rstrip);
  EXPECT_FALSE(tokenizer.added_tokens[2].lstrip);
  EXPECT_EQ(tokenizer.bos_id, 1U);
  EXPECT_EQ(tokenizer.eos_id, 2048U);
  EXPECT_EQ(tokenizer.unk_id, 0U);
  EXPECT_EQ(tokenizer.pad_id, 2048U);
  EXPECT_FALSE(tokenizer.sep_id.has_value());
  EXPECT_EQ(tokenizer.add_bos, false);
  EXPECT_EQ(tokenizer.add_eos, false);
  EXPECT_TRUE(tokenizer.chat_template.starts_with("{% for message in messages %}"));
  EXPECT_TRUE(IsKnownChatTemplate(tokenizer.chat_template));
  EXPECT_FALSE(IsKnownChatTemplate(tokenizer.chat_template + " "));
}

TEST(Tokenizer, ReadsByteLevel) {
  const SideFiles files("phi4mini-tiny");
  const Tokenizer tokenizer = Read(files);
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kByteLevelBpe);
  EXPECT_EQ(tokenizer.pre_tokenizer, PreTokenizer::kO200k);
  EXPECT_TRUE(tokenizer.pieces.empty());
  EXPECT_EQ(tokenizer.vocab.size(), 2048U);
  EXPECT_EQ(tokenizer.merges.size(), 1792U);
  EXPECT_EQ(tokenizer.added_tokens.size(), 12U);
  EXPECT_EQ(tokenizer.eos_id, 2048U);
}

TEST(Tokenizer, ReadsThePublishedPhi3Tokenizer) {
  const CheckpointFolder folder =
      LocateCheckpoint((TestData() / "tokenizers" / "phi-3-mini").string(), nullptr);
  WarningList warnings;
  const Tokenizer tokenizer =
      ReadTokenizer(folder, 32064, std::nullopt, std::nullopt, std::nullopt, warnings.fn());
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kSentencePiece);
  EXPECT_EQ(tokenizer.vocab.size(), 32000U);
  EXPECT_EQ(tokenizer.merges.size(), 61249U);
  EXPECT_EQ(tokenizer.vocab[261], "er");
  EXPECT_EQ(tokenizer.eos_id, 32000U);
  EXPECT_THAT(warnings.texts(), ::testing::IsEmpty());
}

TEST(Tokenizer, ReadsSentencePieceFromTokenizerJsonAlone) {
  const SideFiles files("phi35-tiny");
  files.Remove("tokenizer.model");
  const Tokenizer tokenizer = Read(files);
  EXPECT_EQ(tokenizer.kind, TokenizerKind::kSentencePiece);
  EXPECT_TRUE(tokenizer.pieces.empty());
  EXPECT_EQ(tokenizer.vocab.size(), 2048U);
  files.Remove("tokenizer.json");
  ExpectError(ErrorCode::kInput, "neither tokenizer.json nor tokenizer.model",
              [&] { Read(files); });
}

TEST(Tokenizer, ReadsMergesAsPairs) {
  const SideFiles files("phi4mini-tiny");
  const Tokenizer as_strings = Read(files);
  files.Edit("tokenizer.json", [](nlohmann::json& json) {
    for (nlohmann::json& merge : json["model"]["merges"]) {
      const std::string text = merge;
      merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
    }
  });
  EXPECT_EQ(Read(files).merges, as_strings.merges);
}

TEST(Tokenizer, RecognisesTheSplitExpressionByItsText) {
  const HeaderOnlyCheckpoint phi4("Phi-4");
  const CheckpointFolder folder = LocateCheckpoint(phi4.path().string(), nullptr);
  EXPECT_EQ(ReadTokenizer(folder, 100352, {}, {}, {}, nullptr).pre_tokenizer,
            PreTokenizer::kCl100k);
  // The SHA-256 is sha256sum's of the pattern.
  ExpectRefused("phi4mini-tiny", "tokenizer.json", ErrorCode::kUnsupported,
                "pre_tokenizer is not one that phiq knows: a+b (SHA-256 "
                "300273daf0bb57c239f83585d71ced54ce6b3b5fb81615abbeeb3f9cf5fae92f)",
                [](nlohmann::json& json) {
                  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "a+b";
                });
  ExpectRefused("phi4mini-tiny", "tokenizer.json", ErrorCode::kUnsupported, "pre_tokenizer",
                [](nlohmann::json& json) {
                  json["pre_tokenizer"]["pretokenizers"].push_back(
                      {{"type", "Digits"}, {"individual_digits", true}});
                });
}

TEST(Tokenizer, TellsTheSplitExpressionByTheVocabularyWhereThereIsNone) {
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer.json",
             [](nlohmann::json& json) { json["pre_tokenizer"]["pretokenizers"].erase(0); });
  EXPECT_EQ(Read(files, 100352).pre_tokenizer, PreTokenizer::kCl100k);
  EXPECT_EQ(Read(files, 200064).pre_tokenizer, PreTokenizer::kO200k);
  ExpectError(ErrorCode::kUnsupported, "pre_tokenizer", [&] { Read(files); });
}

TEST(Tokenizer, RefusesBadIds) {
  const auto refuse = [](const char* message, const Edit& edit) {
    ExpectRefused("phi4mini-tiny", "tokenizer.json", ErrorCode::kBadData, message, edit);
  };
  const auto set = [](const char* token, const nlohmann::json& id) {
    return [=](nlohmann::json& json) { json["model"]["vocab"][token] = id; };
  };
  refuse("tokens '!' and '\"' both have id 5", [](nlohmann::json& json) {
    json["model"]["vocab"]["!"] = 5;
    json["model"]["vocab"]["\""] = 5;
    for (auto& [token, id] : json["model"]["vocab"].items()) {
      if (id == 5 && token != "!" && token != "\"") id = 2100;
    }
  });
  refuse("token '!' has id -1, needs a whole number", set("!", -1));
  refuse("token '!' has id \"1\", needs a whole number", set("!", "1"));
  refuse("token '!' has id 2112 but the embedding has 2112 rows", set("!", 2112));
  refuse("token '!' has id 2147483648 but", set("!", 2147483648U));
  refuse("token 'x\\x1b' has id -1", set("x\x1b", -1));
  refuse("token '<|endoftext|>' has id 2048, but also id 2112",
         [](nlohmann::json& json) { json["added_tokens"][0]["id"] = 2112; });
  refuse("token '<|endoftext|>' has id 1048576, ids below 1048576 are possible",
         [](nlohmann::json& json) { json["added_tokens"][0]["id"] = 1048576; });
  refuse("token '<|endoftext|>' has id 2048, but also id 2100", set("<|endoftext|>", 2100));
  refuse("token '<|endoftext|>' has id 2048, which is also 'another'", set("another", 2048));
}

TEST(Tokenizer, RefusesMoreTokensThanRows) {
  const SideFiles json("phi4mini-tiny");
  ExpectError(ErrorCode::kBadData, "model.vocab holds 2048 tokens but the embedding has 2000 rows",
              [&] { Read(json, 2000); });
  const SideFiles model("phi35-tiny");
  model.Remove("tokenizer.json");
  ExpectError(ErrorCode::kBadData,
              "tokenizer.model: holds 2048 pieces but the embedding has 2000 rows",
              [&] { Read(model, 2000); });
}

TEST(Tokenizer, WarnsOfIdsWithoutText) {
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer.json", [](nlohmann::json& json) { json["model"]["vocab"]["new"] = 2070; });
  WarningList warnings;
  EXPECT_EQ(Read(files, kRows, warnings.fn()).vocab.size(), 2071U);
  ASSERT_EQ(warnings.texts().size(), 1U);  // 2060 to 2069
  EXPECT_THAT(
      warnings.texts()[0],
      ::testing::HasSubstr("10 token ids have no text and become padding (the first is 2060)"));
}

TEST(Tokenizer, RefusesBadByteTokens) {
  for (const char* token : {"<0x-1>", "<0x1G>", "<0x100>", "<0X41>", "<0x4a>", "<0x>"}) {
    const std::string message = "token '" + std::string(token) + "' is not a byte token";
    ExpectRefused("phi35-tiny", "tokenizer.json", ErrorCode::kBadData, message.c_str(),
                  [&](nlohmann::json& json) { json["model"]["vocab"][token] = 2100; });
  }
  // In a byte-level vocabulary the same text is ordinary.
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer.json",
             [](nlohmann::json& json) { json["model"]["vocab"]["<0X41>"] = 2060; });
  EXPECT_EQ(Read(files).vocab[2060], "<0X41>");
}

TEST(Tokenizer, RefusesBadMerges) {
  const auto refuse = [](const char* message, const nlohmann::json& merge) {
    ExpectRefused("phi4mini-tiny", "tokenizer.json", ErrorCode::kBadData, message,
                  [&](nlohmann::json& json) { json["model"]["merges"].push_back(merge); });
  };
  refuse("merge 1792 't' does not have two parts", "t");
  refuse("merge 1792 't h e' does not have two parts", "t h e");
  refuse("merge 1792 needs token '\xC3\xBF\xC3\xBF\xC3\xBF'", "\xC3\xBF\xC3\xBF\xC3\xBF h");
  refuse("merge 1792 't h' is a duplicate", "t h");
  refuse("merge 1792 is an array, merge 0 has the other form", {"t", "h"});
  refuse("merge 1792 is 7, needs", 7);
}

TEST(Tokenizer, LimitsTokenLength) {
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer.json",
             [](nlohmann::json& json) { json["model"]["vocab"][std::string(65536, 'x')] = 2060; });
  EXPECT_EQ(Read(files).vocab[2060].size(), 65536U);
  files.Edit("tokenizer.json",
             [](nlohmann::json& json) { json["model"]["vocab"][std::string(65537, 'x')] = 2061; });
  ExpectError(ErrorCode::kBadData, "has 65537 bytes, at most 65536 are allowed",
              [&] { Read(files); });
}

TEST(Tokenizer, RefusesFilesThatDisagree) {
  ExpectRefused(
      "phi35-tiny", "tokenizer.json", ErrorCode::kBadData,
      "tokenizer.model: holds 2048 pieces, but tokenizer.json has token 'new' with id 2100",
      [](nlohmann::json& json) { json["model"]["vocab"]["new"] = 2100; });
  ExpectRefused("phi35-tiny", "tokenizer_config.json", ErrorCode::kBadData,
                "has the key 'x', needs an id", [](nlohmann::json& json) {
                  json["added_tokens_decoder"]["x"] = {{"content", "y"}};
                });
}

// transformers does not read it where another file names added tokens.
TEST(Tokenizer, LeavesAnOldAddedTokensJsonAside) {
  const SideFiles files("phi35-tiny");
  const std::vector<AddedToken> before = Read(files).added_tokens;
  files.Edit("added_tokens.json", [](nlohmann::json& json) {
    json["<|end|>"] = 2100;
    json["<|old|>"] = 2055;
  });
  WarningList warnings;
  EXPECT_EQ(Read(files, kRows, warnings.fn()).added_tokens, before);
  ASSERT_EQ(warnings.texts().size(), 1U);
  EXPECT_THAT(warnings.texts()[0], ::testing::HasSubstr("added_tokens.json: is not used: 2 of its "
                                                        "tokens ('<|end|>' first) are not what "
                                                        "tokenizer_config.json says"));
}

TEST(Tokenizer, TakesFlagsOfTheConfigurationOverThoseOfTokenizerJson) {
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json["added_tokens_decoder"]["2055"]["rstrip"] = false;
    json["added_tokens_decoder"].erase("2048");
  });
  const Tokenizer tokenizer = Read(files);
  ASSERT_EQ(tokenizer.added_tokens.size(), 14U);  // 2048 is in tokenizer.json
  const auto end = std::ranges::find(tokenizer.added_tokens, 2055U, &AddedToken::id);
  EXPECT_FALSE(end->rstrip);
  ASSERT_EQ(tokenizer.overruled_tokens.size(), 1U);
  EXPECT_EQ(tokenizer.overruled_tokens[0].content, "<|end|>");
  EXPECT_TRUE(tokenizer.overruled_tokens[0].rstrip);
}

TEST(Tokenizer, KeepsAddedTokensThatHaveNoRowWithAWarning) {
  const SideFiles files("phi4mini-tiny");
  WarningList warnings;
  EXPECT_EQ(Read(files, 2058, warnings.fn()).added_tokens.back().id, 2059U);
  ASSERT_EQ(warnings.texts().size(), 1U);
  EXPECT_THAT(warnings.texts()[0],
              ::testing::HasSubstr("' has id 2058, and 1 more beyond, but the embedding has 2058 "
                                   "rows: the model cannot be given it"));
}

TEST(Tokenizer, ReadsStepsOfEveryKind) {
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer.json", [](nlohmann::json& json) {
    json["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}, {"split", false}};
  });
  const Tokenizer tokenizer = Read(files);
  ASSERT_EQ(tokenizer.normalizer.size(), 2U);
  EXPECT_EQ(tokenizer.normalizer[0].As<TokenizerStep::Prepend>()->text, "\u2581");
  EXPECT_EQ(tokenizer.normalizer[1].As<TokenizerStep::Replace>()->pattern, " ");
  EXPECT_FALSE(tokenizer.normalizer[1].As<TokenizerStep::Replace>()->is_expression);
  ASSERT_EQ(tokenizer.pre_tokenization.size(), 1U);
  const auto* metaspace = tokenizer.pre_tokenization[0].As<TokenizerStep::Metaspace>();
  EXPECT_EQ(metaspace->replacement, "\u2581");
  EXPECT_EQ(metaspace->prepend, TokenizerStep::Metaspace::Prepend::kFirst);
  EXPECT_FALSE(metaspace->split);
  EXPECT_EQ(tokenizer.pre_tokenization[0].shown,
            R"({"prepend_scheme":"first","split":false,"type":"Metaspace"})");
  ASSERT_EQ(tokenizer.decoder.size(), 4U);
  EXPECT_EQ(tokenizer.decoder[3].As<TokenizerStep::Strip>()->start, 1U);
  EXPECT_TRUE(tokenizer.byte_fallback);
  EXPECT_TRUE(tokenizer.fuse_unk);
  EXPECT_EQ(tokenizer.unk_token, "<unk>");
}

// Members in any order: merges may come before the vocabulary, and model last.
TEST(Tokenizer, ReadsMembersInAnyOrder) {
  const SideFiles files("phi4mini-tiny");
  const Tokenizer before = Read(files);
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  const nlohmann::json old = files.Json("tokenizer.json");
  for (const char* key : {"decoder", "x", "added_tokens", "pre_tokenizer"}) {
    if (old.contains(key)) json[key] = old[key];
  }
  for (const char* key : {"merges", "unknown", "type", "vocab"}) {
    if (old["model"].contains(key)) json["model"][key] = old["model"][key];
  }
  json["model"]["unknown"] = {{"vocab", {{"a", 0}}}, {"merges", {{{"a", "b"}}, nullptr}}};
  json["vocab"] = {{"b", 1}};
  files.WriteText("tokenizer.json", json.dump());
  const Tokenizer after = Read(files);
  EXPECT_EQ(after.vocab, before.vocab);
  EXPECT_EQ(after.merges, before.merges);
  EXPECT_EQ(after.added_tokens, before.added_tokens);
  EXPECT_EQ(after.pre_tokenizer, before.pre_tokenizer);
}

TEST(Tokenizer, RefusesOtherThingsInPlaceOfVocabularyAndMerges) {
  const auto refuse = [](ErrorCode code, const char* message, const char* pointer,
                         const char* value) {
    SCOPED_TRACE(value);
    ExpectRefused("phi4mini-tiny", "tokenizer.json", code, message, [&](nlohmann::json& json) {
      json[nlohmann::json::json_pointer(pointer)] = nlohmann::json::parse(value);
    });
  };
  const auto bad = [&](const char* message, const char* pointer, const char* value) {
    refuse(ErrorCode::kBadData, message, pointer, value);
  };
  bad("model is missing or not an object", "/model", "[1, {\"vocab\": {}}]");
  bad("model.vocab is missing or not an object", "/model/vocab", R"([["a", 0], {"b": 1}])");
  refuse(ErrorCode::kUnsupported, "model.type \"Unigram\" is not supported, only BPE", "/model",
         R"({"type": "Unigram", "vocab": [["a", -0.5]]})");
  bad("model.merges is missing or not an array", "/model/merges", R"({"a": ["b"]})");
  bad("token '!' has id an object, needs a whole number", "/model/vocab/!", R"({"id": 1})");
  bad("token '!' has id an array, needs a whole number", "/model/vocab/!", "[1]");
  bad("merge 1 is an object, needs", "/model/merges", R"(["t h", {"a": 1}])");
  for (const char* merge :
       {R"(["t"])", R"(["t", "h", "e"])", R"(["t", ""])", R"(["t", ["h"]])", R"(["t", 5])"}) {
    bad("merge 0 is a list that does not have two parts", "/model/merges",
        ("[" + std::string(merge) + "]").c_str());
  }
  bad("added_tokens is object, needs an array", "/added_tokens", R"({"a": [{"b": [1]}]})");
  bad("added token \"x\" has no content", "/added_tokens", R"(["x"])");
}

// Git LFS pointers, pages of a login, and nothing.
TEST(SideFile, IsRefusedByNameWhenItWasNotDownloaded) {
  for (const char* name : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json",
                           "added_tokens.json", "special_tokens_map.json"}) {
    const SideFiles files("phi35-tiny");
    const auto refuse = [&](const std::string& text, const std::string& message) {
      files.WriteText(name, text);
      ExpectError(ErrorCode::kBadData, std::string(name) + ": " + message, [&] { Read(files); });
    };
    refuse("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
           "is a Git LFS pointer: the file itself was not downloaded (run `git lfs pull`");
    refuse("\n<!DOCTYPE html><html></html>", "is an HTML page (download this file again)");
    refuse("", "is empty (interrupted download? download this file again)");
  }
}

TEST(Tokenizer, TakesSpecialIdsFromTheFirstFileThatNamesThem) {
  const SideFiles files("phi35-tiny");
  const auto eos = [&] { return ReadTokenizer(files.Folder(), kRows, {}, 7, {}, nullptr).eos_id; };
  EXPECT_EQ(eos(), 2048U);  // tokenizer_config.json
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json["eos_token"] = {{"content", "<|end|>"}};
  });
  EXPECT_EQ(eos(), 2055U);
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json["eos_token"] = nullptr; });
  EXPECT_EQ(eos(), 7U);                  // config.json
  EXPECT_EQ(Read(files).eos_id, 2048U);  // special_tokens_map.json
  files.Remove("special_tokens_map.json");
  EXPECT_FALSE(Read(files).eos_id.has_value());
  files.Edit("tokenizer_config.json",
             [](nlohmann::json& json) { json["eos_token"] = "<|nobody|>"; });
  ExpectError(ErrorCode::kBadData,
              "'eos_token' is \"<|nobody|>\", which no tokenizer file has as a token",
              [&] { Read(files); });
}

// No text needs it.
TEST(Tokenizer, LeavesOutAPaddingTokenThatIsNone) {
  const SideFiles files("phi35-tiny");
  files.Remove("special_tokens_map.json");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json["pad_token"] = "[PAD]"; });
  WarningList warnings;
  EXPECT_FALSE(Read(files, kRows, warnings.fn()).pad_id.has_value());
  ASSERT_EQ(warnings.texts().size(), 1U);
  EXPECT_THAT(warnings.texts()[0],
              ::testing::HasSubstr("tokenizer_config.json: 'pad_token' is \"[PAD]\", which no "
                                   "tokenizer file has as a token; it is left out"));
}

TEST(Tokenizer, TakesAddBosFromThePostProcessorUnlessTheConfigurationSays) {
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json.erase("add_bos_token");
    json.erase("add_eos_token");
  });
  // A template without special tokens answers the question.
  EXPECT_EQ(Read(files).add_bos, false);
  EXPECT_EQ(Read(files).add_eos, false);
  files.Edit("tokenizer.json", [](nlohmann::json& json) {
    nlohmann::json& single = json["post_processor"]["single"];
    const nlohmann::json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
    single.insert(single.begin(), bos);
  });
  EXPECT_EQ(Read(files).add_bos, true);
  EXPECT_EQ(Read(files).add_eos, false);
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json["add_bos_token"] = false; });
  EXPECT_EQ(Read(files).add_bos, false);
}

TEST(ChatTemplate, ComesFromTheFirstFileThatHasOne) {
  const SideFiles files("phi35-tiny");
  WarningList warnings;
  files.WriteText("chat_template.jinja", "jinja");
  EXPECT_EQ(Read(files, kRows, warnings.fn()).chat_template, "jinja");
  ASSERT_EQ(warnings.texts().size(), 1U);
  EXPECT_THAT(
      warnings.texts()[0],
      ::testing::HasSubstr(
          "chat_template.jinja: its chat template differs from the one in tokenizer_config.json"));
  files.Edit("tokenizer_config.json",
             [](nlohmann::json& json) { json["chat_template"] = "jinja"; });
  EXPECT_EQ(Read(files, kRows, warnings.fn()).chat_template, "jinja");
  EXPECT_EQ(warnings.texts().size(), 1U);
  files.Remove("chat_template.jinja");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json.erase("chat_template"); });
  files.Write("chat_template.json", {{"chat_template", "json"}});
  EXPECT_EQ(Read(files).chat_template, "json");
}

// As Jinja reads them; a runtime that does not would put them into every prompt.
TEST(ChatTemplate, HasLineEndsAsJinjaReadsThem) {
  const SideFiles files("phi35-tiny");
  files.WriteText("chat_template.jinja", "a\r\nb\rc\n\r\n");
  EXPECT_EQ(Read(files).chat_template, "a\nb\nc\n\n");
  files.Remove("chat_template.jinja");
  files.Edit("tokenizer_config.json",
             [](nlohmann::json& json) { json["chat_template"] = "a\r\nb\r"; });
  EXPECT_EQ(Read(files).chat_template, "a\nb\n");
}

TEST(ChatTemplate, HasOthersInAFolderOfTheirOwn) {
  const SideFiles files("phi35-tiny");
  std::filesystem::create_directory(files.path("additional_chat_templates"));
  files.WriteText("additional_chat_templates/tool_use.jinja", "tools");
  files.WriteText("additional_chat_templates/README.md", "no template");
  files.WriteText("chat_template.jinja", "main");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json.erase("chat_template"); });
  Tokenizer tokenizer = Read(files);
  EXPECT_EQ(tokenizer.chat_template, "main");
  ASSERT_EQ(tokenizer.named_chat_templates.size(), 1U);
  EXPECT_EQ(tokenizer.named_chat_templates[0],
            std::make_pair(std::string("tool_use"), std::string("tools")));
  files.Remove("chat_template.jinja");
  WarningList warnings;
  EXPECT_EQ(Read(files, kRows, warnings.fn()).chat_template, "");
  ASSERT_EQ(warnings.texts().size(), 1U);
  EXPECT_THAT(warnings.texts()[0],
              ::testing::HasSubstr("none of 1 chat templates is named 'default'"));
}

TEST(ChatTemplate, ReadsManyNamesAndLongRangesInLittleTime) {
  // Quadratic time would take minutes.
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    nlohmann::json& templates = json["chat_template"] = nlohmann::json::array();
    for (int i = 0; i < 100'000; ++i)
      templates.push_back({{"name", std::to_string(i)}, {"template", "x"}});
  });
  EXPECT_EQ(Read(files).named_chat_templates.size(), 100'000U);
  std::string ranges;
  while (ranges.size() < 1'000'000) ranges += "range(";
  files.Edit("tokenizer_config.json",
             [&](nlohmann::json& json) { json["chat_template"] = ranges; });
  WarningList warnings;
  EXPECT_EQ(Read(files, kRows, warnings.fn()).chat_template.size(), ranges.size());
  EXPECT_TRUE(warnings.texts().empty());
}

TEST(ChatTemplate, TakesTheDefaultOfAList) {
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json["chat_template"] = nlohmann::json::array(
        {{{"name", "tool_use"}, {"template", "b"}}, {{"name", "default"}, {"template", "a"}}});
  });
  const Tokenizer tokenizer = Read(files);
  EXPECT_EQ(tokenizer.chat_template, "a");
  ASSERT_EQ(tokenizer.named_chat_templates.size(), 1U);
  EXPECT_EQ(tokenizer.named_chat_templates[0],
            std::make_pair(std::string("tool_use"), std::string("b")));
}

TEST(ChatTemplate, IsRefusedWhenItIsNoText) {
  const auto refuse = [](const char* message, const nlohmann::json& value) {
    ExpectRefused("phi35-tiny", "tokenizer_config.json", ErrorCode::kBadData, message,
                  [&](nlohmann::json& json) { json["chat_template"] = value; });
  };
  refuse("chat_template is 5", 5);
  refuse("chat_template holds a NUL at byte 1", std::string("a\0b", 3));
  refuse("chat_template has 1048577 bytes", std::string(1048577, 'x'));
  refuse("chat_template holds \"x\", needs name and template", nlohmann::json::array({"x"}));
  refuse("chat_template names \"a\" twice",
         nlohmann::json::array(
             {{{"name", "a"}, {"template", ""}}, {{"name", "a"}, {"template", ""}}}));
  const SideFiles files("phi35-tiny");
  files.WriteText("chat_template.jinja", "ab\xFF");
  ExpectError(ErrorCode::kBadData, "chat_template.jinja: chat_template is not UTF-8 at byte 2",
              [&] { Read(files); });
}

TEST(ChatTemplate, IsCopiedWithAWarningWhenItUsesWhatNoneNeeds) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ ''.__class__ }}", "chat template uses __;"},
      {"{{ cycler.__init__ }}", "chat template uses __, cycler;"},
      {"{%- import 'x' as y %}", "chat template uses import;"},
      {"{% for i in range(10**9) %}{% endfor %}", "chat template uses a huge range;"},
      {"{% for i in range(1000000000) %}{% endfor %}", "chat template uses a huge range;"},
  };
  for (const auto& [text, message] : cases) {
    const SideFiles files("phi35-tiny");
    files.Edit("tokenizer_config.json",
               [text = text](nlohmann::json& json) { json["chat_template"] = text; });
    WarningList warnings;
    EXPECT_EQ(Read(files, kRows, warnings.fn()).chat_template, text);
    ASSERT_EQ(warnings.texts().size(), 1U) << text;
    EXPECT_THAT(warnings.texts()[0], ::testing::HasSubstr(message));
  }
  const SideFiles files("phi35-tiny");
  files.WriteText("chat_template.jinja",
                  "an important thing from here {% for i in range(100) %}{% endfor %}");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) { json.erase("chat_template"); });
  WarningList warnings;
  Read(files, kRows, warnings.fn());
  EXPECT_THAT(warnings.texts(), ::testing::IsEmpty());
}

}  // namespace
}  // namespace phiq::testing
