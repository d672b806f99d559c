// The weights by their names, each tensor held against the configuration.
#include "formats/mlx/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "checkpoint/open_input.h"
#include "formats/encoded_rows.h"
#include "formats/mlx/layout.h"
#include "formats/mlx/recipe.h"
#include "formats/mlx/tensor_names.h"
#include "io/input_file.h"
#include "model/architecture.h"
#include "model/float_types.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::mlx {
namespace {

namespace fs = std::filesystem;

// What mlx-lm loads: every file of such a name, whatever the index says.
bool IsLoadedName(std::string_view name) {
  return name.starts_with("model") && name.ends_with(".safetensors");
}

// Refuses a folder of which mlx-lm would load more or fewer files than `tensors` came from.
void CheckFiles(const CheckpointFolder& files, const Checkpoint& tensors) {
  const auto bad = [&](const std::string& name, std::string_view what) {
    return Error(ErrorCode::kBadData, std::string(what)).In(files.PathOf(name).string());
  };
  for (const fs::path& shard : tensors.shards()) {
    if (!IsLoadedName(shard.filename().native())) {
      throw bad(shard.filename().native(),
                "mlx-lm does not load it: its name is not model*.safetensors");
    }
  }
  for (const std::string& name : NamesInFolder(files.path())) {
    if (!IsLoadedName(name) || tensors.IsShard(files.path() / name)) continue;
    throw bad(name, "belongs to no model in this folder, but mlx-lm loads every model*.safetensors")
        .Hint("move it away");
  }
}

// mlx-lm looks for some settings in fewer places than ReadModelConfig.
void WarnOfMissedKeys(const CheckpointFolder& files, const ModelConfig& config,
                      const WarningFn& warn) {
  const std::vector<std::string> keys = KeysThatMlxMisses(files, config);
  if (keys.empty()) return;
  Warn(warn, SidePath(files, kConfigName),
       fmt::format("mlx-lm computes another model: it does not find {} where it looks for them",
                   fmt::join(keys, ", ")));
}

std::string ShapeText(std::span<const std::uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

constexpr std::size_t kWeight = 0, kScales = 1, kBiases = 2;

// The tensors of one weight, held against the encoding that they are to have.
class WeightCheck {
 public:
  WeightCheck(const Checkpoint& tensors, const Weight& weight)
      : tensors_(tensors), weight_(weight) {}

  // `wanted`     what config.json says of the weight; nullptr: floats.
  // `is_listed`  whether it says so by name.
  Encoding Encode(const GroupEncoding* wanted, bool is_listed) const {
    const DType dtype = Tensor(kWeight).dtype;
    const std::optional<FloatType> type = FloatTypeOf(dtype);
    if (type && is_listed && wanted != nullptr) {
      throw Bad(kWeight, fmt::format("is {}, but config.json says that it has {} bits",
                                     DTypeName(dtype), BitsOf(wanted->code)));
    }
    if (!type && dtype != DType::kU32)
      throw Bad(kWeight, fmt::format("has dtype {}, needs U32 or a float", DTypeName(dtype)));
    if (!type && wanted == nullptr)
      throw Bad(kWeight, "has codes, but config.json does not say that it is quantized");
    const Encoding encoding = type ? Encoding(GgmlTypeOf(*type)) : Encoding(WithScales(*wanted));
    for (std::size_t a = 0; a < kMaxArrays; ++a) {
      if (a < ArrayCount(encoding)) {
        CheckShape(encoding, a);
      } else if (weight_.arrays[a]) {
        throw Bad(a, fmt::format("belongs to no weight in {}", EncodingName(encoding)));
      }
    }
    return encoding;
  }

 private:
  const SourceTensor& Tensor(std::size_t a) const { return tensors_.tensors()[*weight_.arrays[a]]; }

  Error Bad(std::size_t a, std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message))
        .In(tensors_.shards()[Tensor(a).shard].string())
        .Tensor(Tensor(a).name);
  }

  // The encoding, with the type of its scales.
  GroupEncoding WithScales(GroupEncoding encoding) const {
    for (std::size_t a = 1; a < ArrayCount(encoding); ++a) {
      if (weight_.arrays[a]) continue;
      throw Bad(kWeight, fmt::format("has no {}.{}", ModuleOf(weight_.name), kArrayNames[a]));
    }
    const DType dtype = Tensor(kScales).dtype;
    if (encoding.offset != Offset::kBias) {
      if (dtype == DType::kU8) return encoding;
      throw Bad(kScales, fmt::format("has dtype {}, mode {} needs U8", DTypeName(dtype),
                                     ModeName(encoding)));
    }
    const std::optional<FloatType> type = FloatTypeOf(dtype);
    if (!type) throw Bad(kScales, fmt::format("has dtype {}, needs a float", DTypeName(dtype)));
    if (Tensor(kBiases).dtype != dtype) {
      throw Bad(kBiases, fmt::format("has dtype {}, the scales have {}",
                                     DTypeName(Tensor(kBiases).dtype), DTypeName(dtype)));
    }
    encoding.scale = ScaleTypeOf(*type);
    return encoding;
  }

  void CheckShape(const Encoding& encoding, std::size_t a) const {
    const auto* codes = std::get_if<GroupEncoding>(&encoding);
    const std::uint64_t n = weight_.row_elements;
    const SourceTensor& tensor = Tensor(a);
    if (codes != nullptr && n % codes->group_size != 0) {
      throw Bad(a,
                fmt::format("rows of {} weights are no whole groups of {}", n, codes->group_size));
    }
    const std::uint64_t columns = ArrayRowBytes(encoding, a, n) * 8 / DTypeBits(tensor.dtype);
    std::vector<std::uint64_t> shape = weight_.dims;
    shape.back() = columns;
    if (tensor.shape == shape) return;
    throw Bad(a, fmt::format("has shape {}, {} x {} weights in {} need {}", ShapeText(tensor.shape),
                             weight_.n_rows, n, EncodingName(encoding), ShapeText(shape)));
  }

  const Checkpoint& tensors_;
  const Weight& weight_;
};

}  // namespace

Folder::Folder(CheckpointFolder files, ModelConfig config, Checkpoint tensors,
               std::optional<Quantization> quantization)
    : files_(std::move(files)),
      config_(std::move(config)),
      tensors_(std::move(tensors)),
      quantization_(std::move(quantization)) {
  FindWeights();
  CheckEntries();
}

Folder Folder::Open(const std::string& path, const WarningFn& warn) {
  CheckpointFolder files = LocateCheckpoint(path, warn);
  ModelConfig config = ReadModelConfig(files, warn, QuantizedWeights::kAllow);
  CheckModel(config);
  std::optional<Quantization> quantization = ReadQuantization(files);
  WarnOfMissedKeys(files, config, warn);
  Checkpoint tensors = OpenCheckpoint(files, warn);
  CheckFiles(files, tensors);
  return {std::move(files), std::move(config), std::move(tensors), std::move(quantization)};
}

void Folder::FindWeights() {
  std::vector<char> is_used(tensors_.tensors().size(), 0);
  for (const WeightInfo& wanted : WeightsOf(config_)) {
    if (wanted.id.role == TensorRole::kOutputHead && config_.tie_word_embeddings) continue;
    Weight weight;
    weight.name = TensorName(wanted.id, wanted.name);
    weight.id = wanted.id;
    weight.n_rows = wanted.shape.n_rows;
    weight.row_elements = wanted.shape.row_elements;
    weight.dims = DimsOf(wanted);
    for (std::size_t a = 0; a < kMaxArrays; ++a) {
      const std::string name =
          a == kWeight ? weight.name : fmt::format("{}.{}", ModuleOf(weight.name), kArrayNames[a]);
      const SourceTensor* tensor = tensors_.Find(name);
      if (tensor == nullptr) continue;
      weight.arrays[a] = static_cast<std::size_t>(tensor - tensors_.tensors().data());
      is_used[*weight.arrays[a]] = 1;
    }
    if (!weight.arrays[kWeight]) {
      throw Error(ErrorCode::kBadData, fmt::format("{} is missing", weight.name))
          .In(files_.path().string());
    }
    weight.encoding = EncodingOf(weight);
    weights_.push_back(std::move(weight));
  }
  // mlx-lm loads no folder with a tensor that it does not know.
  const auto unknown = std::ranges::find(is_used, 0);
  if (unknown == is_used.end()) return;
  const SourceTensor& tensor =
      tensors_.tensors()[static_cast<std::size_t>(unknown - is_used.begin())];
  throw Error(ErrorCode::kBadData,
              fmt::format("has no role in a {} model of {} layers{}",
                          ArchitectureOf(config_).classes.front().model_type, config_.n_layers,
                          config_.tie_word_embeddings ? " with a tied head" : ""))
      .In(tensors_.shards()[tensor.shard].string())
      .Tensor(tensor.name);
}

Encoding Folder::EncodingOf(const Weight& weight) const {
  const WeightCheck check(tensors_, weight);
  if (!quantization_ || IsVector(weight.id.role)) return check.Encode(nullptr, false);
  const auto entry = quantization_->modules.find(ModuleOf(weight.name));
  if (entry == quantization_->modules.end()) return check.Encode(&quantization_->common, false);
  return check.Encode(entry->second ? &*entry->second : nullptr, true);
}

void Folder::CheckEntries() const {
  if (!quantization_) return;
  for (const auto& [module, encoding] : quantization_->modules) {
    const bool is_known = std::ranges::any_of(weights_, [&](const Weight& weight) {
      return !IsVector(weight.id.role) && ModuleOf(weight.name) == module;
    });
    if (is_known) continue;
    throw Error(ErrorCode::kBadData, fmt::format("'quantization' has an entry for '{}', which this "
                                                 "model does not have",
                                                 Escape(module)))
        .In(files_.PathOf(kConfigName).string());
  }
}

std::uint64_t Folder::SizeBytes(const Weight& weight) const noexcept {
  std::uint64_t n_bytes = 0;
  for (const std::optional<std::size_t>& tensor : weight.arrays)
    n_bytes += tensor ? tensors_.tensors()[*tensor].size_bytes : 0;
  return n_bytes;
}

void Folder::ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                      RowCodec& codec, std::span<float> out) const {
  EncodedRows rows(weight.encoding, n_rows, weight.row_elements);
  for (std::size_t a = 0; a < rows.n_arrays(); ++a)
    tensors_.Read(tensors_.tensors()[*weight.arrays[a]], first_row * rows.row_bytes(a),
                  rows.bytes(a));
  rows.Decode(codec, out);
}

bool LooksLikeMlx(const fs::path& path) {
  // Both writers begin a header with the metadata, if with little of it.
  constexpr std::size_t kSniffBytes = 4096;
  try {
    const CheckpointFolder files = LocateCheckpoint(path.string(), [](const Warning&) {});
    const std::optional<Json> config = ReadJsonObject(files, kConfigName, limits::kConfigBytes);
    if (!config) return false;
    if (FindMember(*config, "quantization") != nullptr) return true;
    for (const std::string& name : NamesInFolder(files.path())) {
      if (!IsLoadedName(name)) continue;
      const InputFile file(files.path() / name);
      std::string first(std::min<std::uint64_t>(file.size(), kSniffBytes), '\0');
      file.ReadAt(0, std::as_writable_bytes(std::span(first)));
      return first.find(R"("format":"mlx")") != std::string::npos;
    }
  } catch (const Error&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
  return false;
}

bool IsOurs(const Folder& folder) noexcept {
  return folder.tensors().metadata().contains("phiq.version");
}

}  // namespace phiq::mlx
