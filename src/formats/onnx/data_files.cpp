// A location is resolved before it is opened, so that no file outside is ever touched.
#include "formats/onnx/data_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "phiq/error.h"
#include "phiq/text.h"

namespace phiq::onnx {
namespace {

namespace fs = std::filesystem;

fs::path FolderOf(const fs::path& file) {
  const fs::path folder = file.parent_path();
  return folder.empty() ? fs::path(".") : folder;
}

bool IsBelow(const fs::path& file, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first ==
         folder.end();
}

}  // namespace

DataFiles::DataFiles(InputFile model) : folder_(FolderOf(model.path())) {
  // The second: where the model really is. A hub cache's snapshot is links to files in blobs/.
  std::error_code ignored;
  for (const fs::path& real :
       {fs::canonical(folder_, ignored), FolderOf(fs::canonical(model.path(), ignored))}) {
    if (real.is_absolute()) allowed_.push_back(real);
  }
  files_.push_back(std::move(model));
}

std::size_t DataFiles::Open(const std::string& location) {
  if (const auto found = index_.find(location); found != index_.end()) return found->second;
  if (files_.size() > limits::kOnnxDataFiles) {
    throw Error(ErrorCode::kBadData,
                fmt::format("more than {} external data files", limits::kOnnxDataFiles));
  }
  const fs::path path = folder_ / location;
  std::error_code problem;
  const fs::path real = fs::canonical(path, problem);
  if (!problem && std::none_of(allowed_.begin(), allowed_.end(),
                               [&](const fs::path& folder) { return IsBelow(real, folder); })) {
    throw Error(
        ErrorCode::kBadData,
        fmt::format("external data location '{}' is a link to {}, outside the model directory",
                    Escape(location), Escape(real.native())));
  }
  InputFile file(path);
  if (problem) {  // it appeared after it was resolved
    throw Error(ErrorCode::kTryAgain, "changed while it was opened").In(path.native());
  }
  if (files_[0].IsSameFile(path)) {
    throw Error(
        ErrorCode::kBadData,
        fmt::format("external data location '{}' is the model file itself", Escape(location)));
  }
  files_.push_back(std::move(file));
  index_.emplace(location, files_.size() - 1);
  return files_.size() - 1;
}

}  // namespace phiq::onnx
