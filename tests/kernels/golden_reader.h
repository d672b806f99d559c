// Reads the binary golden files of the quantizers: little-endian u32 and raw bytes.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/endian.h"
#include "phiq/encoding.h"

namespace phiq {

struct GoldenMatrix {
  std::size_t n_rows;
  std::vector<float> weights;

  std::size_t n() const { return weights.size() / n_rows; }
};

class GoldenReader {
 public:
  explicit GoldenReader(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.assign(bytes.begin(), bytes.end());
  }

  std::uint32_t Number() { return LoadLe<std::uint32_t>(Take(4)); }
  std::span<const std::byte> Take(std::size_t size_bytes) {
    if (offset_ + size_bytes > bytes_.size()) throw std::runtime_error(path_ + " is cut short");
    const auto taken = std::span(bytes_).subspan(offset_, size_bytes);
    offset_ += size_bytes;
    return taken;
  }
  // An array after its size in bytes.
  std::vector<std::byte> Array() {
    const auto bytes = Take(Number());
    return {bytes.begin(), bytes.end()};
  }
  // Their count, then for each: rows, K, rows * K floats.
  std::vector<GoldenMatrix> Matrices() {
    std::vector<GoldenMatrix> matrices(Number());
    for (GoldenMatrix& matrix : matrices) {
      matrix.n_rows = Number();
      matrix.weights.resize(matrix.n_rows * Number());
      for (float& weight : matrix.weights) weight = LoadLe<float>(Take(4));
    }
    return matrices;
  }
  bool AtEnd() const { return offset_ == bytes_.size(); }

 private:
  std::string path_;
  std::vector<std::byte> bytes_;
  std::size_t offset_ = 0;
};

// The arrays that a quantizer stored for a matrix, all rows in each.
struct GoldenCase {
  std::size_t matrix;
  GroupEncoding encoding;
  std::array<std::vector<std::byte>, kMaxArrays> arrays;
};

template <typename Case>
struct Goldens {
  std::vector<GoldenMatrix> matrices;
  std::vector<Case> cases;

  const GoldenMatrix& MatrixOf(const Case& golden) const { return matrices.at(golden.matrix); }
};

// The matrices, a count, and the cases, each of which read_case(reader) returns.
template <typename ReadCase>
auto ReadGoldens(const std::string& path, const ReadCase& read_case) {
  GoldenReader reader(path);
  Goldens<decltype(read_case(reader))> goldens;
  goldens.matrices = reader.Matrices();
  const std::uint32_t n_cases = reader.Number();
  for (std::uint32_t i = 0; i < n_cases; ++i) goldens.cases.push_back(read_case(reader));
  if (!reader.AtEnd()) throw std::runtime_error(path + " is too long");
  return goldens;
}

}  // namespace phiq
