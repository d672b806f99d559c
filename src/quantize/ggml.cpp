// kGgml: rows are whole blocks, so those of a chunk are one run of blocks to the kernels.
#include "kernels/ggml_rows.h"
#include "phiq/quantize.h"
#include "quantize/float_rows.h"

namespace phiq {
namespace {

bool IsGgmlType(const Encoding& encoding) noexcept {
  return std::holds_alternative<GgmlType>(encoding);
}

void QuantizeGgml(const Encoding& encoding, const RawRows& x, std::size_t /*n*/,
                  const InputStats& /*stats*/, std::span<const std::span<std::byte>> arrays) {
  QuantizeGgmlRow(std::get<GgmlType>(encoding), StartOf(x), x.size(), arrays[0]);
}

}  // namespace

constinit const Method kGgml = {"ggml", FloatType::kF32, Needs::kNothing, IsGgmlType, QuantizeGgml};

}  // namespace phiq
