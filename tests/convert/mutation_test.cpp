// Outputs with bytes changed at random: whatever asks of them ends with an answer or with an error
// for the user, never with a fault of phiq's own. Sanitizers see the rest.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"
#include "phiq/compare.h"
#include "phiq/convert.h"
#include "phiq/evaluate.h"
#include "phiq/inspect.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

const std::string kTiny = std::string(kTestData) + "/phi4mini-tiny";

// What an output is made of, and how often it is changed: more with PHIQ_SLOW=1.
struct Case {
  std::string_view format, type, ending;
  int n_trials;
};
const std::vector<Case> kCases = {
    {"gguf", "Q4_K_M", ".gguf", 60},    {"onnx", "int4", "", 60},
    {"openvino", "INT4_SYM", "", 60},   {"mlx", "4bit", "", 60},
    {"torch", "W4A16", "", 60},         {"torch", "AWQ", "", 60},
    {"torch", "GPTQ-Int4", "", 60},     {"litert", "int4", ".litertlm", 150},
    {"litert", "int8", ".tflite", 150},
};

bool IsSlowRun() {
  const char* const slow = std::getenv("PHIQ_SLOW");
  return slow != nullptr && std::string_view(slow) == "1";
}

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Headers, tables and small files are at the beginning; what lies behind are weights.
constexpr std::size_t kHead = 256 << 10;

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string Mutate(std::string bytes) {
    for (std::uint64_t n = 1 + Below(3); n > 0 && !bytes.empty(); --n) Change(bytes);
    return bytes;
  }
  std::uint64_t Below(std::uint64_t n) { return random_() % n; }

 private:
  void Change(std::string& bytes) {
    const auto at = static_cast<std::size_t>(Below(std::min(bytes.size(), kHead)));
    switch (Below(8)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
        break;
      case 1:
        bytes.resize(static_cast<std::size_t>(Below(bytes.size())));
        break;
      case 2:
        bytes.insert(at, 1 + static_cast<std::size_t>(Below(64)), static_cast<char>(Below(256)));
        break;
      case 3:
        bytes.erase(at, 1 + static_cast<std::size_t>(Below(64)));
        break;
      case 4: {  // another place's bytes
        const std::string other = bytes.substr(static_cast<std::size_t>(Below(bytes.size())),
                                               1 + static_cast<std::size_t>(Below(32)));
        bytes.replace(at, std::min(other.size(), bytes.size() - at),
                      other.substr(0, bytes.size() - at));
        break;
      }
      case 5:
      case 6:
        PutNumber(bytes, at);
        break;
      default:
        PutWord(bytes, at);
    }
  }

  // Lengths and offsets at their ends, where they stand in binary files.
  void PutNumber(std::string& bytes, std::size_t at) {
    constexpr std::array<std::uint64_t, 12> kNumbers = {0,           1,
                                                        2,           7,
                                                        0xFF,        0x7FFF'FFFF,
                                                        0x8000'0000, 0xFFFF'FFFF,
                                                        1ULL << 40,  (1ULL << 63) - 1,
                                                        1ULL << 63,  ~std::uint64_t{0}};
    const std::size_t n_bytes = std::size_t{1} << Below(4);
    at -= at % n_bytes;
    const std::uint64_t number =
        Below(4) == 0 ? random_() : kNumbers[static_cast<std::size_t>(Below(kNumbers.size()))];
    for (std::size_t i = 0; i < n_bytes && at + i < bytes.size(); ++i)
      bytes[at + i] = static_cast<char>(number >> (8 * i));
  }

  // A number of a text becomes another value of JSON.
  void PutWord(std::string& bytes, std::size_t at) {
    constexpr std::array<std::string_view, 14> kWords = {"0",
                                                         "-1",
                                                         "1",
                                                         "1e999",
                                                         "0.5",
                                                         "18446744073709551615",
                                                         "9223372036854775808",
                                                         "null",
                                                         "false",
                                                         "\"\"",
                                                         "[]",
                                                         "{\"a\":1}",
                                                         "[[[[[[[[1]]]]]]]]",
                                                         "2147483648"};
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    const auto begin =
        std::find_if(bytes.begin() + static_cast<std::ptrdiff_t>(at), bytes.end(), is_digit);
    const auto end = std::find_if_not(begin, bytes.end(), is_digit);
    bytes.replace(begin, end, kWords[static_cast<std::size_t>(Below(kWords.size()))]);
  }

  std::mt19937_64 random_;
};

class Mutation : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    ConvertOptions options;
    options.model = kTiny;
    options.output = output_.string();
    PlanOptions& target = options.targets.emplace_back();
    target.format = GetParam().format;
    target.type = GetParam().type;
    if (GetParam().format == "litert") target.knobs["max-length"] = "512";
    options.fsync = false;
    const ConvertReport report = Convert(options, {});
    for (const PlannedFile& file : report.planned.outputs.at(0).files)
      files_.emplace_back(file.path);
    testing::WriteTestFile(ids_, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16");
  }

  // What each command does with the output.
  std::vector<std::function<void()>> Commands() const {
    const std::string path = output_.string();
    return {[=] { Inspect(path, {.check = true}, {}); },
            [=] { Verify({.output = path, .model = "", .ignore_extra = {}}, {}); },
            [=] { Verify({.output = path, .model = kTiny, .ignore_extra = {}}, {}); },
            [=] { Compare({.a = path, .b = kTiny, .ignore_extra = {}}, {}); },
            [this, path] {
              EvalOptions options;
              options.models = {path};
              options.ids = ids_.string();
              options.n_ctx = 16;
              Evaluate(options, {});
            },
            [this, path] {  // with the output's own tokenizer
              EvalOptions options;
              options.models = {path};
              options.text = text_;
              options.n_ctx = 16;
              options.max_windows = 1;
              Evaluate(options, {});
            }};
  }

  const testing::TempFolder folder_;
  const fs::path output_ = folder_.path() / ("out" + std::string(GetParam().ending));
  const fs::path ids_ = folder_.path() / "ids";
  const std::string text_ = std::string(kTestData) + "/heldout.txt";
  std::vector<fs::path> files_;
};

TEST_P(Mutation, EndsWithAnAnswerOrAnError) {
  const std::vector<std::function<void()>> commands = Commands();
  for (const std::function<void()>& command : commands) {
    if (GetParam().ending != ".tflite" || &command != &commands.back()) command();
  }
  const int n_trials = GetParam().n_trials * (IsSlowRun() ? 20 : 1);
  int n_errors = 0;
  for (int trial = 0; trial < n_trials; ++trial) {
    Mutator mutator(static_cast<std::uint64_t>(trial));
    const fs::path& file = files_[static_cast<std::size_t>(mutator.Below(files_.size()))];
    const std::string sound = ReadBytes(file);
    testing::WriteTestFile(file, mutator.Mutate(sound));
    for (std::size_t c = 0; c < commands.size(); ++c) {
      try {
        commands[c]();
      } catch (const Error& error) {
        ++n_errors;
        EXPECT_NE(error.code(), ErrorCode::kInternal)
            << "trial " << trial << ", command " << c << ": " << error.what();
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos)
            << error.what();
      } catch (const std::exception& other) {
        ADD_FAILURE() << "trial " << trial << ", command " << c << ", " << file << ": "
                      << other.what();
      }
    }
    testing::WriteTestFile(file, sound);
  }
  EXPECT_GT(n_errors, n_trials / 2);  // the changes are no small ones
}

INSTANTIATE_TEST_SUITE_P(, Mutation, ::testing::ValuesIn(kCases), [](const auto& c) {
  std::string name = fmt::format("{}{}", c.param.format, c.param.type);
  std::erase_if(name, [](char ch) { return ch == '-' || ch == '_'; });
  return name;
});

}  // namespace
}  // namespace phiq
