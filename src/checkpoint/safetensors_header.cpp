// Reads a safetensors header as a stream of events: a hostile header of 100 MB never becomes a
// tree.
#include "checkpoint/safetensors_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "base/endian.h"
#include "base/json.h"
#include "base/limits.h"
#include "checkpoint/dtype.h"
#include "checkpoint/lookalike.h"
#include "checkpoint/tensor_name.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq {
namespace {

constexpr std::uint64_t kLengthBytes = 8;  // N, before the header
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::string_view kUsable = "usable for weights: F32 F16 BF16";

// --- The events of the header ----------------------------------------------------------------

std::string ShapeText(std::span<const std::uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// One tensor while its entry is read; offset_bytes of `tensor` is BEGIN until all are checked.
struct Entry {
  SourceTensor tensor;
  std::vector<std::uint64_t> offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(std::string_view path) : path_(path) {}

  SafetensorsHeader Take() { return std::move(header_); }

  void OnStartObject(int depth) override {
    if (depth == 2) {
      n_keys_ = 0;
    } else if (depth > 2) {
      RefuseNested("an object");
    }
    depth_ = depth;
  }
  void OnEndObject(int depth) override {
    if (depth == 2 && !in_metadata_) FinishEntry();
    depth_ = depth - 1;
  }
  void OnKey(const std::string& key, int depth) override {
    if (depth == 1) {
      BeginEntry(key);
      return;
    }
    // Every key of an open object is kept to find duplicates: this bounds that memory.
    if (++n_keys_ > limits::kTensors) {
      throw Fail(fmt::format("more than {} keys in one entry", limits::kTensors));
    }
    if (depth == 2 && in_metadata_) metadata_key_ = key;
    if (depth == 2 && !in_metadata_) BeginField(key);
  }
  void OnStartArray(int depth) override {
    const bool is_list = depth == 3 && (field_ == Field::kShape || field_ == Field::kOffsets);
    if (!is_list) RefuseNested("an array");
    // A second list of that name is refused as a duplicate, when the entry ends.
    if (field_ == Field::kOffsets) entry_.offsets.clear();
    if (field_ == Field::kShape) entry_.tensor.shape.clear();
    depth_ = depth;
  }
  void OnEndArray(int depth) override { depth_ = depth - 1; }
  void OnString(const std::string& value) override {
    if (in_metadata_ && depth_ == 2) {
      header_.metadata[metadata_key_] = value;
      return;
    }
    if (depth_ == 2 && field_ == Field::kDtype) {
      const std::optional<DType> dtype = DTypeFromName(value);
      if (!dtype) {
        throw Fail(fmt::format("unknown dtype '{}'", Escape(value))).Hint(kUsable);
      }
      entry_.tensor.dtype = *dtype;
      return;
    }
    RefuseScalar(fmt::format("\"{}\"", Escape(value)));
  }
  void OnUnsigned(std::uint64_t value) override {
    if (depth_ == 3 && field_ == Field::kShape) {
      AddDimension(value);
    } else if (depth_ == 3 && field_ == Field::kOffsets) {
      if (entry_.offsets.size() == 2) throw Fail("data_offsets has more than 2 entries");
      entry_.offsets.push_back(value);
    } else {
      RefuseScalar(fmt::format("{}", value));
    }
  }
  void OnOther(std::string_view what) override {
    if (depth_ == 1 && in_metadata_ && what == "null") return;  // mlx-lm writes it for "none"
    RefuseScalar(Escape(what));
  }

 private:
  enum class Field { kNone, kDtype, kShape, kOffsets, kUnknown };

  Error Fail(std::string message) const {
    Error error = Error(ErrorCode::kBadData, std::move(message)).In(path_);
    return in_metadata_ ? error : std::move(error).Tensor(entry_.tensor.name);
  }

  std::string_view FieldName() const {
    switch (field_) {
      case Field::kDtype:
        return "dtype";
      case Field::kShape:
        return "shape";
      case Field::kOffsets:
        return "data_offsets";
      case Field::kNone:
      case Field::kUnknown:
        break;
    }
    return in_metadata_ ? kMetadataKey : "entry";
  }

  std::string_view Wanted() const {
    switch (field_) {
      case Field::kDtype:
        return "a string";
      case Field::kShape:
        return "an array of whole numbers, 0 or more";
      case Field::kOffsets:
        return "an array of 2 whole numbers, 0 or more";
      case Field::kNone:
      case Field::kUnknown:
        break;
    }
    return in_metadata_ ? "an object of strings" : "an object";
  }

  // A value where another one is wanted; unknown fields may hold anything.
  void RefuseScalar(std::string_view found) const {
    if (field_ == Field::kUnknown) return;
    const std::string_view where = depth_ == 3 ? " entry" : "";
    throw Fail(fmt::format("{}{} {}: needs {}", FieldName(), where, found, Wanted()));
  }
  void RefuseNested(std::string_view found) const {
    if (field_ == Field::kUnknown) return;
    throw Fail(fmt::format("{} is or holds {}: needs {}", FieldName(), found, Wanted()));
  }

  void BeginEntry(const std::string& key) {
    in_metadata_ = key == kMetadataKey;
    field_ = Field::kNone;
    if (in_metadata_) return;
    if (header_.tensors.size() == limits::kTensors) {
      throw Error(ErrorCode::kBadData, fmt::format("more than {} tensors", limits::kTensors))
          .In(path_);
    }
    CheckTensorName(key, path_);
    entry_ = Entry();
    entry_.tensor.name = key;
  }

  void BeginField(const std::string& key) {
    field_ = key == "dtype"          ? Field::kDtype
             : key == "shape"        ? Field::kShape
             : key == "data_offsets" ? Field::kOffsets
                                     : Field::kUnknown;
    entry_.has_dtype |= field_ == Field::kDtype;
    entry_.has_shape |= field_ == Field::kShape;
    entry_.has_offsets |= field_ == Field::kOffsets;
  }

  void AddDimension(std::uint64_t value) {
    std::vector<std::uint64_t>& shape = entry_.tensor.shape;
    if (shape.size() == limits::kRank) {
      throw Fail(fmt::format("shape has more than {} dimensions", limits::kRank));
    }
    if (value > INT64_MAX) {
      throw Fail(fmt::format("shape entry {} is more than {}", value, INT64_MAX));
    }
    shape.push_back(value);
  }

  void FinishEntry() {
    SourceTensor& tensor = entry_.tensor;
    if (!entry_.has_dtype) throw Fail("dtype is missing");
    if (!entry_.has_shape) throw Fail("shape is missing");
    if (!entry_.has_offsets) throw Fail("data_offsets is missing");
    if (entry_.offsets.size() != 2) {
      throw Fail(fmt::format("data_offsets has {} entries, needs 2", entry_.offsets.size()));
    }
    const auto [begin, end] = std::pair(entry_.offsets[0], entry_.offsets[1]);
    if (begin > end) {
      throw Fail(fmt::format("data_offsets [{}, {}] end before they begin", begin, end));
    }
    const std::optional<std::uint64_t> n_elements = CheckedProduct(tensor.shape);
    const std::optional<std::uint64_t> n_bits =
        n_elements ? CheckedMul(*n_elements, DTypeBits(tensor.dtype)) : std::nullopt;
    const std::string kind =
        fmt::format("dtype {} x shape {}", DTypeName(tensor.dtype), ShapeText(tensor.shape));
    if (!n_bits) throw Fail(kind + " has more bits than 64-bit numbers can count");
    if (*n_bits % 8 != 0) {
      throw Fail(
          fmt::format("{} needs {} bits, which do not end on a byte boundary", kind, *n_bits));
    }
    if (end - begin != *n_bits / 8) {
      throw Fail(fmt::format("data_offsets [{}, {}] hold {} bytes but {} needs {} bytes", begin,
                             end, end - begin, kind, *n_bits / 8));
    }
    tensor.offset_bytes = begin;
    tensor.size_bytes = end - begin;
    header_.tensors.push_back(std::move(tensor));
  }

  std::string_view path_;
  int depth_ = 0;
  bool in_metadata_ = false;
  Field field_ = Field::kNone;
  std::size_t n_keys_ = 0;  // in the entry, however deep
  Entry entry_;
  std::string metadata_key_;
  SafetensorsHeader header_;
};

// --- Where the tensors lie -------------------------------------------------------------------

std::string OffsetsText(const SourceTensor& tensor) {
  return fmt::format("data_offsets [{}, {}]", tensor.offset_bytes,
                     tensor.offset_bytes + tensor.size_bytes);
}

// Every byte of the data buffer belongs to exactly one tensor. Requires `tensors` sorted.
void CheckRanges(std::span<const SourceTensor> tensors, std::uint64_t data_offset,
                 std::uint64_t file_size, std::string_view path) {
  const auto fail = [&](const SourceTensor& tensor, std::string message) {
    return Error(ErrorCode::kBadData, std::move(message)).In(path).Tensor(tensor.name);
  };
  std::uint64_t start = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const SourceTensor& tensor = tensors[i];
    if (tensor.offset_bytes < start) {
      throw fail(tensor, fmt::format("{} overlap tensor '{}' at {}", OffsetsText(tensor),
                                     Escape(tensors[i - 1].name), OffsetsText(tensors[i - 1])));
    }
    if (tensor.offset_bytes > start) {
      throw fail(tensor, fmt::format("{} are not contiguous: must begin at {}", OffsetsText(tensor),
                                     start));
    }
    start += tensor.size_bytes;  // no overflow: BEGIN == start, so this is END
  }
  const std::uint64_t data_bytes = file_size - data_offset;
  for (const SourceTensor& tensor : tensors) {
    const std::uint64_t end = tensor.offset_bytes + tensor.size_bytes;
    if (end <= data_bytes) continue;
    throw fail(tensor, fmt::format("truncated: ends at byte {} but the file has {} bytes",
                                   CheckedAdd(data_offset, end).value_or(UINT64_MAX), file_size))
        .Hint("incomplete download? fetch this shard again");
  }
  if (start < data_bytes) {
    throw Error(
        ErrorCode::kBadData,
        fmt::format("{} trailing bytes after the last tensor, which ends", data_bytes - start))
        .In(path)
        .At(data_offset + start);
  }
}

}  // namespace

std::uint64_t SafetensorsHeaderBytes(std::string_view first_bytes, std::uint64_t file_size,
                                     std::string_view path) {
  if (file_size == 0) {
    throw Error(ErrorCode::kBadData, "truncated: the file has 0 bytes")
        .In(path)
        .Hint(kDownloadAgain);
  }
  if (file_size < kLengthBytes) {
    throw Error(ErrorCode::kBadData, fmt::format("truncated: header length needs 8 bytes but the "
                                                 "file has {}",
                                                 file_size))
        .In(path)
        .Hint(kDownloadAgain);
  }
  const auto n_bytes = LoadLe<std::uint64_t>(std::as_bytes(std::span(first_bytes)));
  if (n_bytes > limits::kSafetensorsHeaderBytes) {
    if (const Lookalike* found = FindWeightsLookalike(first_bytes)) {
      throw Error(ErrorCode::kBadData, fmt::format("looks like {}", found->what))
          .In(path)
          .Hint(found->hint);
    }
    throw Error(ErrorCode::kBadData, fmt::format("header length {} is over the limit of {} bytes",
                                                 n_bytes, limits::kSafetensorsHeaderBytes))
        .In(path);
  }
  if (n_bytes < 2) {  // "{}" is the shortest header
    throw Error(ErrorCode::kBadData,
                fmt::format("header length {}: needs at least 2 bytes", n_bytes))
        .In(path);
  }
  if (n_bytes > file_size - kLengthBytes) {
    throw Error(ErrorCode::kBadData,
                fmt::format("truncated: header length {} but only {} bytes follow it", n_bytes,
                            file_size - kLengthBytes))
        .In(path)
        .Hint("incomplete download? fetch this shard again");
  }
  return n_bytes;
}

SafetensorsHeader ParseSafetensorsHeader(std::string_view header, std::uint64_t file_size,
                                         std::string_view path) {
  if (!header.starts_with('{')) {
    throw Error(ErrorCode::kBadData, "header must begin with '{'").In(path).At(kLengthBytes);
  }
  HeaderEvents events(path);
  ParseJsonEvents(header, path, limits::kSafetensorsJsonDepth, events, kLengthBytes);
  const std::size_t last = header.find_last_not_of(' ');
  if (header[last] != '}') {  // a tab or line break, which JSON itself allows
    throw Error(ErrorCode::kBadData, "header is padded with something else than spaces")
        .In(path)
        .At(kLengthBytes + last);
  }
  SafetensorsHeader result = events.Take();
  std::vector<SourceTensor>& tensors = result.tensors;
  std::sort(tensors.begin(), tensors.end(), [](const SourceTensor& a, const SourceTensor& b) {
    return std::tie(a.offset_bytes, a.size_bytes, a.name) <
           std::tie(b.offset_bytes, b.size_bytes, b.name);
  });
  const std::uint64_t data_offset = kLengthBytes + header.size();
  CheckRanges(tensors, data_offset, file_size, path);
  for (SourceTensor& tensor : tensors) tensor.offset_bytes += data_offset;
  return result;
}

SafetensorsHeader ReadSafetensorsHeader(const InputFile& file) {
  const std::string& path = file.path().native();
  std::string first(std::min<std::uint64_t>(file.size(), kSafetensorsSniffBytes), '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span(first)));
  // From here on the header is known to lie within the file and the limit.
  std::string header(SafetensorsHeaderBytes(first, file.size(), path), '\0');
  file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(header)));
  return ParseSafetensorsHeader(header, file.size(), path);
}

}  // namespace phiq
