// Graphs as they are built, written and read back. That OpenVINO takes them is shown in
// tests/peers; broken files are in tests/cli.
#include "formats/openvino/ir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/openvino/graph.h"
#include "formats/openvino/ir_reader.h"

namespace phiq::openvino {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string Text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

GraphBuilder SmallGraph() {
  GraphBuilder graph("small");
  const Value x = graph.Parameter("x", ElementType::kF32, {kDynamic, 4});
  const Value two = graph.Constant(2.0F, {1, 1});
  const Value doubled = graph.Binary("Multiply", "doubled", x, two);
  const std::vector<Value> halves = graph.Split("halves", doubled, -1, {2, 2});
  graph.Result("y", graph.Concat("swapped", {halves[1], halves[0]}, -1));
  return graph;
}

TEST(IrFile, IsReadAsItWasWritten) {
  GraphBuilder graph = SmallGraph();
  graph.ir().info = {{"section", "", {{"key", "a\n\t<b> & \"c\"", {}}}}};
  std::vector<std::string> problems;
  const ReadIr read = ReadXml(Text(WriteXml(graph.ir())), "x.xml", problems);
  EXPECT_THAT(problems, IsEmpty());
  EXPECT_THAT(FindGraphProblems(read), IsEmpty());
  ASSERT_EQ(read.ir.layers.size(), graph.ir().layers.size());
  for (std::size_t i = 0; i < read.ir.layers.size(); ++i) {
    const Layer& written = graph.ir().layers[i];
    const Layer& layer = read.ir.layers[i];
    EXPECT_EQ(layer.name, written.name);
    EXPECT_EQ(layer.type, written.type);
    EXPECT_EQ(layer.version, written.version);
    EXPECT_EQ(layer.attributes, written.attributes);
    EXPECT_EQ(layer.inputs, written.inputs) << layer.name;
    EXPECT_EQ(layer.outputs, written.outputs) << layer.name;
  }
  EXPECT_EQ(read.ir.info[0].children[0].value, "a\n\t<b> & \"c\"");
}

TEST(IrFile, HasCharactersThatAttributesLoseAsReferences) {
  Ir ir;
  ir.info = {{"key", "a\n\tb", {}}};
  EXPECT_THAT(Text(WriteXml(ir)), HasSubstr("value=\"a&#10;&#09;b\""));
}

TEST(IrFile, NumbersPortsThroughInputsAndOutputs) {
  const std::string text = Text(WriteXml(SmallGraph().ir()));
  // halves (layer 5) has three inputs; its outputs are ports 3 and 4.
  EXPECT_THAT(text, HasSubstr(R"(<edge from-layer="5" from-port="3" to-layer="6" to-port="1" />)"));
  EXPECT_THAT(text, HasSubstr(R"(<edge from-layer="5" from-port="4" to-layer="6" to-port="0" />)"));
}

TEST(GraphBuilder, KnowsTheShapesThatOperatorsGive) {
  GraphBuilder graph("shapes");
  const Value x = graph.Parameter("x", ElementType::kF32, {kDynamic, kDynamic, 8});
  const Value row = graph.Constant(1.0F, {1, 1, 1});
  EXPECT_THAT(graph.DimsOf(graph.Binary("Add", "a", x, row)), ElementsAre(-1, -1, 8));
  const Value heads = graph.Reshape("b", x, {0, 0, 2, 4}, /*special_zero=*/true);
  EXPECT_THAT(graph.DimsOf(heads), ElementsAre(-1, -1, 2, 4));
  const Value turned = graph.Transpose("c", heads, {0, 2, 1, 3});
  EXPECT_THAT(graph.DimsOf(turned), ElementsAre(-1, 2, -1, 4));
  EXPECT_THAT(graph.DimsOf(graph.Unsqueeze("d", turned, 2)), ElementsAre(-1, 2, 1, -1, 4));
  EXPECT_THAT(graph.DimsOf(graph.Concat("e", {turned, turned}, 2)), ElementsAre(-1, 2, -1, 4));
  EXPECT_THAT(graph.DimsOf(graph.Concat("f", {turned, turned}, -1)), ElementsAre(-1, 2, -1, 8));
  EXPECT_THAT(graph.DimsOf(graph.Reduce("ReduceMean", "g", x, {-1}, true)), ElementsAre(-1, -1, 1));
  const Value weight = graph.Stored("w", ElementType::kF16, {16, 8}, 0, 0);
  EXPECT_THAT(graph.DimsOf(graph.MatMul("h", x, weight, true)), ElementsAre(-1, -1, 16));
  const Value ids = graph.Parameter("ids", ElementType::kI64, {kDynamic, kDynamic});
  EXPECT_THAT(graph.DimsOf(graph.Gather("i", weight, ids, 0)), ElementsAre(-1, -1, 8));
}

TEST(GraphBuilder, StoresEqualConstantsOnce) {
  GraphBuilder graph("constants");
  const Value a = graph.Constant(std::int64_t{7});
  const Value b = graph.Constant(std::vector<std::int64_t>{7});
  EXPECT_EQ(graph.data().size(), 8U);
  EXPECT_EQ(*graph.LayerOf(a).FindAttribute("offset"), *graph.LayerOf(b).FindAttribute("offset"));
  EXPECT_EQ(*graph.LayerOf(a).FindAttribute("shape"), "");
  EXPECT_EQ(*graph.LayerOf(b).FindAttribute("shape"), "1");
}

TEST(GraphBuilder, RoundsFourBitSizesUp) {
  GraphBuilder graph("nibbles");
  const Value value = graph.Stored("zp", ElementType::kU4, {5, 1}, 0, 2);
  EXPECT_EQ(*graph.LayerOf(value).FindAttribute("size"), "3");
}

}  // namespace
}  // namespace phiq::openvino
