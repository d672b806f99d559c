// Buffered reading with every length checked first.
#include "formats/gguf/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace phiq::gguf {

Source::Source(const InputFile& file) : file_(file), buffer_(std::size_t{1} << 16) {}

Error Source::BadData(std::string message) const {
  return Error(ErrorCode::kBadData, std::move(message)).In(file_.path().string()).At(offset_bytes_);
}

void Source::CheckRemaining(std::uint64_t n_bytes, std::string_view what) const {
  if (n_bytes > remaining_bytes()) {
    throw BadData(fmt::format("truncated: {} needs {} bytes but {} are left", what, n_bytes,
                              remaining_bytes()));
  }
}

void Source::Skip(std::uint64_t n_bytes, std::string_view what) {
  CheckRemaining(n_bytes, what);
  offset_bytes_ += n_bytes;
}

void Source::ReadBytes(std::span<std::byte> out, std::string_view what) {
  CheckRemaining(out.size(), what);
  while (!out.empty()) {
    const std::uint64_t skip = offset_bytes_ - buffer_offset_bytes_;
    if (skip >= buffered_bytes_) {
      buffered_bytes_ =
          static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), remaining_bytes()));
      buffer_offset_bytes_ = offset_bytes_;
      file_.ReadAt(offset_bytes_, std::span(buffer_).first(buffered_bytes_));
      continue;
    }
    const std::size_t n = std::min(out.size(), buffered_bytes_ - static_cast<std::size_t>(skip));
    std::memcpy(out.data(), buffer_.data() + skip, n);
    out = out.subspan(n);
    offset_bytes_ += n;
  }
}

std::string Source::ReadString(std::uint64_t max_bytes, std::string_view what) {
  const auto length = Read<std::uint64_t>(what);
  if (length > max_bytes) {
    throw BadData(fmt::format("{} has length {}, allowed are {} bytes", what, length, max_bytes));
  }
  if (length > remaining_bytes()) {
    throw BadData(fmt::format("truncated: {} has length {} but {} bytes are left", what, length,
                              remaining_bytes()));
  }
  std::string text(static_cast<std::size_t>(length), '\0');
  ReadBytes(std::as_writable_bytes(std::span(text)), what);
  return text;
}

}  // namespace phiq::gguf
