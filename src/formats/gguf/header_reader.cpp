// Every number of a GGUF header is compared with its limit and with the file's size before it is
// used.
#include "formats/gguf/header_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/limits.h"
#include "formats/gguf/layout.h"
#include "formats/gguf/source.h"
#include "phiq/text.h"

namespace phiq::gguf {
namespace {

// The least bytes of a record: key length, key, value type, value; and name length, name, rank, one
// dimension, type, offset.
constexpr std::uint64_t kLeastRecordBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Strings of all arrays of a file. In memory one takes up to 64 bytes where the file has 24, so
// this keeps hostile files within 256 MiB and twice their size.
constexpr std::uint64_t kArrayStrings = 1ULL << 24;

// Tensor types of ggml that phiq does not read; retired codes are in neither list.
std::optional<std::string_view> ForeignTypeName(std::int32_t code) {
  switch (code) {
    case 9:
      return "Q8_1";
    case 15:
      return "Q8_K";
    case 16:
      return "IQ2_XXS";
    case 17:
      return "IQ2_XS";
    case 18:
      return "IQ3_XXS";
    case 19:
      return "IQ1_S";
    case 21:
      return "IQ3_S";
    case 22:
      return "IQ2_S";
    case 24:
      return "I8";
    case 25:
      return "I16";
    case 26:
      return "I32";
    case 27:
      return "I64";
    case 28:
      return "F64";
    case 29:
      return "IQ1_M";
    case 34:
      return "TQ1_0";
    case 35:
      return "TQ2_0";
    case 39:
      return "MXFP4";
    case 40:
      return "NVFP4";
    case 41:
      return "Q1_0";
    case 42:
      return "Q2_0";
    default:
      return std::nullopt;
  }
}

class HeaderReader {
 public:
  HeaderReader(const InputFile& file, const WarningFn& warn)
      : file_(file), warn_(warn), source_(file) {}

  Header Read() {
    ReadVersion();
    const std::uint64_t n_tensors = ReadCount("tensor count");
    const std::uint64_t n_records = ReadCount("key/value count");
    CheckRoom("tensor count", n_tensors, kLeastTensorBytes);
    CheckRoom("key/value count", n_records, kLeastRecordBytes);
    Header header;
    ReadMetadata(n_records, header.metadata);
    const std::uint32_t alignment = AlignmentOf(header.metadata);
    ReadTensors(n_tensors, alignment, header.tensors);
    return header;
  }

 private:
  void ReadVersion() {
    const auto magic = source_.Read<std::array<char, 4>>("magic");
    if (std::memcmp(magic.data(), "GGUF", magic.size()) != 0) {
      throw Error(ErrorCode::kBadData,
                  fmt::format("not a GGUF file: magic bytes '{}', wanted 'GGUF'",
                              Escape(std::string_view(magic.data(), magic.size()))))
          .In(file_.path().string())
          .At(0);
    }
    const auto version = source_.Read<std::uint32_t>("version");
    if (version == 0) throw source_.BadData("GGUF version 0, allowed are 2 and 3");
    if ((version & 0xFFFFU) == 0) {
      throw Unsupported(
          fmt::format("GGUF version {:#010x}: the file is in the other byte order", version));
    }
    if (version != 2 && version != 3)
      throw Unsupported(fmt::format("GGUF version {}, phiq reads 2 and 3", version));
  }

  Error Unsupported(std::string message) const {
    return Error(ErrorCode::kUnsupported, std::move(message)).In(file_.path().string());
  }

  std::uint64_t ReadCount(std::string_view what) {
    const auto count = source_.Read<std::uint64_t>(what);
    if (count > limits::kGgufEntries) {
      throw source_.BadData(
          fmt::format("{} {}, allowed are {}", what, count, limits::kGgufEntries));
    }
    return count;
  }

  void CheckRoom(std::string_view what, std::uint64_t count, std::uint64_t least_bytes) const {
    if (count * least_bytes > source_.remaining_bytes()) {
      throw source_.BadData(fmt::format("truncated: {} {} needs {} bytes or more but {} are left",
                                        what, count, count * least_bytes,
                                        source_.remaining_bytes()));
    }
  }

  void ReadMetadata(std::uint64_t n_records, Metadata& metadata) {
    std::unordered_set<std::string> keys;
    for (std::uint64_t i = 0; i < n_records; ++i) {
      std::string key = source_.ReadString(limits::kGgufKeyBytes, fmt::format("key {}", i));
      if (key.empty()) throw source_.BadData(fmt::format("key {} is empty", i));
      if (key.find('\0') != key.npos)
        throw source_.BadData(fmt::format("key {} '{}' has a NUL byte", i, Escape(key)));
      if (!keys.insert(key).second)
        throw source_.BadData(fmt::format("duplicate key '{}', key {}", Escape(key), i));
      const std::string what = fmt::format("key '{}'", Escape(key));
      Value value = ReadValue(what);
      metadata.emplace_back(std::move(key), std::move(value));
    }
  }

  Value ReadValue(const std::string& what) {
    const auto code = source_.Read<std::int32_t>(what);
    if (code == static_cast<std::int32_t>(ValueType::kArray)) return ReadArray(what);
    return WithType(code, fmt::format("{}: type", what),
                    [&]<typename T>(T) -> Value { return ReadScalar<T>(what); });
  }

  Value ReadArray(const std::string& what) {
    const auto code = source_.Read<std::int32_t>(what);
    if (code == static_cast<std::int32_t>(ValueType::kArray)) {
      throw source_.BadData(
          fmt::format("{}: element type array, arrays of arrays are not allowed", what));
    }
    return WithType(code, fmt::format("{}: element type", what), [&]<typename T>(T) -> Value {
      const auto count = source_.Read<std::uint64_t>(what);
      if (count > limits::kGgufArrayElements) {
        throw source_.BadData(fmt::format("{}: array count {}, allowed are {}", what, count,
                                          limits::kGgufArrayElements));
      }
      constexpr std::uint64_t kLeastBytes = std::is_same_v<T, std::string> ? 8 : sizeof(T);
      if (count > source_.remaining_bytes() / kLeastBytes) {
        throw source_.BadData(
            fmt::format("truncated: {}: array count {} needs {} bytes or more but {} are left",
                        what, count, count * kLeastBytes, source_.remaining_bytes()));
      }
      return ReadElements<T>(static_cast<std::size_t>(count), what);
    });
  }

  // Calls `use` with a value of the C++ type that a scalar's code stands for.
  template <typename Use>
  Value WithType(std::int32_t code, const std::string& what, const Use& use) {
    switch (static_cast<ValueType>(code)) {
      case ValueType::kU8:
        return use(std::uint8_t{});
      case ValueType::kI8:
        return use(std::int8_t{});
      case ValueType::kU16:
        return use(std::uint16_t{});
      case ValueType::kI16:
        return use(std::int16_t{});
      case ValueType::kU32:
        return use(std::uint32_t{});
      case ValueType::kI32:
        return use(std::int32_t{});
      case ValueType::kF32:
        return use(float{});
      case ValueType::kBool:
        return use(bool{});
      case ValueType::kString:
        return use(std::string());
      case ValueType::kU64:
        return use(std::uint64_t{});
      case ValueType::kI64:
        return use(std::int64_t{});
      case ValueType::kF64:
        return use(double{});
      case ValueType::kArray:
        break;
    }
    throw source_.BadData(fmt::format("{} {}, allowed are 0 to 12", what, code));
  }

  template <typename T>
  T ReadScalar(const std::string& what) {
    if constexpr (std::is_same_v<T, std::string>) {
      return source_.ReadString(limits::kGgufStringBytes, what);
    } else if constexpr (std::is_same_v<T, bool>) {
      const auto byte = source_.Read<std::uint8_t>(what);
      if (byte > 1)
        throw source_.BadData(fmt::format("{}: bool byte {}, allowed are 0 and 1", what, byte));
      return byte == 1;
    } else {
      return source_.Read<T>(what);
    }
  }

  template <typename T>
  std::vector<T> ReadElements(std::size_t count, const std::string& what) {
    std::vector<T> elements;
    if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
      if constexpr (std::is_same_v<T, std::string>) CountStrings(count, what);
      elements.reserve(count);
      for (std::size_t i = 0; i < count; ++i) elements.push_back(ReadScalar<T>(what));
    } else {
      elements.resize(count);
      source_.ReadBytes(std::as_writable_bytes(std::span(elements)), what);
    }
    return elements;
  }

  void CountStrings(std::size_t count, const std::string& what) {
    n_strings_ += count;
    if (n_strings_ > kArrayStrings) {
      throw source_.BadData(
          fmt::format("{}: array count {} makes {} strings in all, allowed are {}", what, count,
                      n_strings_, kArrayStrings));
    }
  }

  std::uint32_t AlignmentOf(const Metadata& metadata) const {
    const Value* const value = Find(metadata, "general.alignment");
    if (value == nullptr) return kAlignment;
    const auto* const alignment = std::get_if<std::uint32_t>(value);
    if (alignment == nullptr) {
      throw source_.BadData(
          fmt::format("'general.alignment' has type {}, allowed is u32", TypeName(TypeOf(*value))));
    }
    if (*alignment == 0 || (*alignment & (*alignment - 1)) != 0 ||
        *alignment > limits::kGgufAlignment) {
      throw source_.BadData(
          fmt::format("'general.alignment' is {}, allowed are powers of two up to {}", *alignment,
                      limits::kGgufAlignment));
    }
    return *alignment;
  }

  void ReadTensors(std::uint64_t n_tensors, std::uint32_t alignment, std::vector<Tensor>& tensors) {
    std::unordered_set<std::string> names;
    for (std::uint64_t i = 0; i < n_tensors; ++i) {
      Tensor tensor = ReadTensorInfo(i);
      if (!names.insert(tensor.name).second)
        throw source_.BadData("duplicate name").Tensor(tensor.name);
      tensors.push_back(std::move(tensor));
    }
    if (!tensors.empty()) PlaceTensors(alignment, tensors);
  }

  // `offset_bytes` as stored: from the start of the tensor data.
  Tensor ReadTensorInfo(std::uint64_t index) {
    Tensor tensor;
    const std::string what = fmt::format("tensor {}", index);
    tensor.name =
        source_.ReadString(limits::kGgufNameBytes, fmt::format("name of tensor {}", index));
    if (tensor.name.empty())
      throw source_.BadData(fmt::format("name of tensor {} is empty", index));
    if (tensor.name.find('\0') != tensor.name.npos) {
      throw source_.BadData(fmt::format("name of tensor {} has a NUL byte", index))
          .Tensor(tensor.name);
    }
    const auto rank = source_.Read<std::uint32_t>(what);
    if (rank == 0 || rank > limits::kGgufRank) {
      throw source_
          .BadData(fmt::format("rank {}, allowed are 1 to {} dimensions", rank, limits::kGgufRank))
          .Tensor(tensor.name);
    }
    tensor.shape.resize(rank);
    for (std::size_t d = 0; d < rank; ++d) {
      const auto dim = source_.Read<std::int64_t>(what);
      if (dim <= 0)
        throw source_.BadData(fmt::format("dimension {} is {}, allowed are 1 and above", d, dim))
            .Tensor(tensor.name);
      tensor.shape[rank - 1 - d] = static_cast<std::uint64_t>(dim);
    }
    tensor.type = ReadTensorType(tensor.name);
    tensor.size_bytes = TensorBytes(tensor);
    tensor.offset_bytes = source_.Read<std::uint64_t>(what);
    return tensor;
  }

  GgmlType ReadTensorType(const std::string& name) {
    const auto code = source_.Read<std::int32_t>("tensor type");
    if (const std::optional<GgmlType> type = FindGgmlType(code)) return *type;
    if (const std::optional<std::string_view> foreign = ForeignTypeName(code)) {
      throw Unsupported(fmt::format("tensor type {} is not one that phiq reads", *foreign))
          .Tensor(name);
    }
    throw source_.BadData(fmt::format("unknown tensor type {}", code)).Tensor(name);
  }

  std::uint64_t TensorBytes(const Tensor& tensor) const {
    const GgmlTypeInfo& type = GetGgmlTypeInfo(tensor.type);
    const std::uint64_t row = tensor.shape.back();
    if (row % type.block_size != 0) {
      throw source_
          .BadData(fmt::format("rows of {} weights, type {} needs a multiple of {}", row, type.name,
                               type.block_size))
          .Tensor(tensor.name);
    }
    const std::optional<std::uint64_t> n_weights = CheckedProduct(tensor.shape);
    std::optional<std::uint64_t> size_bytes;
    if (n_weights &&
        *n_weights <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      size_bytes = CheckedMul(*n_weights / type.block_size, type.block_bytes);
    }
    if (!size_bytes) {
      throw source_
          .BadData(fmt::format("dimensions [{}] overflow 64 bits", fmt::join(tensor.shape, ", ")))
          .Tensor(tensor.name);
    }
    return *size_bytes;
  }

  // Tensors follow each other without gaps, each padded; the last one's padding may be missing.
  void PlaceTensors(std::uint32_t alignment, std::vector<Tensor>& tensors) {
    const std::optional<std::uint64_t> data_start = AlignUp(source_.offset_bytes(), alignment);
    std::uint64_t expected = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      Tensor& tensor = tensors[i];
      if (tensor.offset_bytes != expected)
        throw WrongOffset(tensors, i, expected, data_start.value());
      const std::optional<std::uint64_t> begin =
          CheckedAdd(data_start.value(), tensor.offset_bytes);
      if (!begin || *begin > file_.size() || tensor.size_bytes > file_.size() - *begin) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("truncated: {} bytes from byte {} but the file has {}",
                                tensor.size_bytes, begin.value_or(UINT64_MAX), file_.size()))
            .In(file_.path().string())
            .Tensor(tensor.name)
            .Hint("incomplete download?");
      }
      tensor.offset_bytes = *begin;
      // Cannot overflow: the tensor ends inside the file.
      expected = AlignUp(expected + tensor.size_bytes, alignment).value();
    }
    const std::uint64_t end = data_start.value() + expected;
    if (file_.size() > end) {
      warn_({ErrorCode::kBadData, fmt::format("{}: {} bytes after the last tensor",
                                              Escape(file_.path().string()), file_.size() - end)});
    }
  }

  // The tensors before `i` are placed already.
  Error WrongOffset(const std::vector<Tensor>& tensors, std::size_t i, std::uint64_t expected,
                    std::uint64_t data_start) const {
    std::string message = fmt::format("offset {}, expected {}", tensors[i].offset_bytes, expected);
    if (i > 0) {
      const Tensor& before = tensors[i - 1];
      const std::uint64_t begin = before.offset_bytes - data_start;
      const std::uint64_t reserved =
          tensors[i].offset_bytes > begin ? tensors[i].offset_bytes - begin : 0;
      message += fmt::format(": '{}' before it needs {} bytes, {} are reserved",
                             Escape(before.name), before.size_bytes, reserved);
    }
    return Error(ErrorCode::kBadData, std::move(message))
        .In(file_.path().string())
        .Tensor(tensors[i].name);
  }

  const InputFile& file_;
  const WarningFn& warn_;
  Source source_;
  std::uint64_t n_strings_ = 0;
};

}  // namespace

Header ReadHeader(const InputFile& file, const WarningFn& warn) {
  return HeaderReader(file, warn).Read();
}

}  // namespace phiq::gguf
