// Templates of Phi models, and those that try each thing that is rendered, against what
// transformers makes of them (tests/data/PROVENANCE.d/tokenizers.md); refusals of everything else.
#include "model/render_chat.h"

#include <gmock/gmock.h>

#include <fstream>
#include <iterator>
#include <string>

#include "phiq/error.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

using ::testing::HasSubstr;

Json ReadGolden() {
  const std::string path = std::string(kTestData) + "/golden/chat/renderings.json";
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return ParseJson(text, path);
}

std::vector<std::pair<std::string, std::string>> VariablesOf(const Json& golden) {
  std::vector<std::pair<std::string, std::string>> variables;
  for (const JsonMember& member : golden.find("variables")->members())
    variables.emplace_back(member.key, member.value.text());
  return variables;
}

TEST(ChatTemplateGolden, RendersAsTransformersDoes) {
  const Json golden = ReadGolden();
  const auto variables = VariablesOf(golden);
  std::size_t n_compared = 0;
  for (const Json& one : *golden.find("templates")) {
    const ChatTemplate chat_template(one.find("template")->text());
    for (const JsonMember& wanted : one.find("renderings")->members()) {
      const Json& messages = *golden.find("conversations")->find(wanted.key);
      const std::string name = one.find("name")->text() + ", " + wanted.key;
      if (wanted.value.is_null()) {
        EXPECT_THROW(chat_template.Render(messages, variables), Error) << name;
      } else {
        EXPECT_EQ(chat_template.Render(messages, variables), wanted.value.text()) << name;
      }
      ++n_compared;
    }
  }
  EXPECT_GE(n_compared, 200U);
}

// The whole line of what a template and a user's message throw; empty: nothing.
std::string Refusal(const std::string& text, ErrorCode code, const std::string& content = "Hi") {
  try {
    Json message = Json::object({{"role", "user"}, {"content", content}});
    Json messages = Json::array();
    messages.push_back(std::move(message));
    ChatTemplate(text).Render(messages, {});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "";
}

TEST(ChatTemplate, NamesWhatItDoesNotRender) {
  constexpr std::string_view kBehind =
      " (JSON lines with \"text\" instead of \"messages\" need none)";
  const auto unsupported = [&](const std::string& text) {
    std::string line = Refusal(text, ErrorCode::kUnsupported);
    EXPECT_TRUE(line.ends_with(kBehind)) << line;
    return line.substr(0, line.size() - std::min(line.size(), kBehind.size()));
  };
  EXPECT_EQ(unsupported("a\nb\n{% macro f() %}{% endmacro %}"),
            "chat template, line 3: 'macro' is no statement that is rendered");
  EXPECT_EQ(unsupported("{% include 'x' %}"),
            "chat template, line 1: 'include' is no statement that is rendered");
  EXPECT_EQ(unsupported("{{ messages | tojson }}"),
            "chat template, line 1: filter 'tojson' is not rendered");
  EXPECT_EQ(unsupported("{{ strftime_now('%d') }}"),
            "chat template, line 1: function 'strftime_now' is not rendered");
  EXPECT_EQ(unsupported("{{ messages.__class__() }}"),
            "chat template, line 1: method '__class__' is not rendered");
  EXPECT_EQ(unsupported("{{ messages[0].items }}"),
            "chat template, line 1: '.items' without a call");
  EXPECT_EQ(unsupported("{% if 1 is odd %}{% endif %}"),
            "chat template, line 1: test 'odd' is not rendered");
  EXPECT_EQ(unsupported("{{ 2 * 3 }}"), "chat template, line 1: '*' is not rendered here");
  EXPECT_EQ(unsupported("{{ {'a': 1} }}"), "chat template, line 1: '{' is not rendered here");
  EXPECT_EQ(unsupported("{{ 1.5 }}"), "chat template, line 1: numbers are whole");
  EXPECT_EQ(unsupported("{{ messages }}"), "chat template, line 1: a list becomes text");
  EXPECT_EQ(unsupported("{{ 1 < 2 < 3 }}"), "chat template, line 1: a chain of comparisons");
  EXPECT_EQ(unsupported("{{ '\\N{DASH}' }}"), "chat template, line 1: an escape in a string");
  EXPECT_EQ(unsupported("{% for a, b in messages %}{% endfor %}"),
            "chat template, line 1: ',' is not rendered here");
  EXPECT_EQ(unsupported("{% set ns.x = 1 %}"), "chat template, line 1: '.' is not rendered here");
  EXPECT_EQ(unsupported("{{ '\xC3\xA9' | upper }}"),
            "chat template, line 1: 'upper' of letters beyond ASCII");
}

TEST(ChatTemplate, SaysWhatIsWrongWithATemplate) {
  const auto bad = [&](const std::string& text) { return Refusal(text, ErrorCode::kBadData); };
  EXPECT_THAT(bad("a {{ 'b"), HasSubstr("line 1: a string has no end"));
  EXPECT_THAT(bad("a {{ b"), HasSubstr("line 1: a tag has no end"));
  EXPECT_THAT(bad("a {# b"), HasSubstr("line 1: a comment has no end"));
  EXPECT_THAT(bad("\n{% if true %}a"), HasSubstr("line 2: something has no end"));
  EXPECT_THAT(bad("{{ }}"), HasSubstr("line 1: a tag ends too early"));
  EXPECT_THAT(bad("{{ a ? b }}"), HasSubstr("line 1: '?' means nothing here"));
  EXPECT_THAT(bad("{{ 1 + 'a' }}"), HasSubstr("line 1: '+' of a number and a string"));
  EXPECT_THAT(bad("{{ nothing.more }}"), HasSubstr("line 1: a member of something undefined"));
  EXPECT_THAT(bad("{% for x in 3 %}{% endfor %}"), HasSubstr("'for' over a number"));
  EXPECT_THAT(bad("{{ 1 % 0 }}"), HasSubstr("a division by 0"));
  EXPECT_THAT(bad("{{ raise_exception('No\ntools.') }}"),
              HasSubstr("line 1: the template says: No\\x0atools."));
}

TEST(ChatTemplate, EndsSoonWhateverItSays) {
  const auto unsupported = [&](const std::string& text) {
    return Refusal(text, ErrorCode::kUnsupported, std::string(1000, 'x'));
  };
  // Twice as long in each of 40 lines.
  std::string doubling = "{% set x = messages[0].content %}";
  for (int i = 0; i < 40; ++i) doubling += "{% set x = x + x %}";
  EXPECT_THAT(unsupported(doubling + "{{ x }}"), HasSubstr("more than 16777216 steps and bytes"));
  // Ten loops in each other over ten.
  std::string loops;
  std::string ends;
  for (int i = 0; i < 10; ++i) {
    loops += "{% for x in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] %}";
    ends += "{% endfor %}";
  }
  EXPECT_THAT(unsupported(loops + ends), HasSubstr("more than 16777216 steps and bytes"));
  // A replacement that makes much of little.
  EXPECT_THAT(unsupported("{% set x = messages[0].content %}"
                          "{% set x = x.replace('x', messages[0].content) %}"
                          "{% set x = x.replace('x', messages[0].content) %}"),
              HasSubstr("more than 16777216 steps and bytes"));
  // Long texts that are looked at and compared again and again.
  for (const char* look : {"{{ messages[0].content is defined }}", "{{ messages == messages }}",
                           "{{ 'y' in messages[0].content }}", "{{ messages[0] in messages }}"}) {
    EXPECT_THAT(Refusal("{% for a in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] %}"
                        "{% for b in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] %}" +
                            std::string(look) + "{% endfor %}{% endfor %}",
                        ErrorCode::kUnsupported, std::string(3 << 20, 'x')),
                HasSubstr("more than 16777216 steps and bytes"));
  }
  std::string twice = "{% set x = 1 %}";
  for (int i = 0; i < 90; ++i) twice += "{% set x = [x, x] %}";
  EXPECT_THAT(unsupported(twice + "{{ x == x }}"), HasSubstr("more than 16777216 steps"));
  EXPECT_EQ(unsupported(twice + "{{ x | length }}"), "");
  // Depth: brackets, a long sum, blocks in blocks.
  const std::string deep = "too many things in each other";
  EXPECT_THAT(
      unsupported("{{ " + std::string(100000, '(') + "}}" + std::string(100000, ')') + "}}"),
      HasSubstr(deep));
  std::string sum = "{{ 1";
  for (int i = 0; i < 100000; ++i) sum += " + 1";
  EXPECT_THAT(unsupported(sum + " }}"), HasSubstr(deep));
  std::string members = "{{ messages";
  for (int i = 0; i < 100000; ++i) members += ".a";
  EXPECT_THAT(unsupported(members + " }}"), HasSubstr(deep));
  std::string blocks;
  for (int i = 0; i < 100000; ++i) blocks += "{% if true %}";
  EXPECT_THAT(unsupported(blocks), HasSubstr(deep));
  std::string choices = "{% if true %}";
  for (int i = 0; i < 100000; ++i) choices += "{% elif true %}";
  EXPECT_THAT(unsupported(choices), HasSubstr(deep));
  std::string lists = "{% set x = 1 %}";
  for (int i = 0; i < 100000; ++i) lists += "{% set x = [x] %}";
  EXPECT_THAT(unsupported(lists), HasSubstr(deep));
  std::string negations = "{{ ";
  for (int i = 0; i < 100000; ++i) negations += "not ";
  EXPECT_THAT(unsupported(negations + "1 }}"), HasSubstr(deep));
}

TEST(ChatTemplate, KnowsTheSpecialTokensByName) {
  Tokenizer tokenizer;
  tokenizer.vocab = {"<unk>", "<s>"};
  AddedToken end;
  end.id = 7;
  end.content = "<|end|>";
  tokenizer.added_tokens = {end};
  tokenizer.bos_id = 1;
  tokenizer.eos_id = 7;
  const auto variables = ChatVariables(tokenizer);
  EXPECT_EQ(ChatTemplate("{{ bos_token }}{{ eos_token }}{{ pad_token }}").Render({}, variables),
            "<s><|end|>");
}

}  // namespace
}  // namespace phiq
