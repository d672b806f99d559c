// Every message of the program is one line that is composed here.
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

TEST(Error, KeepsEveryPartUnderAnotherName) {
  const Error error = Error(ErrorCode::kBadData, "is wrong in .a\\x0atmp/x and .a\\x0atmp")
                          .In(".a\ntmp/x")
                          .Tensor("t")
                          .At(8)
                          .Hint("see .a\\x0atmp");
  const Error renamed = error.Renamed(".a\ntmp", "a");
  EXPECT_STREQ(renamed.what(), "a/x: tensor 't': is wrong in a/x and a at byte 8 (see a)");
  EXPECT_EQ(renamed.path(), "a/x");
  EXPECT_EQ(renamed.tensor(), "t");
  EXPECT_EQ(renamed.offset_bytes(), 8U);
}

}  // namespace
}  // namespace phiq
