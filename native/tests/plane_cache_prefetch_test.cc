#include "plane_fixture.h"

#include <chrono>

namespace edgemoe {
namespace {

using testing::consume;
using testing::FaultGuard;
using testing::PlaneFiles;
using testing::range;
using testing::uses_of;

CacheSettings two_block_pieces() {
  CacheSettings settings;
  settings.piece = 2 * kBlock;
  return settings;
}

class PlaneCachePrefetch : public ::testing::Test {
 protected:
  PlaneCachePrefetch() { _minimum = _cache.require(range(0, 4)); }

  // Room for `planes` more than the smallest cache.
  void resize(size_t planes) { _cache.resize(_minimum + planes * _cache.total_bytes() / _files.count()); }

  bool wait_until_resident(const std::vector<uint32_t>& planes) const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (std::chrono::steady_clock::now() < until) {
      if (_cache.stats().resident_bytes >= planes.size() * 4 * kBlock &&
          std::all_of(planes.begin(), planes.end(), [this](uint32_t p) { return _cache.resident(p); })) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  const PlaneFiles _files{std::vector<uint64_t>(24, 4 * kBlock + 100), 32};
  ReadPool _pool{2};
  PlaneCache _cache{_files.files(), _files.planes(), _pool, two_block_pieces()};
  size_t _minimum = 0;
};

TEST_F(PlaneCachePrefetch, WhatWasPrefetchedIsReadOnce) {
  resize(8);
  _cache.prefetch(range(10, 14));
  ASSERT_TRUE(wait_until_resident(range(10, 14)));
  const uint64_t read = _cache.stats().bytes_read;
  EXPECT_EQ(consume(_cache, _files, range(10, 14), 1).right, 4u);
  EXPECT_EQ(_cache.stats().bytes_read, read);
  EXPECT_EQ(_cache.stats().wait_seconds, 0);
}

TEST_F(PlaneCachePrefetch, ALeaseTakesOverWhatIsStillBeingRead) {
  resize(8);
  const FaultGuard guard(testing::throttled_to(16 * kBlock * 20));
  _cache.prefetch(range(10, 16));
  EXPECT_EQ(consume(_cache, _files, range(10, 16), 1, 2).right, 6u);
  EXPECT_LE(_cache.stats().bytes_read, 6 * 5 * kBlock);  // with what aligned reads cover besides
}

TEST_F(PlaneCachePrefetch, ALeaseDoesNotWaitForWhatItDoesNotWant) {
  resize(8);
  const FaultGuard guard(testing::throttled_to(8 * kBlock * 20));  // a plane takes 25 ms
  _cache.prefetch(range(10, 18));
  EXPECT_EQ(consume(_cache, _files, range(0, 2), 1).right, 2u);
  // Of the eight, what had not started was given up: at most what the two threads were reading came in.
  EXPECT_LT(_cache.stats().bytes_read, 6 * (4 * kBlock + 100));
}

TEST_F(PlaneCachePrefetch, LeavesTheMinimumToDemand) {
  resize(2);
  const FaultGuard guard(testing::throttled_to(64 * kBlock * 20));
  _cache.prefetch(range(0, 24));
  uint32_t arrived = 0;
  ASSERT_TRUE(consume(_cache, _files, range(20, 24), 1).right == 4);
  for (uint32_t p = 0; p < 20; ++p) arrived += _cache.resident(p);
  EXPECT_LE(arrived, 3u);
}

TEST_F(PlaneCachePrefetch, DoesNothingAtTheSmallestSize) {
  resize(0);
  _cache.prefetch(range(0, 24));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(_cache.stats().bytes_read, 0u);
}

TEST_F(PlaneCachePrefetch, AResidentPlaneMakesNoRoomForTheOthersThatAreWanted) {
  resize(4);
  const uint32_t all = static_cast<uint32_t>(_cache.stats().capacity_bytes * _files.count() / _cache.total_bytes());
  ASSERT_EQ(consume(_cache, _files, range(0, all), 1).right, all);  // full, plane 0 the least valuable among equals
  std::vector<uint32_t> wanted = range(0, 4);
  wanted.push_back(20);
  _cache.prefetch(wanted);
  ASSERT_TRUE(wait_until_resident(wanted));
}

TEST_F(PlaneCachePrefetch, WhilePlanesStreamThroughTheLeaseHasAllSlots) {
  resize(1);
  PlaneCache::Lease lease(_cache, uses_of(range(0, 24)), 1, testing::never);
  _cache.prefetch(range(0, 24));
  for (uint32_t i = 0; i < 24; ++i) {
    EXPECT_TRUE(_files.equal(i, lease.wait(i)));
    lease.release(i);
  }
}

TEST_F(PlaneCachePrefetch, AReadErrorIsMetByWhoeverNeedsThePlane) {
  resize(8);
  {
    const FaultGuard guard(testing::failing_after(1));
    _cache.prefetch(range(10, 14));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(consume(_cache, _files, range(10, 14), 1).io_errors, 1u);
  }
  EXPECT_EQ(consume(_cache, _files, range(10, 14), 2).right, 4u);
}

TEST_F(PlaneCachePrefetch, ResizingEndsWhatIsBeingRead) {
  resize(8);
  const FaultGuard guard(testing::throttled_to(8 * kBlock * 20));
  _cache.prefetch(range(10, 18));
  resize(0);
  EXPECT_LE(_cache.stats().resident_bytes, _cache.stats().capacity_bytes);
  EXPECT_EQ(consume(_cache, _files, range(8, 20), 1).right, 12u);
}

TEST_F(PlaneCachePrefetch, DestructionEndsWhatIsBeingRead) {
  const FaultGuard guard(testing::throttled_to(8 * kBlock * 20));
  PlaneCache cache(_files.files(), _files.planes(), _pool, two_block_pieces());
  cache.resize(cache.require(range(0, 4)) * 2);
  cache.prefetch(range(10, 18));
}

TEST_F(PlaneCachePrefetch, RandomPrefetchesNeverChangeWhatALeaseSees) {
  std::mt19937 random(5);
  resize(6);
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  for (int lease = 0; std::chrono::steady_clock::now() < until; ++lease) {
    if (random() % 4 == 0) resize(random() % 18);
    const auto planes = testing::sample(random, _files.count(), 1 + random() % 12);
    _cache.prefetch(testing::sample(random, _files.count(), random() % 12));
    std::atomic<bool> done{false};
    std::thread ahead([&, seed = random()] {
      std::mt19937 mine(seed);
      while (!done) {
        _cache.prefetch(testing::sample(mine, _files.count(), mine() % 12));
        std::this_thread::yield();
      }
    });
    const bool failing = random() % 6 == 0;
    {
      const FaultGuard guard(testing::failing_after(failing ? 1 + random() % (40 * kBlock) : 0));
      const auto consumed = consume(_cache, _files, planes, lease, 1 + static_cast<int>(random() % 3));
      EXPECT_EQ(consumed.wrong, 0u);
      if (consumed.io_errors == 0) {
        EXPECT_EQ(consumed.right, planes.size());
      }
    }
    done = true;
    ahead.join();
    ASSERT_LE(_cache.stats().resident_bytes, _cache.stats().capacity_bytes);
  }
}

}  // namespace
}  // namespace edgemoe
