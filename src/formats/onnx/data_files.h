// The files that hold a model's external data, opened only when they are inside its folder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/input_file.h"

namespace phiq::onnx {

class DataFiles {
 public:
  // Takes the open .onnx, which becomes file 0.
  explicit DataFiles(InputFile model);

  // Index of the file at `location`, which LocationProblem has passed.
  //
  // Throws   kBadData: a link out of the model's folder (links between a hub cache's snapshot and
  // its
  //          blobs are fine), the model itself, too many files. kInput: missing, not a regular
  //          file.
  std::size_t Open(const std::string& location);

  const std::vector<InputFile>& files() const noexcept { return files_; }
  std::vector<InputFile> Release() && { return std::move(files_); }

 private:
  std::filesystem::path folder_;
  std::vector<std::filesystem::path> allowed_;  // real folders
  std::vector<InputFile> files_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace phiq::onnx
