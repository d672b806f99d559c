// Each rate is that of a short piece of the work itself.
#include "convert/rates.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "engine/product.h"
#include "io/parallel.h"

namespace phiq {

double MeasureProductRate(unsigned threads) {
  constexpr std::size_t kRows = 256, kDepth = 2048, kRounds = 4;
  const std::vector<float> a(kRows * kDepth, 0.5F), b(kRows * kDepth, 0.25F);
  std::vector<std::vector<float>> products(threads, std::vector<float>(kRows * kRows));
  const auto start = std::chrono::steady_clock::now();
  ParallelChunks(threads, threads, [&](std::size_t, unsigned worker) {
    for (std::size_t round = 0; round < kRounds; ++round)
      engine::MultiplyByRows(a.data(), kRows, kDepth, b.data(), kRows, products[worker].data(),
                             kRows);
  });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return 2.0 * threads * kRounds * kRows * kRows * kDepth / seconds;
}

double MeasureEncodingRate(const Method& method, const PlanLine& line, unsigned threads) {
  const std::size_t n = line.row_elements();
  const std::size_t n_rows = std::max<std::size_t>(1, (1U << 14) / n);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<float> x(n_rows * n);
  std::ranges::generate(x, [&] { return normal(random); });
  const auto start = std::chrono::steady_clock::now();
  ParallelChunks(threads, threads, [&](std::size_t, unsigned) {
    std::array<std::vector<std::byte>, kMaxArrays> bytes;
    std::array<std::span<std::byte>, kMaxArrays> arrays;
    for (std::size_t a = 0; a < ArrayCount(line.encoding); ++a) {
      bytes[a].resize(n_rows * ArrayRowBytes(line.encoding, a, n));
      arrays[a] = bytes[a];
    }
    method.quantize(line.encoding, x, n, {}, std::span(arrays).first(ArrayCount(line.encoding)));
  });
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return static_cast<double>(threads * x.size()) / seconds;
}

}  // namespace phiq
