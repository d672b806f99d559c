// The ids of five tokenizers, against the tokenizers library.
#include <gtest/gtest.h>

#include "model/fixture.h"
#include "model/golden_token_ids.h"
#include "model/rank_tokenizer.h"
#include "model/token_encoder.h"

namespace phiq::testing {
namespace {

Tokenizer Read(const std::filesystem::path& folder, std::uint32_t vocab_size) {
  return ReadTokenizer(LocateCheckpoint(folder.string(), nullptr), vocab_size, {}, {}, {}, nullptr);
}

// The encoder of a tokenizer whose tokenizer.json has to be built.
TokenEncoder FromRanks(const std::string& name, std::uint32_t vocab_size) {
  const std::filesystem::path folder = TestData() / "tokenizers" / name;
  const TempFolder temp;
  WriteTestFile(temp.path() / "tokenizer.json", TokenizerJsonFromRanks(folder).dump());
  std::filesystem::copy(folder / "tokenizer_config.json", temp.path() / "tokenizer_config.json");
  return TokenEncoder(Read(temp.path(), vocab_size), vocab_size);
}

TEST(TokenIds, OfTheTinyCheckpointsAreTheLibrarys) {
  for (const std::string name : {"phi35-tiny", "phi4mini-tiny"}) {
    SCOPED_TRACE(name);
    const TokenEncoder encoder(Read(TestData() / name, 2112), 2112);
    ExpectGoldenTokenIds(encoder, name);
    const nlohmann::json reference = ReadTestJson(TestData() / name / "reference/reference.json");
    ASSERT_GE(reference.at("tokenization").size(), 50U);
    for (const nlohmann::json& entry : reference.at("tokenization")) {
      EXPECT_EQ(encoder.Encode(entry.at("text").get<std::string>()),
                entry.at("ids").get<std::vector<std::uint32_t>>())
          << entry.at("text");
    }
  }
}

// Texts larger than memory are encoded in parts.
void ExpectIdsOfParts(const TokenEncoder& encoder, const std::string& text) {
  const std::vector<std::uint32_t> whole = encoder.Encode(text);
  for (const std::size_t size : {1U, 7U, 60U, 1000U}) {
    std::vector<std::uint32_t> ids;
    std::string_view rest = text;
    std::size_t n_parts = 0;
    while (!rest.empty()) {
      std::size_t end = 0;
      for (std::size_t most = size; end == 0 && most < rest.size(); most *= 2)
        end = encoder.CutBefore(rest, most);
      if (end == 0) end = rest.size();
      const std::vector<std::uint32_t> part = encoder.Encode(rest.substr(0, end), n_parts > 0);
      ids.insert(ids.end(), part.begin(), part.end());
      rest.remove_prefix(end);
      ++n_parts;
    }
    EXPECT_EQ(ids, whole) << "parts of " << size;
    EXPECT_GT(n_parts, text.size() / (size + 60) / 4);
  }
}

TEST(TokenIds, OfPartsAreThoseOfTheWhole) {
  for (const std::string name : {"phi35-tiny", "phi4mini-tiny"}) {
    SCOPED_TRACE(name);
    const TokenEncoder encoder(Read(TestData() / name, 2112), 2112);
    ExpectIdsOfParts(encoder, HeldoutText());
    // Added tokens that swallow white space, runs of it, marks, and words of other alphabets.
    std::string odd;
    for (int i = 0; i < 40; ++i)
      odd +=
          "a <|end|> \n b<|user|>  \xC2\xA0 c\t d \xE2\x96\x81 \xE2\x96\x81x 's it's  \xD0\xB6 "
          "\xD0\xB8 1234 5 </s> <s> .. ";
    ExpectIdsOfParts(encoder, odd);
  }
}

TEST(TokenIds, OfPhi3AreTheLibrarys) {
  ExpectGoldenTokenIds(TokenEncoder(Read(TestData() / "tokenizers" / "phi-3-mini", 32064), 32064),
                       "phi-3-mini");
}

TEST(TokenIds, OfPhi4AreTheLibrarys) { ExpectGoldenTokenIds(FromRanks("phi-4", 100352), "phi-4"); }

TEST(TokenIds, OfPhi4MiniAreTheLibrarys) {
  ExpectGoldenTokenIds(FromRanks("phi-4-mini", 200064), "phi-4-mini");
}

TEST(TokenIds, OfTokenizerModelAloneAreThoseOfTokenizerJson) {
  const SideFiles files("phi35-tiny");
  files.Remove("tokenizer.json");
  ExpectGoldenTokenIds(TokenEncoder(Read(files.path(""), 2112), 2112), "phi35-tiny");
}

}  // namespace
}  // namespace phiq::testing
