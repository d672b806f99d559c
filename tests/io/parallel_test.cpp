// Items in order over threads, with stops and errors between them.
#include "io/parallel.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "phiq/error.h"

namespace phiq {
namespace {

using namespace std::chrono_literals;

TEST(ParallelChunks, DoesEachItemOnce) {
  for (const unsigned n_threads : {1U, 2U, 7U, 16U}) {
    std::vector<std::atomic<int>> done(100);
    ParallelChunks(n_threads, done.size(), [&](std::size_t item, unsigned worker) {
      EXPECT_LT(worker, n_threads);
      ++done[item];
    });
    for (const std::atomic<int>& count : done) EXPECT_EQ(count, 1) << n_threads << " threads";
  }
}

TEST(ParallelChunks, StartsItemsInIncreasingOrder) {
  std::vector<std::size_t> started;
  ParallelChunks(1, 50, [&](std::size_t item, unsigned) { started.push_back(item); });
  ASSERT_EQ(started.size(), 50U);
  for (std::size_t i = 0; i < started.size(); ++i) EXPECT_EQ(started[i], i);
}

TEST(ParallelChunks, NeverRunsAWorkerTwiceAtOnce) {
  std::vector<int> owned(4, 0);  // not atomic: the thread sanitizer sees any sharing
  ParallelChunks(4, 400, [&](std::size_t, unsigned worker) { ++owned[worker]; });
  EXPECT_EQ(owned[0] + owned[1] + owned[2] + owned[3], 400);
}

TEST(ParallelChunks, DoesNothingWithoutItems) {
  ParallelChunks(4, 0, [](std::size_t, unsigned) { FAIL(); });
}

TEST(ParallelChunks, ReportsTheLowestFailureOnAnyNumberOfThreads) {
  for (const unsigned n_threads : {1U, 2U, 8U}) {
    for (int round = 0; round < 20; ++round) {
      std::string what;
      try {
        ParallelChunks(n_threads, 64, [](std::size_t item, unsigned) {
          if (item == 20) std::this_thread::sleep_for(1ms);  // so that later ones fail first
          if (item >= 20) throw std::runtime_error(fmt::format("item {}", item));
        });
      } catch (const std::runtime_error& error) {
        what = error.what();
      }
      ASSERT_EQ(what, "item 20") << n_threads << " threads";
    }
  }
}

TEST(ParallelChunks, StartsNothingAfterAFailure) {
  std::atomic<std::size_t> n_started = 0;
  EXPECT_THROW(ParallelChunks(2, 1000000,
                              [&](std::size_t item, unsigned) {
                                ++n_started;
                                if (item == 3) throw std::runtime_error("three");
                                std::this_thread::sleep_for(100us);
                              }),
               std::runtime_error);
  EXPECT_LT(n_started, 1000U);
}

TEST(ParallelChunks, TellsOfAFailureOnceAndAfterAllLowerItems) {
  std::atomic<int> n_told = 0;
  std::atomic<bool> low_done = false;
  std::atomic<bool> told_early = false;
  ParallelHooks hooks;
  hooks.on_failure = [&] {
    ++n_told;
    if (!low_done) told_early = true;
  };
  EXPECT_THROW(ParallelChunks(
                   3, 3,
                   [&](std::size_t item, unsigned) {
                     if (item == 0) {
                       std::this_thread::sleep_for(20ms);
                       low_done = true;
                       return;
                     }
                     throw std::runtime_error("later");
                   },
                   hooks),
               std::runtime_error);
  EXPECT_EQ(n_told, 1);
  EXPECT_FALSE(told_early);
}

TEST(ParallelChunks, StopsWithinAShortTimeWhenAsked) {
  std::atomic<bool> told = false;
  ParallelHooks hooks;
  const auto start = std::chrono::steady_clock::now();
  hooks.stop_requested = [&] { return std::chrono::steady_clock::now() - start > 150ms; };
  hooks.on_failure = [&] { told = true; };
  try {
    ParallelChunks(
        2, 1000000,
        [&](std::size_t, unsigned) {
          std::this_thread::sleep_for(1ms);
          if (told) throw std::runtime_error("an echo of the stop, not its reason");
        },
        hooks);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
  EXPECT_TRUE(told);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 1s);
}

TEST(ParallelChunks, TicksOnTheCallingThread) {
  const std::thread::id caller = std::this_thread::get_id();
  int n_ticks = 0;
  ParallelHooks hooks;
  hooks.tick = [&] {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    ++n_ticks;
  };
  ParallelChunks(
      1, 1, [](std::size_t, unsigned) { std::this_thread::sleep_for(350ms); }, hooks);
  EXPECT_GE(n_ticks, 2);
  EXPECT_LE(n_ticks, 4);
}

TEST(ParallelChunks, PassesOnWhatAHookThrows) {
  ParallelHooks hooks;
  hooks.tick = [] { throw std::logic_error("tick"); };
  EXPECT_THROW(
      ParallelChunks(
          2, 1000000, [](std::size_t, unsigned) { std::this_thread::sleep_for(1ms); }, hooks),
      std::logic_error);
}

TEST(AvailableThreads, CountsTheAffinityMask) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  EXPECT_EQ(AvailableThreads(), static_cast<unsigned>(CPU_COUNT(&before)));
  int first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(one), &one), 0);
  EXPECT_EQ(AvailableThreads(), 1U);
  ASSERT_EQ(::sched_setaffinity(0, sizeof(before), &before), 0);
}

}  // namespace
}  // namespace phiq
