// Damage that verify must see: bits of an output flipped at random places.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/xxh3.h"
#include "convert/open_model.h"
#include "convert/record.h"
#include "formats/format.h"
#include "phiq/convert.h"
#include "phiq/inspect.h"
#include "testing/header_only_checkpoint.h"
#include "testing/test_data.h"

namespace phiq {
namespace {

namespace fs = std::filesystem;

const std::string kTiny = std::string(kTestData) + "/phi35-tiny";

bool IsSlowRun() {
  const char* const slow = std::getenv("PHIQ_SLOW");
  return slow != nullptr && std::string_view(slow) == "1";
}

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void FlipBit(const fs::path& path, std::uint64_t byte, unsigned bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const auto flipped = static_cast<char>(file.get() ^ (1 << bit));
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(flipped);
  ASSERT_TRUE(file.good()) << path << " " << byte;
}

// What is wrong with an output; what cannot be opened is said by an error.
std::vector<std::string> ProblemsOf(const fs::path& output, const std::string& model) {
  try {
    return Verify({.output = output.string(), .model = model, .ignore_extra = {}}, {}).problems;
  } catch (const Error& error) {
    return {error.what()};
  }
}

class Damage : public ::testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override {
    const Format& format = FindFormat(GetParam());
    output_ = folder_.path() / ("out" + std::string(format.file_ending));
    ConvertOptions options;
    options.model = kTiny;
    options.output = output_.string();
    PlanOptions& target = options.targets.emplace_back();
    target.format = GetParam();
    target.type = format.default_type.empty() ? TypeOfPrecision(GetParam(), Precision::kInt4)
                                              : std::string(format.default_type);
    options.fsync = false;
    const ConvertReport report = Convert(options, {});
    for (const PlannedFile& file : report.planned.outputs.at(0).files)
      files_.emplace_back(file.path);
  }

  StoredRecord Record() const {
    const std::unique_ptr<StoredModel> model =
        FindFormat(GetParam()).open(output_.string(), [](const Warning&) {});
    return FindRecord(*model, output_.string()).value();
  }

  const testing::TempFolder folder_;
  fs::path output_;
  std::vector<fs::path> files_;
  std::mt19937_64 random_{1};
};

// Each of 200 bits anywhere in its files, by what the output says of itself.
TEST_P(Damage, OfAnyBitIsSeenWithoutTheSource) {
  ASSERT_EQ(ProblemsOf(output_, ""), std::vector<std::string>());
  std::uint64_t n_bytes = 0;
  for (const fs::path& file : files_) n_bytes += fs::file_size(file);
  for (int trial = 0; trial < 200; ++trial) {
    // Every other one in a side file or a header, which are small.
    std::uint64_t byte = random_() % n_bytes;
    std::size_t f = 0;
    if (trial % 2 == 0) {
      f = random_() % files_.size();
      byte = random_() % std::min<std::uint64_t>(fs::file_size(files_[f]), 1U << 16);
    } else {
      for (; byte >= fs::file_size(files_[f]); ++f) byte -= fs::file_size(files_[f]);
    }
    const auto bit = static_cast<unsigned>(random_() % 8);
    FlipBit(files_[f], byte, bit);
    EXPECT_NE(ProblemsOf(output_, ""), std::vector<std::string>())
        << files_[f] << ": bit " << bit << " of byte " << byte;
    FlipBit(files_[f], byte, bit);
  }
  EXPECT_EQ(ProblemsOf(output_, ""), std::vector<std::string>());
}

// A bit of each tensor at once, without recorded checksums: it is named. 200 bits in all with
// PHIQ_SLOW=1.
TEST_P(Damage, OfTensorsIsSeenByEncodingThemAgain) {
  const StoredRecord stored = Record();
  const phiq::Record& record = stored.record;
  {
    std::string text = ReadBytes(stored.files[stored.place.file]);
    text.replace(stored.place.offset_bytes, stored.text.size(), BlankRecord(stored.text, record));
    std::ofstream(stored.files[stored.place.file], std::ios::binary) << text;
  }
  ASSERT_FALSE(Record().record.has_checksums);
  ASSERT_EQ(ProblemsOf(output_, kTiny), std::vector<std::string>());
  const std::size_t n_wanted = IsSlowRun() ? 200 : record.lines.size();
  for (std::size_t n = 0; n < n_wanted; n += record.lines.size()) {
    struct Flip {
      std::size_t file = 0;
      std::uint64_t byte = 0;
      unsigned bit = 0;
    };
    std::vector<Flip> flips(record.lines.size());
    for (const PlacedArray& array : record.arrays) {
      if (array.array != 0 && random_() % 2 == 0) continue;  // any array of the line
      const PlanLine& line = record.lines[array.line];
      const RowArray rows = {array.order, line.n_rows(),
                             ArrayRowBytes(line.encoding, array.array, line.row_elements())};
      flips[array.line] = {array.file, array.offset_bytes + random_() % SizeBytes(rows),
                           static_cast<unsigned>(random_() % 8)};
    }
    for (const Flip& flip : flips) FlipBit(stored.files[flip.file], flip.byte, flip.bit);
    std::string said;
    for (const std::string& problem : ProblemsOf(output_, kTiny)) said += problem + "\n";
    for (const PlanLine& line : record.lines)
      EXPECT_NE(said.find(line.display_name()), std::string::npos) << line.display_name() << said;
    for (const Flip& flip : flips) FlipBit(stored.files[flip.file], flip.byte, flip.bit);
  }
}

INSTANTIATE_TEST_SUITE_P(, Damage, ::testing::ValuesIn(FormatNames().begin(), FormatNames().end()),
                         [](const auto& format) { return std::string(format.param); });

// A method that a record names is one that can be asked again: of every format, type and method.
TEST(Record, NamesEveryMethodAndEncodingThatIsPlanned) {
  const WarningFn ignore = [](const Warning&) {};
  const SourceModel source = OpenSourceModel(LocateSource(kTiny, ignore), {}, ignore);
  for (const std::string_view format : FormatNames()) {
    std::vector<std::string> methods = {"reference", "search"};
    for (const std::string_view method : MethodsOf(format)) methods.emplace_back(method);
    for (const TypeName& type : TypeNames(format)) {
      for (const std::string& method : methods) {
        PlanOptions options;
        options.format = format;
        options.type = type.name;
        options.method = method;
        std::unique_ptr<Plan> plan;
        try {
          plan = PlanTarget(source.model, options, ignore,
                            Answers(QuestionsOf(source.model, options).size()));
        } catch (const Error& error) {
          ASSERT_EQ(error.code(), ErrorCode::kUsage);  // floats have no method
          continue;
        }
        for (const PlanLine& line : plan->lines) {
          EXPECT_EQ(FindMethod(MethodText(*line.method)), line.method) << MethodText(*line.method);
          EXPECT_EQ(ParseEncodingText(EncodingText(line.encoding)), line.encoding);
        }
      }
    }
  }
}

// What libxxhash's own program, xxh128sum 0.8.1, says of the nine digits; and the sum of hashes.
TEST(Xxh3, IsTheHashOfThatName) {
  const std::string text = "123456789";
  const Hash128 hash = Xxh3(std::as_bytes(std::span(text)), 0);
  Xxh3Stream stream;
  stream.Add(text.substr(0, 4));
  stream.Add(text.substr(4));
  EXPECT_EQ(stream.Digest(), hash);
  EXPECT_EQ(hash.Hex(), "33119477ede5dcd5e9716427681d5860");
  EXPECT_EQ(Hash128::Parse(hash.Hex()), hash);
  EXPECT_EQ(Hash128::Parse("0123456789ABCDEF0123456789abcdef"), std::nullopt);
  Hash128 sum = {.low = ~std::uint64_t{0}, .high = 1};
  sum.Add({.low = 2, .high = ~std::uint64_t{0}});
  EXPECT_EQ(sum, (Hash128{.low = 1, .high = 1}));
}

}  // namespace
}  // namespace phiq
