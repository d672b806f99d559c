// The types as a table.
#include "formats/openvino/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "phiq/error.h"
#include "phiq/plan.h"
#include "phiq/text.h"
#include "plan/lines.h"
#include "plan/names.h"

namespace phiq::openvino {
namespace {

using enum GgmlType;

// clang-format off
constexpr WeightType kWeightTypes[] = {
    {"F32", "32.00 bits, exact", 0, true, kF32},
    {"F16", "16.00 bits, half floats", 0, true, kF16},
    {"BF16", "16.00 bits, exact for bfloat16 checkpoints", 0, true, kBF16},
    {"INT8_ASYM", "8.01 bits, a scale and zero point for each row, nearly lossless", 8, false, kF32},
    {"INT8_SYM", "8.01 bits, a scale for each row", 8, true, kF32},
    {"INT4_ASYM", "5.83 bits, zero points, 8 bits where they serve best (--ratio)", 4, false, kF32},
    {"INT4_SYM", "5.81 bits, 8 bits where they serve best (--ratio): the usual choice", 4, true, kF32},
};
// clang-format on

// NNCF's other modes.
constexpr std::string_view kNotWritten[] = {
    "NF4",   "CB4",      "MXFP4",    "MXFP8_E4M3", "FP8_E4M3",         "FP4",
    "NVFP4", "CODEBOOK", "INT2_SYM", "INT3_SYM",   "ADAPTIVE_CODEBOOK"};

}  // namespace

std::span<const WeightType> WeightTypes() noexcept { return kWeightTypes; }

const WeightType& FindWeightType(std::string_view name) {
  if (const WeightType* found = FindByName(kWeightTypes, name)) return *found;
  for (const std::string_view mode : kNotWritten) {
    if (!EqualsIgnoringCase(mode, name)) continue;
    throw Error(ErrorCode::kUnsupported,
                fmt::format("type {} is not written: of NNCF's modes this version has the integer "
                            "ones of 8 and 4 bits",
                            mode))
        .Hint("`phiq profiles --types` lists the types");
  }
  throw UnknownType(name, NamesOf(kWeightTypes));
}

Encoding EncodingOf(const WeightType& type, std::uint32_t group_size) noexcept {
  if (type.bits == 0) return type.float_type;
  const bool is_wide = type.bits == 8;
  GroupEncoding groups;
  groups.code =
      is_wide ? (type.symmetric ? Code::kI8 : Code::kU8) : (type.symmetric ? Code::kI4 : Code::kU4);
  groups.group_size = is_wide ? 0 : group_size;
  groups.scale = ScaleType::kF16;
  groups.offset = type.symmetric ? Offset::kNone : Offset::kZeroPoint;
  return groups;
}

std::string TypeWith(std::string_view type, bool symmetric) {
  const WeightType& named = FindWeightType(type);
  for (const WeightType& other : kWeightTypes) {
    if (named.bits != 0 && other.bits == named.bits && other.symmetric == symmetric)
      return std::string(other.name);
  }
  throw Error(ErrorCode::kUsage, fmt::format("type {} has no integer codes", named.name));
}

}  // namespace phiq::openvino
