#include "plane_fixture.h"

#include <chrono>

namespace edgemoe {
namespace {

using testing::consume;
using testing::Consumed;
using testing::FaultGuard;
using testing::PlaneFiles;
using testing::range;
using testing::uses_of;

using Clock = std::chrono::steady_clock;

CacheSettings one_block_pieces() {
  CacheSettings settings;
  settings.piece = kBlock;
  return settings;
}

class PlaneCacheFailure : public ::testing::Test {
 protected:
  PlaneCacheFailure() { _cache.resize(_cache.require(range(0, 8))); }

  void expect_usable() {
    const Consumed consumed = consume(_cache, _files, range(0, _files.count()), ++_now, 3);
    EXPECT_EQ(consumed.right, _files.count());
    EXPECT_EQ(consumed.wrong, 0u);
    EXPECT_LE(_cache.stats().resident_bytes, _cache.stats().capacity_bytes);
  }

  const PlaneFiles _files{std::vector<uint64_t>(40, 4 * kBlock + 100), 32};
  ReadPool _pool{3};
  PlaneCache _cache{_files.files(), _files.planes(), _pool, one_block_pieces()};
  double _now = 0;
};

TEST_F(PlaneCacheFailure, EveryWaitingThreadLearnsOfAReadError) {
  {
    const FaultGuard guard(testing::failing_after(1));
    const Consumed consumed = consume(_cache, _files, range(0, _files.count()), ++_now, 4);
    EXPECT_EQ(consumed.io_errors, 4u);
    EXPECT_EQ(consumed.right + consumed.wrong, 0u);
  }
  EXPECT_EQ(_cache.stats().resident_bytes, 0u);
  expect_usable();
}

TEST_F(PlaneCacheFailure, AnErrorAtAnyPointLeavesTheCacheUsable) {
  for (uint64_t limit = kBlock; limit < 130 * kBlock; limit += 13 * kBlock) {
    {
      const FaultGuard guard(testing::failing_after(limit));
      const Consumed consumed = consume(_cache, _files, range(0, _files.count()), ++_now, 3);
      EXPECT_EQ(consumed.wrong, 0u);
      EXPECT_GE(consumed.io_errors, 1u);
    }
    expect_usable();
  }
}

TEST_F(PlaneCacheFailure, AFileThatShrankIsAnErrorThatNamesIt) {
  {
    const FaultGuard guard(testing::truncated_at(2 * kBlock));
    PlaneCache::Lease lease(_cache, uses_of(range(0, 6)), ++_now, testing::never);
    try {
      for (size_t i = 0; i < 6; ++i) lease.wait(i);
      FAIL() << "read behind the end";
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what()).find("shrunk"), std::string::npos) << error.what();
    }
  }
  expect_usable();
}

TEST_F(PlaneCacheFailure, PlanesThatArrivedAreServedAfterAnError) {
  consume(_cache, _files, range(0, 4), ++_now);
  {
    const FaultGuard guard(testing::failing_after(1));
    PlaneCache::Lease lease(_cache, uses_of({0, 1, 20, 2}), ++_now, testing::never);
    EXPECT_THROW(lease.wait(2), IoError);
    EXPECT_TRUE(_files.equal(0, lease.wait(0)));
    EXPECT_TRUE(_files.equal(2, lease.wait(3)));
    lease.release(0);
    EXPECT_THROW(lease.wait(2), IoError);
  }
  EXPECT_FALSE(_cache.resident(20));
  expect_usable();
}

TEST_F(PlaneCacheFailure, AbortEndsEveryWaitPromptly) {
  for (int round = 0; round < 3; ++round) {
    {
      const FaultGuard guard(testing::throttled_to(50 * kBlock));  // a plane takes 100 ms
      std::atomic<bool> stop{false};
      std::thread stopper([&stop] {
        std::this_thread::sleep_for(std::chrono::milliseconds(60));
        stop = true;
      });
      const auto started = Clock::now();
      const Consumed consumed =
          consume(_cache, _files, testing::range(0, _files.count()), ++_now, 3, [&stop] { return stop.load(); });
      EXPECT_LT(Clock::now() - started, std::chrono::milliseconds(2000));  // all planes would take four seconds
      stopper.join();
      EXPECT_EQ(consumed.aborts, 3u);
      EXPECT_EQ(consumed.wrong, 0u);
    }
    expect_usable();
    _cache.resize(_cache.require({}));
  }
}

TEST_F(PlaneCacheFailure, AbortFromTheStartStillServesWhatIsResident) {
  consume(_cache, _files, range(0, 4), ++_now);
  const auto always = [] { return true; };
  {
    PlaneCache::Lease lease(_cache, uses_of(range(0, 4)), ++_now, always);
    for (uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(_files.equal(i, lease.wait(i)));
  }
  {
    const FaultGuard guard(testing::throttled_to(100 * kBlock));
    PlaneCache::Lease lease(_cache, uses_of(range(10, 20)), ++_now, always);
    EXPECT_THROW(lease.wait(9), Aborted);
  }
  expect_usable();
}

TEST_F(PlaneCacheFailure, ClosingALeaseWhileReadsAreInFlightKeepsTheirSlotsApart) {
  const FaultGuard guard(testing::throttled_to(4000 * kBlock));
  std::mt19937 random(60);
  for (int round = 0; round < 60; ++round) {
    const std::vector<uint32_t> planes = testing::sample(random, _files.count(), 10);
    PlaneCache::Lease lease(_cache, uses_of(planes), ++_now, testing::never);
    const size_t consumed = random() % 4;
    for (size_t i = 0; i < consumed; ++i) {
      EXPECT_TRUE(_files.equal(planes[i], lease.wait(i)));
      lease.release(i);
    }
  }
  expect_usable();
}

TEST_F(PlaneCacheFailure, ThePoolOutlivesCachesThatComeAndGo) {
  for (int i = 0; i < 30; ++i) {
    PlaneCache cache(_files.files(), _files.planes(), _pool, one_block_pieces());
    cache.resize(cache.total_bytes() / 2);
    const PlaneCache::Lease unused(cache, uses_of(range(0, _files.count())), 1, testing::never);
  }
  expect_usable();
}

}  // namespace
}  // namespace edgemoe
