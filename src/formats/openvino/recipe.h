// What --type and the encoding options mean for OpenVINO.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/format.h"

namespace phiq::openvino {

// What the layers have that --ratio leaves, and embedding and head: NNCF's, for the symmetric types
// too.
inline constexpr std::string_view kBackup = "INT8_ASYM";

// A type of weights. The names of the integer types are NNCF's.
struct WeightType {
  std::string_view name;
  std::string_view description;
  int bits;             // 4 or 8; 0: floats
  bool symmetric;       // of integers
  GgmlType float_type;  // of floats
};

// Largest first.
std::span<const WeightType> WeightTypes() noexcept;

// By name, any case. Throws kUsage (with a suggestion); kUnsupported: one that phiq does not write.
const WeightType& FindWeightType(std::string_view name);

// The type of as many bits that is symmetric or not ("INT8_ASYM", true: "INT8_SYM").
// Throws kUsage: a type of floats.
std::string TypeWith(std::string_view type, bool symmetric);

// The encoding of a matrix. `group_size` is of the 4-bit types; 8 bits have one scale for each row.
Encoding EncodingOf(const WeightType& type, std::uint32_t group_size) noexcept;

}  // namespace phiq::openvino
