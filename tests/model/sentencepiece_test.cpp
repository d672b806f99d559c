// tokenizer.model, whole and broken.
#include "model/sentencepiece.h"

#include <bit>
#include <cmath>
#include <fstream>
#include <iterator>

#include "model/fixture.h"

namespace phiq::testing {
namespace {

// Protobuf by hand: only lengths below 128.
std::string Field(char tag, const std::string& content) {
  return std::string{tag} + static_cast<char>(content.size()) + content;
}
std::string Score(float score) {
  const auto bits = std::bit_cast<std::uint32_t>(score);
  std::string bytes = "\x15";  // field 2, 32 bits
  for (int shift = 0; shift < 32; shift += 8)
    bytes.push_back(static_cast<char>(bits >> shift & 0xFF));
  return bytes;
}
std::string Piece(const std::string& text, float score, char type) {
  return Field('\x0A', Field('\x0A', text) + Score(score) + '\x18' + type);
}
const std::string kUnknown = Piece("<unk>", 0, 2);
const std::string kSettings = Field('\x12', "\x20\x05") + Field('\x1A', "");

std::vector<SentencePiece> Parse(const std::string& bytes) {
  return ParseSentencePieceModel(bytes, "tokenizer.model").pieces;
}

void ExpectRefused(const std::string& bytes, const char* message) {
  ExpectError(ErrorCode::kBadData, message, [&] { Parse(bytes); });
}

TEST(SentencePieceModel, ReadsPiecesInOrder) {
  // The type is 1 when it is left out; unknown fields are skipped.
  const std::string plain =
      Field('\x0A', Field('\x0A', "ab") + Score(-1.5F) + Field('\x22', "more"));
  const std::vector<SentencePiece> pieces =
      Parse(kUnknown + Piece("<0x00>", 0, 6) + plain + kSettings);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[0].text, "<unk>");
  EXPECT_EQ(pieces[0].type, PieceType::kUnknown);
  EXPECT_EQ(pieces[1].type, PieceType::kByte);
  EXPECT_EQ(pieces[2].text, "ab");
  EXPECT_EQ(pieces[2].score, -1.5F);
  EXPECT_EQ(pieces[2].type, PieceType::kNormal);
}

TEST(SentencePieceModel, RefusesBadPieces) {
  ExpectRefused(kUnknown + Piece("a", NAN, 1) + kSettings, "piece 1 has score nan");
  ExpectRefused(kUnknown + Piece("a", INFINITY, 1) + kSettings, "piece 1 has score inf");
  ExpectRefused(kUnknown + Piece("a", 0, 99) + kSettings, "piece 1 has unknown type 99");
  ExpectRefused(kUnknown + Piece("", 0, 1) + kSettings, "piece 1 has no text");
  ExpectRefused(kUnknown + Piece("\xFF", 0, 1) + kSettings, "piece 1 '\\xff' is not UTF-8");
  ExpectRefused(Piece("a", 0, 1) + kSettings, "none of the 1 pieces has the type 'unknown'");
  ExpectRefused(kUnknown + Piece("a", 0, 2) + kSettings,
                "pieces 0 and 1 both have the type 'unknown'");
}

TEST(SentencePieceModel, NamesTheByteOfMalformedFields) {
  ExpectRefused("\x0B", "unknown wire type 3 at byte 1");
  ExpectRefused(kUnknown + std::string(1, '\0'),
                "not a protobuf field at byte 17");  // behind 16 bytes
  ExpectRefused(std::string("\x0A\x7F"), "field of 127 bytes, but 0 are left at byte 2");
  // A text that says it is longer than its piece must not reach into the next one.
  ExpectRefused(Field('\x0A', "\x0A\x05x") + kUnknown + kSettings,
                "field of 5 bytes, but 1 are left at byte 4");
  // A score that crosses the end of its piece.
  ExpectRefused(Field('\x0A', "\x15\x01\x02") + kUnknown + kSettings, "piece 0 runs past its end");
}

TEST(SentencePieceModel, NoticesEveryCut) {
  const std::string whole = kUnknown + Piece("a", -1, 1) + kSettings;
  ASSERT_EQ(Parse(whole).size(), 2U);
  for (std::size_t n = 0; n < whole.size(); ++n)
    ExpectRefused(whole.substr(0, n), "incomplete download?");
}

TEST(SentencePieceModel, NoticesEveryCutOfARealFile) {
  std::ifstream in(TestData() / "phi35-tiny" / "tokenizer.model", std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(Parse(whole).size(), 2048U);
  for (std::size_t n = 0; n < whole.size(); n += 97)
    ExpectRefused(whole.substr(0, n), "incomplete download?");
}

}  // namespace
}  // namespace phiq::testing
