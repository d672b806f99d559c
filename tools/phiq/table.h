// Plain aligned columns.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace phiq::cli {

// One line per row, columns two blanks apart. `alignment` has one letter a column: 'l' or 'r'.
// Every row has as many cells as there are letters.
std::string FormatTable(std::string_view alignment,
                        const std::vector<std::vector<std::string>>& rows);

std::string FormatShape(const std::vector<std::uint64_t>& shape);  // "[32064, 3072]"
std::string FormatSeconds(double seconds);                         // "41.2 s", "3 min 12 s"
// "92.7 M weights/s", "310 tokens/s"
std::string FormatRate(double units_per_second, std::string_view unit = "weights");

}  // namespace phiq::cli
