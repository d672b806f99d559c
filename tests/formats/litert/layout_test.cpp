// Where arrays lie in LiteRT files of the published models' true shapes, beyond 4 GiB too. Sizes
// are worked out here from the shapes.
#include "formats/litert/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "convert/open_model.h"
#include "formats/format.h"
#include "testing/header_only_checkpoint.h"

namespace phiq::litert {
namespace {

using testing::HeaderOnlyCheckpoint;

struct MadeLayout {
  MadeLayout(const HeaderOnlyCheckpoint& checkpoint, const std::string& type, bool is_bare = true)
      : source(OpenSourceModel(LocateCheckpoint(checkpoint.path().string(), nullptr), {},
                               [](const Warning&) {})) {
    PlanOptions options;
    options.format = "litert";
    options.type = type;
    plan = *MakePlan(source.model, options, [](const Warning&) {});
    plan.is_bare = is_bare;
    layout = MakeLayout(source.stored->side_files(), source.model, plan);
  }

  SourceModel source;
  GraphPlan plan;
  OutputLayout layout;
};

// Codes and scales of a matrix of these bits.
std::uint64_t BytesOfLine(const PlanLine& line, std::size_t array) {
  const auto* groups = std::get_if<GroupEncoding>(&line.encoding);
  if (groups == nullptr) return line.n_elements() * 4;
  if (array == 0) return line.n_elements() * (groups->code == Code::kI8 ? 8 : 4) / 8;
  return groups->group_size == 0 ? line.n_rows() * 4 : line.n_elements() / groups->group_size * 2;
}

class LiteRtLayout : public ::testing::TestWithParam<std::string> {};

// Each array of each line once, none over another, and the file as long as the last of them.
TEST_P(LiteRtLayout, GivesEachArrayAPlaceOfItsOwn) {
  const HeaderOnlyCheckpoint checkpoint(GetParam());
  for (const std::string type : {"fp32", "int8", "int4", "int4_all"}) {
    SCOPED_TRACE(type);
    const MadeLayout made(checkpoint, type);
    ASSERT_EQ(made.layout.files.size(), 1U);
    const PlacedFile& file = made.layout.files[0];
    std::map<std::pair<std::size_t, std::size_t>, int> n_places;
    std::uint64_t inside = 0, end = file.head.size();
    for (const PlacedArray& array : made.layout.arrays) {
      ++n_places[{array.line, array.array}];
      const std::uint64_t n_bytes = BytesOfLine(made.plan.lines[array.line], array.array);
      if (array.offset_bytes < file.head.size()) {  // scales of rows
        EXPECT_EQ(array.array, 1U);
        EXPECT_GE(array.offset_bytes, inside);
        inside = array.offset_bytes + n_bytes;
        EXPECT_LE(inside, file.head.size());
        continue;
      }
      EXPECT_EQ(array.offset_bytes % 64, 0U);
      EXPECT_GE(array.offset_bytes, end);
      EXPECT_LT(array.offset_bytes, end + 64);
      end = array.offset_bytes + n_bytes;
    }
    EXPECT_EQ(end, file.size_bytes);
    std::size_t n_arrays = 0;
    for (const PlanLine& line : made.plan.lines) n_arrays += ArrayCount(line.encoding);
    EXPECT_EQ(n_places.size(), n_arrays);
    for (const auto& [place, n] : n_places) EXPECT_EQ(n, 1) << made.plan.lines[place.first].name;
  }
}

// The flatbuffer says where the writer puts them.
TEST_P(LiteRtLayout, SaysInTheFlatbufferWhereArraysLie) {
  const HeaderOnlyCheckpoint checkpoint(GetParam());
  const MadeLayout made(checkpoint, "int8");
  const std::vector<std::byte>& head = made.layout.files[0].head;
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(head.data()), head.size());
  ASSERT_TRUE(tflite::VerifyModelBuffer(verifier));
  const tflite::Model& model = *tflite::GetModel(head.data());
  ASSERT_EQ(model.subgraphs()->size(), 4U);
  std::uint64_t highest = 0;
  for (const tflite::SubGraph* graph : *model.subgraphs()) {
    std::size_t n_found = 0;
    for (const tflite::Tensor* tensor : *graph->tensors()) {
      const tflite::Buffer& buffer = *model.buffers()->Get(tensor->buffer());
      if (buffer.size() == 0) continue;
      ++n_found;
      const auto line = std::ranges::find(made.plan.lines, tensor->name()->str(), &PlanLine::name);
      ASSERT_NE(line, made.plan.lines.end());
      const auto index = static_cast<std::size_t>(line - made.plan.lines.begin());
      EXPECT_EQ(buffer.size(), BytesOfLine(*line, 0));
      const auto codes = std::ranges::find_if(made.layout.arrays, [&](const PlacedArray& array) {
        return array.line == index && array.array == 0;
      });
      ASSERT_NE(codes, made.layout.arrays.end());
      EXPECT_EQ(buffer.offset(), codes->offset_bytes);
      highest = std::max(highest, buffer.offset());
      if (tensor->quantization() == nullptr) continue;
      const auto* scales = tensor->quantization()->scale();
      EXPECT_EQ(scales->size(), line->n_rows());
      const auto place = std::ranges::find_if(made.layout.arrays, [&](const PlacedArray& array) {
        return array.line == index && array.array == 1;
      });
      ASSERT_NE(place, made.layout.arrays.end());
      EXPECT_EQ(reinterpret_cast<const std::byte*>(scales->data()) - head.data(),
                static_cast<std::ptrdiff_t>(place->offset_bytes));
    }
    if (graph->name()->str() == "decode") {
      EXPECT_EQ(n_found, made.plan.lines.size());
    }
  }
  if (GetParam() == "Phi-4") {
    EXPECT_GT(highest, std::uint64_t{1} << 33);
  }
}

INSTANTIATE_TEST_SUITE_P(, LiteRtLayout,
                         ::testing::Values("Phi-3.5-mini-instruct", "Phi-4", "Phi-4-mini-instruct"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::erase_if(name, [](char c) { return c == '-' || c == '.'; });
                           return name;
                         });

// Of a model of true size: what a fourth signature and the tables take stays small beside the
// weights.
TEST(LiteRtTables, AreSmallBesideTheWeights) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4-mini-instruct");
  EXPECT_LT(MadeLayout(checkpoint, "int4").layout.files[0].head.size(), 8U << 20);
  EXPECT_LT(MadeLayout(checkpoint, "int8").layout.files[0].head.size(), 16U << 20);
}

}  // namespace
}  // namespace phiq::litert
