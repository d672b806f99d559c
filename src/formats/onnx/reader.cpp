// Opens a model folder: the wire format first, then protobuf's parser, then what tensors and
// operators say about each other.
#include "formats/onnx/reader.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/json.h"
#include "base/limits.h"
#include "checkpoint/open_input.h"
#include "formats/encoded_rows.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/graph_problems.h"
#include "formats/onnx/tensor_data.h"
#include "io/system.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

namespace fs = std::filesystem;

// Hands a file to protobuf piece by piece, so that its bytes are in memory once: as fields.
class FileStream : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit FileStream(const InputFile& file) : file_(file), buffer_(kBufferBytes) {}

  bool Next(const void** data, int* size) override {
    const std::uint64_t n = std::min<std::uint64_t>(buffer_.size(), file_.size() - position_);
    if (n == 0 || failure_) return false;
    try {
      file_.ReadAt(position_, std::span(buffer_).first(static_cast<std::size_t>(n)));
    } catch (...) {  // not through protobuf's frames
      failure_ = std::current_exception();
      return false;
    }
    position_ += n;
    *data = buffer_.data();
    *size = static_cast<int>(n);
    return true;
  }
  void BackUp(int count) override { position_ -= static_cast<std::uint64_t>(count); }
  bool Skip(int count) override {
    const auto n = static_cast<std::uint64_t>(count);
    const std::uint64_t left = file_.size() - position_;
    position_ += std::min(n, left);
    return n <= left;
  }
  std::int64_t ByteCount() const override { return static_cast<std::int64_t>(position_); }

  void Rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

  const InputFile& file_;
  std::vector<std::byte> buffer_;
  std::uint64_t position_ = 0;
  std::exception_ptr failure_;
};

std::unique_ptr<::onnx::ModelProto> Parse(const InputFile& file) {
  auto model = std::make_unique<::onnx::ModelProto>();
  FileStream stream(file);
  bool is_parsed = false;
  {
    google::protobuf::io::CodedInputStream coded(&stream);
    coded.SetTotalBytesLimit(INT32_MAX);
    coded.SetRecursionLimit(static_cast<int>(limits::kOnnxDepth) + 1);  // CheckWire's limit decides
    is_parsed = model->ParseFromCodedStream(&coded) && coded.ConsumedEntireMessage();
  }
  stream.Rethrow();
  if (!is_parsed) {
    throw Error(ErrorCode::kBadData, "broken protobuf: the library cannot parse it")
        .In(file.path().native());
  }
  if (!model->has_graph()) {
    throw Error(ErrorCode::kBadData, "has no graph")
        .In(file.path().native())
        .Hint("not an ONNX model?");
  }
  file.CheckUnchanged();
  return model;
}

// Tensors that are no initializers of the main graph: checked, but their external data is not
// opened. Depth: CheckWire bounds it.
void CheckInnerTensors(const ::onnx::GraphProto& graph, bool is_main);

void CheckInnerTensors(const ::onnx::NodeProto& node) {
  for (const ::onnx::AttributeProto& attribute : node.attribute()) {
    if (attribute.has_t()) CheckTensor(attribute.t());
    for (const ::onnx::TensorProto& tensor : attribute.tensors()) CheckTensor(tensor);
    if (attribute.has_g()) CheckInnerTensors(attribute.g(), false);
    for (const ::onnx::GraphProto& graph : attribute.graphs()) CheckInnerTensors(graph, false);
  }
}

void CheckInnerTensors(const ::onnx::GraphProto& graph, bool is_main) {
  if (!is_main) {
    for (const ::onnx::TensorProto& tensor : graph.initializer()) CheckTensor(tensor);
  }
  for (const ::onnx::SparseTensorProto& sparse : graph.sparse_initializer()) {
    if (sparse.has_values()) CheckTensor(sparse.values());
    if (sparse.has_indices()) CheckTensor(sparse.indices());
  }
  for (const ::onnx::NodeProto& node : graph.node()) CheckInnerTensors(node);
}

// The .onnx of a folder.
fs::path ModelFileIn(const fs::path& folder) {
  const fs::path settings = folder / "genai_config.json";
  if (Stands(settings, ErrorCode::kInput)) {
    const std::string& where = settings.native();
    const Json config =
        ParseJson(ReadWholeFile(settings, limits::kConfigBytes), where, limits::kJsonDepth);
    const Json* const model = config.find("model");
    const Json* const decoder = model == nullptr ? nullptr : model->find("decoder");
    if (decoder != nullptr && decoder->is_object()) {
      if (const std::optional<std::string> name = JsonString(*decoder, "filename", where)) {
        const std::string_view problem = LocationProblem(*name);
        if (!problem.empty()) {
          throw Error(ErrorCode::kBadData,
                      fmt::format("model.decoder.filename '{}' {}", Escape(*name), problem))
              .In(where);
        }
        return folder / *name;
      }
    }
  }
  return folder / "model.onnx";
}

}  // namespace

Folder Folder::Open(const fs::path& path, const WarningFn& warn) {
  std::error_code ignored;
  InputFile file(fs::is_directory(path, ignored) ? ModelFileIn(path) : path);
  const std::string where = file.path().native();
  const WireFacts facts = CheckWire(file);
  Folder folder;
  folder.proto_ = Parse(file);
  std::vector<Warning> warnings;  // told outside of the try: they name the file themselves
  try {
    ::onnx::GraphProto& graph = *folder.proto_->mutable_graph();
    folder.initializers_ = Initializers(graph, std::move(file), facts.raw_data);
    CheckInnerTensors(graph, true);
    // From here on every initializer has its bytes, and as many as its type and dims need.
    folder.weights_ = FindWeights(graph, folder.initializers_,
                                  [&](const Warning& warning) { warnings.push_back(warning); });
    folder.tables_ = FindTables(graph, folder.initializers_);
  } catch (Error& error) {
    error.In(where);
    throw;
  }
  for (const Warning& warning : warnings) warn(warning);
  return folder;
}

std::vector<std::string> Folder::FindGraphProblems() const {
  std::vector<std::string> problems = FindProblems(proto_->graph());
  std::unordered_map<std::string_view, std::size_t> seen;
  for (const Weight& weight : weights_) {
    if (++seen[weight.name] == 2)
      problems.push_back(fmt::format("two weights are named '{}'", Escape(weight.name)));
  }
  return problems;
}

void Folder::Read(const Table& table, std::uint64_t offset_bytes, std::span<std::byte> out) const {
  if (table.initializer) return Read(initializers()[*table.initializer], offset_bytes, out);
  CopyRange(table.name, std::as_bytes(std::span(table.constant->raw_data())), offset_bytes, out);
}

std::uint64_t Folder::SizeBytes(const Weight& weight) const noexcept {
  std::uint64_t total = 0;
  for (const std::optional<std::size_t>& array : weight.arrays) {
    if (array) total += initializers()[*array].size_bytes / (weight.turn ? 2 : 1);
  }
  return total;
}

void Folder::ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                      RowCodec& codec, std::span<float> out) const {
  if (first_row > weight.n_rows || n_rows > weight.n_rows - first_row ||
      out.size() != n_rows * weight.row_elements) {
    throw Error(ErrorCode::kInternal, "rows outside of a weight").Tensor(weight.name);
  }
  if (n_rows == 0) return;
  EncodedRows rows(weight.encoding, n_rows, weight.row_elements);
  for (std::size_t a = 0; a < rows.n_arrays(); ++a) {
    const Initializer& array = initializers()[*weight.arrays[a]];
    RowArray stored{Order(), weight.n_rows, rows.row_bytes(a)};
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
      Read(array, offset_bytes, bytes);
    };
    if (weight.transposed && a == 0) {
      stored.order = Order::Columns(weight.row_elements);
      bands_->ReadRows(stored, &array, first_row, rows.bytes(a), read);
      continue;
    }
    if (weight.turn) {
      stored.order = Order::SpreadRows(2 * stored.row_bytes);
      const std::uint64_t before_bytes = *weight.turn * stored.row_bytes;
      phiq::ReadRows(stored, first_row, rows.bytes(a),
                     [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
                       read(before_bytes + offset_bytes, bytes);
                     });
      continue;
    }
    // GatherBlockQuantized leaves out the padding of a row's last block.
    const auto stored_bytes = static_cast<std::size_t>(array.size_bytes / weight.n_rows);
    if (stored_bytes != stored.row_bytes) stored.order = Order::CutRows(stored_bytes);
    phiq::ReadRows(stored, first_row, rows.bytes(a), read);
  }
  rows.Decode(codec, out);
}

void Folder::ReadRows(const Table& table, std::uint64_t first_row, std::span<float> out) const {
  const GgmlType type = FloatTypeOf(table.data_type).value();
  const auto columns = static_cast<std::size_t>(table.dims.at(1));
  std::vector<std::byte> bytes(GgmlRowBytes(type, out.size()));
  Read(table, first_row * GgmlRowBytes(type, columns), bytes);
  DequantizeGgmlRow(type, bytes, out);  // floats: rows stand one behind the other
}

bool LooksLikeOnnx(const fs::path& path) {
  try {
    if (!fs::is_directory(path)) return path.extension() == ".onnx";
    if (!fs::exists(path / "model.onnx") && !fs::exists(path / "genai_config.json")) return false;
    return std::ranges::none_of(NamesInFolder(path), [](const std::string& name) {
      return name.ends_with(".safetensors");
    });
  } catch (const Error&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
}

}  // namespace phiq::onnx
