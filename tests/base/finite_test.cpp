// NaN and Inf are found at every place of a run, whatever the vector width.
#include "base/finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace phiq {
namespace {

TEST(FirstNonFinite, FindsNanAndInfAtEveryPlace) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const std::size_t n : {1U, 255U, 256U, 257U, 1000U}) {
    std::vector<float> x(n, -3.4e38F);
    EXPECT_EQ(FirstNonFinite(x), n);
    for (const float bad : {std::nanf(""), kInf, -kInf}) {
      for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
        x[at] = bad;
        EXPECT_EQ(FirstNonFinite(x), at);
        x[at] = 1e-45F;
      }
    }
  }
}

}  // namespace
}  // namespace phiq
