// What a graph computes is taken from its nodes and tables, never from a checkpoint: a wrong table
// in a folder has to show. Of other graphs than phiq's own only this is looked at.
#include "formats/onnx/stored_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "base/finite.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/parse_number.h"
#include "formats/onnx/attributes.h"
#include "formats/onnx/compare.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/layout.h"
#include "formats/onnx/weight_names.h"
#include "formats/tokenizer_files.h"
#include "io/input_file.h"
#include "io/system.h"
#include "model/architecture.h"
#include "model/side_file.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

namespace fs = std::filesystem;

fs::path FolderOf(const Folder& folder) {
  const fs::path parent = folder.files()[0].path().parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

// Rows of a pair of tables that hold the cosines and sines of one set of factors.
struct RotaryRows {
  const Table* cosines = nullptr;
  const Table* sines = nullptr;
  std::uint64_t first_row = 0, n_rows = 0;
};

// Up to the original length `short_rows`, beyond it `long_rows`; without scaling they are the same.
struct RotaryTables {
  RotaryRows short_rows, long_rows;
  std::uint64_t n_columns = 0;
  std::uint64_t n_original = 0, n_positions = 0;  // lengths up to which they are for
};

// genai_config.json, where there is one.
class GenaiConfig {
 public:
  explicit GenaiConfig(const fs::path& folder) : path_((folder / kConfigFile).string()) {
    if (!Stands(path_, ErrorCode::kInput)) return;
    const Json root =
        ParseJson(ReadWholeFile(path_, limits::kConfigBytes), path_, limits::kJsonDepth);
    if (const Json* const model = FindMember(root, "model")) model_ = *model;
    if (const Json* const decoder = FindMember(model_, "decoder")) decoder_ = *decoder;
  }

  // model.KEY and model.decoder.KEY: a whole number in [least, most], or nothing.
  std::optional<std::uint32_t> OfModel(std::string_view key, std::uint32_t least,
                                       std::uint32_t most) const {
    return Count("model", model_, key, least, most);
  }
  std::optional<std::uint32_t> OfDecoder(std::string_view key, std::uint32_t least,
                                         std::uint32_t most) const {
    return Count("model.decoder", decoder_, key, least, most);
  }

  // Throws kBadData when a size of the graph is not what the file says.
  void CheckModel(std::string_view key, std::uint32_t found) const {
    Check("model", model_, key, found);
  }
  void CheckDecoder(std::string_view key, std::uint32_t found) const {
    Check("model.decoder", decoder_, key, found);
  }

  // A special id; an array of them is ignored, as in config.json.
  std::optional<std::uint32_t> SpecialId(std::string_view key, std::uint32_t vocab_size) const {
    const Json* const value = FindMember(model_, key);
    if (value == nullptr || value->is_array()) return std::nullopt;
    return OfModel(key, 0, vocab_size - 1);
  }

 private:
  std::optional<std::uint32_t> Count(std::string_view section, const Json& object,
                                     std::string_view key, std::uint32_t least,
                                     std::uint32_t most) const {
    const Json* const value = FindMember(object, key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() < least ||
        value->get<std::uint64_t>() > most) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("'{}.{}' is {}, needs a whole number from {} to {}", section, key,
                              Show(*value), least, most))
          .In(path_);
    }
    return value->get<std::uint32_t>();
  }
  void Check(std::string_view section, const Json& object, std::string_view key,
             std::uint32_t found) const {
    const Json* const value = FindMember(object, key);
    if (value == nullptr || *value == found) return;
    throw Error(ErrorCode::kBadData, fmt::format("'{}.{}' is {}, but the graph has {}", section,
                                                 key, Show(*value), found))
        .In(path_);
  }

  const std::string path_;
  Json model_, decoder_;
};

class ModelReader {
 public:
  // `config`  is filled as far as the graph is understood.
  ModelReader(const Folder& folder, ModelConfig& config)
      : folder_(folder), genai_(FolderOf(folder)), config_(config) {
    for (const Weight& weight : folder.weights()) {
      weights_.emplace(weight.name, &weight);
      if (!weight.shared_name.empty()) weights_.emplace(weight.shared_name, &weight);
    }
  }

  void ReadConfig() {
    // Known before anything can be refused: it tells one rotary table from two in one.
    config_.max_position_embeddings =
        genai_.OfModel("context_length", 2, limits::kPositions).value_or(0);
    ReadSizes();
    ReadAttention();
    ReadEpsilon();
    if (config_.n_experts > 0) ReadRouters();
    tables_ = FindRotaryTables();
    config_.rope_dim = static_cast<std::uint32_t>(2 * tables_.n_columns);
    config_.partial_rotary_factor = static_cast<double>(config_.rope_dim) / config_.head_dim;
    config_.max_position_embeddings = static_cast<std::uint32_t>(tables_.n_positions);
    config_.original_max_position_embeddings = static_cast<std::uint32_t>(tables_.n_original);
    if (config_.sliding_window >= config_.max_position_embeddings) config_.sliding_window = 0;
    config_.bos_token_id = genai_.SpecialId("bos_token_id", config_.vocab_size);
    config_.eos_token_id = genai_.SpecialId("eos_token_id", config_.vocab_size);
    config_.pad_token_id = genai_.SpecialId("pad_token_id", config_.vocab_size);
  }
  const RotaryTables& tables() const noexcept { return tables_; }

 private:
  Error Bad(std::string message) const { return Error(ErrorCode::kBadData, std::move(message)); }
  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message));
  }

  const Weight& WeightNamed(const std::string& name) const {
    const auto found = weights_.find(name);
    if (found != weights_.end()) return *found->second;
    throw Unsupported(fmt::format("has no weight '{}'", name))
        .Hint("phiq evaluates its own ONNX folders and those of onnxruntime-genai's builder");
  }

  static std::uint32_t Size(const Weight& weight, std::string_view what, std::uint64_t found,
                            std::uint32_t most) {
    if (found >= 1 && found <= most) return static_cast<std::uint32_t>(found);
    throw Error(ErrorCode::kBadData,
                fmt::format("has {} {}, allowed are 1 to {}", found, what, most))
        .Tensor(weight.name);
  }

  // One more than the highest layer that has a down projection.
  std::uint32_t CountLayers() const {
    const auto [begin, end] =
        AroundLayer(config_.architecture == kPhiMoe.class_name ? TensorRole::kExpertDown
                                                               : TensorRole::kMlpDown);
    std::uint32_t n_layers = 0;
    for (const Weight& weight : folder_.weights()) {
      std::string_view name = weight.name;
      if (!name.starts_with(begin) || !name.ends_with(end) ||
          name.size() <= begin.size() + end.size())
        continue;
      name = name.substr(begin.size(), name.size() - begin.size() - end.size());
      const auto layer = ParseNumber<std::uint32_t>(name);
      if (!layer || *layer >= limits::kLayers) {
        throw Bad(fmt::format("layer '{}', allowed are 0 to {}", Escape(name), limits::kLayers - 1))
            .Tensor(weight.name);
      }
      n_layers = std::max(n_layers, *layer + 1);
    }
    return n_layers;
  }

  bool Has(TensorRole role) const {
    return weights_.contains(
        WeightName(config_, {role, role == TensorRole::kOutputHeadBias ? -1 : 0}));
  }

  // From the first layer's matrices.
  void ReadExperts() {
    const Weight& gate = WeightNamed(WeightName(config_, {TensorRole::kExpertGate, 0}));
    config_.n_experts = Size(gate, "experts", gate.n_matrices, limits::kExperts);
    config_.n_experts_per_token = 2;
    config_.intermediate_size =
        Size(gate, "rows", gate.n_rows / gate.n_matrices, limits::kIntermediate);
    config_.attention_bias = Has(TensorRole::kAttentionQueryBias);
    config_.lm_head_bias = Has(TensorRole::kOutputHeadBias);
  }

  // How near scores tie is a number of the graph.
  void ReadRouters() {
    std::map<std::string_view, const ::onnx::NodeProto*> constants;
    for (const ::onnx::NodeProto& node : folder_.proto().graph().node())
      if (node.op_type() == "Constant" && node.output_size() == 1)
        constants.emplace(node.output(0), &node);
    std::optional<float> limit;
    for (const ::onnx::NodeProto& node : folder_.proto().graph().node()) {
      if (node.op_type() == "MoE" || node.op_type() == "QMoE") {
        if (IntegerOf(node, "k", 0) != 2)
          throw NodeError(node, "has another k than 2", ErrorCode::kUnsupported);
      }
      if (node.op_type() != "Greater" || node.name().find("/moe/router/") == std::string::npos)
        continue;
      const auto constant =
          node.input_size() == 2 ? constants.find(node.input(1)) : constants.end();
      const ::onnx::AttributeProto* const value =
          constant == constants.end() ? nullptr : FindAttribute(*constant->second, "value");
      float found = 0;
      if (value != nullptr && value->t().data_type() == kFloat &&
          value->t().raw_data().size() == sizeof(found))
        found = LoadLe<float>(std::as_bytes(std::span(value->t().raw_data())), 0);
      if (!(found > 0) || !std::isfinite(found) || (limit && *limit != found))
        throw NodeError(node, "compares with no number that phiq writes", ErrorCode::kUnsupported);
      limit = found;
    }
    if (!limit) throw Unsupported("has experts, but no router that phiq writes");
    config_.router_epsilon = *limit / 2;
  }

  void ReadSizes() {
    const bool has_experts = std::ranges::any_of(
        folder_.weights(), [](const Weight& weight) { return weight.n_matrices > 1; });
    if (has_experts) {
      if (!IsOurs(folder_))
        throw Unsupported("has experts, and was not written by phiq")
            .Hint("phiq evaluates its own ONNX folders of such models");
      config_.architecture = kPhiMoe.class_name;
    }
    config_.n_layers = CountLayers();
    const Weight& embedding = WeightNamed(WeightName(config_, {TensorRole::kTokenEmbedding}));
    config_.vocab_size = Size(embedding, "rows", embedding.n_rows, limits::kVocab);
    config_.hidden_size = Size(embedding, "columns", embedding.row_elements, limits::kHidden);
    if (has_experts) {
      ReadExperts();
    } else {
      const Weight& gate =
          WeightNamed(WeightName(config_, {TensorRole::kMlpGateUp, 0}, TensorPart::kGate));
      config_.intermediate_size = Size(gate, "rows", gate.n_rows, limits::kIntermediate);
    }
    config_.tie_word_embeddings = !embedding.shared_name.empty();
    genai_.CheckModel("vocab_size", config_.vocab_size);
    genai_.CheckDecoder("hidden_size", config_.hidden_size);
    genai_.CheckDecoder("num_hidden_layers", config_.n_layers);
  }

  // --- attention ------------------------------------------------------------------------------

  void ReadAttention() {
    bool is_first = true;
    for (const ::onnx::NodeProto& node : folder_.proto().graph().node()) {
      if (node.op_type() != "GroupQueryAttention" && node.op_type() != "MultiHeadAttention")
        continue;
      const Heads heads = HeadsOf(node);
      if (is_first) {
        config_.n_heads = heads.n_heads;
        config_.n_kv_heads = heads.n_kv_heads;
        config_.head_dim = HeadSize(heads.n_heads);
        config_.sliding_window = heads.sliding_window;
      } else if (heads.n_heads != config_.n_heads || heads.n_kv_heads != config_.n_kv_heads ||
                 heads.sliding_window != config_.sliding_window) {
        throw NodeError(node, "has other heads or another window than the layer before it",
                        ErrorCode::kUnsupported);
      }
      is_first = false;
      CheckFormula(node);
    }
    if (is_first) throw Unsupported("has no GroupQueryAttention or MultiHeadAttention");
    genai_.CheckDecoder("num_attention_heads", config_.n_heads);
    genai_.CheckDecoder("num_key_value_heads", config_.n_kv_heads);
    genai_.CheckDecoder("head_size", config_.head_dim);
  }

  std::uint32_t HeadSize(std::uint32_t n_heads) const {
    if (config_.n_experts == 0) return config_.hidden_size / n_heads;
    const Weight& query = WeightNamed(WeightName(config_, {TensorRole::kAttentionQuery, 0}));
    if (query.n_rows % n_heads != 0)
      throw Bad(fmt::format("has {} rows for {} heads", query.n_rows, n_heads)).Tensor(query.name);
    return static_cast<std::uint32_t>(query.n_rows / n_heads);
  }

  struct Heads {
    std::uint32_t n_heads = 0, n_kv_heads = 0, sliding_window = 0;
  };

  Heads HeadsOf(const ::onnx::NodeProto& node) const {
    const auto count = [&](std::string_view name, std::int64_t found, std::int64_t most) {
      if (found < 1 || found > most)
        throw NodeError(node, fmt::format("has {} {}, allowed are 1 to {}", name, found, most));
      return static_cast<std::uint32_t>(found);
    };
    Heads heads;
    heads.n_heads = count("num_heads", IntegerOf(node, "num_heads", std::nullopt), limits::kHeads);
    if (config_.n_experts == 0 && config_.hidden_size % heads.n_heads != 0) {
      throw NodeError(node, fmt::format("has num_heads {}, needs a divisor of hidden_size {}",
                                        heads.n_heads, config_.hidden_size));
    }
    if (node.op_type() == "MultiHeadAttention") {
      // The graph repeats keys and values for it.
      heads.n_kv_heads =
          genai_.OfDecoder("num_key_value_heads", 1, heads.n_heads).value_or(heads.n_heads);
    } else {
      heads.n_kv_heads = count("kv_num_heads", IntegerOf(node, "kv_num_heads", std::nullopt),
                               std::int64_t{heads.n_heads});
    }
    if (heads.n_heads % heads.n_kv_heads != 0) {
      throw NodeError(node, fmt::format("has kv_num_heads {}, needs a divisor of num_heads {}",
                                        heads.n_kv_heads, heads.n_heads));
    }
    const std::int64_t window = IntegerOf(node, "local_window_size", -1);
    if (window != -1) heads.sliding_window = count("local_window_size", window, limits::kPositions);
    return heads;
  }

  // What would make attention another function than Phi's.
  void CheckFormula(const ::onnx::NodeProto& node) const {
    const auto wanted_scale = static_cast<float>(1.0 / std::sqrt(config_.head_dim));
    const float scale = FloatOf(node, "scale", 0.0F);  // 0 stands for the usual one
    // The builder rounds it otherwise, in the last digits.
    if (scale != 0 && !(std::abs(scale - wanted_scale) <= 1e-6F * wanted_scale)) {
      throw NodeError(node, fmt::format("has scale {}, only {} is supported", scale, wanted_scale),
                      ErrorCode::kUnsupported);
    }
    if (const float softcap = FloatOf(node, "softcap", 0.0F); softcap != 0)
      throw NodeError(node, fmt::format("has softcap {}", softcap), ErrorCode::kUnsupported);
    for (const char* const name : {"rotary_interleaved", "smooth_softmax"}) {
      if (const std::int64_t value = IntegerOf(node, name, 0); value != 0 && value != -1)
        throw NodeError(node, fmt::format("has {} {}", name, value), ErrorCode::kUnsupported);
    }
  }

  void ReadEpsilon() {
    std::optional<float> epsilon;
    for (const ::onnx::NodeProto& node : folder_.proto().graph().node()) {
      if (node.op_type() != "SimplifiedLayerNormalization" &&
          node.op_type() != "SkipSimplifiedLayerNormalization" &&
          node.op_type() != "RMSNormalization" && node.op_type() != "LayerNormalization" &&
          node.op_type() != "SkipLayerNormalization")
        continue;
      const float found = FloatOf(node, "epsilon", std::nullopt);
      if (!(found > 0) || !std::isfinite(found)) {
        throw NodeError(node, fmt::format("has epsilon {}, needs a finite number above 0", found));
      }
      if (epsilon && *epsilon != found) {
        throw NodeError(node,
                        fmt::format("has epsilon {}, the norms before it {}", found, *epsilon),
                        ErrorCode::kUnsupported);
      }
      epsilon = found;
    }
    if (!epsilon) throw Unsupported("has no norm");
    config_.rms_norm_eps = *epsilon;
  }

  // --- rotary tables --------------------------------------------------------------------------

  // nullptr: none of that name, with or without "model.rope." before it.
  const Table* FindTable(std::string_view name) const {
    for (const Table& table : folder_.tables()) {
      if (TableKind(table.name) == name) return &table;
    }
    return nullptr;
  }

  RotaryRows FindRows(std::string_view suffix) const {
    const std::string cos_name = fmt::format("cos_cache{}", suffix);
    const std::string sin_name = fmt::format("sin_cache{}", suffix);
    RotaryRows rows = {FindTable(cos_name), FindTable(sin_name), 0, 0};
    if (rows.cosines == nullptr || rows.sines == nullptr) {
      throw Unsupported(
          fmt::format("has no rotary table '{}'", rows.cosines == nullptr ? cos_name : sin_name));
    }
    const std::uint64_t most_columns = config_.head_dim / 2;
    for (const Table* const table : {rows.cosines, rows.sines}) {
      const auto is_size = [](std::uint64_t n, std::uint64_t most) { return n >= 1 && n <= most; };
      const std::vector<std::uint64_t>& dims = table->dims;
      if (FloatTypeOf(table->data_type) && dims.size() == 2 &&
          is_size(dims[0], limits::kPositions) && is_size(dims[1], most_columns) &&
          dims == rows.cosines->dims)
        continue;
      throw Bad(fmt::format("rotary table is {} x [{}], needs floats of up to {} columns (half a "
                            "head), cosines as many as sines",
                            DataTypeName(table->data_type), fmt::join(dims, ", "), most_columns))
          .Tensor(table->name);
    }
    rows.n_rows = rows.cosines->dims[0];
    return rows;
  }

  // True when nodes of their own rotate, by positions that the graph computes.
  bool ComputesPositions() const {
    return std::ranges::any_of(folder_.proto().graph().node(), [](const ::onnx::NodeProto& node) {
      return node.op_type() == "RotaryEmbedding" && node.input_size() > 1 &&
             node.input(1) != "position_ids";
    });
  }

  RotaryTables FindRotaryTables() const {
    const std::optional<std::uint32_t> context =
        genai_.OfModel("context_length", 2, limits::kPositions);
    RotaryTables tables;
    if (FindTable("cos_cache_large") != nullptr) {
      tables.short_rows = FindRows("_small");
      tables.long_rows = FindRows("_large");
      if (tables.short_rows.cosines->dims[1] != tables.long_rows.cosines->dims[1]) {
        throw Bad("has other columns than the long rotary table")
            .Tensor(tables.short_rows.cosines->name);
      }
      tables.n_original = tables.short_rows.n_rows;
      tables.n_positions = context.value_or(static_cast<std::uint32_t>(tables.long_rows.n_rows));
    } else {
      const RotaryRows all = FindRows("");
      tables.short_rows = tables.long_rows = all;
      if (ComputesPositions()) {
        // Two tables in one: a row of the long one for every position, behind those of the short.
        if (!context || *context >= all.n_rows) {
          throw Unsupported(fmt::format(
              "'{}' of {} rows holds two tables, and genai_config.json does not tell their lengths "
              "(model.context_length)",
              all.cosines->name, all.n_rows));
        }
        tables.n_original = all.n_rows - *context;
        tables.short_rows.n_rows = tables.n_original;
        tables.long_rows.first_row = tables.n_original;
        tables.long_rows.n_rows = *context;
      }
      tables.n_positions = context.value_or(static_cast<std::uint32_t>(all.n_rows));
      if (tables.n_original == 0) tables.n_original = tables.n_positions;
    }
    tables.n_columns = tables.long_rows.cosines->dims[1];
    return tables;
  }

  const Folder& folder_;
  const GenaiConfig genai_;
  std::map<std::string, const Weight*> weights_;
  ModelConfig& config_;
  RotaryTables tables_;
};

// What genai_config.json beside a model says of it; nothing when there is none.
void AddGenaiConfig(const fs::path& folder, About& about) {
  const fs::path path = folder / kConfigFile;
  if (!Stands(path, ErrorCode::kInput)) return;
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
    about.metadata.emplace_back(
        fmt::format("{}.{}", section, key),
        value->is_string() ? Escape(value->get<std::string>()) : Show(*value));
  }
}

class OnnxModel final : public StoredModel {
 public:
  OnnxModel(Folder folder, std::string path)
      : StoredModel(std::move(path)),
        folder_(std::move(folder)),
        files_(LocateCheckpoint(FolderOf(folder_).native(), [](const Warning&) {})) {
    config_.architecture = kPhi3.class_name;
    try {
      ModelReader reader(folder_, config_);
      reader.ReadConfig();
      tables_ = reader.tables();
    } catch (Error& error) {
      refusal_ = error.In(where());
    }
    FindPieces();
  }

  std::string_view kind() const noexcept override { return "onnx"; }
  const ModelConfig& config() const override {
    if (refusal_) throw *refusal_;
    return config_;
  }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  const SideFiles& side_files() const noexcept override { return files_; }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    const std::size_t n_weights = folder_.weights().size();
    if (piece >= n_weights)
      return folder_.ReadRows(folder_.tables()[piece - n_weights], first_row, out);
    folder_.ReadRows(folder_.weights()[piece], first_row, n_rows, codec, out);
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    const RotaryRows& rows =
        n_positions > tables_.n_original ? tables_.long_rows : tables_.short_rows;
    if (n_positions > rows.n_rows) {
      throw Error(ErrorCode::kBadData, fmt::format("has {} rows, a text of {} tokens needs as many",
                                                   rows.n_rows, n_positions))
          .In(path())
          .Tensor(rows.cosines->name);
    }
    ReadTable(*rows.cosines, rows.first_row, cosines);
    ReadTable(*rows.sines, rows.first_row, sines);
  }

  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return ReadTokenizerBeside(FolderOf(folder_), config(), warn);
  }

  About Describe(const WarningFn&) const override {
    About about;
    const ::onnx::ModelProto& model = folder_.proto();
    const auto add = [&](std::string key, std::string value) {
      about.metadata.emplace_back(std::move(key), std::move(value));
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
    AddGenaiConfig(FolderOf(folder_), about);
    for (const Weight& weight : folder_.weights()) {
      if (weight.shared_name.empty()) continue;
      about.notes.push_back(
          fmt::format("'{}' is '{}' too", Escape(weight.name), Escape(weight.shared_name)));
    }
    return about;
  }

  Facts facts() const override {
    Facts facts;
    for (const ::onnx::StringStringEntryProto& entry : folder_.proto().metadata_props())
      if (entry.key().starts_with("phiq.")) facts.emplace_back(entry.key(), entry.value());
    return facts;
  }

  std::vector<std::string> FindProblems() const override { return folder_.FindGraphProblems(); }
  std::vector<std::string> FindDifferences(const Model& source,
                                           const SideFiles& files) const override {
    if (!IsOurs(folder_)) return {};
    return onnx::FindDifferences(folder_, files, source);
  }

  void CheckUnchanged() const override {
    for (const InputFile& file : folder_.files()) file.CheckUnchanged();
  }

 private:
  std::string where() const { return folder_.files()[0].path().native(); }

  // Where the parts of a weight begin is known of a graph that is not understood, too: by their
  // own rows.
  ModelConfig Sizes() const {
    ModelConfig sizes = config_;
    if (!refusal_ || sizes.n_layers == 0 || sizes.n_heads > 0) return sizes;
    const auto n_rows = [&](TensorPart part) -> std::uint32_t {
      const std::string name = WeightName(sizes, {TensorRole::kAttentionQkv, 0}, part);
      const auto found = std::ranges::find(folder_.weights(), name, &Weight::name);
      return found == folder_.weights().end() ? 0 : static_cast<std::uint32_t>(found->n_rows);
    };
    sizes.head_dim = 1;
    sizes.n_heads = n_rows(TensorPart::kQuery);
    sizes.n_kv_heads = n_rows(TensorPart::kKey);
    return sizes;
  }

  // Beside folder_.weights(), then folder_.tables().
  void FindPieces() {
    std::map<std::string, NamedRows> possible;
    const ModelConfig sizes = Sizes();
    for (NamedRows& rows : PossibleWeights(sizes)) possible.emplace(rows.name, rows);
    const std::string embedding_name = WeightName(sizes, {TensorRole::kTokenEmbedding});
    for (const Weight& weight : folder_.weights()) {
      const auto match = possible.find(weight.name);
      const bool is_known =
          match != possible.end() &&
          (weight.shared_name.empty() || (weight.shared_name == embedding_name &&
                                          match->second.weight.role == TensorRole::kOutputHead));
      StoredPiece& piece = pieces_.emplace_back();
      piece.name = weight.name;
      if (is_known) {
        // One tensor for embedding and head stands for both.
        piece.role =
            weight.shared_name.empty() ? match->second.weight.role : TensorRole::kTokenEmbedding;
        piece.layer = match->second.weight.layer;
        piece.first_row = match->second.first_row;
      } else {
        piece.holds = Holds::kNothing;
        piece.refusal =
            Error(ErrorCode::kUnsupported,
                  fmt::format("has no role in a Phi model of {} layers", sizes.n_layers))
                .In(where())
                .Tensor(weight.name);
      }
      const Initializer& first = folder_.initializers()[*weight.arrays[0]];
      piece.n_rows = weight.n_rows;
      piece.row_elements = weight.row_elements;
      if (first.dims.size() > 1) piece.shape.push_back(weight.n_rows);  // else a vector
      piece.shape.push_back(weight.row_elements);
      piece.type = EncodingName(weight.encoding);
      piece.encoding = weight.encoding;
      piece.size_bytes = folder_.SizeBytes(weight);
      piece.file = folder_.files()[first.file].path().string();
    }
    for (const Table& table : folder_.tables()) AddTable(table);
  }

  void AddTable(const Table& table) {
    const std::optional<GgmlType> type = FloatTypeOf(table.data_type);
    const std::size_t file =
        table.initializer ? folder_.initializers()[*table.initializer].file : 0;
    StoredPiece& piece = pieces_.emplace_back();
    piece.name = table.name;
    piece.holds = Holds::kTable;
    piece.shape = table.dims;
    piece.type = type ? std::string(GetGgmlTypeInfo(*type).name) : DataTypeName(table.data_type);
    piece.size_bytes = table.size_bytes;
    piece.file = folder_.files()[file].path().string();
    if (!type || table.dims.size() != 2 || table.dims[1] == 0) return;  // nothing that has rows
    piece.encoding = *type;
    piece.n_rows = table.dims[0];
    piece.row_elements = table.dims[1];
    piece.table = onnx::FindTable(config_, table.name, piece.n_rows);
  }

  void ReadTable(const Table& table, std::uint64_t first_row, std::span<float> out) const {
    folder_.ReadRows(table, first_row, out);
    const std::size_t bad = FirstNonFinite(out);
    if (bad == out.size()) return;
    throw Error(ErrorCode::kBadData,
                fmt::format("row {}, column {} is {}", first_row + bad / tables_.n_columns,
                            bad % tables_.n_columns, out[bad]))
        .In(path())
        .Tensor(table.name);
  }

  const Folder folder_;
  const CheckpointFolder files_;  // that it stands in
  std::optional<Error> refusal_;  // why it is no model that phiq computes
  ModelConfig config_;
  RotaryTables tables_;
  std::vector<StoredPiece> pieces_;
};

}  // namespace

std::unique_ptr<StoredModel> MakeStoredModel(Folder folder, std::string path) {
  return std::make_unique<OnnxModel>(std::move(folder), std::move(path));
}

}  // namespace phiq::onnx
