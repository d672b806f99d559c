#include "phiq/error.h"

#include <gtest/gtest.h>

namespace phiq {
namespace {

TEST(Error, ComposesOneLineFromItsParts) {
  const Error full = Error(ErrorCode::kBadData, "is wrong")
                         .In("m.safetensors")
                         .Tensor("a\nb")
                         .At(8)
                         .Hint("fetch it again");
  EXPECT_STREQ(full.what(), "m.safetensors: tensor 'a\\x0ab': is wrong at byte 8 (fetch it again)");
  EXPECT_STREQ(Error(ErrorCode::kUsage, "no").what(), "no");
}

TEST(Error, KeepsTheInnermostPlace) {
  Error inner = Error(ErrorCode::kInput, "gone").In("shard");
  inner.In("folder");
  EXPECT_STREQ(inner.what(), "shard: gone");
}

}  // namespace
}  // namespace phiq
