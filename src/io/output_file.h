// Where outputs go. A final name never holds half a file: bytes go to a hidden temporary beside it,
// which is synced and renamed by Commit. Pipes and character devices are written front to back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace phiq {

struct OutputOptions {
  bool force = false;       // replace what exists
  bool mkdir = false;       // create missing parent folders
  bool space_check = true;  // refuse before any work when the disk is too full
  bool fsync = true;
};

// Checks, before any work, that `path` may become an output.
//
// Throws   kOutput: exists without force, no folder, no permission. kUsage: a folder stands there.
void CheckOutputPath(const std::filesystem::path& path, const OutputOptions& options);

// Checks, before any work, that the disk of `path` has room for `size_bytes` more.
// Throws   kOutput, naming the bytes needed and free.
void CheckSpace(const std::filesystem::path& path, std::uint64_t size_bytes);

// Standard output, a pipe or a device: has no temporary.
bool IsStream(const std::filesystem::path& path);

class OutputFile {
 public:
  // A regular file of exactly `size_bytes`, or the pipe or device that `path` is; "-" is standard
  // output.
  //
  // Throws   kOutput: exists without force, disk full, no permission, ...
  //          kTryAgain: another live run writes the same name. kUsage: "-" and standard output is a
  //          terminal.
  OutputFile(const std::filesystem::path& path, std::uint64_t size_bytes,
             const OutputOptions& options);
  ~OutputFile();  // without Commit: the temporary is removed and the final name is untouched
  OutputFile(OutputFile&&) noexcept;
  OutputFile& operator=(OutputFile&&) noexcept;

  // Writes at a position. Ranges must be disjoint and must cover the file, but for zero bytes,
  // which need not be written to a regular file.
  //
  // Threads  safe. On a pipe a call waits until all bytes before its range have been written, so
  //          ranges must be handed out in order (as ParallelChunks does).
  // Throws   kOutput.
  void WriteAt(std::uint64_t offset_bytes, std::span<const std::byte> bytes);

  // Reads back what was written. Not of a stream, nor after Commit.
  // Threads  safe. Throws   kOutput.
  void ReadAt(std::uint64_t offset_bytes, std::span<std::byte> bytes) const;

  bool is_stream() const noexcept;  // a pipe or device
  // Where the bytes are until Commit. Not of a stream.
  std::filesystem::path staged_path() const;

  // Wakes writers that wait on a pipe for bytes that will never come; they throw kOutput.
  void Abandon() noexcept;

  // fsync, mode bits, close, rename, fsync of the folder.
  // Throws   kOutput: the final name is untouched ("renamed but not known durable" excepted).
  void Commit();

  struct Impl;

 private:
  friend class Outputs;
  friend class StagedFolder;
  explicit OutputFile(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A folder as output: files are written into a hidden sibling folder, which Outputs::Commit
// renames.
class StagedFolder {
 public:
  // `owned`: file names that phiq itself writes into such a folder; with force, an old folder that
  // holds any other file is refused (kOutput, naming up to five). kUsage: "." or "..", which no
  // rename can replace.
  StagedFolder(const std::filesystem::path& path, std::vector<std::string> owned,
               const OutputOptions& options);
  ~StagedFolder();
  // What the constructor would refuse about the name and what stands there, before any work.
  static void Check(const std::filesystem::path& path, std::vector<std::string> owned,
                    const OutputOptions& options);
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // A new file in the folder. It lives in the staging folder until Commit.
  OutputFile& Create(const std::string& name, std::uint64_t size_bytes);
  // Where the files are until Commit.
  std::filesystem::path staged_path() const;

  struct Impl;
  explicit StagedFolder(std::unique_ptr<Impl> impl);  // opened

 private:
  friend class Outputs;
  std::unique_ptr<Impl> impl_;
};

}  // namespace phiq
