// Graph, then offsets in the data file, then the files beside.
#include "formats/onnx/layout.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "formats/onnx/model_graph.h"
#include "formats/onnx/side_files.h"
#include "formats/tokenizer_files.h"
#include "phiq/error.h"

namespace phiq::onnx {
namespace {

constexpr std::int64_t kIrVersion = 10;
// The oldest with INT4 tensors; onnxruntime 1.20 and later run it.
constexpr std::int64_t kOpset = 21;

constexpr std::uint64_t kLargeBytes = 1ULL << 20;
constexpr std::uint64_t kLargeAlignment = 65'536;  // where Windows can map a file
constexpr std::uint64_t kAlignment = 64;           // of smaller ones: a cache line

void AddProperty(::onnx::ModelProto& model, std::string_view key, std::string_view value) {
  ::onnx::StringStringEntryProto& property = *model.add_metadata_props();
  property.set_key(std::string(key));
  property.set_value(std::string(value));
}

void Describe(const GraphPlan& plan, ::onnx::ModelProto& model) {
  SetVersions(model);
  model.set_producer_name("phiq");
  model.set_producer_version(PHIQ_VERSION);
  AddProperty(model, "phiq.type", plan.type);
  AddProperty(model, "phiq.execution_provider", ExecutionProviderName(plan.graph.ep));
  AddProperty(model, "phiq.min_onnxruntime", OnnxRuntimeName(plan.graph.min_onnxruntime));
  for (const auto& [key, value] : plan.facts) AddProperty(model, key, value);
}

void SetExternal(::onnx::TensorProto& tensor, std::uint64_t offset_bytes,
                 std::uint64_t size_bytes) {
  tensor.set_data_location(::onnx::TensorProto::EXTERNAL);
  for (const auto& [key, value] : {std::pair<std::string_view, std::string>{"location", kDataFile},
                                   {"offset", fmt::format("{}", offset_bytes)},
                                   {"length", fmt::format("{}", size_bytes)}}) {
    ::onnx::StringStringEntryProto& entry = *tensor.add_external_data();
    entry.set_key(std::string(key));
    entry.set_value(value);
  }
}

// Gives every initializer its place; returns the data file's size.
std::uint64_t Place(const GraphPlan& plan, std::span<const StoredTensor> tensors, std::size_t file,
                    std::vector<PlacedArray>& arrays) {
  std::uint64_t end = 0;
  for (const StoredTensor& tensor : tensors) {
    const PlanLine& line = plan.lines[tensor.line];
    const std::size_t row_bytes = ArrayRowBytes(line.encoding, tensor.array, line.row_elements());
    const std::uint64_t size_bytes = line.n_rows() * row_bytes * (tensor.between ? 2 : 1);
    const std::uint64_t offset_bytes =
        AlignUp(end, size_bytes > kLargeBytes ? kLargeAlignment : kAlignment).value();
    SetExternal(*tensor.proto, offset_bytes, size_bytes);
    const Order order = tensor.between ? Order::SpreadRows(2 * row_bytes) : tensor.order;
    arrays.push_back({tensor.line, tensor.array, file, offset_bytes, 0, order});
    if (tensor.between)
      arrays.push_back({*tensor.between, tensor.array, file, offset_bytes + row_bytes, 0, order});
    end = offset_bytes + size_bytes;
  }
  return end;
}

std::vector<std::byte> Serialize(const ::onnx::ModelProto& model) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    if (!model.SerializeToCodedStream(&coded))
      throw Error(ErrorCode::kInternal, "the ONNX graph cannot be serialized");
  }
  const std::span<const std::byte> view = std::as_bytes(std::span(bytes));
  return {view.begin(), view.end()};
}

}  // namespace

void SetVersions(::onnx::ModelProto& model) {
  model.set_ir_version(kIrVersion);
  for (const auto& [domain, version] :
       {std::pair<std::string_view, std::int64_t>{"", kOpset}, {kContribDomain, 1}}) {
    ::onnx::OperatorSetIdProto& opset = *model.add_opset_import();
    opset.set_domain(std::string(domain));
    opset.set_version(version);
  }
}

std::vector<std::string> OwnedFiles() {
  std::vector<std::string> names = {std::string(kModelFile), std::string(kDataFile),
                                    std::string(kConfigFile)};
  for (const std::string_view name : TokenizerFileNames()) names.emplace_back(name);
  return names;
}

OutputLayout MakeLayout(const SideFiles& side_files, const Model& model, GraphPlan& plan) {
  OutputLayout layout;
  layout.is_folder = true;
  ::onnx::ModelProto proto;
  Describe(plan, proto);
  proto.mutable_graph()->set_name("main_graph");
  const std::vector<StoredTensor> stored =
      BuildModelGraph(model.config, plan, *proto.mutable_graph());
  const std::uint64_t data_bytes = Place(plan, stored, /*file=*/0, layout.arrays);
  layout.files.push_back({std::string(kDataFile), {}, data_bytes});
  for (SideFile& file : MakeSideFiles(side_files, model, plan))
    layout.files.push_back(WholeFile(std::move(file.name), std::move(file.content)));
  layout.root = layout.files.size();
  layout.files.push_back(WholeFile(std::string(kModelFile), Serialize(proto)));
  return layout;
}

}  // namespace phiq::onnx
