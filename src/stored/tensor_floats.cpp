// All 8-bit floats of a kind are 256 values: a table.
#include "stored/tensor_floats.h"

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/endian.h"
#include "base/float8.h"
#include "model/float_types.h"
#include "phiq/ggml_type.h"

namespace phiq {
namespace {

const std::array<float, 256>& Float8Values(DType dtype) {
  const auto table = [](float (*to_float)(std::uint8_t) noexcept) {
    std::array<float, 256> values{};
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = to_float(static_cast<std::uint8_t>(i));
    return values;
  };
  static const std::array<float, 256> e4m3 = table(Fp8E4M3ToFloat), e5m2 = table(Fp8E5M2ToFloat);
  return dtype == DType::kF8E4M3 ? e4m3 : e5m2;
}

}  // namespace

void ReadFloats(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                std::span<float> out) {
  const std::size_t element_bytes = DTypeBits(tensor.dtype) / 8;
  std::vector<std::byte> bytes(out.size() * element_bytes);
  checkpoint.Read(tensor, first * element_bytes, bytes);
  if (const std::optional<FloatType> type = FloatTypeOf(tensor.dtype)) {
    DequantizeGgmlRow(GgmlTypeOf(*type), bytes, out);
  } else if (tensor.dtype == DType::kF64) {
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(LoadLe<double>(bytes, 8 * i));
  } else {
    const std::array<float, 256>& values = Float8Values(tensor.dtype);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = values[std::to_integer<std::uint8_t>(bytes[i])];
  }
}

void ScaleRows(const Checkpoint& checkpoint, const BlockScales& scales, std::uint64_t row_elements,
               std::uint64_t first_row, std::span<float> rows) {
  const std::uint64_t end = first_row + rows.size() / row_elements;
  const std::uint64_t first_block = first_row / scales.block_rows;
  std::vector<float> numbers(((end - 1) / scales.block_rows - first_block + 1) * scales.n_columns);
  ReadFloats(checkpoint, checkpoint.tensors()[scales.tensor], first_block * scales.n_columns,
             numbers);
  for (std::uint64_t row = first_row; row < end; ++row) {
    const float* const of_row =
        &numbers[(row / scales.block_rows - first_block) * scales.n_columns];
    float* const x = &rows[(row - first_row) * row_elements];
    for (std::uint64_t c = 0; c < row_elements; ++c) x[c] *= of_row[c / scales.block_columns];
  }
}

}  // namespace phiq
