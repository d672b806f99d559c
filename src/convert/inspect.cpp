// `phiq inspect`: what is in a checkpoint or an output.
#include "phiq/inspect.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <span>
#include <utility>

#include "base/finite.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sha256.h"
#include "convert/open_model.h"
#include "convert/rows.h"
#include "formats/gguf/reader.h"
#include "formats/mlx/stored_model.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/reader.h"
#include "formats/openvino/reader.h"
#include "io/input_file.h"
#include "io/parallel.h"
#include "model/side_file.h"
#include "phiq/encoding.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint64_t kCheckElements = 1ULL << 20;  // weights read at once by a thread

void NoteChatTemplate(const std::string& chat_template, Inspection& inspection) {
  if (chat_template.empty()) {
    inspection.notes.emplace_back("no chat template");
  } else if (!IsKnownChatTemplate(chat_template)) {
    inspection.notes.push_back(fmt::format(
        "the chat template is not a known template of Phi (SHA-256 {})", Sha256Hex(chat_template)));
  }
}

// Blocks that one read brings, all of one type: floats, scales or GGUF's blocks.
struct BlockArray {
  std::string name;       // of the tensor they belong to
  std::string type_name;  // of the tensor
  GgmlType type = GgmlType::kF32;
  std::uint64_t size_bytes = 0;
  std::function<void(std::uint64_t offset_bytes, std::span<std::byte> out)>
      read;  // from any thread
};

// Counts the blocks of each array that have a NaN or Inf.
void CheckBlocks(std::span<const BlockArray> arrays, unsigned threads, const Hooks& hooks,
                 Inspection& inspection) {
  struct Piece {
    std::size_t array = 0;
    std::uint64_t first_block = 0, n_blocks = 0;
  };
  struct Finding {
    std::uint64_t first_block = 0, count = 0;
  };
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::uint64_t total = arrays[i].size_bytes / GetGgmlTypeInfo(arrays[i].type).block_bytes;
    const std::uint64_t at_once = kCheckElements / GetGgmlTypeInfo(arrays[i].type).block_size;
    for (std::uint64_t b = 0; b < total; b += at_once)
      pieces.push_back({i, b, std::min(at_once, total - b)});
  }
  std::vector<Finding> findings(pieces.size());
  ParallelChunks(threads, pieces.size(),
                 [&](std::size_t item, unsigned) {
                   const Piece& piece = pieces[item];
                   const BlockArray& array = arrays[piece.array];
                   const std::size_t block_bytes = GetGgmlTypeInfo(array.type).block_bytes;
                   std::vector<std::byte> bytes(piece.n_blocks * block_bytes);
                   array.read(piece.first_block * block_bytes, bytes);
                   std::span<const std::byte> rest = bytes;
                   std::uint64_t base = piece.first_block;
                   while (const std::optional<std::size_t> bad = FindNonFinite(array.type, rest)) {
                     if (findings[item].count++ == 0) findings[item].first_block = base + *bad;
                     rest = rest.subspan((*bad + 1) * block_bytes);
                     base += *bad + 1;
                   }
                 },
                 {{}, hooks.stop_requested, {}});
  std::vector<Finding> of_array(arrays.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Finding& total = of_array[pieces[i].array];
    if (total.count == 0) total.first_block = findings[i].first_block;
    total.count += findings[i].count;
  }
  for (std::size_t i = 0; i < of_array.size(); ++i) {
    if (of_array[i].count == 0) continue;
    inspection.problems.push_back(fmt::format(
        "tensor '{}': {} of its {} blocks have a NaN or Inf, the first is block {}",
        Escape(arrays[i].name), of_array[i].count, arrays[i].type_name, of_array[i].first_block));
  }
}

void CheckGguf(const gguf::File& file, unsigned threads, const Hooks& hooks,
               Inspection& inspection) {
  std::vector<BlockArray> arrays;
  for (const gguf::Tensor& tensor : file.tensors()) {
    arrays.push_back({tensor.name, std::string(GetGgmlTypeInfo(tensor.type).name), tensor.type,
                      tensor.size_bytes,
                      [&file, &tensor](std::uint64_t offset_bytes, std::span<std::byte> out) {
                        file.Read(tensor, offset_bytes, out);
                      }});
  }
  CheckBlocks(arrays, threads, hooks, inspection);
}

Inspection InspectGguf(const std::string& path, const InspectOptions& options, const Hooks& hooks) {
  const gguf::File file = gguf::File::Open(path, WarnOrIgnore(hooks.warn));
  Inspection inspection;
  inspection.kind = "gguf";
  inspection.path = path;
  for (const auto& [key, value] : file.metadata())
    inspection.metadata.emplace_back(Escape(key), gguf::Show(value));
  for (const gguf::Tensor& tensor : file.tensors()) {
    inspection.tensors.push_back({tensor.name, std::string(GetGgmlTypeInfo(tensor.type).name),
                                  tensor.shape, tensor.size_bytes,
                                  file.parts()[tensor.part].path().string()});
  }
  const gguf::Value* chat_template = gguf::Find(file.metadata(), "tokenizer.chat_template");
  const std::string* text =
      chat_template == nullptr ? nullptr : std::get_if<std::string>(chat_template);
  NoteChatTemplate(text == nullptr ? "" : *text, inspection);
  if (options.check) {
    CheckGguf(file, options.threads == 0 ? AvailableThreads() : options.threads, hooks, inspection);
  }
  return inspection;
}

// What genai_config.json beside a model says of it; nothing when there is none.
void DescribeGenaiConfig(const std::filesystem::path& folder, Inspection& inspection) {
  const std::filesystem::path path = folder / "genai_config.json";
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return;
  const Json config =
      ParseJson(ReadWholeFile(path, limits::kConfigBytes), path.string(), limits::kJsonDepth);
  for (const auto& [section, key] :
       {std::pair("model", "type"), std::pair("model", "context_length"),
        std::pair("model", "vocab_size"), std::pair("model", "bos_token_id"),
        std::pair("model", "eos_token_id"), std::pair("model", "pad_token_id"),
        std::pair("search", "max_length")}) {
    const Json* const object = FindMember(config, section);
    const Json* const value = object == nullptr ? nullptr : FindMember(*object, key);
    if (value == nullptr) continue;
    inspection.metadata.emplace_back(
        fmt::format("{}.{}", section, key),
        value->is_string() ? Escape(value->get<std::string>()) : Show(*value));
  }
}

void DescribeOnnx(const ::onnx::ModelProto& model, Inspection& inspection) {
  const auto add = [&](std::string key, std::string value) {
    inspection.metadata.emplace_back(std::move(key), std::move(value));
  };
  add("ir_version", fmt::format("{}", model.ir_version()));
  add("producer", Escape(model.producer_version().empty()
                             ? model.producer_name()
                             : model.producer_name() + " " + model.producer_version()));
  for (const ::onnx::OperatorSetIdProto& opset : model.opset_import()) {
    const std::string domain = opset.domain().empty() ? "ai.onnx" : Escape(opset.domain());
    add("opset " + domain, fmt::format("{}", opset.version()));
  }
  for (const ::onnx::StringStringEntryProto& entry : model.metadata_props())
    add(Escape(entry.key()), Escape(entry.value()));
}

// The scales of integer weights, all floats of others, and the tables.
void CheckOnnx(const onnx::Folder& folder, unsigned threads, const Hooks& hooks,
               Inspection& inspection) {
  std::vector<BlockArray> arrays;
  for (const onnx::Weight& weight : folder.weights()) {
    const std::size_t array = std::holds_alternative<GgmlType>(weight.encoding) ? 0 : 1;
    const onnx::Initializer& floats = folder.initializers()[*weight.arrays[array]];
    arrays.push_back({weight.name, EncodingName(weight.encoding),
                      onnx::FloatTypeOf(floats.data_type).value(), floats.size_bytes,
                      [&](std::uint64_t offset_bytes, std::span<std::byte> out) {
                        folder.Read(floats, offset_bytes, out);
                      }});
  }
  for (const onnx::Table& table : folder.tables()) {
    const std::optional<GgmlType> type = onnx::FloatTypeOf(table.data_type);
    if (!type) continue;
    arrays.push_back({table.name, std::string(GetGgmlTypeInfo(*type).name), *type, table.size_bytes,
                      [&](std::uint64_t offset_bytes, std::span<std::byte> out) {
                        folder.Read(table, offset_bytes, out);
                      }});
  }
  CheckBlocks(arrays, threads, hooks, inspection);
  for (std::string& problem : folder.FindGraphProblems())
    inspection.problems.push_back(std::move(problem));
}

Inspection InspectOnnx(const std::string& path, const InspectOptions& options, const Hooks& hooks) {
  const onnx::Folder folder = onnx::Folder::Open(path, WarnOrIgnore(hooks.warn));
  Inspection inspection;
  inspection.kind = "onnx";
  inspection.path = path;
  DescribeOnnx(folder.proto(), inspection);
  DescribeGenaiConfig(folder.files()[0].path().parent_path(), inspection);
  for (const onnx::Weight& weight : folder.weights()) {
    const onnx::Initializer& first = folder.initializers()[*weight.arrays[0]];
    InspectedTensor tensor;
    tensor.name = weight.name;
    tensor.type = EncodingName(weight.encoding);
    if (first.dims.size() > 1) tensor.shape.push_back(weight.n_rows);  // else a norm
    tensor.shape.push_back(weight.row_elements);
    tensor.size_bytes = folder.SizeBytes(weight);
    tensor.file = folder.files()[first.file].path().string();
    inspection.tensors.push_back(std::move(tensor));
    if (!weight.shared_name.empty()) {
      inspection.notes.push_back(
          fmt::format("'{}' is '{}' too", Escape(weight.name), Escape(weight.shared_name)));
    }
  }
  for (const onnx::Table& table : folder.tables()) {
    const std::optional<GgmlType> type = onnx::FloatTypeOf(table.data_type);
    const std::size_t file = table.initializer ? folder.initializers()[*table.initializer].file : 0;
    inspection.tensors.push_back(
        {table.name,
         type ? std::string(GetGgmlTypeInfo(*type).name) : onnx::DataTypeName(table.data_type),
         table.dims, table.size_bytes, folder.files()[file].path().string(),
         /*is_weight=*/false});
  }
  if (options.check) {
    CheckOnnx(folder, options.threads == 0 ? AvailableThreads() : options.threads, hooks,
              inspection);
  }
  return inspection;
}

// The leaves of rt_info: "phiq.type", "runtime_options.KV_CACHE_PRECISION".
void DescribeInfo(const std::vector<openvino::Info>& info, const std::string& above,
                  Inspection& inspection) {
  for (const openvino::Info& item : info) {
    const std::string name = above + Escape(item.name);
    if (item.children.empty()) inspection.metadata.emplace_back(name, Escape(item.value));
    DescribeInfo(item.children, name + ".", inspection);
  }
}

// The scales of integer weights and all floats of others, and the graph.
void CheckOpenVino(const openvino::Folder& folder, unsigned threads, const Hooks& hooks,
                   Inspection& inspection) {
  std::vector<BlockArray> arrays;
  for (const openvino::Weight& weight : folder.weights()) {
    const bool is_float = std::holds_alternative<GgmlType>(weight.encoding);
    const openvino::StoredConst& floats = folder.constants()[*weight.arrays[is_float ? 0 : 1]];
    const GgmlType type = is_float                        ? std::get<GgmlType>(weight.encoding)
                          : HasHalfRange(weight.encoding) ? GgmlType::kF16
                                                          : GgmlType::kF32;
    arrays.push_back({weight.name, EncodingName(weight.encoding), type, floats.size_bytes,
                      [&](std::uint64_t offset_bytes, std::span<std::byte> out) {
                        folder.Read(floats, offset_bytes, out);
                      }});
  }
  CheckBlocks(arrays, threads, hooks, inspection);
  for (std::string& problem : folder.FindProblems())
    inspection.problems.push_back(std::move(problem));
}

Inspection InspectOpenVino(const std::string& path, const InspectOptions& options,
                           const Hooks& hooks) {
  const openvino::Folder folder = openvino::Folder::Open(path);
  Inspection inspection;
  inspection.kind = "openvino";
  inspection.path = path;
  DescribeInfo(folder.ir().info, "", inspection);
  for (const openvino::Weight& weight : folder.weights()) {
    InspectedTensor tensor;
    tensor.name = weight.name;
    tensor.type = EncodingName(weight.encoding);
    if (!IsNorm(weight.id.role)) tensor.shape.push_back(weight.n_rows);
    tensor.shape.push_back(weight.row_elements);
    tensor.size_bytes = folder.SizeBytes(weight);
    tensor.file = folder.files()[1].path().string();
    inspection.tensors.push_back(std::move(tensor));
  }
  if (options.check) {
    CheckOpenVino(folder, options.threads == 0 ? AvailableThreads() : options.threads, hooks,
                  inspection);
  }
  return inspection;
}

void DescribeConfig(const ModelConfig& config, Inspection& inspection) {
  const auto add = [&](std::string key, auto value) {
    inspection.metadata.emplace_back(std::move(key), fmt::format("{}", value));
  };
  add("architecture", config.architecture);
  add("vocab_size", config.vocab_size);
  add("hidden_size", config.hidden_size);
  add("intermediate_size", config.intermediate_size);
  add("n_layers", config.n_layers);
  add("n_heads", config.n_heads);
  add("n_kv_heads", config.n_kv_heads);
  add("head_dim", config.head_dim);
  add("rope_dim", config.rope_dim);
  add("rope_theta", config.rope_theta);
  add("rms_norm_eps", config.rms_norm_eps);
  add("max_position_embeddings", config.max_position_embeddings);
  add("original_max_position_embeddings", config.original_max_position_embeddings);
  add("sliding_window", config.sliding_window);
  add("tie_word_embeddings", config.tie_word_embeddings);
  add("rope_scaling", config.long_factor.empty() ? "none" : "longrope");
}

void DescribeTokenizer(const Tokenizer& tokenizer, Inspection& inspection) {
  inspection.metadata.emplace_back(
      "tokenizer", fmt::format("{}, {} tokens, {} added",
                               tokenizer.kind == TokenizerKind::kSentencePiece ? "SentencePiece BPE"
                                                                               : "byte-level BPE",
                               std::max(tokenizer.pieces.size(), tokenizer.vocab.size()),
                               tokenizer.added_tokens.size()));
  NoteChatTemplate(tokenizer.chat_template, inspection);
}

// Decodes every row.
void CheckRows(const StoredModel& model, unsigned threads, const Hooks& hooks,
               Inspection& inspection) {
  struct Rows {
    std::size_t piece = 0;
    std::uint64_t first = 0, n = 0;
  };
  std::vector<Rows> chunks;
  for (std::size_t i = 0; i < model.pieces().size(); ++i) {
    const StoredPiece& piece = model.pieces()[i];
    const std::uint64_t at_once = std::max<std::uint64_t>(1, kCheckElements / piece.row_elements);
    for (std::uint64_t row = 0; row < piece.n_rows; row += at_once)
      chunks.push_back({i, row, std::min(at_once, piece.n_rows - row)});
  }
  std::vector<RowCodec> codecs(threads);
  std::vector<std::vector<std::uint64_t>> bad_rows(chunks.size());
  ParallelChunks(threads, chunks.size(),
                 [&](std::size_t item, unsigned worker) {
                   const Rows& rows = chunks[item];
                   const std::uint64_t n = model.pieces()[rows.piece].row_elements;
                   std::vector<float> decoded(rows.n * n);
                   model.ReadRows(rows.piece, rows.first, rows.n, codecs[worker], decoded);
                   for (std::uint64_t r = 0; r < rows.n; ++r) {
                     if (FirstNonFinite(std::span(decoded).subspan(r * n, n)) < n)
                       bad_rows[item].push_back(rows.first + r);
                   }
                 },
                 {{}, hooks.stop_requested, {}});
  std::vector<std::vector<std::uint64_t>> of_piece(model.pieces().size());
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    std::vector<std::uint64_t>& rows = of_piece[chunks[i].piece];
    rows.insert(rows.end(), bad_rows[i].begin(), bad_rows[i].end());
  }
  for (std::size_t i = 0; i < of_piece.size(); ++i) {
    if (of_piece[i].empty()) continue;
    inspection.problems.push_back(
        fmt::format("tensor '{}': {} of its {} rows decode to NaN or Inf, the first is row {}",
                    Escape(model.pieces()[i].name), of_piece[i].size(), model.pieces()[i].n_rows,
                    of_piece[i].front()));
  }
}

Inspection InspectMlx(const std::string& path, const InspectOptions& options, const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  mlx::Folder folder = mlx::Folder::Open(path, warn);
  Inspection inspection;
  inspection.kind = "mlx";
  inspection.path = path;
  for (const auto& [key, value] : folder.tensors().metadata())
    inspection.metadata.emplace_back(Escape(key), Escape(value));
  DescribeConfig(folder.config(), inspection);
  for (const mlx::Weight& weight : folder.weights()) {
    InspectedTensor tensor;
    tensor.name = weight.name;
    tensor.type = EncodingName(weight.encoding);
    if (!IsNorm(weight.id.role)) tensor.shape.push_back(weight.n_rows);
    tensor.shape.push_back(weight.row_elements);
    tensor.size_bytes = folder.SizeBytes(weight);
    const SourceTensor& first = folder.tensors().tensors()[*weight.arrays[0]];
    tensor.file = folder.tensors().shards()[first.shard].string();
    inspection.tensors.push_back(std::move(tensor));
  }
  const std::unique_ptr<StoredModel> model = mlx::MakeStoredModel(std::move(folder), path);
  DescribeTokenizer(model->ReadTokenizer(warn), inspection);
  if (options.check) {
    CheckRows(*model, options.threads == 0 ? AvailableThreads() : options.threads, hooks,
              inspection);
  }
  return inspection;
}

Inspection InspectCheckpoint(const std::string& path, const InspectOptions& options,
                             const Hooks& hooks) {
  const WarningFn warn = WarnOrIgnore(hooks.warn);
  const SourceModel source = OpenSourceModel(path, {}, warn);
  Inspection inspection;
  inspection.kind = "checkpoint";
  inspection.path = source.stored->path();
  inspection.metadata.emplace_back("model", Escape(source.model.name));
  DescribeConfig(source.model.config, inspection);
  DescribeTokenizer(source.model.tokenizer, inspection);
  for (const StoredPiece& piece : source.stored->pieces()) {
    InspectedTensor tensor{piece.name, piece.type, {}, piece.size_bytes, piece.file};
    if (!IsNorm(piece.role)) tensor.shape.push_back(piece.n_rows);
    tensor.shape.push_back(piece.row_elements);
    inspection.tensors.push_back(std::move(tensor));
  }
  if (!options.check) return inspection;

  // The plan of an F32 output lists every weight once; its chunks serve for reading them all.
  const unsigned threads = options.threads == 0 ? AvailableThreads() : options.threads;
  PlanOptions plan_options;
  plan_options.type = "F32";
  const Plan plan = MakePlan(source.model, plan_options, warn);
  std::vector<std::size_t> lines;
  for (std::size_t i = 0; i < plan.lines.size(); ++i) lines.push_back(i);
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, lines, kCheckElements);
  std::vector<LineReader> readers(threads, LineReader(source));
  std::vector<std::atomic<bool>> is_bad(plan.lines.size());
  ParallelChunks(threads, chunks.size(),
                 [&](std::size_t item, unsigned worker) {
                   const std::span<const float> x =
                       readers[worker].Read(plan.lines[chunks[item].line], chunks[item]);
                   if (FirstNonFinite(x) < x.size()) is_bad[chunks[item].line] = true;
                 },
                 {{}, hooks.stop_requested, {}});
  for (std::size_t i = 0; i < plan.lines.size(); ++i) {
    if (!is_bad[i]) continue;
    inspection.problems.emplace_back(
        NonFiniteWeights(source, plan.lines[i], kCheckElements).what());
  }
  return inspection;
}

}  // namespace

double Inspection::bits_per_weight() const noexcept {
  return n_weights == 0 ? 0
                        : 8.0 * static_cast<double>(data_bytes) / static_cast<double>(n_weights);
}

Inspection Inspect(const std::string& path, const InspectOptions& options, const Hooks& hooks) {
  const InputKind kind = KindOf(path);
  Inspection inspection = kind == InputKind::kOnnx       ? InspectOnnx(path, options, hooks)
                          : kind == InputKind::kOpenVino ? InspectOpenVino(path, options, hooks)
                          : kind == InputKind::kMlx      ? InspectMlx(path, options, hooks)
                          : kind == InputKind::kGguf     ? InspectGguf(path, options, hooks)
                                                         : InspectCheckpoint(path, options, hooks);
  for (const InspectedTensor& tensor : inspection.tensors) {
    if (!tensor.is_weight) continue;
    std::uint64_t n = 1;
    for (const std::uint64_t dim : tensor.shape) n *= dim;
    inspection.n_weights += n;
    inspection.data_bytes += tensor.size_bytes;
  }
  return inspection;
}

}  // namespace phiq
