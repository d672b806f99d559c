// How text becomes ids: the parts, and what is refused. The ids of real tokenizers are in
// token_ids_test.cpp.
#include "model/token_encoder.h"

#include <gmock/gmock.h>

#include <chrono>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "model/added_token_splitter.h"
#include "model/bpe_merger.h"
#include "model/byte_alphabet.h"
#include "model/fixture.h"
#include "model/piece_merges.h"
#include "model/split_expression.h"

namespace phiq::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr std::uint32_t kRows = 2112;  // of both tiny checkpoints

Tokenizer Read(const SideFiles& files) {
  return ReadTokenizer(files.Folder(), kRows, {}, {}, {}, nullptr);
}

TokenEncoder EncoderOf(const std::string& base) { return {Read(SideFiles(base)), kRows}; }

using Edit = std::function<void(nlohmann::json&)>;

// The encoder of a tiny checkpoint whose tokenizer.json was changed.
TokenEncoder Edited(const std::string& base, const Edit& edit) {
  const SideFiles files(base);
  files.Edit("tokenizer.json", edit);
  return {Read(files), kRows};
}

// Reading such a tokenizer works, as conversion needs it; making an encoder does not.
void ExpectNoEncoder(const std::string& base, const char* message, const Edit& edit) {
  const SideFiles files(base);
  files.Edit("tokenizer.json", edit);
  const Tokenizer tokenizer = Read(files);
  ExpectError(ErrorCode::kUnsupported, message, [&] { TokenEncoder(tokenizer, kRows); });
}

// A number below n.
std::uint32_t Draw(std::mt19937& rng, std::uint32_t n) {
  return static_cast<std::uint32_t>(rng() % n);
}

// Valid UTF-8 of up to `n` characters from all of Unicode, ASCII in every second place.
std::string RandomText(std::mt19937& rng, std::size_t n) {
  std::string text;
  for (std::size_t i = rng() % (n + 1); i > 0; --i) {
    char32_t c = Draw(rng, 2) == 0 ? Draw(rng, 0x80) : Draw(rng, 0x110000);
    if (c >= 0xD800 && c < 0xE000) c = '\n';
    AppendUtf8(c, text);
  }
  return text;
}

// --- Merging ---

// Byte-pair encoding as it is told: look for the best pair, join it, begin again.
std::vector<std::uint32_t> MergeSlowly(std::vector<std::uint32_t> word,
                                       const std::vector<Merge>& merges) {
  for (;;) {
    std::size_t best = merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < word.size(); ++i) {
      for (std::size_t rank = 0; rank < best; ++rank) {
        if (merges[rank].left != word[i] || merges[rank].right != word[i + 1]) continue;
        best = rank;
        at = i;
      }
    }
    if (best == merges.size()) return word;
    word[at] = merges[best].result;
    word.erase(word.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST(BpeMerger, JoinsTheBestPairFirstAndTheLeftmostAmongEquals) {
  const BpeMerger merger(std::vector<Merge>{{1, 2, 12}, {1, 1, 11}, {11, 2, 112}});
  const auto merged = [&](std::vector<std::uint32_t> word) {
    merger.Apply(word);
    return word;
  };
  EXPECT_THAT(merged({}), IsEmpty());
  EXPECT_THAT(merged({1}), ElementsAre(1));
  EXPECT_THAT(merged({1, 1, 2}), ElementsAre(1, 12));
  EXPECT_THAT(merged({1, 1, 1, 3}), ElementsAre(11, 1, 3));
  EXPECT_THAT(merged({2, 1}), ElementsAre(2, 1));
}

TEST(BpeMerger, AgreesWithTheTextbook) {
  std::mt19937 rng(1);
  for (int round = 0; round < 300; ++round) {
    // Random merges over few tokens, so that they cross each other in many ways.
    std::vector<Merge> merges;
    std::map<std::pair<std::uint32_t, std::uint32_t>, bool> seen;
    for (std::uint32_t i = 0; i < 30; ++i) {
      const std::uint32_t left = Draw(rng, 3 + i / 2), right = Draw(rng, 3 + i / 2);
      if (seen[{left, right}]) continue;
      seen[{left, right}] = true;
      merges.push_back({left, right, 3 + i});
    }
    const BpeMerger merger(merges);
    std::vector<std::uint32_t> word(rng() % 60);
    for (std::uint32_t& id : word) id = Draw(rng, 3);
    const std::vector<std::uint32_t> expected = MergeSlowly(word, merges);
    merger.Apply(word);
    EXPECT_EQ(word, expected) << "round " << round;
  }
}

// With time that grows as the square each of these words would take hours.
TEST(TokenEncoder, TakesAMegabyteWithoutASpace) {
  std::mt19937 rng(1);
  std::string letters(1'000'000, ' ');
  for (char& c : letters) c = static_cast<char>('a' + rng() % 26);
  for (const std::string base : {"phi35-tiny", "phi4mini-tiny"}) {
    const TokenEncoder encoder = EncoderOf(base);
    for (const std::string& word : {std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
                                    std::string(1'000'000, 'A'), letters}) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_GT(encoder.Encode(word).size(), 1000U);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      EXPECT_LT(seconds.count(), 60) << base << ' ' << word[0];  // under a sanitizer: 10
    }
  }
}

TEST(TokenEncoder, GivesBackAllBytes) {
  const Tokenizer tokenizer = Read(SideFiles("phi4mini-tiny"));
  const TokenEncoder encoder(tokenizer, kRows);
  std::mt19937 rng(2);
  for (int i = 0; i < 2000; ++i) {
    const std::string text = RandomText(rng, 100);
    std::string decoded;
    for (const std::uint32_t id : encoder.Encode(text))
      decoded += BytesOfLetters(tokenizer.vocab.at(id)).value();
    EXPECT_EQ(decoded, text);
  }
}

TEST(TokenEncoder, TakesDamagedTextOnlyWhereItIsStillUtf8) {
  const TokenEncoder encoder = EncoderOf("phi35-tiny");
  std::mt19937 rng(3);
  int n_refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text = RandomText(rng, 50) + "<|end|>" + RandomText(rng, 50);
    text[rng() % text.size()] = static_cast<char>(rng());
    const std::optional<std::size_t> invalid = FindInvalidUtf8(text);
    if (!invalid) {
      EXPECT_THAT(encoder.Encode(text), ::testing::Each(::testing::Lt(kRows)));
      continue;
    }
    ++n_refused;
    ExpectError(ErrorCode::kBadData, "the text is not UTF-8 at byte " + std::to_string(*invalid),
                [&] { encoder.Encode(text); });
  }
  EXPECT_GT(n_refused, 100);
  EXPECT_THAT(encoder.Encode(""), IsEmpty());
}

TEST(TokenEncoder, TakesNulAsACharacter) {
  const std::string text("a\0b", 3);
  EXPECT_THAT(EncoderOf("phi4mini-tiny").Encode(text), ElementsAre(64, 188, 65));
  EXPECT_EQ(EncoderOf("phi35-tiny").Encode(text).size(), 3U);
}

// --- Added tokens ---

// Stretches as they are, ids as "#ID".
std::vector<std::string> Split(const std::vector<AddedToken>& tokens, const std::string& text) {
  std::vector<std::string> parts;
  AddedTokenSplitter(tokens).Split(
      text, [&](std::string_view stretch) { parts.emplace_back(stretch); },
      [&](std::uint32_t id) { parts.push_back("#" + std::to_string(id)); });
  return parts;
}

TEST(AddedTokenSplitter, FindsTheLeftmostAndThenTheLongest) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<a>"},
                                          {.id = 2, .content = "<a>b"},
                                          {.id = 3, .content = "b"},
                                          {.id = 4, .content = "<ax"},
                                          {.id = 5, .content = "\xC3\xA9"}};
  EXPECT_THAT(Split(tokens, ""), IsEmpty());
  EXPECT_THAT(Split(tokens, "x"), ElementsAre("x"));
  EXPECT_THAT(Split(tokens, "<a>"), ElementsAre("#1"));
  EXPECT_THAT(Split(tokens, "<a>bb<a>c"), ElementsAre("#2", "#3", "#1", "c"));
  EXPECT_THAT(Split(tokens, "<<ax<a"), ElementsAre("<", "#4", "<a"));
  EXPECT_THAT(Split(tokens, "\xC3\xA8\xC3\xA9"), ElementsAre("\xC3\xA8", "#5"));
  EXPECT_THAT(Split({}, "<a>"), ElementsAre("<a>"));
}

TEST(AddedTokenSplitter, SwallowsUnicodeWhiteSpace) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<l>", .lstrip = true},
                                          {.id = 2, .content = "<r>", .rstrip = true},
                                          {.id = 3, .content = "<n>"},
                                          {.id = 4, .content = "\nx"}};
  // All of White_Space.
  const std::string space =
      "\t\n\v\f\r \u0085\u00A0\u1680\u2000\u200A\u2028\u2029\u202F\u205F\u3000";
  EXPECT_THAT(Split(tokens, "a" + space + "<l>" + space + "b"),
              ElementsAre("a", "#1", space + "b"));
  EXPECT_THAT(Split(tokens, "a" + space + "<r>" + space + "b"),
              ElementsAre("a" + space, "#2", "b"));
  EXPECT_THAT(Split(tokens, "<n> <l> <n> <r> <n>"),
              ElementsAre("#3", "#1", " ", "#3", " ", "#2", "#3"));
  EXPECT_THAT(Split(tokens, "<r> <l>"), ElementsAre("#2", "#1"));
  EXPECT_THAT(Split(tokens, "<r>\u200B\u180E"), ElementsAre("#2", "\u200B\u180E"));
  // A token that begins with swallowed white space is still found.
  EXPECT_THAT(Split(tokens, "<r> \nx y"), ElementsAre("#2", "#4", " y"));
}

// Flags as transformers 5.24 takes them: tokenizer_config.json over tokenizer.json, and
// added_tokens.json not at all where either names tokens.
TEST(TokenEncoder, TakesAddedTokensOfTheConfigurationFirst) {
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    for (auto& [id, token] : json["added_tokens_decoder"].items()) {
      if (token["content"] == "<|end|>") token["rstrip"] = false;
    }
    json["added_tokens_decoder"]["2060"] = {{"content", "<|new|>"}, {"special", true}};
  });
  files.Edit("added_tokens.json", [](nlohmann::json& json) { json["<|file|>"] = 2061; });
  const TokenEncoder encoder(Read(files), kRows);
  EXPECT_THAT(encoder.Encode("<|end|>\n\nx<|new|>y<|file|>"),
              ElementsAre(2051, 198, 198, 87, 2060, 88, 27, 91, 69, 1325, 91, 29));
}

// Ids from the tokenizers library 0.23.3.
TEST(TokenEncoder, LooksForNormalizedTokensBehindTheNormalizer) {
  const TokenEncoder encoder = Edited("phi35-tiny", [](nlohmann::json& json) {
    json["added_tokens"].push_back({{"id", 2060}, {"content", "a b"}, {"normalized", true}});
  });
  // The content becomes "\u2581a\u2581b" too, so that it is found at a beginning of a stretch only.
  EXPECT_THAT(encoder.Encode("a b"), ElementsAre(2060));
  EXPECT_THAT(encoder.Encode("a b<|end|>a b"), ElementsAre(2060, 2055, 2060));
}

// --- Rules ---

TEST(TokenEncoder, TakesWordsThatAreTokensWholeWhereTheFileSaysSo) {
  const auto edit = [](bool ignore) {
    return [=](nlohmann::json& json) {
      json["model"]["ignore_merges"] = ignore;
      json["model"]["merges"] = nlohmann::json::array();
    };
  };
  EXPECT_EQ(Edited("phi4mini-tiny", edit(false)).Encode("the the").size(), 7U);
  EXPECT_EQ(Edited("phi4mini-tiny", edit(true)).Encode(" the the").size(), 2U);
}

TEST(TokenEncoder, SplitsByTheExpressionOfTheFile) {
  const auto edit = [](const char* behavior, bool invert) {
    return [=](nlohmann::json& json) {
      nlohmann::json& step = json["pre_tokenizer"]["pretokenizers"][0];
      step["pattern"]["Regex"] = "\\p{Lu}\\p{Lt}*|th";
      step["behavior"] = behavior;
      step["invert"] = invert;
      json["model"]["ignore_merges"] = true;
      json["model"]["merges"] = nlohmann::json::array();
    };
  };
  // "th" is a token, "e" and "Ae" are what is between the matches or not.
  const std::size_t e = 68, a = 32, th = 256;
  EXPECT_THAT(Edited("phi4mini-tiny", edit("Isolated", false)).Encode("theA"),
              ElementsAre(th, e, a));
  EXPECT_THAT(Edited("phi4mini-tiny", edit("Removed", true)).Encode("theA"), ElementsAre(th, a));
}

TEST(TokenEncoder, RefusesStepsThatItDoesNotDo) {
  const auto set = [](const char* pointer, const nlohmann::json& value) {
    return [=](nlohmann::json& json) { json[nlohmann::json::json_pointer(pointer)] = value; };
  };
  const std::string hint = " changes token ids, phiq does not do it (give the text as token ids";
  const auto refuse = [&](const char* base, const std::string& message, const Edit& edit) {
    SCOPED_TRACE(message);
    ExpectNoEncoder(base, (message + hint).c_str(), edit);
  };
  refuse("phi35-tiny", "tokenizer.json: normalizer {\"type\":\"NFC\"}",
         set("/normalizer", {{"type", "NFC"}}));
  refuse("phi4mini-tiny", "normalizer {\"type\":\"Lowercase\"}",
         set("/normalizer", {{"type", "Lowercase"}}));
  refuse("phi35-tiny", "normalizer {\"prepend\":\"\u2581\",\"type\":\"Prepend\"}",
         [](nlohmann::json& json) {
           nlohmann::json& steps = json["normalizer"]["normalizers"];
           std::swap(steps[0], steps[1]);
         });
  refuse("phi35-tiny",
         "normalizer {\"content\":\"12345\",\"pattern\":{\"String\":\" \"},\"type\":\"Replace\"}",
         set("/normalizer/normalizers/1/content", "12345"));
  refuse("phi35-tiny",
         "normalizer {\"content\":\"\u2581\",\"pattern\":{\"Regex\":\" \"},\"type\":\"Replace\"}",
         set("/normalizer/normalizers/1/pattern", {{"Regex", " "}}));
  refuse("phi35-tiny", "pre_tokenizer {\"type\":\"Whitespace\"}",
         set("/pre_tokenizer", {{"type", "Whitespace"}}));
  refuse("phi35-tiny", "pre_tokenizer {\"prepend_scheme\":\"last\",\"type\":\"Metaspace\"}",
         set("/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "last"}}));
  ExpectNoEncoder("phi4mini-tiny", "model.dropout 0.1", set("/model/dropout", 0.1));
  refuse("phi4mini-tiny",
         "pre_tokenizer {\"add_prefix_space\":true,\"trim_offsets\":true,\"type\":\"ByteLevel\","
         "\"use_regex\":false}",
         set("/pre_tokenizer/pretokenizers/1/add_prefix_space", true));
  refuse("phi4mini-tiny", "\"use_regex\":true}",
         set("/pre_tokenizer/pretokenizers/1/use_regex", true));
  refuse("phi4mini-tiny", "", set("/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext"));
  refuse("phi4mini-tiny", "", set("/pre_tokenizer/pretokenizers/0/invert", false));
  refuse("phi4mini-tiny", "pre_tokenizer without ByteLevel",
         [](nlohmann::json& json) { json["pre_tokenizer"]["pretokenizers"].erase(1); });
  ExpectNoEncoder("phi35-tiny", "model.byte_fallback is not true although there is a",
                  set("/model/byte_fallback", false));
  const SideFiles files("phi4mini-tiny");
  files.Edit("tokenizer_config.json", [](nlohmann::json& json) {
    json["added_tokens_decoder"]["2059"]["single_word"] = true;
  });
  ExpectError(ErrorCode::kUnsupported, "added token '<|tag|>' has single_word",
              [&] { TokenEncoder(Read(files), kRows); });
}

TEST(TokenEncoder, SplitsByTheKnownExpressionWhereTheFileHasNone) {
  const SideFiles files("phi4mini-tiny");
  const TokenEncoder whole(Read(files), kRows);
  files.Edit("tokenizer.json",
             [](nlohmann::json& json) { json["pre_tokenizer"]["pretokenizers"].erase(0); });
  const Tokenizer tokenizer = ReadTokenizer(files.Folder(), 200064, {}, {}, {}, nullptr);
  const std::string text = "Don't SPLIT this'LL  1234567\n\n  x";
  EXPECT_EQ(TokenEncoder(tokenizer, 200064).Encode(text), whole.Encode(text));
}

// A vocabulary that lacks a byte does for every text that does not need it.
TEST(TokenEncoder, NeedsATokenForEachByteOfTheText) {
  Tokenizer tokenizer = Read(SideFiles("phi4mini-tiny"));
  tokenizer.vocab.at(188) = "gone";  // NUL
  const TokenEncoder letters(tokenizer, kRows);
  EXPECT_FALSE(letters.Encode("a text without it").empty());
  ExpectError(ErrorCode::kUnsupported, "the tokenizer has no token '\u0100', which the text needs",
              [&] { letters.Encode(std::string("a\0b", 3)); });
  tokenizer = Read(SideFiles("phi35-tiny"));
  tokenizer.vocab.at(3 + 0xF0) = "gone";
  const TokenEncoder bytes(tokenizer, kRows);
  EXPECT_FALSE(bytes.Encode("plain").empty());
  ExpectError(ErrorCode::kUnsupported, "the tokenizer has no token '<0xF0>'",
              [&] { bytes.Encode("\U0001F600"); });
}

// Ids from the tokenizers library 0.23.3.
TEST(TokenEncoder, MarksSpacesAsMetaspaceDoes) {
  const auto encoder = [](const char* scheme, bool split) {
    return Edited("phi35-tiny", [&](nlohmann::json& json) {
      json["normalizer"] = nullptr;
      json["pre_tokenizer"] = {{"type", "Metaspace"},
                               {"replacement", "\u2581"},
                               {"prepend_scheme", scheme},
                               {"split", split}};
    });
  };
  for (const bool split : {false, true}) {
    const TokenEncoder first = encoder("first", split);
    EXPECT_THAT(first.Encode("Hello world"), ElementsAre(416, 580, 1995, 1175));
    EXPECT_THAT(first.Encode(" a"), ElementsAre(262));  // it begins with a mark already
    EXPECT_THAT(first.Encode("a<|end|>b c"), ElementsAre(262, 2055, 2010, 282));
    EXPECT_THAT(first.Encode("<|end|>a"), ElementsAre(2055, 1994));
    EXPECT_THAT(first.Encode("  two"), ElementsAre(1990, 692));
    EXPECT_THAT(first.Encode("\n<|user|> x"), ElementsAre(1990, 13, 2058, 2040));
    const TokenEncoder always = encoder("always", split);
    EXPECT_THAT(always.Encode("a<|end|>b c"), ElementsAre(262, 2055, 273, 282));
    EXPECT_THAT(always.Encode("<|end|>a"), ElementsAre(2055, 262));
    EXPECT_THAT(always.Encode("  two"), ElementsAre(1990, 692));
    EXPECT_THAT(always.Encode(""), IsEmpty());
    const TokenEncoder never = encoder("never", split);
    EXPECT_THAT(never.Encode("Hello world"), ElementsAre(2029, 580, 1995, 1175));
    EXPECT_THAT(never.Encode("a b<|end|> c"), ElementsAre(1994, 273, 2055, 2008));
  }
}

TEST(AddedTokenSplitter, ReadsARunOfWhiteSpaceOnce) {
  // Quadratic time would take minutes.
  const AddedTokenSplitter splitter({{.id = 1, .content = "\t", .rstrip = true}});
  const std::string tabs(1'000'000, '\t');
  std::size_t n_tokens = 0;
  splitter.Split(
      tabs + "x", [](std::string_view stretch) { EXPECT_EQ(stretch, "x"); },
      [&](std::uint32_t) { ++n_tokens; });
  EXPECT_EQ(n_tokens, tabs.size());
}

TEST(TokenEncoder, RefusesFactsThatDoNotFit) {
  Tokenizer tokenizer = Read(SideFiles("phi4mini-tiny"));
  ExpectError(ErrorCode::kBadData, "has id 2047 but the embedding has 2047 rows", [&] {
    Tokenizer without_added = tokenizer;
    without_added.added_tokens.clear();
    TokenEncoder(without_added, 2047);
  });
  const TokenEncoder without_last_row(tokenizer, 2059);
  EXPECT_EQ(without_last_row.Encode("<|system|>").size(), 1U);
  ExpectError(ErrorCode::kBadData, "the text holds token 2059, but the embedding has 2059 rows",
              [&] { without_last_row.Encode("<|tag|>"); });
  tokenizer.added_tokens.push_back({.id = 2060, .content = std::string(257, 'x')});
  ExpectError(ErrorCode::kUnsupported, "has 257 bytes, at most 256 can be encoded",
              [&] { TokenEncoder(tokenizer, kRows); });
}

// --- tokenizer.model alone ---

TEST(MergesFromScores, AreTheListThatTransformersWrote) {
  const Tokenizer tokenizer = Read(SideFiles("phi35-tiny"));
  EXPECT_EQ(MergesFromScores(tokenizer.pieces), tokenizer.merges);
}

TEST(MergesFromScores, RefusesEndlessPieces) {
  const std::vector<SentencePiece> pieces = {{std::string(257, 'x'), 0, PieceType::kNormal}};
  ExpectError(ErrorCode::kUnsupported, "has 257 bytes, at most 256 can be encoded",
              [&] { MergesFromScores(pieces); });
}

// Fields of the settings behind the pieces; the last value of a field counts.
std::string NormalizerField(char field, char value) {
  return std::string("\x1A\x02") + static_cast<char>(field << 3) + value;
}

TEST(TokenEncoder, FollowsTheSettingsOfTokenizerModel) {
  SideFiles files("phi35-tiny");
  files.Remove("tokenizer.json");
  std::ifstream in(files.path("tokenizer.model"), std::ios::binary);
  const std::string model{std::istreambuf_iterator<char>(in), {}};
  const auto encoder = [&](const std::string& more) {
    files.WriteText("tokenizer.model", model + more);
    return TokenEncoder(Read(files), kRows);
  };
  const auto refuse = [&](const std::string& more, const char* message) {
    ExpectError(ErrorCode::kUnsupported, message, [&] { encoder(more); });
  };
  const std::uint32_t space = 1990;
  EXPECT_EQ(encoder("").Encode(" a").front(), space);
  EXPECT_EQ(encoder("").Encode(" a").size(),
            encoder(NormalizerField(3, 0)).Encode(" a").size() + 1);
  refuse(NormalizerField(4, 1),
         "tokenizer.model: remove_extra_whitespaces, phiq does not encode so");
  refuse(NormalizerField(5, 0), "escape_whitespaces false");
  refuse(std::string("\x1A\x03\x12\x01x"), "normalizer with a character map");
  refuse(std::string("\x12\x02\x18\x01"), "model type 1 is not BPE");
  refuse(std::string("\x12\x03\xC0\x01\x01"), "treat_whitespace_as_suffix");
}

// --- Split expressions ---

std::vector<std::string> Matches(std::string_view expression, const std::string& text) {
  std::vector<std::string> matches;
  SplitExpression(expression).ForEachMatch(text, [&](std::size_t begin, std::size_t end) {
    matches.push_back(text.substr(begin, end - begin));
  });
  return matches;
}

TEST(SplitExpression, HasUnicodeClassesAndFolding) {
  EXPECT_THAT(Matches("(?i:'s)", "'s'S'\u017F"), ElementsAre("'s", "'S", "'\u017F"));
  EXPECT_THAT(Matches("\\p{Lt}", "\u01C4\u01C5"), ElementsAre("\u01C5"));
  // U+180E is no white space, although PCRE2's own \s has it.
  EXPECT_THAT(Matches("\\s+|[^\\s]", "\u3000\u0085\u180E\u200B"),
              ElementsAre("\u3000\u0085", "\u180E", "\u200B"));
  EXPECT_THAT(Matches("\\\\s", "\\s"), ElementsAre("\\s"));
  EXPECT_THAT(Matches("\\s+(?!\\S)|\\s+", "a   b"), ElementsAre("  ", " "));
}

TEST(SplitExpression, LeavesOutWhatIsNotMatchedAndEmptyMatches) {
  EXPECT_THAT(Matches("b*", "abb\u00E9b"), ElementsAre("bb", "b"));
  EXPECT_THAT(Matches("a\\Kb", "abb"), IsEmpty());
  EXPECT_THAT(Matches("", "abb"), IsEmpty());
}

TEST(SplitExpression, RefusesWhatPcre2DoesNotTake) {
  const auto refuse = [](const std::string& expression, const char* message) {
    ExpectError(ErrorCode::kUnsupported, message, [&] { SplitExpression{expression}; });
  };
  refuse("(a", "split expression '(a': missing closing parenthesis");
  refuse("a\\C", "using \\C is disabled");
  refuse(std::string(16'385, 'a'), "the split expression has 16385 bytes, at most 16384");
}

TEST(SplitExpression, GivesUpOnExpressionsWithoutEnd) {
  const std::string letters(50'000, 'a');
  for (const char* expression :
       {"(a+)+[bc]", "(a|a)*[bc]", "a*a*a*[bc]", "(?:a(?=.*[bc])|a)*[bc]", "(.*)*[bc]|\\p{L}+"}) {
    ExpectError(ErrorCode::kUnsupported, "(give the text as token ids with --ids)",
                [&] { Matches(expression, letters); });
  }
}

}  // namespace
}  // namespace phiq::testing
