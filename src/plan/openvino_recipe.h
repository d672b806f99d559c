// What --type and the encoding options mean for OpenVINO.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "phiq/encoding.h"
#include "phiq/profile.h"

namespace phiq {

// A type of weights. The names of the integer types are NNCF's.
struct OpenVinoType {
  std::string_view name;
  std::string_view description;
  int bits;             // 4 or 8; 0: floats
  bool symmetric;       // of integers
  GgmlType float_type;  // of floats
};

// Largest first.
std::span<const OpenVinoType> OpenVinoTypes() noexcept;

// By name, any case. Throws kUsage (with a suggestion); kUnsupported: one that phiq does not write.
const OpenVinoType& FindOpenVinoType(std::string_view name);

// The type that a precision means.
std::string_view OpenVinoTypeOf(Precision precision) noexcept;

// The encoding of a matrix. `group_size` is of the 4-bit types; 8 bits have one scale for each row.
Encoding EncodingOf(const OpenVinoType& type, std::uint32_t group_size) noexcept;

}  // namespace phiq
