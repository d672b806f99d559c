#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "phiq/error.h"

namespace phiq {
namespace {

using testing::HasSubstr;

std::string FailureOf(std::string_view text, int max_depth = 64) {
  try {
    ParseJson(text, "x.json", max_depth);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kBadData);
    return e.what();
  }
  return "";
}

TEST(Json, ReadsATree) {
  const Json tree = ParseJson(R"({"a":[1,2.5,{"b":null}],"c":"\u00e9"})", "x.json");
  EXPECT_EQ(tree, Json::parse(R"({"a":[1,2.5,{"b":null}],"c":"é"})"));
}

TEST(Json, KeepsTheOrderOfKeys) {
  constexpr std::string_view kText = R"({"b":[{"z":1,"a":2}],"a":{"y":null,"x":"\n"}})";
  EXPECT_EQ(ParseOrderedJson(kText, "x.json").dump(), kText);
  EXPECT_EQ(ParseJson(kText, "x.json").dump(), R"({"a":{"x":"\n","y":null},"b":[{"a":2,"z":1}]})");
  EXPECT_THROW(ParseOrderedJson(R"({"b":1,"a":2,"b":3})", "x.json"), Error);
}

TEST(Json, KeepsIntegersExact) {
  EXPECT_EQ(JsonUnsigned(ParseJson(R"({"n":18446744073709551615})", "x"), "n", "x"), UINT64_MAX);
  EXPECT_THROW(JsonUnsigned(ParseJson(R"({"n":18446744073709551616})", "x"), "n", "x"), Error);
  EXPECT_THROW(JsonUnsigned(ParseJson(R"({"n":1e3})", "x"), "n", "x"), Error);
  EXPECT_THROW(JsonUnsigned(ParseJson(R"({"n":1.0})", "x"), "n", "x"), Error);
  EXPECT_THROW(JsonUnsigned(ParseJson(R"({"n":-1})", "x"), "n", "x"), Error);
}

TEST(Json, RefusesDuplicateKeysAlsoAfterUnescaping) {
  EXPECT_EQ(FailureOf(R"({"a":1,"a":2})"), "x.json: duplicate key 'a' in JSON");
  EXPECT_EQ(FailureOf(R"({"a":1,"\u0061":2})"), "x.json: duplicate key 'a' in JSON");
  EXPECT_EQ(FailureOf(R"({"a":{"b":1},"c":{"b":1}})"), "");
}

TEST(Json, RefusesWhatTheStandardRefuses) {
  for (const char* text :
       {"{", "[1,]", "{\"a\":1}//", "{'a':1}", "[NaN]", "[1] 2", "", "\"\\ud800\"", "[\"\xff\"]"}) {
    EXPECT_THAT(FailureOf(text), HasSubstr("not valid UTF-8 JSON")) << text;
    EXPECT_THAT(FailureOf(text), HasSubstr("at byte ")) << text;
  }
}

TEST(Json, RefusesByteOrderMarkAndNul) {
  EXPECT_THAT(FailureOf("\xEF\xBB\xBF{}"), HasSubstr("byte order mark"));
  EXPECT_THAT(FailureOf(std::string_view("{}\0", 3)), HasSubstr("NUL byte at byte 2"));
}

TEST(Json, BoundsNesting) {
  EXPECT_EQ(FailureOf("[[[]]]", 3), "");
  EXPECT_EQ(FailureOf("[[[[]]]]", 3), "x.json: JSON is nested too deeply, more than 3 levels");
  EXPECT_THAT(FailureOf(std::string(5'000'000, '[')), HasSubstr("nested too deeply"));
}

TEST(Json, NamesTheKeyOfAWrongType) {
  const Json tree = ParseJson(R"({"s":5,"t":null})", "x.json");
  EXPECT_EQ(JsonString(tree, "t", "x.json"), std::nullopt);
  EXPECT_EQ(JsonString(tree, "absent", "x.json"), std::nullopt);
  try {
    JsonString(tree, "s", "x.json");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "x.json: 's' is 5, needs a string");
  }
}

}  // namespace
}  // namespace phiq
