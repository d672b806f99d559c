// Opens the initializers: each is checked against its type and dims, and its bytes are found in the
// .onnx, in a file beside it or in typed fields, so that the rest of the reader sees one form.
#include "formats/onnx/initializers.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/limits.h"
#include "formats/onnx/data_files.h"
#include "formats/onnx/data_type.h"
#include "formats/onnx/tensor_data.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

void CheckName(const std::string& name, std::size_t i) {
  if (!name.empty() && name.size() <= limits::kNameBytes) return;
  throw Error(ErrorCode::kBadData,
              fmt::format("initializer {} has a name of {} bytes, allowed are 1 to {}", i,
                          name.size(), limits::kNameBytes));
}

void CheckRange(const std::string& name, std::uint64_t size_bytes, std::uint64_t offset_bytes,
                std::size_t n) {
  if (offset_bytes <= size_bytes && n <= size_bytes - offset_bytes) return;
  throw Error(ErrorCode::kInternal, "read outside of a tensor").Tensor(name);
}

}  // namespace

void CopyRange(const std::string& name, std::span<const std::byte> from, std::uint64_t offset_bytes,
               std::span<std::byte> out) {
  CheckRange(name, from.size(), offset_bytes, out.size());
  std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(offset_bytes), out.size(), out.begin());
}

Initializers::Initializers(::onnx::GraphProto& graph, InputFile file,
                           const std::vector<std::optional<ByteRange>>& raw_data) {
  const auto n_initializers = static_cast<std::size_t>(graph.initializer_size());
  if (raw_data.size() != n_initializers) {
    throw Error(ErrorCode::kInternal,
                fmt::format("{} initializers parsed, {} seen", n_initializers, raw_data.size()));
  }
  DataFiles data_files(std::move(file));
  all_.reserve(n_initializers);
  for (std::size_t i = 0; i < n_initializers; ++i) {
    ::onnx::TensorProto& tensor = *graph.mutable_initializer(static_cast<int>(i));
    CheckName(tensor.name(), i);
    TensorData data = CheckTensor(tensor);
    Initializer initializer;
    initializer.name = tensor.name();
    initializer.data_type = tensor.data_type();
    initializer.dims = std::move(data.dims);
    initializer.size_bytes = data.size_bytes;
    if (data.external) {
      try {
        initializer.file = data_files.Open(data.external->location);
      } catch (Error& error) {
        throw std::move(error).Tensor(initializer.name);
      }
      initializer.offset_bytes = data.external->offset_bytes;
      const std::uint64_t file_size = data_files.files()[initializer.file].size();
      if (initializer.size_bytes > file_size ||
          initializer.offset_bytes > file_size - initializer.size_bytes) {
        throw Error(ErrorCode::kBadData,
                    fmt::format("external data offset {} and length {}, but '{}' has {} bytes",
                                initializer.offset_bytes, initializer.size_bytes,
                                Escape(data.external->location), file_size))
            .Tensor(initializer.name)
            .Hint("incomplete download?");
      }
    } else if (tensor.has_raw_data()) {
      if (!raw_data[i] || raw_data[i]->size_bytes != tensor.raw_data().size()) {
        throw Error(ErrorCode::kInternal, "raw_data parsed is not raw_data seen")
            .Tensor(initializer.name);
      }
      initializer.offset_bytes = raw_data[i]->offset_bytes;
      const std::unique_ptr<std::string> freed(tensor.release_raw_data());
    } else if (HasTypedData(tensor) && tensor.data_type() != kString) {
      initializer.content = TypedBytes(tensor);
    }
    all_.push_back(std::move(initializer));
  }
  for (std::size_t i = 0; i < all_.size(); ++i) index_.emplace(all_[i].name, i);
  files_ = std::move(data_files).Release();
}

const Initializer* Initializers::Find(std::string_view name) const noexcept {
  const std::optional<std::size_t> found = FindIndex(name);
  return found ? &all_[*found] : nullptr;
}

std::optional<std::size_t> Initializers::FindIndex(std::string_view name) const noexcept {
  const auto found = index_.find(name);
  return found == index_.end() ? std::nullopt : std::optional(found->second);
}

void Initializers::Read(const Initializer& initializer, std::uint64_t offset_bytes,
                        std::span<std::byte> out) const {
  if (!initializer.content.empty())
    return CopyRange(initializer.name, initializer.content, offset_bytes, out);
  CheckRange(initializer.name, initializer.size_bytes, offset_bytes, out.size());
  files_[initializer.file].ReadAt(initializer.offset_bytes + offset_bytes, out);
}

}  // namespace phiq::onnx
