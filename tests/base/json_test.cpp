// JSON with limits, as side files and headers need it.
#include "base/json.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/limits.h"
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
  ASSERT_TRUE(tree.is_object());
  ASSERT_EQ(tree.size(), 2U);
  const Json& a = *tree.find("a");
  ASSERT_EQ(a.size(), 3U);
  EXPECT_EQ(a[0].get<int>(), 1);
  EXPECT_EQ(a[1].get<double>(), 2.5);
  EXPECT_TRUE(a[2].find("b")->is_null());
  EXPECT_EQ(tree.find("c")->text(), "é");
  EXPECT_EQ(tree.find("d"), nullptr);
}

TEST(Json, KeepsTheOrderOfKeys) {
  constexpr std::string_view kText = R"({"b":[{"z":1,"a":2}],"a":{"y":null,"x":"\n"}})";
  Json tree = ParseJson(kText, "x.json");
  EXPECT_EQ(tree.dump(), kText);
  tree.SortMembers();
  EXPECT_EQ(tree.dump(), R"({"a":{"y":null,"x":"\n"},"b":[{"z":1,"a":2}]})");
}

// As Python's json module and nlohmann's library write them.
TEST(Json, WritesItsValues) {
  Json tree = Json::object({{"a", Json::array()}, {"b", Json::object()}});
  tree["list"] = std::vector<int>{1, -2};
  tree["number"] = 1e-05;
  tree["whole"] = 1.0;
  tree["text"] = "\u00e9\"\n\xff";
  tree["flag"] = true;
  EXPECT_EQ(tree.dump(2, /*ensure_ascii=*/true),
            R"({
  "a": [],
  "b": {},
  "list": [
    1,
    -2
  ],
  "number": 1e-05,
  "whole": 1.0,
  "text": "\u00e9\"\n\ufffd",
  "flag": true
})");
}

TEST(Json, IsEqualByValue) {
  const auto parse = [](std::string_view text) { return ParseJson(text, "x.json"); };
  EXPECT_EQ(parse(R"({"a":1,"b":[2,{"c":3,"d":4}]})"), parse(R"({"b":[2,{"d":4,"c":3}],"a":1.0})"));
  EXPECT_NE(parse(R"({"a":1})"), parse(R"({"a":1,"b":null})"));
  EXPECT_NE(parse(R"({"a":1})"), parse(R"({"b":1})"));
  EXPECT_NE(parse("[1,2]"), parse("[2,1]"));
  EXPECT_NE(parse("[true]"), parse("[1]"));
  EXPECT_EQ(parse("-5"), -5);
  EXPECT_EQ(parse("18446744073709551616"), 18446744073709551616.0);
}

TEST(Json, ChangesMembersInPlace) {
  Json tree = ParseJson(R"({"a":1,"b":2,"c":3})", "x.json");
  tree["b"] = nullptr;
  tree["d"] = "new";
  tree.erase("a");
  tree.erase("absent");
  EXPECT_EQ(tree.dump(), R"({"b":null,"c":3,"d":"new"})");
}

// Python's tools write these words; a stream has no use for them.
TEST(Json, TakesNumbersThatAreNotFiniteInTrees) {
  const Json tree =
      ParseJson(R"({"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity","d":1E0})", "x.json");
  EXPECT_EQ(tree.dump(), R"({"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity","d":1.0})");
  EXPECT_THROW(JsonNumber(tree, "a", "x.json"), Error);
  EXPECT_EQ(JsonNumber(tree, "d", "x.json"), 1.0);
  // As Python reads them.
  const Json large = ParseJson(R"([1e999,-1.5E+400,"1e999",1e-999,1e308,[-2e0400]])", "x.json");
  EXPECT_EQ(large.dump(), R"([Infinity,-Infinity,"1e999",0.0,1e+308,[-Infinity]])");
  EXPECT_THAT(FailureOf("[1e999.5]"), HasSubstr("at byte "));
  EXPECT_THAT(FailureOf("[01e999]"), HasSubstr("at byte "));
  EXPECT_THAT(FailureOf(R"({"a":NaNs})"), HasSubstr("at byte "));
  EXPECT_THAT(FailureOf(R"({"a":Infinit})"), HasSubstr("at byte 5"));
  class : public JsonEvents {
    void OnStartObject(int) override {}
    void OnKey(const std::string&, int) override {}
    void OnEndObject(int) override {}
    void OnStartArray(int) override {}
    void OnEndArray(int) override {}
    void OnString(const std::string&) override {}
    void OnUnsigned(std::uint64_t) override {}
    void OnOther(std::string_view what) override { others += fmt::format(" {}", what); }

   public:
    std::string others;
  } events;
  EXPECT_THROW(ParseJsonEvents("[NaN]", "x.json", 64, events), Error);
  EXPECT_THROW(ParseJsonEvents("[1e999]", "x.json", 64, events), Error);
  ParsePythonJsonEvents("[NaN,1.5,-Infinity,1e999]", "x.json", 64, events);
  EXPECT_EQ(events.others, " NaN 1.5 -Infinity Infinity");
}

TEST(Json, BoundsTheValuesOfATree) {
  std::string text = "[0";
  for (std::size_t i = 2; i < limits::kJsonValues; ++i) text += ",0";
  EXPECT_EQ(FailureOf(text + "]"), "");
  EXPECT_EQ(FailureOf(text + ",0]"), "x.json: holds more than 500000 JSON values");
}

// Every key has the same length, and half of them come twice in other objects.
TEST(Json, FindsADuplicateAmongManyKeys) {
  const auto object = [](int n) {
    std::string text = "{";
    for (int i = 0; i < n; ++i)
      text += fmt::format("{}\"{:06}\":{{\"x\":0}}", i == 0 ? "" : ",", i);
    return text;
  };
  EXPECT_EQ(FailureOf(object(50'000) + "}"), "");
  EXPECT_EQ(FailureOf(object(50'000) + ",\"031415\":0}"), "x.json: duplicate key '031415' in JSON");
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
       {"{", "[1,]", "{\"a\":1}//", "{'a':1}", "[1] 2", "", "\"\\ud800\"", "[\"\xff\"]"}) {
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
