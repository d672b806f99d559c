// An adapter is a small checkpoint: pairs of matrices A [r, in] and B [out, r] under the names of
// the modules that they change. Whatever else PEFT can put into one changes the model in other ways
// and is refused by name.
#include "stored/adapter.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/finite.h"
#include "base/json.h"
#include "base/limits.h"
#include "model/side_file.h"
#include "phiq/text.h"
#include "stored/tensor_floats.h"

namespace phiq {
namespace {

constexpr std::string_view kAdapterConfig = "adapter_config.json";
constexpr std::string_view kAdapterWeights = "adapter_model.safetensors";
constexpr std::string_view kMergeHint =
    "merge it with PEFT (merge_and_unload, save_pretrained) and convert the result";

// What adapter_config.json says of every product.
class AdapterConfig {
 public:
  explicit AdapterConfig(const CheckpointFolder& folder) : path_(SidePath(folder, kAdapterConfig)) {
    std::optional<Json> json = ReadJsonObject(folder, kAdapterConfig, limits::kConfigBytes);
    if (!json) throw Error(ErrorCode::kInput, "not found").In(path_).Hint("is it an adapter?");
    json_ = std::move(*json);
  }

  std::string base() const {
    return JsonString(json_, "base_model_name_or_path", path_).value_or("");
  }

  // Settings that make an adapter more than W + scale * B A.
  void RefuseOthers() const {
    const std::string type = JsonString(json_, "peft_type", path_).value_or("");
    if (type != "LORA") throw Unsupported(fmt::format("peft_type '{}'", Escape(type)));
    for (const std::string_view key : {"use_dora", "lora_bias", "fan_in_fan_out", "use_qalora"}) {
      if (JsonBool(json_, key, path_).value_or(false))
        throw Unsupported(fmt::format("'{}' true", key));
    }
    if (const std::string bias = JsonString(json_, "bias", path_).value_or("none"); bias != "none")
      throw Unsupported(fmt::format("'bias' '{}'", Escape(bias)));
    for (const std::string_view key :
         {"trainable_token_indices", "alora_invocation_tokens", "target_parameters",
          "layer_replication", "arrow_config", "megatron_config", "use_bdlora", "kasa_config",
          "monteclora_config", "velora_config"}) {
      const Json* value = FindMember(json_, key);
      if (value != nullptr && !value->empty()) throw Unsupported(fmt::format("'{}'", key));
    }
    // The others begin with changed weights of the base model.
    const Json* start = FindMember(json_, "init_lora_weights");
    if (start == nullptr || start->is_boolean() || *start == "gaussian" || *start == "orthogonal" ||
        *start == "eva")
      return;
    throw Unsupported(
        fmt::format("'init_lora_weights' {}, which changes the base model", Show(*start)));
  }

  // Of a module: "model.layers.0.mlp.down_proj".
  std::uint64_t RankOf(const std::string& module) const {
    const double r = Number("r", "rank_pattern", module);
    constexpr double kMost = 1 << 30;  // no matrix has as many rows
    if (!(r >= 1 && r <= kMost && r == std::floor(r))) throw Bad("r", r, "a whole number above 0");
    return static_cast<std::uint64_t>(r);
  }
  float ScaleOf(const std::string& module) const {
    const double alpha = Number("lora_alpha", "alpha_pattern", module);
    const auto rank = static_cast<double>(RankOf(module));
    const bool rslora = JsonBool(json_, "use_rslora", path_).value_or(false);
    return static_cast<float>(alpha / (rslora ? std::sqrt(rank) : rank));
  }

 private:
  // That of the first pattern that finds the end of the module's name, else that of all.
  double Number(std::string_view key, std::string_view patterns, const std::string& module) const {
    if (const Json* table = FindMember(json_, patterns)) {
      for (const auto& [pattern, value] : table->members()) {
        if (IsFoundBy(pattern, module) && value.is_number()) return value.get<double>();
      }
    }
    const std::optional<double> number = JsonNumber(json_, key, path_);
    if (number) return *number;
    throw Error(ErrorCode::kBadData, fmt::format("'{}' is missing, needs a number", key)).In(path_);
  }

  // PEFT takes expressions; what it writes itself are ends of names, or with ^ whole ones.
  bool IsFoundBy(std::string_view pattern, std::string_view module) const {
    const bool is_whole = pattern.starts_with('^');
    const std::string_view name = pattern.substr(is_whole ? 1 : 0);
    const bool is_plain = std::ranges::all_of(
        name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
    if (!is_plain) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("the pattern '{}' is not the name of a module", Escape(pattern)))
          .In(path_)
          .Hint(kMergeHint);
    }
    return module == name || (!is_whole && module.ends_with(fmt::format(".{}", name)));
  }

  Error Bad(std::string_view key, double found, std::string_view wanted) const {
    return Error(ErrorCode::kBadData, fmt::format("'{}' is {}, needs {}", key, found, wanted))
        .In(path_);
  }
  Error Unsupported(const std::string& what) const {
    return Error(ErrorCode::kUnsupported, fmt::format("{}: such adapters are not merged", what))
        .In(path_)
        .Hint(kMergeHint);
  }

  const std::string path_;
  Json json_;
};

// The pair of one module, and which rows of a weight it changes.
struct Product {
  WeightId weight;
  std::string module;  // as the model's class calls it
  std::uint64_t first_row = 0, n_rows = 0, row_elements = 0;
  std::optional<std::size_t> a, b;  // indices into the adapter's tensors
  bool is_embedding = false;        // A [r, rows], B [columns, r]: the transposed product
  std::uint64_t rank = 0;
  float scale = 0;
};

// What the end of a tensor's name says it is.
enum class Kind { kA, kB, kEmbeddingA, kEmbeddingB, kWhole };
struct NamedTensor {
  std::string module;
  Kind kind = Kind::kWhole;
};

std::optional<NamedTensor> ParseName(std::string_view name) {
  constexpr std::string_view kWrapper = "base_model.model.";
  if (name.starts_with(kWrapper)) name.remove_prefix(kWrapper.size());
  constexpr auto kMarks = std::to_array<std::pair<std::string_view, Kind>>({
      {".lora_A", Kind::kA},
      {".lora_B", Kind::kB},
      {".lora_embedding_A", Kind::kEmbeddingA},
      {".lora_embedding_B", Kind::kEmbeddingB},
      {".base_layer.weight", Kind::kWhole},
      {".modules_to_save.weight", Kind::kWhole},
      {".weight", Kind::kWhole},
  });
  for (const auto& [mark, kind] : kMarks) {
    const std::size_t at = name.find(mark);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = name.substr(at + mark.size());
    // Behind the mark: nothing, ".weight", or the adapter's name and ".weight".
    const bool is_whole = kind == Kind::kWhole;
    if (is_whole ? !rest.empty() : (!rest.empty() && !rest.starts_with('.'))) continue;
    return NamedTensor{std::string(name.substr(0, at)), kind};
  }
  return std::nullopt;
}

class AdapterModel final : public StoredModel {
 public:
  AdapterModel(std::unique_ptr<StoredModel> base, const CheckpointFolder& folder,
               const WarningFn& warn)
      : StoredModel(base->path()),
        base_(std::move(base)),
        folder_(folder),
        weights_(OpenWeights(folder, warn)) {
    const AdapterConfig config(folder_);
    config.RefuseOthers();
    FindProducts(config);
    pieces_.assign(base_->pieces().begin(), base_->pieces().end());
    for (StoredPiece& piece : pieces_) {
      if (!IsChanged(piece)) continue;
      piece.encoding = GgmlType::kF32;
      piece.type += " + LoRA";
    }
    WarnOfUnusedFiles(warn);
  }

  std::string_view kind() const noexcept override { return base_->kind(); }
  const ModelConfig& config() const noexcept override { return base_->config(); }
  std::span<const StoredPiece> pieces() const noexcept override { return pieces_; }
  std::string name() const override { return base_->name(); }
  std::string repository_id() const override { return base_->repository_id(); }
  const SideFiles& side_files() const noexcept override { return base_->side_files(); }

  std::uint64_t WorkBytes(std::size_t piece, std::uint64_t n_rows) const noexcept override {
    const StoredPiece& stored = pieces_[piece];
    std::uint64_t most = base_->WorkBytes(piece, n_rows);
    for (const Product& product : products_) {
      if (product.weight != WeightId{stored.role, stored.layer}) continue;
      // Both matrices, or rows of them, as floats and as stored; one twice while it is turned.
      const std::uint64_t numbers = product.rank * (n_rows + 2 * product.row_elements);
      most = std::max(most, 2 * sizeof(float) * (numbers + product.row_elements));
    }
    return most;
  }

  bool HasRawRows(std::size_t piece) const noexcept override {
    return !IsChanged(pieces_[piece]) && base_->HasRawRows(piece);
  }
  void ReadRawRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows,
                   std::span<std::byte> out) const override {
    base_->ReadRawRows(piece, first_row, n_rows, out);
  }

  void ReadRows(std::size_t piece, std::uint64_t first_row, std::uint64_t n_rows, RowCodec& codec,
                std::span<float> out) const override {
    const StoredPiece& stored = pieces_[piece];
    const WeightId id = {stored.role, stored.layer};
    const std::uint64_t begin = stored.first_row + first_row, n = stored.row_elements;
    if (const auto whole = replaced_.find(id); whole != replaced_.end()) {
      ReadFloats(weights_, weights_.tensors()[whole->second], begin * n, out);
    } else {
      base_->ReadRows(piece, first_row, n_rows, codec, out);
    }
    for (const Product& product : products_) {
      if (product.weight != id) continue;
      const std::uint64_t from = std::max(begin, product.first_row);
      const std::uint64_t to = std::min(begin + n_rows, product.first_row + product.n_rows);
      if (from < to)
        AddProduct(product, from - product.first_row,
                   out.subspan((from - begin) * n, (to - from) * n));
    }
  }

  void ReadRotary(std::uint64_t n_positions, std::span<float> cosines,
                  std::span<float> sines) const override {
    base_->ReadRotary(n_positions, cosines, sines);
  }
  std::string RotaryNote(std::uint64_t n_positions) const override {
    return base_->RotaryNote(n_positions);
  }
  std::string ActivationNote() const override { return base_->ActivationNote(); }
  Tokenizer ReadTokenizer(const WarningFn& warn) const override {
    return base_->ReadTokenizer(warn);
  }
  void CheckUnchanged() const override {
    base_->CheckUnchanged();
    weights_.CheckUnchanged();
  }

 private:
  static Checkpoint OpenWeights(const CheckpointFolder& folder, const WarningFn& warn) {
    const AdapterConfig is_there(folder);  // the better message where it is not
    const std::string path = folder.PathOf(kAdapterWeights).string();
    if (!folder.Has(kAdapterWeights)) {
      throw Error(ErrorCode::kInput, "not found")
          .In(path)
          .Hint("an adapter is adapter_config.json and adapter_model.safetensors");
    }
    return OpenCheckpoint(LocateCheckpoint(path, warn), warn);
  }

  Error BadTensor(const SourceTensor& tensor, std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message))
        .In(weights_.shards()[tensor.shard].string())
        .Tensor(tensor.name);
  }

  // Every module that a checkpoint of the model may have, whole weights and parts of them.
  std::map<std::string, Product> Modules() const {
    constexpr std::string_view kWeight = ".weight";
    std::map<std::string, Product> modules;
    for (const WeightInfo& weight : WeightsOf(config())) {
      const auto add = [&](std::string_view name, std::uint64_t first_row, std::uint64_t n_rows) {
        if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
        Product product;
        product.weight = weight.id;
        product.module = name;
        product.first_row = first_row;
        product.n_rows = n_rows;
        product.row_elements = weight.shape.row_elements;
        modules.emplace(product.module, std::move(product));
      };
      add(weight.name, 0, weight.shape.n_rows);
      for (const WeightPart& part : weight.parts) add(part.name, part.first_row, part.n_rows);
    }
    return modules;
  }

  // The module that a name means, whatever stands before it, or lacks.
  static Product* FindModule(std::map<std::string, Product>& modules, std::string_view name,
                             std::string_view stem) {
    if (const auto found = modules.find(std::string(stem) + std::string(name));
        found != modules.end())
      return &found->second;
    while (true) {
      const auto found = modules.find(std::string(name));
      if (found != modules.end()) return &found->second;
      const std::size_t dot = name.find('.');
      if (dot == std::string_view::npos) return nullptr;
      name.remove_prefix(dot + 1);
    }
  }

  void FindProducts(const AdapterConfig& config) {
    std::map<std::string, Product> modules = Modules();
    const std::string_view stem = ArchitectureOf(this->config()).stem;
    for (std::size_t i = 0; i < weights_.tensors().size(); ++i) {
      const SourceTensor& tensor = weights_.tensors()[i];
      const std::optional<NamedTensor> named = ParseName(tensor.name);
      Product* const product = named ? FindModule(modules, named->module, stem) : nullptr;
      if (product == nullptr) {
        throw BadTensor(tensor,
                        fmt::format("has no counterpart in the model (the adapter is of '{}')",
                                    Escape(config.base())));
      }
      if (named->kind == Kind::kWhole) {
        Replace(*product, tensor, i);
        continue;
      }
      product->is_embedding = named->kind == Kind::kEmbeddingA || named->kind == Kind::kEmbeddingB;
      const bool is_a = named->kind == Kind::kA || named->kind == Kind::kEmbeddingA;
      (is_a ? product->a : product->b) = i;
    }
    for (auto& [module, product] : modules) {
      if (!product.a && !product.b) continue;
      CheckTied(product);
      Complete(config, product);
      products_.push_back(std::move(product));
    }
    if (products_.empty() && replaced_.empty())
      throw Error(ErrorCode::kBadData, "has no tensors")
          .In(folder_.PathOf(kAdapterWeights).string());
  }

  void CheckTied(const Product& product) const {
    const TensorRole role = product.weight.role;
    if (!config().tie_word_embeddings ||
        (role != TensorRole::kTokenEmbedding && role != TensorRole::kOutputHead))
      return;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("changes '{}', but embedding and head are one tensor in this model",
                            product.module))
        .In(folder_.path().string())
        .Hint(kMergeHint);
  }

  void Replace(const Product& product, const SourceTensor& tensor, std::size_t index) {
    CheckTied(product);
    std::vector<std::uint64_t> shape = {product.row_elements};
    if (!IsVector(product.weight.role)) shape.insert(shape.begin(), product.n_rows);
    if (tensor.shape != shape || product.first_row != 0) {
      throw BadTensor(tensor, fmt::format("shape [{}], the model has [{}]",
                                          fmt::join(tensor.shape, ", "), fmt::join(shape, ", ")))
          .Hint(kMergeHint);
    }
    CheckFloats(tensor);
    replaced_[product.weight] = index;
  }

  void CheckFloats(const SourceTensor& tensor) const {
    if (tensor.dtype == DType::kF32 || tensor.dtype == DType::kF16 ||
        tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF64)
      return;
    throw BadTensor(tensor,
                    fmt::format("dtype {}, needs F32, F16, BF16 or F64", DTypeName(tensor.dtype)));
  }

  // Checks the pair of a module against the model and the configuration.
  void Complete(const AdapterConfig& config, Product& product) const {
    if (!product.a || !product.b) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("'{}' has one matrix of the two", Escape(product.module)))
          .In(folder_.PathOf(kAdapterWeights).string());
    }
    product.rank = config.RankOf(product.module);
    product.scale = config.ScaleOf(product.module);
    const std::uint64_t in = product.is_embedding ? product.n_rows : product.row_elements;
    const std::uint64_t out = product.is_embedding ? product.row_elements : product.n_rows;
    const auto check = [&](std::size_t index, const std::vector<std::uint64_t>& shape) {
      const SourceTensor& tensor = weights_.tensors()[index];
      CheckFloats(tensor);
      if (tensor.shape == shape) return;
      throw BadTensor(tensor, fmt::format("shape [{}], expected shape [{}] (r {}, adapter of '{}')",
                                          fmt::join(tensor.shape, ", "), fmt::join(shape, ", "),
                                          product.rank, Escape(config.base())));
    };
    check(*product.a, {product.rank, in});
    check(*product.b, {out, product.rank});
  }

  bool IsChanged(const StoredPiece& piece) const noexcept {
    const WeightId id = {piece.role, piece.layer};
    if (replaced_.contains(id)) return true;
    return std::ranges::any_of(products_, [&](const Product& product) {
      return product.weight == id && product.first_row < piece.first_row + piece.n_rows &&
             piece.first_row < product.first_row + product.n_rows;
    });
  }

  // Else the model's weights would be blamed for it.
  void RequireFinite(const SourceTensor& tensor, std::span<const float> numbers) const {
    if (FirstNonFinite(numbers) == numbers.size()) return;
    throw Error(ErrorCode::kNumeric, "has NaN or Inf: the adapter is damaged, or its training was")
        .In(weights_.shards()[tensor.shard].string())
        .Tensor(tensor.name);
  }

  // rows += scale * left right, with rows of a weight from row `first` of the product on.
  void AddProduct(const Product& product, std::uint64_t first, std::span<float> rows) const {
    const std::size_t n = product.row_elements, rank = product.rank, n_rows = rows.size() / n;
    const SourceTensor& a = weights_.tensors()[*product.a];
    const SourceTensor& b = weights_.tensors()[*product.b];
    std::vector<float> left(n_rows * rank), right(rank * n);  // [n_rows, rank], [rank, n]
    if (product.is_embedding) {
      std::vector<float> columns(n_rows), transposed(n * rank);
      for (std::size_t k = 0; k < rank; ++k) {
        ReadFloats(weights_, a, k * product.n_rows + first, columns);
        for (std::size_t r = 0; r < n_rows; ++r) left[r * rank + k] = columns[r];
      }
      ReadFloats(weights_, b, 0, transposed);
      for (std::size_t j = 0; j < n; ++j)
        for (std::size_t k = 0; k < rank; ++k) right[k * n + j] = transposed[j * rank + k];
    } else {
      ReadFloats(weights_, b, first * rank, left);
      ReadFloats(weights_, a, 0, right);
    }
    RequireFinite(b, left);
    RequireFinite(a, right);
    std::vector<float> sum(n);
    for (std::size_t r = 0; r < n_rows; ++r) {
      std::ranges::fill(sum, 0.0F);
      for (std::size_t k = 0; k < rank; ++k) {
        const float factor = left[r * rank + k];
        const float* const row = &right[k * n];
        for (std::size_t j = 0; j < n; ++j) sum[j] += factor * row[j];
      }
      float* const out = &rows[r * n];
      for (std::size_t j = 0; j < n; ++j) out[j] += sum[j] * product.scale;
    }
  }

  void WarnOfUnusedFiles(const WarningFn& warn) const {
    std::vector<std::string> others;
    for (const std::string_view name :
         {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja"}) {
      const std::optional<std::string> text = folder_.ReadFile(name, limits::kTokenizerJsonBytes);
      if (text && side_files().ReadFile(name, limits::kTokenizerJsonBytes) != text)
        others.emplace_back(name);
    }
    if (others.empty()) return;
    Warn(warn, folder_.path().string(),
         fmt::format("{} of the adapter {} from the model's and {} not used",
                     fmt::join(others, ", "), others.size() == 1 ? "differs" : "differ",
                     others.size() == 1 ? "is" : "are"));
  }

  const std::unique_ptr<StoredModel> base_;
  const CheckpointFolder folder_;
  const Checkpoint weights_;
  std::vector<Product> products_;
  std::map<WeightId, std::size_t> replaced_;  // by a tensor of weights_
  std::vector<StoredPiece> pieces_;           // beside those of base_
};

}  // namespace

std::unique_ptr<StoredModel> MergeAdapter(std::unique_ptr<StoredModel> model,
                                          const std::string& adapter, const WarningFn& warn) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  return std::make_unique<AdapterModel>(std::move(model), LocateCheckpoint(adapter, warn_or_not),
                                        warn_or_not);
}

void CheckForAdapter(const CheckpointFolder& folder, const WarningFn& warn) {
  if (!folder.Has(kAdapterConfig) || folder.weights_file()) return;
  const std::vector<std::string> names = folder.Names();
  const bool has_model = std::ranges::any_of(names, [](const std::string& name) {
    return name != kAdapterWeights &&
           (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"));
  });
  if (!has_model) return;  // RequireCheckpoint says so
  std::string base;
  try {
    base = AdapterConfig(folder).base();
  } catch (const Error&) {  // a left-over that nobody can read: not the model's fault
  }
  const std::string of = base.empty() ? "a model that it does not name" : Escape(base);
  Warn(warn, folder.path().string(),
       fmt::format("the adapter beside the weights (of {}) is not applied: --adapter {} merges it",
                   of, Escape(folder.path().string())));
}

}  // namespace phiq
