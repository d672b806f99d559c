// Tests that run once for each instruction set that this processor has and Highway generated code
// for.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "kernels/simd/targets.h"

namespace phiq::testing {

// What calls kernels while this exists takes those for `target`.
class ChosenTarget {
 public:
  explicit ChosenTarget(std::int64_t target) { hwy::SetSupportedTargetsForTest(target); }
  ChosenTarget(const ChosenTarget&) = delete;
  ChosenTarget& operator=(const ChosenTarget&) = delete;
  ~ChosenTarget() { hwy::SetSupportedTargetsForTest(0); }
};

class OnEveryTarget : public ::testing::TestWithParam<std::int64_t> {
 private:
  ChosenTarget chosen_{GetParam()};
};

inline std::string TargetName(const ::testing::TestParamInfo<std::int64_t>& info) {
  return hwy::TargetName(info.param);
}

}  // namespace phiq::testing
