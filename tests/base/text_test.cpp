// What users type and what messages show: words, sizes, suggestions, escapes.
#include "phiq/text.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/ascii.h"
#include "base/parse_number.h"
#include "base/sha256.h"
#include "phiq/error.h"

namespace phiq {
namespace {

TEST(Escape, HidesControlsAndInvalidBytes) {
  EXPECT_EQ(Escape("a\x1b[2J\n"), "a\\x1b[2J\\x0a");
  EXPECT_EQ(Escape("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(Escape("\xc2\x85\xe2\x80\xae"), "\\u{0085}\\u{202e}");
  EXPECT_EQ(Escape("Führer 日本"), "Führer 日本");
}

TEST(Escape, CutsAt200Characters) {
  EXPECT_EQ(Escape(std::string(200, 'x')), std::string(200, 'x'));
  EXPECT_EQ(Escape(std::string(201, 'x')), std::string(200, 'x') + "...");
}

TEST(Ascii, KnowsLettersAlone) {
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const bool is_capital = byte >= 'A' && byte <= 'Z';
    const bool is_small = byte >= 'a' && byte <= 'z';
    EXPECT_EQ(LowerAscii(c), is_capital ? static_cast<char>(byte + 32) : c) << byte;
    EXPECT_EQ(IsAsciiLetter(c), is_capital || is_small) << byte;
    EXPECT_EQ(IsAsciiAlphanumeric(c), is_capital || is_small || (byte >= '0' && byte <= '9'))
        << byte;
  }
  EXPECT_TRUE(EqualsIgnoringCase("Q4_K_M", "q4_k_m"));
  EXPECT_FALSE(EqualsIgnoringCase("q4_k", "q4_k_m"));
  EXPECT_FALSE(EqualsIgnoringCase("\xc3\x89", "\xc3\xa9"));
}

TEST(ParseNumber, TakesNothingButTheNumber) {
  EXPECT_EQ(ParseNumber<std::uint64_t>("18446744073709551615"), 18446744073709551615U);
  EXPECT_EQ(ParseNumber<std::int64_t>("-1"), -1);
  for (const char* bad : {"", " 1", "1 ", "+1", "-1", "0x1", "18446744073709551616"})
    EXPECT_EQ(ParseNumber<std::uint64_t>(bad), std::nullopt) << bad;
}

TEST(Text, FormatsSizesAndCounts) {
  EXPECT_EQ(FormatBytes(1023), "1023 bytes");
  EXPECT_EQ(FormatBytes(1610612736), "1.50 GiB");
  EXPECT_EQ(FormatCount(3821079552), "3,821,079,552");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
}

TEST(ParseSize, KnowsBothKindsOfUnits) {
  EXPECT_EQ(ParseSize("512"), 512U);
  EXPECT_EQ(ParseSize("64k"), 65536U);
  EXPECT_EQ(ParseSize("1.5GiB"), 1610612736U);
  EXPECT_EQ(ParseSize("2GB"), 2000000000U);
  for (const char* bad : {"", "G", "-1", "1X", "1GX", "1e3", "nan", "99999999999G", "1 G"}) {
    EXPECT_THROW(ParseSize(bad), Error) << bad;
  }
}

TEST(DidYouMean, SuggestsOnlyWhatIsNear) {
  const std::vector<std::string> names = {"mobile", "iot", "ai-pc"};
  EXPECT_EQ(DidYouMean("mobil", names), "did you mean 'mobile'?");
  EXPECT_EQ(DidYouMean("MOBILE", names), "did you mean 'mobile'?");
  EXPECT_EQ(DidYouMean("desktop", names), "");
}

TEST(DidYouMean, SuggestsAFewThatBeginWithTheWord) {
  const std::vector<std::string> names = {"Q8_0", "Q4_K_M", "Q4_K_S", "Q4_0"};
  EXPECT_EQ(DidYouMean("q4", names), "did you mean 'Q4_K_M' or 'Q4_K_S' or 'Q4_0'?");
  EXPECT_EQ(DidYouMean("q", names), "");
  EXPECT_EQ(DidYouMean("zz", std::vector<std::string>(5, "zz-long-name")), "");
}

TEST(Sha256, MatchesThePublishedVector) {  // FIPS 180-2, "abc"
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace phiq
