// The folder before its weights are written: every initializer's place, the graph, the files
// beside.
#include <gmock/gmock.h>
#include <onnx/onnx_pb.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "formats/onnx/layout.h"
#include "formats/onnx/side_files.h"
#include "model/fixture.h"
#include "phiq/format.h"
#include "testing/header_only_checkpoint.h"

namespace phiq::onnx {
namespace {

namespace fs = std::filesystem;
using phiq::testing::HeaderOnlyCheckpoint;
using phiq::testing::SideFiles;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using Json = nlohmann::json;

struct Written {
  phiq::Model model;
  GraphPlan plan;
  OutputLayout layout;
  ::onnx::ModelProto proto;

  const PlacedFile& File(std::string_view name) const {
    const auto found = std::ranges::find(layout.files, name, &PlacedFile::name);
    if (found == layout.files.end()) throw std::out_of_range(std::string(name));
    return *found;
  }
  std::string Text(std::string_view name) const {
    const std::vector<std::byte>& head = File(name).head;
    return {reinterpret_cast<const char*>(head.data()), head.size()};
  }
  Json GenaiConfig() const { return Json::parse(Text("genai_config.json")); }
};

PlanOptions Options(std::string type, ExecutionProvider ep = ExecutionProvider::kCpu) {
  PlanOptions options;
  options.format = "onnx";
  options.type = std::move(type);
  options.knobs["ep"] = ExecutionProviderName(ep);
  return options;
}

Written Write(const CheckpointFolder& folder, const PlanOptions& options, const Facts& facts = {}) {
  Written written;
  const Checkpoint checkpoint = OpenCheckpoint(folder, nullptr);
  written.model = DescribeModel(folder, ReadModelConfig(folder, nullptr), checkpoint, {}, nullptr);
  written.plan = *MakePlan(written.model, options, nullptr);
  written.plan.facts = facts;
  written.layout = MakeLayout(folder, written.model, written.plan);
  if (!written.proto.ParseFromString(written.Text("model.onnx")))
    throw std::runtime_error("no model");
  return written;
}
Written Write(const fs::path& path, const PlanOptions& options) {
  return Write(LocateCheckpoint(path.string(), nullptr), options);
}
Written WriteTiny(const std::string& model, const PlanOptions& options) {
  return Write(phiq::testing::TestData() / model, options);
}

// Every kind of output, of both kinds of model.
struct Case {
  std::string model;
  PlanOptions options;
};
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string model : {"phi35-tiny", "phi4mini-tiny"}) {
    for (const TypeName& type : TypeNames("onnx"))
      cases.push_back({model, Options(std::string(type.name))});
    for (const ExecutionProvider ep :
         {ExecutionProvider::kCuda, ExecutionProvider::kDml, ExecutionProvider::kWebGpu})
      cases.push_back({model, Options("int4", ep)});
    cases.push_back({model, Options("int8")});
    cases.back().options.knobs["activations"] = "dynamic";
    cases.push_back({model, Options("int4")});
    cases.back().options.knobs["min-onnxruntime"] = OnnxRuntimeName(OnnxRuntime::k1_20);
    cases.push_back({model, Options("int4")});
    cases.back().options.knobs["asym"] = "";
    cases.back().options.knobs["group-size"] = "128";
    cases.push_back({model, Options("int4")});
    cases.back().options.tensor_rules = {{"embed", "int8"}, {"layers.1", "float"}};
  }
  return cases;
}

// --- places in the data file -----------------------------------------------------------------

struct Place {
  std::string name;
  std::uint64_t offset = 0, length = 0;
};

// Checks the form of each entry on the way: location, offset and length, in decimal.
std::vector<Place> Places(const ::onnx::ModelProto& proto) {
  std::vector<Place> places;
  for (const ::onnx::TensorProto& tensor : proto.graph().initializer()) {
    EXPECT_EQ(tensor.data_location(), ::onnx::TensorProto::EXTERNAL) << tensor.name();
    EXPECT_FALSE(tensor.has_raw_data()) << tensor.name();
    std::map<std::string, std::string> entries;
    for (const auto& entry : tensor.external_data()) entries[entry.key()] = entry.value();
    EXPECT_THAT(entries, SizeIs(3)) << tensor.name();
    EXPECT_EQ(entries["location"], "model.onnx.data") << tensor.name();
    const auto number = [&](const char* key) {
      const std::uint64_t value = std::stoull(entries[key]);
      EXPECT_EQ(std::to_string(value), entries[key]) << tensor.name();
      return value;
    };
    places.push_back({tensor.name(), number("offset"), number("length")});
  }
  std::ranges::sort(places, {}, &Place::offset);
  return places;
}

// From ONNX' own numbers of the types.
std::uint64_t BytesOf(const ::onnx::TensorProto& tensor) {
  static const std::map<int, unsigned> bits = {{1, 32}, {2, 8}, {3, 8}, {10, 16}, {21, 4}, {22, 4}};
  std::uint64_t n_bits = bits.at(tensor.data_type());
  for (const std::int64_t dim : tensor.dims()) n_bits *= static_cast<std::uint64_t>(dim);
  return (n_bits + 7) / 8;
}

TEST(OnnxWriter, GivesEveryInitializerAPlaceOfItsOwn) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.model + " " + c.options.type);
    const Written written = WriteTiny(c.model, c.options);
    std::map<std::string, std::uint64_t> wanted;
    for (const ::onnx::TensorProto& tensor : written.proto.graph().initializer())
      EXPECT_TRUE(wanted.emplace(tensor.name(), BytesOf(tensor)).second) << tensor.name();
    std::uint64_t end = 0;
    for (const Place& place : Places(written.proto)) {
      EXPECT_GE(place.offset, end) << place.name;
      EXPECT_LT(place.offset - end, place.length > 1 << 20 ? 65536U : 64U)
          << "a hole before " << place.name;
      EXPECT_EQ(place.offset % (place.length > 1 << 20 ? 65536 : 64), 0U) << place.name;
      EXPECT_EQ(place.length, wanted.at(place.name)) << place.name;
      end = place.offset + place.length;
    }
    EXPECT_EQ(written.File("model.onnx.data").size_bytes, end);
    EXPECT_THAT(written.File("model.onnx.data").head, IsEmpty());
  }
}

// What is streamed goes where the graph looks for it.
TEST(OnnxWriter, PlacesEachArrayOfEachLineOnce) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.model + " " + c.options.type);
    const Written written = WriteTiny(c.model, c.options);
    std::set<std::pair<std::size_t, std::size_t>> met;
    std::vector<std::uint64_t> offsets;
    for (const PlacedArray& array : written.layout.arrays) {
      EXPECT_EQ(written.layout.files.at(array.file).name, "model.onnx.data");
      EXPECT_EQ(array.padding_bytes, 0U);
      EXPECT_TRUE(met.emplace(array.line, array.array).second);
      offsets.push_back(array.offset_bytes);
    }
    std::size_t n_arrays = 0;
    for (const PlanLine& line : written.plan.lines) n_arrays += ArrayCount(line.encoding);
    EXPECT_EQ(met.size(), n_arrays);
    EXPECT_TRUE(std::ranges::is_sorted(offsets));
    std::vector<std::uint64_t> in_graph;
    for (const Place& place : Places(written.proto)) in_graph.push_back(place.offset);
    EXPECT_EQ(offsets, in_graph);
  }
}

// Phi-4 in float32: 58.6 GB. The sizes are worked out from the shapes.
TEST(OnnxWriter, KeepsOffsetsBeyondFourGibibytesExact) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4");
  const Written written = Write(checkpoint.path(), Options("fp32"));
  const std::vector<Place> places = Places(written.proto);
  std::uint64_t sum = 0, n_beyond = 0;
  for (const Place& place : places) {
    sum += place.length;
    if (place.offset > 1ULL << 32) ++n_beyond;
  }
  // 14,659,092,480 matrix weights, head and embedding included; 81 norms; two tables of 16384 x 64.
  EXPECT_EQ(sum, 4 * (14'659'092'480 + 81 * 5120 + 2 * 16'384 * 64));
  EXPECT_GT(n_beyond, 200U);
  const std::uint64_t end = places.back().offset + places.back().length;
  EXPECT_EQ(written.File("model.onnx.data").size_bytes, end);
  EXPECT_LT(end - sum, 65536U * places.size());
  EXPECT_GT(places.back().offset, 56'000'000'000U);
  EXPECT_EQ(written.plan.data_bytes(), sum);
}

TEST(OnnxWriter, KeepsTheGraphSmall) {
  for (const char* name : {"Phi-3.5-mini-instruct", "Phi-4", "Phi-4-mini-instruct"}) {
    const HeaderOnlyCheckpoint checkpoint(name);
    for (const char* type : {"fp16", "int4"}) {
      const Written written = Write(checkpoint.path(), Options(type));
      EXPECT_LT(written.File("model.onnx").size_bytes, 1U << 20)
          << name;  // tables are outside, too
    }
  }
}

// --- the graph -------------------------------------------------------------------------------

void CheckOrder(const ::onnx::GraphProto& graph, std::set<std::string> known) {
  for (const auto& input : graph.input()) known.insert(input.name());
  for (const auto& tensor : graph.initializer()) known.insert(tensor.name());
  std::set<std::string> node_names;
  for (const ::onnx::NodeProto& node : graph.node()) {
    EXPECT_TRUE(node_names.insert(node.name()).second) << node.name() << " twice";
    for (const std::string& input : node.input())
      EXPECT_TRUE(input.empty() || known.contains(input)) << node.name() << " reads " << input;
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) CheckOrder(attribute.g(), known);
    }
    for (const std::string& output : node.output())
      EXPECT_TRUE(output.empty() || known.insert(output).second) << output << " twice";
    if (node.input_size() == 0) continue;
    EXPECT_NE(node.input(node.input_size() - 1), "") << node.name();
  }
  for (const auto& output : graph.output())
    EXPECT_TRUE(known.contains(output.name())) << output.name();
}

TEST(OnnxWriter, PutsNodesBehindThoseTheyRead) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.model + " " + c.options.type);
    CheckOrder(WriteTiny(c.model, c.options).proto.graph(), {});
  }
}

TEST(OnnxWriter, UsesEveryInitializerAndConstant) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.model + " " + c.options.type);
    const Written written = WriteTiny(c.model, c.options);
    std::set<std::string> read;
    const std::function<void(const ::onnx::GraphProto&)> collect =
        [&](const ::onnx::GraphProto& graph) {
          for (const ::onnx::NodeProto& node : graph.node()) {
            read.insert(node.input().begin(), node.input().end());
            for (const auto& attribute : node.attribute())
              if (attribute.has_g()) collect(attribute.g());
          }
        };
    collect(written.proto.graph());
    for (const auto& tensor : written.proto.graph().initializer())
      EXPECT_TRUE(read.contains(tensor.name())) << tensor.name();
    for (const ::onnx::NodeProto& node : written.proto.graph().node())
      EXPECT_TRUE(node.op_type() != "Constant" || read.contains(node.output(0))) << node.name();
  }
}

TEST(OnnxWriter, MakesEachConstantOnce) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(c.model + " " + c.options.type);
    const Written written = WriteTiny(c.model, c.options);
    std::set<std::string> values;
    for (const ::onnx::NodeProto& node : written.proto.graph().node()) {
      if (node.op_type() != "Constant") continue;
      ASSERT_EQ(node.attribute_size(), 1);
      const ::onnx::TensorProto& value = node.attribute(0).t();
      EXPECT_EQ(node.attribute(0).name(), "value");
      EXPECT_EQ(value.data_type(), 7);  // INT64
      EXPECT_TRUE(values.insert(value.SerializeAsString()).second) << node.name();
      const std::string label = node.name().substr(node.name().rfind("INT64/") + 6);
      EXPECT_EQ(node.output(0), "/model/constants/INT64/" + label);
      EXPECT_EQ(value.dims_size(), label.starts_with('[') ? 1 : 0) << label;
    }
    EXPECT_GE(values.size(), 2U);
  }
}

TEST(OnnxWriter, StoresAConstantsValueAsItsNameSays) {
  const Written written = WriteTiny("phi4mini-tiny", Options("int4"));
  std::map<std::string, std::string> raw;
  for (const ::onnx::NodeProto& node : written.proto.graph().node())
    if (node.op_type() == "Constant") raw[node.name()] = node.attribute(0).t().raw_data();
  using namespace std::string_literals;
  const std::string path = "/model/constant_nodes/INT64/";
  // Little-endian: 1, 512 = 0x200, 2112 = 0x840, 128 = 0x80.
  EXPECT_EQ(raw, (std::map<std::string, std::string>{
                     {path + "1", "\1\0\0\0\0\0\0\0"s},
                     {path + "[1]", "\1\0\0\0\0\0\0\0"s},
                     {path + "512", "\0\2\0\0\0\0\0\0"s},
                     {path + "[2112, 128]", "\x40\x08\0\0\0\0\0\0\x80\0\0\0\0\0\0\0"s}}));
}

TEST(OnnxWriter, SaysWhatItIs) {
  const ::onnx::ModelProto& proto = WriteTiny("phi4mini-tiny", Options("int4")).proto;
  EXPECT_EQ(proto.ir_version(), 10);
  EXPECT_EQ(proto.producer_name(), "phiq");
  EXPECT_EQ(proto.graph().name(), "main_graph");
  ASSERT_EQ(proto.opset_import_size(), 2);
  EXPECT_EQ(proto.opset_import(0).domain(), "");
  EXPECT_EQ(proto.opset_import(0).version(), 21);
  EXPECT_EQ(proto.opset_import(1).domain(), "com.microsoft");
  EXPECT_EQ(proto.opset_import(1).version(), 1);
  const auto properties = [](const ::onnx::ModelProto& model) {
    std::map<std::string, std::string> map;
    for (const auto& property : model.metadata_props()) map[property.key()] = property.value();
    return map;
  };
  using Map = std::map<std::string, std::string>;
  EXPECT_EQ(properties(proto), (Map{{"phiq.type", "int4"},
                                    {"phiq.execution_provider", "cpu"},
                                    {"phiq.min_onnxruntime", "1.24"}}));
  const CheckpointFolder folder =
      LocateCheckpoint((phiq::testing::TestData() / "phi35-tiny").string(), nullptr);
  EXPECT_EQ(properties(Write(folder, Options("fp16", ExecutionProvider::kDml),
                             {{"phiq.nan_policy", "zero"}})
                           .proto),
            (Map{{"phiq.type", "fp16"},
                 {"phiq.execution_provider", "dml"},
                 {"phiq.min_onnxruntime", "1.20"},
                 {"phiq.nan_policy", "zero"}}));
}

TEST(OnnxWriter, GivesTheSameBytesAgain) {
  for (const Case& c : Cases()) {
    const Written first = WriteTiny(c.model, c.options), second = WriteTiny(c.model, c.options);
    ASSERT_EQ(first.layout.files.size(), second.layout.files.size());
    for (std::size_t i = 0; i < first.layout.files.size(); ++i)
      EXPECT_EQ(first.layout.files[i].head, second.layout.files[i].head)
          << c.model << c.options.type;
  }
}

// --- the window ------------------------------------------------------------------------------

// Of every attention node; nullopt: the attribute is not there.
std::set<std::optional<std::int64_t>> Windows(const Json& sliding_window,
                                              ExecutionProvider ep = ExecutionProvider::kCpu) {
  const SideFiles files("phi35-tiny");
  files.Edit("config.json", [&](Json& json) { json["sliding_window"] = sliding_window; });
  const Written written = Write(files.Folder(), Options("fp16", ep));
  std::set<std::optional<std::int64_t>> windows;
  for (const ::onnx::NodeProto& node : written.proto.graph().node()) {
    if (node.op_type() != "GroupQueryAttention") continue;
    std::optional<std::int64_t> window;
    for (const auto& attribute : node.attribute()) {
      EXPECT_NE(attribute.name(), "sliding_window_cache");
      if (attribute.name() == "local_window_size") window = attribute.i();
    }
    windows.insert(window);
  }
  EXPECT_EQ(written.Text("genai_config.json").find("sliding"), std::string::npos);
  return windows;
}

TEST(OnnxWriter, LimitsAttentionToAWindowBelowTheContext) {
  EXPECT_THAT(Windows(1), ElementsAre(1));
  EXPECT_THAT(Windows(2047), ElementsAre(2047));
  EXPECT_THAT(Windows(4095), ElementsAre(4095));
  EXPECT_THAT(Windows(4096), ElementsAre(std::nullopt));  // the context
  EXPECT_THAT(Windows(262144), ElementsAre(std::nullopt));
  EXPECT_THAT(Windows(nullptr), ElementsAre(std::nullopt));
  EXPECT_THAT(Windows(2047, ExecutionProvider::kDml), ElementsAre(2047));
}

// --- genai_config.json -----------------------------------------------------------------------

// All paths of an object, lists left whole.
void AddKeys(const Json& json, const std::string& path, std::set<std::string>& keys) {
  for (const auto& [key, value] : json.items()) {
    keys.insert(path + key);
    if (value.is_object()) AddKeys(value, path + key + ".", keys);
  }
}

// The keys that every runtime takes: unknown ones are fatal there.
const std::set<std::string> kKeys = {"model",
                                     "model.bos_token_id",
                                     "model.context_length",
                                     "model.decoder",
                                     "model.decoder.session_options",
                                     "model.decoder.session_options.log_id",
                                     "model.decoder.session_options.provider_options",
                                     "model.decoder.filename",
                                     "model.decoder.head_size",
                                     "model.decoder.hidden_size",
                                     "model.decoder.inputs",
                                     "model.decoder.inputs.input_ids",
                                     "model.decoder.inputs.attention_mask",
                                     "model.decoder.inputs.past_key_names",
                                     "model.decoder.inputs.past_value_names",
                                     "model.decoder.outputs",
                                     "model.decoder.outputs.logits",
                                     "model.decoder.outputs.present_key_names",
                                     "model.decoder.outputs.present_value_names",
                                     "model.decoder.num_attention_heads",
                                     "model.decoder.num_hidden_layers",
                                     "model.decoder.num_key_value_heads",
                                     "model.eos_token_id",
                                     "model.pad_token_id",
                                     "model.type",
                                     "model.vocab_size",
                                     "search",
                                     "search.diversity_penalty",
                                     "search.do_sample",
                                     "search.early_stopping",
                                     "search.length_penalty",
                                     "search.max_length",
                                     "search.min_length",
                                     "search.no_repeat_ngram_size",
                                     "search.num_beams",
                                     "search.num_return_sequences",
                                     "search.past_present_share_buffer",
                                     "search.repetition_penalty",
                                     "search.temperature",
                                     "search.top_k",
                                     "search.top_p"};

TEST(GenaiConfig, HasTheKeysThatEveryRuntimeKnows) {
  for (const Case& c : Cases()) {
    std::set<std::string> keys, wanted = kKeys;
    AddKeys(WriteTiny(c.model, c.options).GenaiConfig(), "", keys);
    if (c.options.knobs.at("ep") == "dml") wanted.insert("model.decoder.inputs.position_ids");
    EXPECT_EQ(keys, wanted) << c.model << c.options.type;
  }
}

TEST(GenaiConfig, HasTheModelsValues) {
  const Json config = WriteTiny("phi4mini-tiny", Options("int4")).GenaiConfig();
  const Json& decoder = config["model"]["decoder"];
  EXPECT_EQ(config["model"]["bos_token_id"], 2048);
  EXPECT_EQ(config["model"]["eos_token_id"], Json({2051, 2048}));
  EXPECT_EQ(config["model"]["pad_token_id"], 2048);
  EXPECT_EQ(config["model"]["context_length"], 4096);
  EXPECT_EQ(config["model"]["vocab_size"], 2112);
  EXPECT_EQ(config["model"]["type"], "phi3");
  EXPECT_EQ(decoder["filename"], "model.onnx");
  EXPECT_EQ(decoder["head_size"], 64);
  EXPECT_EQ(decoder["hidden_size"], 256);
  EXPECT_EQ(decoder["num_attention_heads"], 4);
  EXPECT_EQ(decoder["num_hidden_layers"], 4);
  EXPECT_EQ(decoder["num_key_value_heads"], 2);
  EXPECT_EQ(decoder["inputs"]["past_key_names"], "past_key_values.%d.key");
  EXPECT_EQ(decoder["outputs"]["present_value_names"], "present.%d.value");
  EXPECT_EQ(config["search"]["past_present_share_buffer"], true);
  EXPECT_EQ(config["search"]["num_beams"], 1);
}

TEST(GenaiConfig, WritesOneEndAsANumber) {
  const SideFiles files("phi35-tiny");
  // Both files' ends stop.
  files.Edit("config.json", [](Json& json) { json["eos_token_id"] = 2055; });
  files.Edit("generation_config.json", [](Json& json) { json["eos_token_id"] = {2055}; });
  EXPECT_EQ(Write(files.Folder(), Options("int4")).GenaiConfig()["model"]["eos_token_id"], 2055);
  files.Edit("generation_config.json", [](Json& json) { json["eos_token_id"] = 2048; });
  const Written written = Write(files.Folder(), Options("int4"));
  EXPECT_EQ(written.GenaiConfig()["model"]["eos_token_id"], Json({2048, 2055}));
  EXPECT_THAT(
      written.plan.decisions,
      Contains(AllOf(::testing::Field(&Decision::subject, "genai_config.json: eos_token_id"),
                     ::testing::Field(&Decision::value, "+2055"))));
}

TEST(GenaiConfig, TakesSamplingFromTheModel) {
  const SideFiles files("phi35-tiny");
  files.Edit("generation_config.json", [](Json& json) {
    json["do_sample"] = true;
    json["temperature"] = 0.25;
    json["top_k"] = 7;
    json["top_p"] = 0.5;
  });
  PlanOptions options = Options("int4");
  options.knobs["max-length"] = "123";
  const Json search = Write(files.Folder(), options).GenaiConfig()["search"];
  EXPECT_EQ(search["do_sample"], true);
  EXPECT_EQ(search["temperature"], 0.25);
  EXPECT_EQ(search["top_k"], 7);
  EXPECT_EQ(search["top_p"], 0.5);
  EXPECT_EQ(search["max_length"], 123);
}

TEST(GenaiConfig, ReservesFourThousandTokensOfALongContext) {
  const HeaderOnlyCheckpoint checkpoint("Phi-4-mini-instruct");
  const Json config = Write(checkpoint.path(), Options("int4")).GenaiConfig();
  EXPECT_EQ(config["model"]["context_length"], 131072);
  EXPECT_EQ(config["search"]["max_length"], 4096);
}

TEST(GenaiConfig, NamesTheProvider) {
  const auto provider = [](ExecutionProvider ep) {
    return WriteTiny("phi35-tiny", Options("fp16", ep))
        .GenaiConfig()["model"]["decoder"]["session_options"]["provider_options"]
        .dump();
  };
  EXPECT_EQ(provider(ExecutionProvider::kCpu), "[]");
  EXPECT_EQ(provider(ExecutionProvider::kCuda), R"([{"cuda":{"enable_cuda_graph":"0"}}])");
  EXPECT_EQ(provider(ExecutionProvider::kDml), R"([{"dml":{"enable_graph_capture":"1"}}])");
  EXPECT_EQ(provider(ExecutionProvider::kWebGpu),
            R"([{"webgpu":{"enableGraphCapture":"0","validationMode":"basic"}}])");
}

// --- the tokenizer's files -------------------------------------------------------------------

std::string FileText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// tokenizer_config.json as it is written, and the decisions about it: "key: value (reason)".
struct Patched {
  Json config;
  std::string text;
  std::vector<std::string> decisions;
};
Patched Patch(const SideFiles& files) {
  const Written written = Write(files.Folder(), Options("int4"));
  Patched patched;
  patched.text = written.Text("tokenizer_config.json");
  patched.config = Json::parse(patched.text);
  const std::string prefix = "tokenizer_config.json: ";
  for (const Decision& decision : written.plan.decisions) {
    if (decision.subject.starts_with(prefix))
      patched.decisions.push_back(decision.subject.substr(prefix.size()) + ": " + decision.value +
                                  " (" + decision.reason + ")");
  }
  return patched;
}
Patched Patch(const std::string& base, const std::function<void(Json&)>& edit) {
  const SideFiles files(base);
  files.Edit("tokenizer_config.json", edit);
  return Patch(files);
}

TEST(TokenizerFiles, AreCopiedAsTheyAre) {
  for (const std::string model : {"phi35-tiny", "phi4mini-tiny"}) {
    const Written written = WriteTiny(model, Options("int4"));
    std::set<std::string> names;
    for (const PlacedFile& file : written.layout.files) names.insert(file.name);
    for (const char* name :
         {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
          "added_tokens.json", "vocab.json", "merges.txt"}) {
      const fs::path source = phiq::testing::TestData() / model / name;
      ASSERT_EQ(names.contains(name), fs::exists(source)) << name;
      if (!fs::exists(source)) continue;
      EXPECT_TRUE(written.Text(name) == FileText(source)) << name;
    }
    EXPECT_THAT(names, Not(Contains("config.json")));
    EXPECT_EQ(written.layout.files.at(written.layout.root).name, "model.onnx");
    EXPECT_TRUE(written.layout.is_folder);
    const std::vector<std::string> owned = OwnedFiles();
    for (const std::string& name : names) EXPECT_THAT(owned, Contains(name));
  }
}

TEST(TokenizerFiles, NameAClassThatEveryRuntimeKnows) {
  for (const auto& [base, name] :
       {std::pair("phi35-tiny", "LlamaTokenizer"), {"phi4mini-tiny", "GPT2Tokenizer"}}) {
    const Patched patched =
        Patch(base, [](Json& json) { json["tokenizer_class"] = "TokenizersBackend"; });
    EXPECT_EQ(patched.config["tokenizer_class"], name);
    EXPECT_THAT(patched.decisions,
                ElementsAre("tokenizer_class: " + std::string(name) +
                            " (not every onnxruntime-genai knows TokenizersBackend)"));
    EXPECT_EQ(
        Patch(base, [](Json& json) { json.erase("tokenizer_class"); }).config["tokenizer_class"],
        name);
    EXPECT_EQ(Patch(base, [](Json& json) { json["tokenizer_class"] = nullptr; })
                  .config["tokenizer_class"],
              name);
    for (const char* known : {"LlamaTokenizerFast", "GPT2Tokenizer"}) {
      const Patched kept = Patch(base, [&](Json& json) { json["tokenizer_class"] = known; });
      EXPECT_EQ(kept.config["tokenizer_class"], known);
      EXPECT_THAT(kept.decisions, IsEmpty());
    }
  }
}

TEST(TokenizerFiles, HaveALengthThatIsOne) {
  for (const Json& value :
       {Json(1e30), Json(1000000000000000019884624838656.0), Json(0), Json(-5), Json("4096")}) {
    const Patched patched =
        Patch("phi35-tiny", [&](Json& json) { json["model_max_length"] = value; });
    EXPECT_EQ(patched.config["model_max_length"], 4096) << value;
    EXPECT_THAT(patched.decisions,
                ElementsAre("model_max_length: 4096 (the context; it was no length)"));
  }
  // As transformers writes it; our parser of tests would round it first.
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](Json& json) { json["model_max_length"] = "HERE"; });
  std::string text = FileText(files.path("tokenizer_config.json"));
  text.replace(text.find("\"HERE\""), 6, "1000000000000000019884624838656");
  files.WriteText("tokenizer_config.json", text);
  EXPECT_EQ(Patch(files).config["model_max_length"], 4096);
  for (const std::uint64_t value :
       {std::uint64_t{1}, std::uint64_t{131072}, (std::uint64_t{1} << 31) - 1}) {
    const Patched kept = Patch("phi35-tiny", [&](Json& json) { json["model_max_length"] = value; });
    EXPECT_EQ(kept.config["model_max_length"], value);
    EXPECT_THAT(kept.decisions, IsEmpty());
  }
  EXPECT_FALSE(Patch("phi35-tiny", [](Json& json) {
                 json.erase("model_max_length");
               }).config.contains("model_max_length"));
}

TEST(TokenizerFiles, HaveOneChatTemplate) {
  const Patched patched = Patch("phi35-tiny", [](Json& json) {
    json["chat_template"] = {{{"name", "tool_use"}, {"template", "{{ tools }}"}},
                             {{"name", "default"}, {"template", "{{ messages }}"}}};
  });
  EXPECT_EQ(patched.config["chat_template"], "{{ messages }}");
  EXPECT_THAT(patched.decisions,
              ElementsAre("chat_template: 14 bytes (the runtime reads one template, not a list)"));
}

TEST(TokenizerFiles, TakeAChatTemplateFromItsOwnFile) {
  const SideFiles files("phi35-tiny");
  files.Edit("tokenizer_config.json", [](Json& json) { json.erase("chat_template"); });
  files.WriteText("chat_template.jinja", "{{ 'a template that is longer than forty characters' }}");
  const Patched patched = Patch(files);
  EXPECT_EQ(patched.config["chat_template"],
            "{{ 'a template that is longer than forty characters' }}");
  EXPECT_THAT(
      patched.decisions,
      ElementsAre("chat_template: 55 bytes (it stands in a file of its own in the checkpoint)"));
  EXPECT_EQ(Write(files.Folder(), Options("int4")).Text("chat_template.jinja"),
            "{{ 'a template that is longer than forty characters' }}");
}

// The file of its own wins, as it does for GGUF and in transformers.
TEST(TokenizerFiles, HaveTheTemplateOfTheFileWhereTwoDiffer) {
  const SideFiles files("phi35-tiny");
  files.WriteText("chat_template.jinja", "{{ other }}");
  EXPECT_EQ(Patch(files).config["chat_template"], "{{ other }}");
}

// A list without a default is nothing that the runtime can read.
TEST(TokenizerFiles, DropAListWithoutADefault) {
  const Patched patched = Patch("phi35-tiny", [](Json& json) {
    json["chat_template"] = Json::array({{{"name", "tool_use"}, {"template", "{{ tools }}"}}});
  });
  EXPECT_FALSE(patched.config.contains("chat_template"));
  EXPECT_THAT(patched.decisions,
              ElementsAre("chat_template: removed (the runtime reads one template, and none is "
                          "the default)"));
}

TEST(TokenizerFiles, NeedNoChatTemplate) {
  const Patched patched = Patch("phi35-tiny", [](Json& json) { json.erase("chat_template"); });
  EXPECT_FALSE(patched.config.contains("chat_template"));
  EXPECT_THAT(patched.decisions, IsEmpty());
}

// Keys that are not patched keep their values (their order means nothing in JSON).
TEST(TokenizerFiles, KeepTheOtherKeysWhenOneIsPatched) {
  const SideFiles files("phi35-tiny");
  const Json before = Json::parse(FileText(files.path("tokenizer_config.json")));
  std::string text = FileText(files.path("tokenizer_config.json"));
  text.replace(text.find("LlamaTokenizer"), 14, "SomeTokenizer!");
  files.WriteText("tokenizer_config.json", text);
  EXPECT_EQ(Json::parse(Patch(files).text), before);
}

std::string Refusal(const SideFiles& files, ErrorCode code) {
  try {
    Write(files.Folder(), Options("int4"));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    const std::string text = error.what(), folder = files.path("").string();
    return text.starts_with(folder) ? text.substr(folder.size()) : text;
  }
  return "no error";
}

TEST(TokenizerFiles, ThatTheRuntimeNeedsMustBeThere) {
  const SideFiles files("phi35-tiny");
  files.Remove("tokenizer.json");  // tokenizer.model is enough for GGUF
  EXPECT_EQ(Refusal(files, ErrorCode::kInput),
            "tokenizer.json: not found, and onnxruntime-genai needs it (save the tokenizer with "
            "transformers, or fetch the file; --tokenizer FOLDER takes it from another folder)");
  const SideFiles others("phi4mini-tiny");
  others.Remove("tokenizer_config.json");
  EXPECT_EQ(Refusal(others, ErrorCode::kInput),
            "tokenizer_config.json: not found, and onnxruntime-genai needs it (save the tokenizer "
            "with transformers, or fetch the file; --tokenizer FOLDER takes it from another "
            "folder)");
}

}  // namespace
}  // namespace phiq::onnx
