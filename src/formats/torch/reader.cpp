// The weights by their names, each tensor held against what config.json says of its module.
#include "formats/torch/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/endian.h"
#include "base/json.h"
#include "base/limits.h"
#include "checkpoint/open_input.h"
#include "checkpoint/weight_files.h"
#include "formats/encoded_rows.h"
#include "formats/torch/layout.h"
#include "io/input_file.h"
#include "model/float_types.h"
#include "model/side_file.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::torch {
namespace {

namespace fs = std::filesystem;

std::string ShapeText(std::span<const std::uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// What a box calls the scales.
std::string_view ScalesName(Box box) noexcept {
  return IsCompressedTensors(box) ? "weight_scale" : "scales";
}
// What it calls the codes.
std::string_view CodesName(Box box) noexcept {
  if (box == Box::kPacked) return "weight_packed";
  return box == Box::kIntegers ? "weight" : "qweight";
}

// Finds the tensors of weights and holds them against config.json.
class Finder {
 public:
  Finder(const CheckpointFolder& files, const Checkpoint& tensors, const Quantization& quantization,
         std::vector<std::string>& problems)
      : files_(files),
        tensors_(tensors),
        quantization_(quantization),
        problems_(problems),
        is_used_(tensors.tensors().size(), 0) {}

  Weight Find(const WeightInfo& wanted) {
    Weight weight;
    weight.name = wanted.name;
    weight.id = wanted.id;
    weight.n_rows = wanted.shape.n_rows;
    weight.row_elements = wanted.shape.row_elements;
    const std::string module(ModuleOf(weight.name));
    const Scheme* const scheme =
        IsLinear(weight.id.role) ? quantization_.SchemeOf(module) : nullptr;
    const SourceTensor* const plain = tensors_.Find(weight.name);
    const bool is_float = plain != nullptr && FloatTypeOf(plain->dtype).has_value();
    if (scheme != nullptr && !is_float) {
      FindCodes(module, *scheme, weight);
      return weight;
    }
    if (plain == nullptr) {
      throw Error(ErrorCode::kBadData, fmt::format("{} is missing", weight.name))
          .In(files_.path().string());
    }
    if (!is_float) {
      throw Bad(*plain, fmt::format("has dtype {}, but config.json does not say that it is "
                                    "quantized",
                                    DTypeName(plain->dtype)));
    }
    if (scheme != nullptr) {
      problems_.push_back(
          fmt::format("config.json says that {} is quantized, and its weights are {}: transformers "
                      "loads the folder without a message and computes nonsense",
                      Escape(module), DTypeName(plain->dtype)));
    }
    weight.encoding = GgmlTypeOf(FloatTypeOf(plain->dtype).value());
    std::vector<std::uint64_t> shape = {weight.n_rows, weight.row_elements};
    if (IsVector(weight.id.role)) shape = {weight.row_elements};
    Take(weight.name, *plain, {"", plain->dtype, shape, {}}, weight, 0);
    return weight;
  }

  // A loader may stop at what it does not know, or leave it out.
  void RefuseUnknown() const {
    const auto unknown = std::ranges::find(is_used_, 0);
    if (unknown == is_used_.end()) return;
    const SourceTensor& tensor =
        tensors_.tensors()[static_cast<std::size_t>(unknown - is_used_.begin())];
    throw Bad(tensor, "has no role in this model as config.json says that it is quantized");
  }

 private:
  Error Bad(const SourceTensor& tensor, std::string message) const {
    return Error(ErrorCode::kBadData, std::move(message))
        .In(tensors_.shards()[tensor.shard].string())
        .Tensor(tensor.name);
  }

  const SourceTensor& Need(const std::string& name) const {
    const SourceTensor* const tensor = tensors_.Find(name);
    if (tensor != nullptr) return *tensor;
    throw Error(ErrorCode::kBadData,
                fmt::format("{} is missing, and config.json says that it is there", name))
        .In(files_.path().string());
  }

  void FindCodes(const std::string& module, const Scheme& scheme, Weight& weight) {
    const Box box = quantization_.box();
    const SourceTensor& scales = Need(fmt::format("{}.{}", module, ScalesName(box)));
    const std::optional<FloatType> type = FloatTypeOf(scales.dtype);
    if (!type)
      throw Bad(scales, fmt::format("has dtype {}, needs a float", DTypeName(scales.dtype)));
    GroupEncoding codes = {UnsignedCode(scheme.bits), scheme.group_size, ScaleTypeOf(*type),
                           scheme.symmetric ? Offset::kMiddle : Offset::kZeroPoint};
    if (box == Box::kIntegers) {
      codes.code = Code::kI8;
      codes.offset = Offset::kNone;
    }
    weight.encoding = codes;
    const SourceTensor& first = Need(fmt::format("{}.{}", module, CodesName(box)));
    CheckWholeWords(codes, weight, first);
    const std::vector<BoxTensor> arrays = ArraysOf(box, codes, weight.n_rows, weight.row_elements);
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      const std::string name = fmt::format("{}.{}", module, arrays[a].suffix);
      Take(name, Need(name), arrays[a], weight, a);
      weight.orders[a] = arrays[a].order;
    }
    for (const ConstantTensor& constant :
         ConstantsOf(box, codes, weight.n_rows, weight.row_elements)) {
      const std::string name = fmt::format("{}.{}", module, constant.tensor.suffix);
      Weight unused;
      Take(name, Need(name), constant.tensor, unused, 0);
    }
  }

  void CheckWholeWords(const GroupEncoding& codes, const Weight& weight,
                       const SourceTensor& tensor) const {
    const std::uint64_t n = weight.row_elements;
    if (codes.group_size != 0 && n % codes.group_size != 0)
      throw Bad(tensor,
                fmt::format("rows of {} weights are no whole groups of {}", n, codes.group_size));
    if (quantization_.box() == Box::kIntegers) return;
    const auto bits = static_cast<std::uint64_t>(BitsOf(codes.code));
    if (n * bits % 32 != 0)
      throw Bad(tensor, fmt::format("rows of {} weights of {} bits are no whole words", n, bits));
    const bool has_rows_in_words = HasZeroPoints(codes) || quantization_.box() != Box::kPacked;
    if (has_rows_in_words && weight.n_rows * bits % 32 != 0)
      throw Bad(tensor, fmt::format("{} rows of {} bits are no whole words", weight.n_rows, bits));
  }

  void Take(const std::string& name, const SourceTensor& tensor, const BoxTensor& wanted,
            Weight& weight, std::size_t array) {
    if (tensor.dtype != wanted.dtype) {
      throw Bad(tensor, fmt::format("has dtype {}, needs {}", DTypeName(tensor.dtype),
                                    DTypeName(wanted.dtype)));
    }
    if (tensor.shape != wanted.shape) {
      throw Bad(tensor, fmt::format("has shape {}, needs {}", ShapeText(tensor.shape),
                                    ShapeText(wanted.shape)));
    }
    const auto i = static_cast<std::size_t>(&tensor - tensors_.tensors().data());
    if (is_used_[i] != 0) throw Bad(tensor, fmt::format("is {} too", name));
    is_used_[i] = 1;
    weight.arrays[array] = i;
  }

  const CheckpointFolder& files_;
  const Checkpoint& tensors_;
  const Quantization& quantization_;
  std::vector<std::string>& problems_;
  std::vector<char> is_used_;
};

}  // namespace

Folder::Folder(CheckpointFolder files, ModelConfig config, Checkpoint tensors,
               Quantization quantization)
    : files_(std::move(files)),
      config_(std::move(config)),
      tensors_(std::move(tensors)),
      quantization_(std::move(quantization)),
      problems_(quantization_.problems()) {
  FindWeights();
}

Folder Folder::Open(const std::string& path, const WarningFn& warn) {
  CheckpointFolder files = LocateCheckpoint(path, warn);
  ModelConfig config = ReadModelConfig(files, warn, QuantizedWeights::kAllow);
  CheckModel(config);
  Quantization quantization = Quantization::Read(files, config);
  Checkpoint tensors = OpenCheckpoint(files, warn);
  return {std::move(files), std::move(config), std::move(tensors), std::move(quantization)};
}

void Folder::FindWeights() {
  Finder finder(files_, tensors_, quantization_, problems_);
  for (const WeightInfo& wanted : WeightsOf(config_)) {
    if (wanted.id.role == TensorRole::kOutputHead && config_.tie_word_embeddings) {
      // Loaders find the module all the same, and look for its weights.
      const std::string module(ModuleOf(wanted.name));
      if (IsCompressedTensors(quantization_.box()) && quantization_.SchemeOf(module) != nullptr) {
        problems_.push_back(fmt::format(
            "config.json says that {} is quantized, but it is the embedding: transformers stops",
            module));
      }
      continue;
    }
    weights_.push_back(finder.Find(wanted));
  }
  finder.RefuseUnknown();
}

std::uint64_t Folder::SizeBytes(const Weight& weight) const noexcept {
  std::uint64_t n_bytes = 0;
  for (const std::optional<std::size_t>& tensor : weight.arrays)
    n_bytes += tensor ? tensors_.tensors()[*tensor].size_bytes : 0;
  return n_bytes;
}

std::vector<std::string> Folder::FindWrongConstants() const {
  constexpr std::size_t kWordsAtOnce = 1U << 16;
  std::vector<std::string> problems;
  std::vector<std::byte> bytes;
  for (const Weight& weight : weights_) {
    const auto* const codes = std::get_if<GroupEncoding>(&weight.encoding);
    if (codes == nullptr) continue;
    for (const ConstantTensor& constant :
         ConstantsOf(quantization_.box(), *codes, weight.n_rows, weight.row_elements,
                     quantization_.is_less_one())) {
      const std::string name = fmt::format("{}.{}", ModuleOf(weight.name), constant.tensor.suffix);
      const SourceTensor& tensor = *tensors_.Find(name);
      bool is_right = true;
      for (std::uint64_t first = 0; is_right && first < constant.n_words; first += kWordsAtOnce) {
        const std::uint64_t n = std::min<std::uint64_t>(kWordsAtOnce, constant.n_words - first);
        bytes.resize(n * sizeof(std::uint32_t));
        tensors_.Read(tensor, first * sizeof(std::uint32_t), bytes);
        for (std::uint64_t i = 0; i < n; ++i) {
          is_right = is_right && LoadLe<std::uint32_t>(bytes, i * sizeof(std::uint32_t)) ==
                                     constant.word(first + i);
        }
      }
      if (!is_right) {
        problems.push_back(fmt::format(
            "tensor '{}' does not hold what config.json and the weight's shape say", name));
      }
    }
  }
  return problems;
}

void Folder::ReadRows(const Weight& weight, std::uint64_t first_row, std::uint64_t n_rows,
                      RowCodec& codec, std::span<float> out) const {
  EncodedRows rows(weight.encoding, n_rows, weight.row_elements);
  for (std::size_t a = 0; a < rows.n_arrays(); ++a) {
    const SourceTensor& tensor = tensors_.tensors()[*weight.arrays[a]];
    const RowArray stored = {weight.orders[a], weight.n_rows, rows.row_bytes(a)};
    const auto read = [&](std::uint64_t offset_bytes, std::span<std::byte> bytes) {
      tensors_.Read(tensor, offset_bytes, bytes);
    };
    if (stored.order.kind == Order::Kind::kRows) {
      phiq::ReadRows(stored, first_row, rows.bytes(a), read);
    } else {
      (*bands_)[a].ReadRows(stored, &tensor, first_row, rows.bytes(a), read);
    }
  }
  rows.Decode(codec, out);
}

bool LooksLikeTorch(const fs::path& path) {
  // Names of such tensors stand near the beginning of a header, whoever wrote it.
  constexpr std::size_t kSniffBytes = 1U << 16;
  constexpr std::string_view kEndings[] = {".weight_packed\"", ".weight_shape\"", ".weight_scale\"",
                                           ".qweight\"",       ".qzeros\"",       ".g_idx\""};
  try {
    const CheckpointFolder files = LocateCheckpoint(path.string(), [](const Warning&) {});
    const std::optional<Json> config = ReadJsonObject(files, kConfigName, limits::kConfigBytes);
    const Json* const quantization = config ? FindMember(*config, "quantization_config") : nullptr;
    if (quantization == nullptr) return false;
    const Json* const method = FindMember(*quantization, "quant_method");
    if (method == nullptr) return false;
    if (*method == QuantMethod(Box::kPacked)) {
      const Json* const format = FindMember(*quantization, "format");
      if (format == nullptr || (*format != "pack-quantized" && *format != "int-quantized"))
        return false;
    } else if (*method != QuantMethod(Box::kGptq) && *method != QuantMethod(Box::kAwq)) {
      return false;
    }
    for (const std::string& name : NamesInFolder(files.path())) {
      if (!name.ends_with(".safetensors") || IsForeignWeights(name)) continue;
      const InputFile file(files.path() / name);
      std::string first(std::min<std::uint64_t>(file.size(), kSniffBytes), '\0');
      file.ReadAt(0, std::as_writable_bytes(std::span(first)));
      const bool has_one = std::ranges::any_of(kEndings, [&](std::string_view ending) {
        return first.find(ending) != std::string::npos;
      });
      if (has_one) return true;
    }
  } catch (const Error&) {
    return false;
  } catch (const fs::filesystem_error&) {
    return false;
  }
  return false;
}

}  // namespace phiq::torch
