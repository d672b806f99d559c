// The expected graph is built anew, from the encodings that were found, and compared node by node.
#include "formats/onnx/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>

#include "base/json.h"
#include "base/limits.h"
#include "formats/onnx/graph.h"
#include "formats/onnx/layout.h"
#include "formats/onnx/model_graph.h"
#include "formats/onnx/side_files.h"
#include "formats/onnx/weight_names.h"
#include "formats/side_files.h"
#include "formats/tokenizer_files.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

// What the graph says of the choices that it was built from.
GraphChoices ChoicesOf(const Folder& folder) {
  const ::onnx::GraphProto& graph = folder.proto().graph();
  GraphChoices choices;
  choices.ep = ParseExecutionProvider(Property(folder, "phiq.execution_provider"));
  choices.accuracy_level = 0;
  for (const ::onnx::NodeProto& node : graph.node()) {
    if (node.op_type() == "MatMulInteger") choices.activations = Activations::kDynamic;
    if (node.op_type() != "MatMulNBits") continue;
    if (node.input_size() > 2 && node.input(2).ends_with("_scale"))
      choices.names = OnnxNames::kWeightOnly;
    for (const ::onnx::AttributeProto& attribute : node.attribute())
      if (attribute.name() == "accuracy_level")
        choices.accuracy_level = static_cast<int>(attribute.i());
  }
  for (const ::onnx::ValueInfoProto& output : graph.output()) {
    if (output.name() == "logits" && output.type().tensor_type().elem_type() == kFloat16)
      choices.float_type = FloatType::kF16;
  }
  return choices;
}

template <typename Message>
std::map<std::string, const Message*> ByName(
    const google::protobuf::RepeatedPtrField<Message>& list) {
  std::map<std::string, const Message*> map;
  for (const Message& message : list) map.emplace(message.name(), &message);
  return map;
}

// Messages of the same kind and name that do not serialize alike, are missing or have no
// counterpart.
template <typename Message>
void CompareLists(std::string_view what,
                  const google::protobuf::RepeatedPtrField<Message>& expected,
                  const google::protobuf::RepeatedPtrField<Message>& found,
                  std::vector<std::string>& problems) {
  if (expected.size() != found.size())
    problems.push_back(fmt::format("{} {}s, wanted {}", found.size(), what, expected.size()));
  const auto theirs = ByName(found);
  const auto ours = ByName(expected);
  for (const auto& [name, message] : ours) {
    const auto same = theirs.find(name);
    if (same == theirs.end()) {
      problems.push_back(fmt::format("{} '{}' is missing", what, name));
    } else if (same->second->SerializeAsString() != message->SerializeAsString()) {
      problems.push_back(fmt::format("{} '{}' differs from what the source gives", what, name));
    }
  }
  for (const auto& [name, message] : theirs) {
    if (!ours.contains(name))
      problems.push_back(
          fmt::format("{} '{}' has no counterpart in the source", what, Escape(name)));
  }
}

// What stands around the graph.
void CompareHeader(const ::onnx::ModelProto& found, std::vector<std::string>& problems) {
  ::onnx::ModelProto expected;
  SetVersions(expected);
  if (found.ir_version() != expected.ir_version())
    problems.push_back(
        fmt::format("ir_version is {}, wanted {}", found.ir_version(), expected.ir_version()));
  const auto versions = [](const ::onnx::ModelProto& model) {
    std::map<std::string, std::int64_t> map;
    for (const ::onnx::OperatorSetIdProto& opset : model.opset_import())
      map[opset.domain()] = opset.version();
    return map;
  };
  if (versions(found) != versions(expected))
    problems.emplace_back("the operator sets are not those that phiq writes");
  if (found.functions_size() > 0)
    problems.push_back(fmt::format("{} local functions, wanted none", found.functions_size()));
}

// Where the bytes stand is the layout's business: names, types and shapes must agree.
void CompareInitializers(const ::onnx::GraphProto& expected, const Folder& folder,
                         std::vector<std::string>& problems) {
  if (static_cast<std::size_t>(expected.initializer_size()) != folder.initializers().size())
    problems.push_back(fmt::format("{} initializers, wanted {}", folder.initializers().size(),
                                   expected.initializer_size()));
  for (const ::onnx::TensorProto& tensor : expected.initializer()) {
    const Initializer* found = folder.Find(tensor.name());
    if (found == nullptr) {
      problems.push_back(fmt::format("initializer '{}' is missing", tensor.name()));
      continue;
    }
    const bool same_dims = std::equal(
        found->dims.begin(), found->dims.end(), tensor.dims().begin(), tensor.dims().end(),
        [](std::uint64_t a, std::int64_t b) { return std::cmp_equal(a, b); });
    if (found->data_type != tensor.data_type() || !same_dims)
      problems.push_back(fmt::format(
          "initializer '{}' has another type or shape than the source gives", tensor.name()));
  }
}

// Of genai_config.json only the model is compared, without its session options: search and how to
// run are the user's to change.
std::vector<std::string> CompareSideFile(const SideFile& expected, std::string_view found,
                                         const std::filesystem::path& parent) {
  if (expected.name != kConfigFile) return CompareBytes(expected, found);
  const auto model_of = [&](std::string_view text) {
    Json json = ParseJson(text, (parent / expected.name).string(), limits::kJsonDepth);
    Json* const model = json.find("model");
    if (model == nullptr || !model->is_object()) return Json();
    if (Json* const decoder = model->find("decoder")) decoder->erase("session_options");
    return std::move(*model);
  };
  std::vector<std::string> problems;
  const Json ours = model_of(TextOf(expected)), theirs = model_of(found);
  for (const auto& [key, value] : ours.members()) {
    const Json* const their_value = theirs.find(key);
    if (their_value == nullptr || *their_value != value)
      problems.push_back(
          fmt::format("{}: model.{} differs from what the source gives", expected.name, key));
  }
  for (const auto& [key, value] : theirs.members()) {
    if (!ours.contains(key))
      problems.push_back(
          fmt::format("{}: model.{} has no counterpart in the source", expected.name, Escape(key)));
  }
  return problems;
}

// The plan lines that the weights found would have been written for; those that are none of the
// model's, or of another shape, are left out.
std::vector<PlanLine> LinesOf(const Folder& folder, const phiq::Model& model) {
  std::map<std::string, NamedRows> possible;
  for (NamedRows& rows : PossibleWeights(model.config))
    possible.emplace(rows.name, std::move(rows));
  std::vector<PlanLine> lines;
  for (const Weight& weight : folder.weights()) {
    const auto match = possible.find(weight.name);
    if (match == possible.end()) continue;
    const NamedRows& rows = match->second;
    const std::uint64_t n = ShapeOf(model.config, rows.weight.role).row_elements;
    if (weight.n_rows != rows.n_rows || weight.row_elements != n) continue;
    PlanLine& line = lines.emplace_back();
    line.name = CheckpointName(model.config, rows.weight);
    // One tensor for embedding and head stands for both.
    line.role = weight.shared_name.empty() ? rows.weight.role : TensorRole::kTokenEmbedding;
    line.layer = rows.weight.layer;
    line.part = rows.part;
    line.first_row = rows.first_row;
    line.shape = DimsOf(line.role, ShapeOf(model.config, rows.weight.role), rows.n_rows);
    line.encoding = weight.encoding;
  }
  return lines;
}

}  // namespace

std::string Property(const Folder& folder, std::string_view key) {
  for (const ::onnx::StringStringEntryProto& property : folder.proto().metadata_props())
    if (property.key() == key) return property.value();
  return "";
}

bool IsOurs(const Folder& folder) { return folder.proto().producer_name() == "phiq"; }

std::vector<std::string> FindDifferences(const Folder& folder, const SideFiles& source,
                                         const phiq::Model& model) {
  std::vector<std::string> problems;
  GraphPlan plan;
  ::onnx::GraphProto expected;
  std::vector<SideFile> side_files;
  try {
    PlanOptions options;
    options.type = Property(folder, "phiq.type");
    options.knobs["ep"] = Property(folder, "phiq.execution_provider");
    ParseExecutionProvider(options.knobs["ep"]);
    plan = *MakePlan(model, options, {});
    std::erase_if(plan.lines, [](const PlanLine& line) { return !line.table; });
    const std::vector<PlanLine> lines = LinesOf(folder, model);
    plan.lines.insert(plan.lines.begin(), lines.begin(), lines.end());
    const std::uint32_t max_length = plan.graph.max_length;
    plan.graph = ChoicesOf(folder);
    plan.graph.max_length = max_length;
    BuildModelGraph(model.config, plan, expected);
    side_files = MakeSideFiles(source, model, plan);
  } catch (const Error& error) {
    // It says of itself what cannot be, or lacks a weight.
    problems.push_back(fmt::format("the graph cannot be compared: {}", error.what()));
    return problems;
  }
  const ::onnx::GraphProto& found = folder.proto().graph();
  CompareHeader(folder.proto(), problems);
  CompareLists("node", expected.node(), found.node(), problems);
  CompareLists("graph input", expected.input(), found.input(), problems);
  CompareLists("graph output", expected.output(), found.output(), problems);
  CompareInitializers(expected, folder, problems);
  const std::filesystem::path parent = folder.files()[0].path().parent_path();
  const std::vector<std::string> differences = CompareSideFiles(
      side_files, TokenizerFileNames(), parent, [&](const SideFile& wanted, std::string_view text) {
        return CompareSideFile(wanted, text, parent);
      });
  problems.insert(problems.end(), differences.begin(), differences.end());
  return problems;
}

}  // namespace phiq::onnx
