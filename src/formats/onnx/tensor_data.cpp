// Sizes come from type and dims; what the file says about them must agree.
#include "formats/onnx/tensor_data.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <span>
#include <utility>

#include "base/ascii.h"
#include "base/checked.h"
#include "base/endian.h"
#include "base/limits.h"
#include "base/parse_number.h"
#include "formats/onnx/data_type.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

Error Bad(const ::onnx::TensorProto& tensor, std::string message) {
  return Error(ErrorCode::kBadData, std::move(message)).Tensor(tensor.name());
}

// Names that Windows takes for devices, with any extension.
bool IsDeviceName(std::string_view part) {
  std::string stem(part.substr(0, part.find('.')));
  while (!stem.empty() && stem.back() == ' ') stem.pop_back();
  stem = LowerAscii(stem);
  if (stem == "con" || stem == "prn" || stem == "aux" || stem == "nul") return true;
  return stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) &&
         stem[3] >= '1' && stem[3] <= '9';
}

std::uint64_t ParseDecimal(const ::onnx::TensorProto& tensor, std::string_view key,
                           const std::string& text) {
  if (const auto value = ParseNumber<std::uint64_t>(text)) return *value;
  throw Bad(tensor, fmt::format("external data {} is '{}', allowed are decimal numbers below 2^64",
                                key, Escape(text)));
}

ExternalPlace ParseExternal(const ::onnx::TensorProto& tensor, std::uint64_t size_bytes) {
  if (tensor.external_data_size() > limits::kOnnxExternalKeys) {
    throw Bad(tensor, fmt::format("{} external data keys, allowed are {}",
                                  tensor.external_data_size(), limits::kOnnxExternalKeys));
  }
  ExternalPlace place;
  std::set<std::string_view> seen;
  for (const ::onnx::StringStringEntryProto& entry : tensor.external_data()) {
    const bool is_known =
        entry.key() == "location" || entry.key() == "offset" || entry.key() == "length";
    if (!is_known) continue;
    if (!seen.insert(entry.key()).second) {
      throw Bad(tensor, fmt::format("external data has two keys '{}'", entry.key()));
    }
    if (entry.key() == "location") {
      place.location = entry.value();
    } else if (entry.key() == "offset") {
      place.offset_bytes = ParseDecimal(tensor, "offset", entry.value());
    } else if (ParseDecimal(tensor, "length", entry.value()) != size_bytes) {
      throw Bad(tensor, fmt::format("external data length {} but {} x [{}] needs {} bytes",
                                    entry.value(), DataTypeName(tensor.data_type()),
                                    fmt::join(tensor.dims(), ", "), size_bytes));
    }
  }
  if (const std::string_view problem = LocationProblem(place.location); !problem.empty()) {
    throw Bad(tensor,
              fmt::format("external data location '{}' {}", Escape(place.location), problem))
        .Hint("it must be a relative path below the model's folder");
  }
  return place;
}

// Elements of all typed fields together.
std::uint64_t TypedCount(const ::onnx::TensorProto& tensor) {
  const auto n = [](int size) { return static_cast<std::uint64_t>(size); };
  return n(tensor.float_data_size()) + n(tensor.int32_data_size()) + n(tensor.int64_data_size()) +
         n(tensor.double_data_size()) + n(tensor.uint64_data_size()) + n(tensor.string_data_size());
}

// Entries that the typed field of this type must have, and how many it has. A 4-bit type keeps two
// codes in an entry, a complex one takes two.
std::pair<std::uint64_t, std::uint64_t> TypedEntries(const ::onnx::TensorProto& tensor,
                                                     std::uint64_t n_elements) {
  const auto n = [](int size) { return static_cast<std::uint64_t>(size); };
  switch (tensor.data_type()) {
    case 1:
      return {n_elements, n(tensor.float_data_size())};
    case 14:
      return {2 * n_elements, n(tensor.float_data_size())};
    case 7:
      return {n_elements, n(tensor.int64_data_size())};
    case 8:
      return {n_elements, n(tensor.string_data_size())};
    case 11:
      return {n_elements, n(tensor.double_data_size())};
    case 15:
      return {2 * n_elements, n(tensor.double_data_size())};
    case 12:
    case 13:
      return {n_elements, n(tensor.uint64_data_size())};
    case 21:
    case 22:
    case 23:
      return {(n_elements + 1) / 2, n(tensor.int32_data_size())};
    case 25:
    case 26:
      return {(n_elements + 3) / 4, n(tensor.int32_data_size())};
    default:
      return {n_elements, n(tensor.int32_data_size())};
  }
}

template <typename T, typename Entries>
std::vector<std::byte> Narrow(const ::onnx::TensorProto& tensor, const Entries& entries,
                              std::int64_t least, std::int64_t most) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(entries.size()) * sizeof(T));
  std::size_t offset = 0;
  for (const auto value : entries) {
    if (std::cmp_less(value, least) || std::cmp_greater(value, most)) {
      throw Bad(tensor, fmt::format("value {} in its data, {} allows {} to {}", value,
                                    DataTypeName(tensor.data_type()), least, most));
    }
    StoreLe(static_cast<T>(value), bytes, offset);
    offset += sizeof(T);
  }
  return bytes;
}

template <typename Entries>
std::vector<std::byte> Copy(const Entries& entries) {
  const auto bytes =
      std::as_bytes(std::span(entries.data(), static_cast<std::size_t>(entries.size())));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

std::string_view LocationProblem(std::string_view location) noexcept {
  if (location.empty()) return "is empty";
  if (location.find('\0') != location.npos) return "has a NUL byte";
  if (location.find('\\') != location.npos) return "has a backslash";
  if (location.front() == '/') return "is an absolute path";
  if (location.size() >= 2 && location[1] == ':' && IsAsciiLetter(location[0]))
    return "begins with a drive letter";
  for (std::string_view rest = location;;) {
    const std::size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty()) return "has an empty part";
    if (part == "..") return "leaves the model's folder with '..'";
    if (IsDeviceName(part)) return "is the name of a device";
    if (slash == rest.npos) return {};
    rest.remove_prefix(slash + 1);
  }
}

bool HasTypedData(const ::onnx::TensorProto& tensor) noexcept { return TypedCount(tensor) > 0; }

TensorData CheckTensor(const ::onnx::TensorProto& tensor) {
  TensorData data;
  const std::optional<unsigned> bits = DataTypeBits(tensor.data_type());
  const bool is_text = tensor.data_type() == kString;
  if (tensor.dims_size() > static_cast<int>(limits::kRank)) {
    throw Bad(tensor, fmt::format("rank {}, allowed are {}", tensor.dims_size(), limits::kRank));
  }
  for (const std::int64_t dim : tensor.dims()) {
    if (dim < 0) {
      throw Bad(tensor,
                fmt::format("dims [{}] have a negative number", fmt::join(tensor.dims(), ", ")));
    }
    data.dims.push_back(static_cast<std::uint64_t>(dim));
  }
  if (!bits && !is_text) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("data type {}, which phiq does not know", tensor.data_type()))
        .Tensor(tensor.name());
  }
  if (tensor.has_segment()) {
    throw Error(ErrorCode::kUnsupported, "data in segments").Tensor(tensor.name());
  }
  const std::optional<std::uint64_t> n_elements = CheckedProduct(data.dims);
  const std::optional<std::uint64_t> n_bits =
      n_elements ? CheckedMul(*n_elements, bits.value_or(1)) : std::nullopt;
  if (!n_bits || *n_bits > UINT64_MAX - 7) {
    throw Bad(tensor, fmt::format("dims [{}] overflow", fmt::join(data.dims, ", ")));
  }
  data.size_bytes = is_text ? 0 : (*n_bits + 7) / 8;

  const bool is_external = tensor.data_location() == ::onnx::TensorProto::EXTERNAL;
  const std::uint64_t n_typed = TypedCount(tensor);
  const int places = (tensor.has_raw_data() ? 1 : 0) + (n_typed > 0 ? 1 : 0) +
                     (is_external || tensor.external_data_size() > 0 ? 1 : 0);
  if (places > 1) {
    throw Bad(
        tensor,
        "data in two places: only one of raw_data, typed data and external data may be there");
  }
  if (is_external) {
    if (is_text) throw Bad(tensor, "strings cannot be external data");
    data.external = ParseExternal(tensor, data.size_bytes);
    return data;
  }
  const auto needs = [&](std::uint64_t wanted, std::uint64_t found, std::string_view unit) {
    if (found == wanted) return;
    throw Bad(tensor,
              fmt::format("data of {} {} but {} x [{}] needs {}", found, unit,
                          DataTypeName(tensor.data_type()), fmt::join(data.dims, ", "), wanted));
  };
  if (tensor.has_raw_data() && !is_text) {
    needs(data.size_bytes, tensor.raw_data().size(), "bytes");
  } else {
    const auto [wanted, found] = TypedEntries(tensor, *n_elements);
    needs(wanted, found, "entries");
    if (found != n_typed || tensor.has_raw_data()) {
      throw Bad(tensor, fmt::format("data in a field that is not for {}",
                                    DataTypeName(tensor.data_type())));
    }
  }
  return data;
}

std::vector<std::byte> TypedBytes(const ::onnx::TensorProto& tensor) {
  switch (tensor.data_type()) {
    case 1:
    case 14:
      return Copy(tensor.float_data());
    case 6:
      return Copy(tensor.int32_data());
    case 7:
      return Copy(tensor.int64_data());
    case 11:
    case 15:
      return Copy(tensor.double_data());
    case 12:
      return Narrow<std::uint32_t>(tensor, tensor.uint64_data(), 0, UINT32_MAX);
    case 13:
      return Copy(tensor.uint64_data());
    case 3:
      return Narrow<std::int8_t>(tensor, tensor.int32_data(), INT8_MIN, INT8_MAX);
    case 5:
      return Narrow<std::int16_t>(tensor, tensor.int32_data(), INT16_MIN, INT16_MAX);
    case 4:
    case kFloat16:
    case kBfloat16:
      return Narrow<std::uint16_t>(tensor, tensor.int32_data(), 0, UINT16_MAX);
    default:  // 8 bits or less; sub-byte codes are packed into 8
      return Narrow<std::uint8_t>(tensor, tensor.int32_data(), 0, UINT8_MAX);
  }
}

}  // namespace phiq::onnx
