// The file is made as every temporary is, and its name removed at once: what a kill in between
// leaves, the next run finds.
#include "io/scratch_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "io/output_impl.h"
#include "io/temporaries.h"
#include "phiq/error.h"

namespace phiq {

ScratchFile::ScratchFile(const std::filesystem::path& beside, std::uint64_t size_bytes)
    : path_(ParentFolder(beside)) {
  LockedFolder locked(path_);
  Temporary made = locked.Create(beside, RegisteredName::Kind::kFile);
  if (::unlinkat(locked.fd(), made.name.c_str(), 0) != 0)
    throw SystemError(ErrorCode::kOutput, path_, "cannot make a scratch file", errno);
  made.registered.Reset();
  file_ = std::move(made.fd);
  ReserveBytes(file_.get(), path_, size_bytes);
}

ScratchFile::ScratchFile(std::filesystem::path path, Descriptor file, std::uint64_t size_bytes)
    : path_(std::move(path)), file_(std::move(file)) {
  ReserveBytes(file_.get(), path_, size_bytes);
}

void ScratchFile::Sync() const {
  if (Retry([&] { return ::fdatasync(file_.get()); }) != 0)
    throw SystemError(ErrorCode::kOutput, path_, "fsync failed", errno);
}

void ScratchFile::WriteAt(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
  WriteAllAt(file_.get(), path_, offset_bytes, bytes);
}

void ScratchFile::ReadAt(std::uint64_t offset_bytes, std::span<std::byte> bytes) const {
  ReadAllAt(file_.get(), path_, offset_bytes, bytes);
}

}  // namespace phiq
