// Importance matrices by the format that has files of them, so that each format can use them.
#include "formats/importance.h"

#include <algorithm>

#include "formats/format.h"

namespace phiq {
namespace {

const ImportanceFiles& FilesOfAFormat() {
  for (const Format* format : Formats())
    if (format->importance_files != nullptr) return *format->importance_files;
  throw Error(ErrorCode::kInternal, "no format has importance matrices");
}

}  // namespace

const std::vector<float>* Importance::Find(WeightId weight) const {
  const auto found = squares.find(weight);
  return found == squares.end() ? nullptr : &found->second;
}

Importance ReadImportance(const std::string& path, const Model& model, const WarningFn& warn) {
  return FilesOfAFormat().read(path, model, warn);
}

std::vector<std::byte> EncodeImportance(ImportanceForm form, std::span<const InputSquares> inputs,
                                        std::span<const std::string> datasets,
                                        std::uint32_t chunk_size) {
  return FilesOfAFormat().encode(form, inputs, datasets, chunk_size);
}

}  // namespace phiq
