// Targets of the model: configurations, tokenizers, chat templates, texts and ids.
#include "phiq/model.h"

#include "fuzz/targets.h"
#include "io/input_file.h"
#include "model/generation.h"
#include "model/render_chat.h"
#include "model/sentencepiece.h"
#include "model/text_file.h"
#include "model/token_encoder.h"
#include "model/tokenizer_json.h"
#include "phiq/profile.h"
#include "phiq/tokenizer.h"

namespace phiq::fuzz {
namespace {

constexpr std::uint32_t kVocabSize = 320;  // of make_seeds.py

std::vector<std::string> SeedsOf(std::string_view folder, std::string_view file) {
  return {ReadSeed(SeedFolder(folder) / file)};
}

void RunConfig(Input input) {
  Attempt([&] {
    const MemoryFiles files({{"config.json", std::string(TextOf(input))}});
    ReadModelConfig(files, CheckWarning);
    ReadModelConfig(files, CheckWarning, QuantizedWeights::kAllow);
  });
}

void RunGeneration(Input input) {
  Attempt([&] {
    const MemoryFiles files(SeedFolder("model"), "generation_config.json", TextOf(input));
    static const Model model = [] {
      const MemoryFiles plain(SeedFolder("model"), "", "");
      Model made;
      made.config = ReadModelConfig(plain, CheckWarning);
      made.tokenizer = ReadTokenizer(plain, kVocabSize, {}, {}, {}, CheckWarning);
      return made;
    }();
    ReadStopIds(files, kVocabSize);
    if (ReadGenerationConfig(files, model).eos_token_ids.empty()) Fail("no end of text");
  });
}

// A tokenizer that was read is used, too.
void Encode(const Tokenizer& tokenizer) {
  Attempt([&] {
    const TokenEncoder encoder(tokenizer, kVocabSize);
    for (const std::string_view text :
         {"Hello world, hello  <|end|> \t\n<s>", "\xE2\x96\x81 a\xCC\x81 1234 \xF0\x9F\x99\x82"})
      for (const std::uint32_t id : encoder.Encode(text))
        if (id >= kVocabSize) Fail("an id beyond the vocabulary");
  });
}

void RunTokenizerFile(std::string_view folder, const std::string& name, Input input) {
  Attempt([&] {
    const MemoryFiles files(SeedFolder(folder), name, TextOf(input));
    Encode(ReadTokenizer(files, kVocabSize, 0, 0, 0, CheckWarning));
  });
}

void RunTokenizerJson(Input input) {
  RunTokenizerFile("model", "tokenizer.json", input);
  // Alone; beside the pieces of the seeds most are told apart at once.
  Attempt([&] {
    const MemoryFiles files({{"tokenizer.json", std::string(TextOf(input))}});
    Encode(ReadTokenizer(files, kVocabSize, 0, 0, 0, CheckWarning));
  });
}

void RunChatTemplate(Input input) {
  static const Json messages = [] {
    Json list = Json::array();
    list.push_back(Json::object({{"role", "system"}, {"content", "Be kind."}}));
    list.push_back(Json::object({{"role", "user"}, {"content", "Hi"}}));
    list.push_back(Json::object({{"role", "assistant"}, {"content", "Hello"}}));
    return list;
  }();
  Attempt([&] {
    ChatTemplate(TextOf(input)).Render(messages, {{"eos_token", "<|end|>"}, {"bos_token", "<s>"}});
  });
}

void RunProfile(Input input) {
  const std::string path = TheScratch().Write("profile.json", input).string();
  Attempt([&] {
    const Profile profile = LoadProfile(path);
    TargetRequest request;
    request.profile = &profile;
    Attempt([&] { ResolveTargets(request); });
    const std::string again = ProfileToJson(profile);
    TheScratch().Write("again.json", std::as_bytes(std::span(again)));
    LoadProfile((TheScratch().path() / "again.json").string());
  });
}

void RunIds(Input input) {
  const std::filesystem::path path = TheScratch().Write("ids", input);
  Attempt([&] { ReadIdsFile(path); });
}

// The ids of a text are those of its parts.
void CheckCuts(const TokenEncoder& encoder, std::string_view text, bool is_rest) {
  const std::vector<std::uint32_t> whole = encoder.Encode(text, is_rest);
  for (const std::uint32_t id : whole)
    if (id >= kVocabSize) Fail("an id beyond the vocabulary");
  const std::size_t cut = encoder.CutBefore(text, text.size() / 2);
  if (cut == 0) return;
  std::vector<std::uint32_t> ids = encoder.Encode(text.substr(0, cut), is_rest);
  const std::vector<std::uint32_t> rest = encoder.Encode(text.substr(cut), true);
  ids.insert(ids.end(), rest.begin(), rest.end());
  if (ids != whole) Fail("a text that was cut has other ids");
}

// Any text, under both kinds of tokenizer: it becomes ids below the vocabulary.
void RunText(Input input) {
  static const TokenEncoder bytes = [] {
    const MemoryFiles files(SeedFolder("model"), "", "");
    return TokenEncoder(ReadTokenizer(files, kVocabSize, {}, {}, {}, CheckWarning), kVocabSize);
  }();
  static const TokenEncoder pieces = [] {
    const MemoryFiles files(SeedFolder("pieces"), "", "");
    return TokenEncoder(ReadTokenizer(files, kVocabSize, {}, {}, {}, CheckWarning), kVocabSize);
  }();
  const std::filesystem::path path = TheScratch().Write("text", input);
  Attempt([&] {
    for (const TokenEncoder* encoder : {&bytes, &pieces})
      TextFile(path).ForEachPiece(
          [&](std::string_view text, std::size_t at_most) {
            return encoder->CutBefore(text, at_most);
          },
          [&](std::string_view piece, bool is_rest) { CheckCuts(*encoder, piece, is_rest); });
  });
}

}  // namespace

std::span<const Target> ModelTargets() {
  static const std::vector<Target> targets = {
      {"config", Shape::kText, RunConfig, [] { return SeedsOf("model", "config.json"); }},
      {"generation_config", Shape::kText, RunGeneration,
       [] { return SeedsOf("model", "generation_config.json"); }},
      {"tokenizer_json", Shape::kText, RunTokenizerJson,
       [] {
         return std::vector<std::string>{ReadSeed(SeedFolder("model") / "tokenizer.json"),
                                         ReadSeed(SeedFolder("pieces") / "tokenizer.json")};
       }},
      {"tokenizer_model", Shape::kBinary,
       [](Input input) { RunTokenizerFile("pieces", "tokenizer.model", input); },
       [] { return SeedsOf("pieces", "tokenizer.model"); }},
      {"tokenizer_config", Shape::kText,
       [](Input input) { RunTokenizerFile("pieces", "tokenizer_config.json", input); },
       [] { return SeedsOf("pieces", "tokenizer_config.json"); }},
      {"added_tokens", Shape::kText,
       [](Input input) { RunTokenizerFile("model", "added_tokens.json", input); },
       [] { return std::vector<std::string>{R"({"<|tool|>": 290, "<|/tool|>": 291})"}; }},
      {"chat_template", Shape::kText, RunChatTemplate,
       [] {
         return std::vector<std::string>{
             "{% for message in messages %}{% if message['role'] == 'system' %}"
             "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message.role in "
             "['user', 'tool'] %}"
             "{{ '<|' ~ message['role'] | upper ~ '|>' }}{{ message['content'].strip()[1:] }}{% "
             "else %}"
             "{% set ns = loop.index0 % 2 %}{{ raise_exception('x') if ns > 9 else eos_token }}"
             "{% endif %}{% endfor %}{%- if not loop is defined -%}{{ messages | length }}{% endif "
             "%}"};
       }},
      {"profile", Shape::kText, RunProfile,
       [] {
         return std::vector<std::string>{
             R"({"name":"kiosk","description":"x","format":"onnx","precision":"int4",)"
             R"("allow":["int4","int8"],"group-size":"64"})"};
       }},
      {"ids", Shape::kText, RunIds, [] { return std::vector<std::string>{"[1, 2, 3]\n4 5\t66"}; }},
      {"text", Shape::kText, RunText,
       [] {
         return std::vector<std::string>{
             "The quick brown fox \xE2\x96\x81 jumps <|end|>  over\n\n1234 d\xC3\xA9j\xC3\xA0 vu "
             "\xF0\x9F\x99\x82\t\t"};
       }},
  };
  return targets;
}

}  // namespace phiq::fuzz
