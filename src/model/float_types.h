// The three floats that weights come in, as each vocabulary calls them.
#pragma once

#include <optional>

#include "phiq/checkpoint.h"
#include "phiq/encoding.h"
#include "phiq/ggml_type.h"

namespace phiq {

constexpr GgmlType GgmlTypeOf(FloatType type) noexcept {
  switch (type) {
    case FloatType::kF32:
      return GgmlType::kF32;
    case FloatType::kF16:
      return GgmlType::kF16;
    case FloatType::kBF16:
      break;
  }
  return GgmlType::kBF16;
}

constexpr DType DTypeOf(FloatType type) noexcept {
  switch (type) {
    case FloatType::kF32:
      return DType::kF32;
    case FloatType::kF16:
      return DType::kF16;
    case FloatType::kBF16:
      break;
  }
  return DType::kBF16;
}

// nullopt: it is none of them.
constexpr std::optional<FloatType> FloatTypeOf(DType dtype) noexcept {
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    if (DTypeOf(type) == dtype) return type;
  }
  return std::nullopt;
}
constexpr std::optional<FloatType> FloatTypeOf(ScaleType scale) noexcept {
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    if (ScaleTypeOf(type) == scale) return type;
  }
  return std::nullopt;
}
constexpr std::optional<FloatType> FloatTypeOf(GgmlType ggml_type) noexcept {
  for (const FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16}) {
    if (GgmlTypeOf(type) == ggml_type) return type;
  }
  return std::nullopt;
}

}  // namespace phiq
