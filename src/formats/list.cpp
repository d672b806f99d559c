// The one place that names the formats: a line for each, and the devices that want one of them.
#include "formats/format.h"
#include "formats/gguf/format.h"
#include "formats/litert/format.h"
#include "formats/mlx/format.h"
#include "formats/onnx/format.h"
#include "formats/openvino/format.h"
#include "formats/pretrained/format.h"
#include "formats/torch/format.h"

namespace phiq {

std::span<const Format* const> Formats() noexcept {
  static constexpr const Format* kFormats[] = {
      &gguf::kFormat,   &onnx::kFormat,  &openvino::kFormat,  &mlx::kFormat,
      &litert::kFormat, &torch::kFormat, &pretrained::kFormat};
  return kFormats;
}

std::span<const Profile> ListedProfiles() {
  using enum Precision;
  static const std::vector<Profile> profiles = {
      {"mobile",
       "phones and tablets, onnxruntime mobile CPU",
       "onnx",
       kInt4,
       {kInt4, kInt8},
       std::nullopt,
       {}},
      {"iot", "Arm and x86 boards, llama.cpp", "gguf", kInt4, {kInt4, kInt8}, std::nullopt, {}},
      {"ai-pc",
       "any AI PC, onnxruntime CPU",
       "onnx",
       kInt8,
       {kInt8, kInt4, kFp16, kFp32},
       std::nullopt,
       {}},
      {"ai-pc-intel",
       "Intel CPU, GPU, NPU",
       "openvino",
       kInt8,
       {kInt4, kInt8, kFp16, kFp32},
       std::nullopt,
       {}},
      {"ai-pc-nvidia",
       "onnxruntime CUDA",
       "onnx",
       kFp16,
       {kInt4, kInt8, kFp16},
       std::nullopt,
       {{"ep", "cuda"}}},
      {"apple",
       "Apple silicon",
       "mlx",
       kInt4,
       {kInt4, kInt8, kFp16, kBf16, kFp32},
       std::nullopt,
       {}},
      {"mobile-litert",
       "Android, iOS, boards, LiteRT-LM",
       "litert",
       kInt4,
       {kInt4, kInt8, kFp32},
       std::nullopt,
       {}},
      {"pytorch", "transformers and vLLM", "torch", kInt4, {kInt4, kInt8}, std::nullopt, {}},
  };
  return profiles;
}

}  // namespace phiq
