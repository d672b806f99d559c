// Encodes a GGUF header, little-endian.
#include "formats/gguf/header.h"

#include <bit>
#include <cstring>
#include <ranges>
#include <string_view>
#include <type_traits>
#include <utility>

#include "formats/gguf/layout.h"

namespace phiq::gguf {
namespace {

class Encoder {
 public:
  template <typename T>
  requires std::is_arithmetic_v<T>
  void Put(T value) {
    static_assert(std::endian::native == std::endian::little);
    PutBytes(&value, sizeof(T));
  }
  void Put(bool value) { Put(static_cast<std::uint8_t>(value ? 1 : 0)); }
  void Put(std::string_view text) {
    Put(static_cast<std::uint64_t>(text.size()));
    PutBytes(text.data(), text.size());
  }
  void Put(ValueType type) { Put(static_cast<std::int32_t>(type)); }

  void PutValue(const Value& value) {
    Put(TypeOf(value));
    std::visit(
        [&]<typename T>(const T& content) {
          if constexpr (kIsArray<T>) {
            Put(ElementTypeOf(value));
            Put(static_cast<std::uint64_t>(content.size()));
            for (const auto& element : content) Put(element);
          } else {
            Put(content);
          }
        },
        value);
  }

  void Pad() { bytes_.resize((bytes_.size() + kAlignment - 1) / kAlignment * kAlignment); }
  std::vector<std::byte> Take() { return std::move(bytes_); }

 private:
  void PutBytes(const void* data, std::size_t n) {
    if (n == 0) return;
    const std::size_t at = bytes_.size();
    bytes_.resize(at + n);
    std::memcpy(bytes_.data() + at, data, n);
  }

  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> EncodeHeader(const Metadata& metadata, std::span<const TensorInfo> tensors) {
  constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
  constexpr std::uint32_t kVersion = 3;
  Encoder out;
  out.Put(kMagic);
  out.Put(kVersion);
  out.Put(static_cast<std::uint64_t>(tensors.size()));
  out.Put(static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    out.Put(std::string_view(key));
    out.PutValue(value);
  }
  for (const TensorInfo& tensor : tensors) {
    out.Put(std::string_view(tensor.name));
    out.Put(static_cast<std::uint32_t>(tensor.shape.size()));
    for (const std::uint64_t dim : std::views::reverse(tensor.shape)) out.Put(dim);
    out.Put(static_cast<std::int32_t>(tensor.type));
    out.Put(tensor.offset_bytes);
  }
  out.Pad();
  return out.Take();
}

}  // namespace phiq::gguf
