// Which windows are taken of which file, and what a text is refused or warned for.
#include "calibrate/text.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/sha256.h"
#include "io/temp_folder.h"
#include "model/token_encoder.h"
#include "phiq/checkpoint.h"
#include "testing/test_data.h"

namespace phiq::calibrate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Ids = std::vector<std::uint32_t>;

void IgnoreWarning(const Warning&) {}

const Model& TinyModel() {
  static const Model model = [] {
    const CheckpointFolder folder =
        LocateCheckpoint(std::string(kTestData) + "/phi35-tiny", IgnoreWarning);
    const Checkpoint checkpoint = OpenCheckpoint(folder, IgnoreWarning);
    return DescribeModel(folder, ReadModelConfig(folder, IgnoreWarning), checkpoint, {},
                         IgnoreWarning);
  }();
  return model;
}

Ids Encode(const std::string& text) {
  return TokenEncoder(TinyModel().tokenizer, TinyModel().config.vocab_size).Encode(text);
}

std::string Heldout() { return ReadText(std::filesystem::path(kTestData) / "heldout.txt"); }

class CalibrationTextTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& content) const {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

  // Windows of 16 tokens.
  CalibrationText Read(std::vector<std::string> texts, std::uint64_t n_tokens,
                       std::vector<std::string> ids = {}) {
    TextOptions options;
    options.texts = std::move(texts);
    options.ids = std::move(ids);
    options.n_tokens = n_tokens;
    options.n_ctx = 16;
    warnings_.clear();
    return ReadCalibrationText(
        TinyModel().tokenizer, TinyModel().config, options,
        [&](const Warning& warning) { warnings_.push_back(WithoutFolder(warning.text)); });
  }

  // The whole error line, without the folder.
  std::string Refusal(ErrorCode code, std::vector<std::string> texts, std::uint64_t n_tokens = 160,
                      std::vector<std::string> ids = {}) {
    try {
      Read(std::move(texts), n_tokens, std::move(ids));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return WithoutFolder(error.what());
    }
    return "";
  }

  std::string WithoutFolder(std::string text) const {
    const std::string folder = (folder_ / "").string();
    for (std::size_t at = text.find(folder); at != text.npos; at = text.find(folder))
      text.erase(at, folder.size());
    return text;
  }

  TempFolder folder_;
  std::vector<std::string> warnings_;
};

std::vector<Ids> Windows(const Ids& ids) {
  std::vector<Ids> windows;
  for (std::size_t at = 0; at < ids.size(); at += 16)
    windows.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(at),
                         ids.begin() + static_cast<std::ptrdiff_t>(at + 16));
  return windows;
}

TEST_F(CalibrationTextTest, SpreadsWindowsEvenlyAndHoldsOneInTenBack) {
  // 220 ids are 13 whole windows; ten and one held back are wanted, those of the numbers
  // floor(i * 13 / 11).
  std::string list;
  for (int i = 0; i < 220; ++i) list += std::to_string(i) + "\n";
  const CalibrationText text = Read({}, 160, {Write("list.ids", list)});
  std::vector<std::uint32_t> first;
  for (const Ids& window : Windows(text.windows)) {
    first.push_back(window.front() / 16);
    EXPECT_EQ(window.back(), window.front() + 15);
  }
  EXPECT_THAT(first, ElementsAre(0, 1, 2, 3, 4, 7, 8, 9, 10, 11));
  EXPECT_EQ(text.held_back.front() / 16, 5U);  // the sixth of eleven, in their middle
  EXPECT_EQ(text.held_back.size(), 16U);
  EXPECT_EQ(text.n_windows(), 10U);
  EXPECT_EQ(text.n_held_back(), 1U);
  ASSERT_EQ(text.sources.size(), 1U);
  EXPECT_EQ(text.sources[0].kind, TextSource::Kind::kIds);
  EXPECT_EQ(text.sources[0].n_windows, 10U);
  EXPECT_EQ(text.sources[0].n_held_back, 1U);
  EXPECT_EQ(text.sources[0].sha256, Sha256Hex(list));
}

TEST_F(CalibrationTextTest, HoldsAtMostEightWindowsBack) {
  std::string list;
  for (int i = 0; i < 16 * 120; ++i) list += std::to_string(i) + " ";
  const std::string path = Write("list.ids", list);
  EXPECT_EQ(Read({}, 16, {path}).n_held_back(), 1U);
  EXPECT_EQ(Read({}, 16 * 11, {path}).n_held_back(), 2U);
  EXPECT_EQ(Read({}, 16 * 100, {path}).n_held_back(), 8U);
  EXPECT_EQ(Read({}, 16 * 100 - 3, {path}).n_windows(), 100U);  // whole windows
}

TEST_F(CalibrationTextTest, TokenizesAShortTextAsAWhole) {
  const std::string content = Heldout().substr(0, 3000);
  const CalibrationText text = Read({Write("a.txt", content)}, 320);
  const Ids ids = Encode(content);
  const std::size_t available = ids.size() / 16;
  ASSERT_GE(available, 22U);
  EXPECT_EQ(text.n_windows(), 20U);
  EXPECT_EQ(text.n_held_back(), 2U);
  // Windows of the whole text's ids, each one once.
  const std::vector<Ids> all =
      Windows(Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(available * 16)));
  std::vector<Ids> taken = Windows(text.windows);
  for (const Ids& window : Windows(text.held_back)) taken.push_back(window);
  for (const Ids& window : taken) EXPECT_EQ(std::ranges::count(all, window), 1);
  EXPECT_EQ(std::set<Ids>(taken.begin(), taken.end()).size(), 22U);
}

TEST_F(CalibrationTextTest, ReadsALongTextAtTheWindowsOnly) {
  // Far more than 32 bytes for each token; what is not UTF-8 lies between the places that are read.
  const std::string piece = Heldout().substr(0, 40000);
  std::string content = piece + piece + piece;
  const std::size_t n_places = 11;
  const std::size_t place = 6;
  const std::size_t between = content.size() * place / n_places - 60;
  content[between] = '\xFF';
  const CalibrationText text = Read({Write("a.txt", content)}, 160);
  EXPECT_EQ(text.n_windows(), 10U);
  EXPECT_EQ(text.n_held_back(), 1U);
  // Each window is the beginning of its stretch, which begins behind a line's end.
  std::vector<Ids> taken = Windows(text.windows);
  taken.insert(taken.begin() + 5, text.held_back);
  for (std::size_t i = 0; i < n_places; ++i) {
    const std::size_t at = content.size() / n_places * i + content.size() % n_places * i / n_places;
    const std::size_t begin = i == 0 ? 0 : content.find('\n', at) + 1;
    const Ids ids = Encode(content.substr(begin, 2000));
    EXPECT_EQ(taken[i], Ids(ids.begin(), ids.begin() + 16)) << i;
  }
}

TEST_F(CalibrationTextTest, TakesEqualSharesOfSeveralFiles) {
  const std::string a = Write("a.txt", Heldout().substr(0, 4000));
  const std::string b = Write("b.txt", Heldout().substr(5000, 4000));
  const std::string c = Write("c.ids", [] {
    std::string list;
    for (int i = 0; i < 600; ++i) list += std::to_string(3 * i) + ",";
    return list;
  }());
  const CalibrationText text = Read({a, b}, 16 * 20, {c});
  ASSERT_EQ(text.sources.size(), 3U);
  EXPECT_EQ(text.sources[0].n_windows, 6U);
  EXPECT_EQ(text.sources[1].n_windows, 7U);
  EXPECT_EQ(text.sources[2].n_windows, 7U);
  EXPECT_EQ(text.sources[0].n_held_back + text.sources[1].n_held_back + text.sources[2].n_held_back,
            2U);
  EXPECT_EQ(text.n_windows(), 20U);
  // The order of the files is theirs.
  EXPECT_NE(Read({b, a}, 16 * 20, {c}).sha256, text.sha256);
  EXPECT_EQ(Read({a, b}, 16 * 20, {c}).sha256, text.sha256);
}

TEST_F(CalibrationTextTest, TurnsEndsOfTurnsInATextIntoTheirIds) {
  const std::string content = Heldout().substr(0, 700) + "<|end|>" + Heldout().substr(700, 700);
  const CalibrationText text = Read({Write("a.txt", content)}, 16 * 100);
  const std::uint32_t end = Encode("<|end|>").front();
  Ids all = text.windows;
  all.insert(all.end(), text.held_back.begin(), text.held_back.end());
  EXPECT_EQ(std::ranges::count(all, end), 1);
}

TEST_F(CalibrationTextTest, GivesTheModelsOwnTextItsShare) {
  TextOptions options;
  options.texts = {"self", Write("a.txt", Heldout().substr(0, 4000))};
  options.n_tokens = 16 * 20;
  options.n_ctx = 16;
  std::uint64_t n_written = 0;
  options.write_own = [&](std::uint64_t n_windows) {
    n_written = n_windows;
    Ids ids(n_windows * 16);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::uint32_t>(i);
    return ids;
  };
  const CalibrationText text =
      ReadCalibrationText(TinyModel().tokenizer, TinyModel().config, options, IgnoreWarning);
  ASSERT_EQ(text.sources.size(), 2U);
  EXPECT_EQ(text.sources[0].kind, TextSource::Kind::kOwn);
  EXPECT_EQ(text.sources[0].n_windows, 10U);
  EXPECT_EQ(text.sources[1].n_windows, 10U);
  EXPECT_EQ(n_written, 11U);
  EXPECT_EQ(text.windows[1], 1U);
  EXPECT_EQ(text.held_back[0], 16U * 5);
  // Without it "self" is a name like others.
  EXPECT_THAT(Refusal(ErrorCode::kInput, {"self"}), HasSubstr("self"));
}

// --- JSON lines ---

std::string Quoted(const std::string& text) { return Json(text).dump(); }

TEST_F(CalibrationTextTest, PutsTheTextsOfJsonLinesBehindEachOther) {
  const std::string one = Heldout().substr(0, 1500);
  const std::string two = Heldout().substr(2000, 1500);
  const std::string lines =
      "{\"text\": " + Quoted(one) + "}\n\n{\"id\": 7, \"text\": " + Quoted(two) + "}\r\n";
  Ids wanted = Encode(one);
  const Ids more = Encode(two);
  wanted.insert(wanted.end(), more.begin(), more.end());
  for (const char* name : {"a.jsonl", "a.txt"}) {  // by name, by content
    const CalibrationText text = Read({Write(name, lines)}, 16 * 1000);
    EXPECT_EQ(text.sources[0].kind, TextSource::Kind::kJsonLines);
    Ids all = text.windows;
    all.insert(all.end(), text.held_back.begin(), text.held_back.end());
    EXPECT_EQ(all.size(), wanted.size() / 16 * 16);
    std::ranges::sort(all);
    Ids sorted(wanted.begin(), wanted.begin() + static_cast<std::ptrdiff_t>(all.size()));
    std::ranges::sort(sorted);
    EXPECT_EQ(all, sorted);
  }
}

TEST_F(CalibrationTextTest, RendersMessagesByTheModelsTemplate) {
  const std::string question = Heldout().substr(0, 900);
  const std::string answer = Heldout().substr(1000, 900);
  const CalibrationText text = Read(
      {Write("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": " + Quoted(question) +
                            "}, {\"role\": \"assistant\", \"content\": " + Quoted(answer) + "}]}")},
      16 * 1000);
  // As the template of the model says.
  const Ids wanted =
      Encode("<|user|>\n" + question + "<|end|>\n<|assistant|>\n" + answer + "<|end|>\n");
  EXPECT_EQ(Windows(text.windows).front(), Ids(wanted.begin(), wanted.begin() + 16));
  EXPECT_EQ(text.windows.size() + text.held_back.size(), wanted.size() / 16 * 16);
}

TEST_F(CalibrationTextTest, ReadsLongJsonLinesAtTheWindowsOnly) {
  std::string lines;
  std::vector<std::size_t> begins;
  const std::string heldout = Heldout();
  for (std::size_t i = 0; i < 300; ++i) {
    begins.push_back(lines.size());
    lines += "{\"text\": " + Quoted(heldout.substr(i * 97, 400)) + "}\n";
  }
  const CalibrationText text = Read({Write("a.jsonl", lines)}, 160);
  EXPECT_EQ(text.n_windows(), 10U);
  std::vector<Ids> taken = Windows(text.windows);
  taken.insert(taken.begin() + 5, text.held_back);
  for (std::size_t i = 0; i < 11; ++i) {
    const std::size_t at = lines.size() / 11 * i + lines.size() % 11 * i / 11;
    const auto line = static_cast<std::size_t>(std::ranges::lower_bound(begins, at) -
                                               begins.begin());  // the first that begins there
    const Ids ids = Encode(heldout.substr(line * 97, 400));
    EXPECT_EQ(taken[i], Ids(ids.begin(), ids.begin() + 16)) << i;
  }
}

TEST_F(CalibrationTextTest, ReadsWindowsInsideLinesThatAreLongerThanTheirShare) {
  // Three texts for eleven windows.
  const std::string heldout = Heldout();
  std::string lines;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < 3; ++i) {
    texts.push_back(heldout.substr(i * 30'000, 30'000));
    lines += "{\"text\": " + Quoted(texts.back()) + "}\n";
  }
  const CalibrationText text = Read({Write("a.jsonl", lines)}, 160);
  EXPECT_EQ(text.n_windows(), 10U);
  EXPECT_EQ(text.n_held_back(), 1U);
  ASSERT_EQ(warnings_.size(), 1U);  // so few tokens, not too few windows
  EXPECT_THAT(warnings_[0], HasSubstr("160 tokens to calibrate on"));
  // Each is a stretch of the texts.
  for (const Ids* ids : {&text.windows, &text.held_back}) {
    for (const Ids& window : Windows(*ids)) {
      EXPECT_TRUE(std::ranges::any_of(texts, [&](const std::string& whole) {
        const Ids all = Encode(whole);
        // The first token may be another one behind a line end than in the whole text.
        return !std::ranges::search(all, std::span(window).subspan(1)).empty();
      }));
    }
  }
}

TEST_F(CalibrationTextTest, NamesTheLineThatIsNoTextAndNoMessages) {
  const auto bad = [&](const std::string& line) {
    return Refusal(ErrorCode::kBadData, {Write("a.jsonl", "{\"text\": \"Hello\"}\n" + line)});
  };
  EXPECT_EQ(bad("{\"instruction\": \"a\", \"output\": 1}"),
            "a.jsonl, line at byte 18: has neither \"text\" nor \"messages\" but \"instruction\", "
            "\"output\"");
  EXPECT_EQ(bad("{\"text\": 3}"),
            "a.jsonl, line at byte 18: \"text\" is a number, wanted is a string");
  EXPECT_EQ(bad("{\"messages\": []}"),
            "a.jsonl, line at byte 18: \"messages\" is empty, wanted is a list of messages");
  EXPECT_THAT(bad("{\"messages\": [{\"role\": \"user\"}]}"),
              HasSubstr("a.jsonl, line at byte 18: chat template, line 2: '+' of a string and a "
                        "undefined"));
  EXPECT_THAT(bad("Hello"), HasSubstr("a.jsonl, line at byte 18: "));
}

// --- refusals and warnings ---

TEST_F(CalibrationTextTest, RefusesWhatIsNoText) {
  const auto bad = [&](const std::string& content) {
    return Refusal(ErrorCode::kBadData, {Write("a.txt", content)});
  };
  EXPECT_EQ(bad(""), "a.txt: the text is empty");
  EXPECT_EQ(bad(std::string("GGUF\3\0\0\0", 8)),
            "a.txt: is no text: it holds a NUL at byte 5 (a file of UTF-8 text or of JSON lines is "
            "wanted)");
  EXPECT_EQ(bad("caf\xE9 au lait"),
            "a.txt: is not UTF-8: byte 0xE9 at byte 3 (iconv converts other encodings)");
  EXPECT_EQ(bad("Hello."),
            "a.txt: has less than 16 tokens, one window (a longer text, or a smaller "
            "--calibration-ctx)");
  EXPECT_EQ(
      bad(Heldout().substr(0, 70)),
      "a.txt: has less than 32 tokens, two windows, of which one is held back (a longer text, "
      "or a smaller --calibration-ctx)");
  EXPECT_EQ(Refusal(ErrorCode::kBadData, {}, 160, {Write("a.ids", "1 2 99999 4")}),
            "a.ids: token id 99999 (number 2) but the model has 2112 tokens");
  EXPECT_THAT(Refusal(ErrorCode::kInput, {"/nowhere/at/all"}), HasSubstr("/nowhere/at/all"));
}

TEST_F(CalibrationTextTest, RefusesALineOfMoreThanSixteenMebibytes) {
  constexpr std::size_t kMost = 16U << 20;
  const std::string begin = "{\"text\": \"";
  const std::string content = begin + std::string(kMost - begin.size() - 2, ' ') + "\"}";
  EXPECT_EQ(Refusal(ErrorCode::kBadData, {Write("a.jsonl", content + "\n")}), "");
  EXPECT_EQ(Refusal(ErrorCode::kBadData, {Write("a.jsonl", " " + content + "\n")}),
            "a.jsonl: a line has more than 16777216 bytes at byte 0");
}

TEST_F(CalibrationTextTest, RefusesOptionsThatAskForNothing) {
  const std::string a = Write("a.txt", Heldout().substr(0, 4000));
  EXPECT_EQ(Refusal(ErrorCode::kUsage, {}), "a calibration needs a text (--calibrate FILE)");
  EXPECT_EQ(Refusal(ErrorCode::kUsage, {a}, 0),
            "--calibration-tokens 0: allowed are 1 to 67108864");
  EXPECT_EQ(Refusal(ErrorCode::kUsage, {a, a}, 16),
            "--calibration-tokens 16: 2 texts have windows of 16 tokens each");
}

TEST_F(CalibrationTextTest, WarnsOfATextThatIsSmallOrSaysTheSame) {
  Read({Write("a.txt", Heldout().substr(0, 60000))}, 1600);
  EXPECT_THAT(warnings_, IsEmpty());

  const CalibrationText small = Read({Write("a.txt", Heldout().substr(0, 1000))}, 1600);
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_EQ(warnings_[0], "a.txt: has text for " + std::to_string(small.n_windows()) +
                              " windows of 16 tokens, its share is 100");
  EXPECT_EQ(warnings_[1],
            std::to_string(16 * small.n_windows()) +
                " tokens to calibrate on: below 1024 they say nothing of correlations "
                "(take a longer text)");

  std::string word;
  for (int i = 0; i < 4000; ++i) word += " ship";
  Read({Write("a.txt", word)}, 1600);
  ASSERT_EQ(warnings_.size(), 2U);
  EXPECT_THAT(warnings_[0], HasSubstr("distinct tokens among the 1600 of the calibration text: it "
                                      "says little of others"));
  EXPECT_THAT(warnings_[1], HasSubstr("windows of the calibration text are repetitions"));
}

}  // namespace
}  // namespace phiq::calibrate
