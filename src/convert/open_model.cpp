#include "convert/open_model.h"

#include <filesystem>
#include <system_error>

#include "formats/gguf/stored_model.h"
#include "formats/mlx/stored_model.h"
#include "formats/onnx/stored_model.h"
#include "formats/openvino/stored_model.h"
#include "stored/checkpoint_model.h"

namespace phiq {

InputKind KindOf(const std::string& path) noexcept {
  if (onnx::LooksLikeOnnx(path)) return InputKind::kOnnx;
  if (openvino::LooksLikeOpenVino(path)) return InputKind::kOpenVino;
  if (mlx::LooksLikeMlx(path)) return InputKind::kMlx;
  std::error_code ignored;
  const bool is_file =
      std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored);
  const bool is_weights = path.ends_with(".safetensors") || path.ends_with(".json");
  return is_file && !is_weights ? InputKind::kGguf : InputKind::kCheckpoint;
}

std::unique_ptr<StoredModel> OpenStoredModel(const std::string& path, const WarningFn& warn,
                                             const CheckpointOptions& options) {
  const WarningFn warn_or_not = WarnOrIgnore(warn);
  switch (KindOf(path)) {
    case InputKind::kOnnx:
      return onnx::MakeStoredModel(onnx::Folder::Open(path, warn_or_not), path);
    case InputKind::kOpenVino:
      return openvino::MakeStoredModel(openvino::Folder::Open(path), path, warn_or_not);
    case InputKind::kMlx:
      return mlx::MakeStoredModel(mlx::Folder::Open(path, warn_or_not), path);
    case InputKind::kGguf:
      return gguf::MakeStoredModel(gguf::File::Open(path, warn_or_not));
    case InputKind::kCheckpoint:
      break;
  }
  return OpenCheckpointModel(LocateCheckpoint(path, warn_or_not), options, warn_or_not);
}

SourceModel OpenSourceModel(const std::string& path, const CheckpointOptions& options,
                            const WarningFn& warn) {
  return {OpenCheckpointModel(LocateCheckpoint(path, warn), options, warn), warn};
}

}  // namespace phiq
