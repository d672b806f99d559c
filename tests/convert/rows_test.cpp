// Chunks of rows: every row once, in order.
#include "convert/rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace phiq {
namespace {

PlanLine Line(std::vector<std::uint64_t> shape) {
  PlanLine line;
  line.shape = std::move(shape);
  return line;
}

TEST(CutIntoChunks, CoversEveryRowOnceInOrder) {
  Plan plan;
  plan.lines = {Line({10, 300}), Line({256}), Line({3, 5000})};
  const std::vector<std::size_t> order = {2, 0, 1};
  const std::vector<RowChunk> chunks = CutIntoChunks(plan, order, 1000);
  std::vector<std::uint64_t> next_row(3, 0);
  std::vector<std::size_t> met;
  for (const RowChunk& chunk : chunks) {
    EXPECT_EQ(chunk.first_row, next_row[chunk.line]);
    EXPECT_GE(chunk.n_rows, 1U);
    EXPECT_TRUE(chunk.n_rows == 1 || chunk.n_rows * plan.lines[chunk.line].row_elements() <= 1000);
    next_row[chunk.line] += chunk.n_rows;
    if (met.empty() || met.back() != chunk.line) met.push_back(chunk.line);
  }
  EXPECT_EQ(next_row, (std::vector<std::uint64_t>{10, 1, 3}));
  EXPECT_EQ(met, order);
}

}  // namespace
}  // namespace phiq
