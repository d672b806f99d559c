// Room on a disk for what does not fit into memory while a run lasts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "io/system.h"

namespace phiq {

// A file that has no name unless it is given one: it is gone with the process, however that ends.
// Holds zeros at first.
class ScratchFile {
 public:
  // In the folder of `beside`, the output that it serves.
  // Throws   kOutput: no room for so many bytes, no permission. kTryAgain as LockedFolder does.
  ScratchFile(const std::filesystem::path& beside, std::uint64_t size_bytes);
  // One that has a name, of which somebody else takes care.
  ScratchFile(std::filesystem::path path, Descriptor file, std::uint64_t size_bytes);

  // Threads  safe, but for bytes that are being written.
  // Throws   kOutput.
  void WriteAt(std::uint64_t offset_bytes, std::span<const std::byte> bytes);
  void ReadAt(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;
  void Sync() const;

 private:
  std::filesystem::path path_;  // for messages
  Descriptor file_;
};

}  // namespace phiq
