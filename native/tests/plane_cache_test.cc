#include "edgemoe/cache/plane_cache.h"

#include <numeric>

#include "plane_fixture.h"

namespace edgemoe {
namespace {

using testing::consume;
using testing::Consumed;
using testing::never;
using testing::PlaneFiles;
using testing::range;
using testing::uses_of;

CacheSettings small_pieces() {
  CacheSettings settings;
  settings.piece = 2 * kBlock;
  return settings;
}

// Three size classes, none a multiple of a block, at every residue modulo 32 bytes that a model file has.
std::vector<uint64_t> mixed_lengths(size_t count) {
  const uint64_t lengths[] = {3 * kBlock + 1000, 17, 21 * kBlock + 31};
  std::vector<uint64_t> all;
  for (size_t i = 0; i < count; ++i) all.push_back(lengths[i % 3] + 32 * (i % 7));
  return all;
}

class PlaneCacheTest : public ::testing::TestWithParam<bool> {
 protected:
  const PlaneFiles _files{mixed_lengths(60), 32, GetParam()};
  ReadPool _pool{3};
};

INSTANTIATE_TEST_SUITE_P(Modes, PlaneCacheTest, ::testing::Values(false, true),
                         [](const auto& test) { return test.param ? "Unbuffered" : "Buffered"; });

TEST_P(PlaneCacheTest, EveryCapacityGivesTheFilesBytes) {
  const std::vector<uint32_t> all = range(0, _files.count());
  for (const int threads : {1, 3}) {
    PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
    const size_t minimum = cache.require(range(0, 6));
    const size_t total = cache.total_bytes();
    double now = 0;
    for (int step = 0; step <= 8; ++step) {
      const size_t bytes = minimum + (total - minimum) * static_cast<size_t>(step) / 8;
      cache.resize(bytes);
      for (int round = 0; round < 2; ++round) {
        const Consumed consumed = consume(cache, _files, all, ++now, threads);
        ASSERT_EQ(consumed.right, all.size());
        ASSERT_EQ(consumed.wrong, 0u);
      }
      const CacheStats stats = cache.stats();
      EXPECT_LE(stats.capacity_bytes, bytes);
      EXPECT_LE(stats.resident_bytes, stats.capacity_bytes);
    }
    EXPECT_EQ(cache.stats().capacity_bytes, total);
  }
}

TEST_P(PlaneCacheTest, PiecesOfEverySizeMeetInTheSlot) {
  for (const size_t piece : {kBlock, 2 * kBlock, 5 * kBlock, 64 * kBlock}) {
    CacheSettings settings;
    settings.piece = piece;
    PlaneCache cache(_files.files(), _files.planes(), _pool, settings);
    cache.resize(cache.total_bytes());
    EXPECT_EQ(consume(cache, _files, range(0, _files.count()), 1).right, _files.count());
  }
}

TEST_P(PlaneCacheTest, HitsReadNothing) {
  PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
  cache.resize(cache.total_bytes());
  EXPECT_EQ(consume(cache, _files, range(0, 20), 1).right, 20u);
  const CacheStats once = cache.stats();
  uint64_t expected = 0;
  for (uint32_t p = 0; p < 20; ++p) expected += _files.planes()[p].offset % kBlock + _files.planes()[p].length;
  EXPECT_EQ(once.bytes_read, expected);
  for (uint32_t p = 0; p < _files.count(); ++p) EXPECT_EQ(cache.resident(p), p < 20);
  std::vector<uint32_t> backwards = range(0, 20);
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(consume(cache, _files, backwards, 2, 3).right, 20u);
  EXPECT_EQ(cache.stats().bytes_read, once.bytes_read);
  EXPECT_EQ(cache.stats().resident_bytes, once.resident_bytes);
}

TEST_P(PlaneCacheTest, AnEmptyLeaseAndOneThatIsNotConsumedDoNoHarm) {
  PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
  cache.resize(cache.require(range(0, 3)));
  EXPECT_EQ(consume(cache, _files, {}, 1).right, 0u);
  for (int i = 0; i < 20; ++i) const PlaneCache::Lease unused(cache, uses_of(range(0, _files.count())), i, never);
  {
    PlaneCache::Lease partly(cache, uses_of(range(0, _files.count())), 21, never);
    for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(_files.equal(static_cast<uint32_t>(i), partly.wait(i)));
    partly.release(1);
  }
  EXPECT_EQ(consume(cache, _files, range(0, _files.count()), 22).right, _files.count());
}

TEST_P(PlaneCacheTest, OneLeaseAtATime) {
  PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
  cache.resize(cache.total_bytes());
  PlaneCache::Lease first(cache, uses_of({4, 5}), 1, never);
  EXPECT_THROW(PlaneCache::Lease(cache, uses_of({6}), 1, never), Error);
  EXPECT_TRUE(_files.equal(4, first.wait(0)));
  EXPECT_TRUE(_files.equal(5, first.wait(1)));
  first.release(0);
  first.release(1);
}

TEST_P(PlaneCacheTest, BytesStayUntilTheirUseIsReleased) {
  PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
  const std::vector<uint32_t> working_set = range(0, 9);
  cache.resize(cache.require(working_set));
  std::vector<uint32_t> order = working_set;
  for (uint32_t p = 9; p < _files.count(); ++p) order.push_back(p);
  PlaneCache::Lease lease(cache, uses_of(order), 1, never);
  std::vector<const uint8_t*> held;
  for (size_t i = 0; i < 9; ++i) held.push_back(lease.wait(i));  // a whole working set at once
  for (uint32_t i = 0; i < 9; ++i) EXPECT_TRUE(_files.equal(i, held[i]));
  for (size_t i = 9; i < 12; ++i) EXPECT_TRUE(_files.equal(order[i], lease.wait(i)));  // streams past what is held
  for (uint32_t i = 0; i < 9; ++i) EXPECT_TRUE(_files.equal(i, held[i]));
  for (size_t i = 0; i < 12; ++i) lease.release(i);
  for (size_t i = 12; i < order.size(); ++i) {
    EXPECT_TRUE(_files.equal(order[i], lease.wait(i)));
    lease.release(i);
  }
}

TEST_P(PlaneCacheTest, ThreadsThatShareEveryUseAllSeeItsBytes) {
  constexpr int kThreads = 4;
  PlaneCache cache(_files.files(), _files.planes(), _pool, small_pieces());
  cache.resize(cache.require(range(0, 3)));
  for (int round = 0; round < 5; ++round) {
    PlaneCache::Lease lease(cache, uses_of(range(0, _files.count())), round, never);
    std::vector<std::atomic<int>> left(_files.count());
    for (auto& n : left) n = kThreads;
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (uint32_t i = 0; i < _files.count(); ++i) {
          right += _files.equal(i, lease.wait(i));
          if (left[i].fetch_sub(1) == 1) lease.release(i);  // the last of them ends the use
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(right, kThreads * static_cast<int>(_files.count()));
  }
}

TEST(PlaneCacheStreaming, ALeaseOfManyTimesTheSlotsPassesThroughOneSlot) {
  const PlaneFiles files(std::vector<uint64_t>(100, 2 * kBlock), kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, small_pieces());
  cache.resize(2 * kBlock);  // nothing was required: one slot is enough for one thread
  EXPECT_EQ(consume(cache, files, range(0, 100), 1).right, 100u);
  EXPECT_EQ(consume(cache, files, range(0, 100), 2).right, 100u);
}

TEST(PlaneCacheStreaming, ResidentPlanesAtTheEndOfALeaseLeaveRoomForThoseBefore) {
  const PlaneFiles files(std::vector<uint64_t>(40, 2 * kBlock), kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, small_pieces());
  cache.resize(cache.require(range(0, 4)));  // 8 slots
  EXPECT_EQ(consume(cache, files, range(32, 40), 1).right, 8u);
  for (const int threads : {1, 4}) EXPECT_EQ(consume(cache, files, range(0, 40), 2, threads).right, 40u);
}

TEST(PlaneCachePolicy, PopularPlanesStayWhileOthersPass) {
  const PlaneFiles files(std::vector<uint64_t>(40, kBlock), kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, small_pieces());
  cache.resize(16 * kBlock);
  double now = 0;
  for (uint32_t token = 0; token < 50; ++token) {
    std::vector<uint32_t> planes = {0, 1, 2, 3};
    for (uint32_t i = 0; i < 4; ++i) planes.push_back(4 + (token * 4 + i) % 36);
    EXPECT_EQ(consume(cache, files, planes, ++now).right, 8u);
    for (uint32_t p = 0; p < 4; ++p) EXPECT_TRUE(cache.resident(p)) << "token " << token;
  }
  EXPECT_EQ(cache.stats().bytes_read, (4 + 50 * 4) * kBlock);
}

TEST(PlaneCachePolicy, WeightDecidesAmongPlanesUsedOnce) {
  const PlaneFiles files(std::vector<uint64_t>(20, kBlock), kBlock);
  ReadPool pool(1);
  PlaneCache cache(files.files(), files.planes(), pool, small_pieces());
  cache.resize(8 * kBlock);
  {
    std::vector<PlaneUse> uses;
    for (uint32_t p = 0; p < 8; ++p) uses.push_back({p, p == 5 ? 0.5f : 10.0f});
    PlaneCache::Lease lease(cache, uses, 1, never);
    for (size_t i = 0; i < 8; ++i) EXPECT_TRUE(files.equal(static_cast<uint32_t>(i), lease.wait(i)));
  }
  EXPECT_EQ(consume(cache, files, {9}, 2).right, 1u);
  for (uint32_t p = 0; p < 8; ++p) EXPECT_EQ(cache.resident(p), p != 5) << p;
}

TEST(PlaneCacheStats, CountTheTimeSpentWaiting) {
  const PlaneFiles files(std::vector<uint64_t>(8, 4 * kBlock), kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, small_pieces());
  cache.resize(cache.total_bytes());
  {
    const testing::FaultGuard guard(testing::throttled_to(8 * 4 * kBlock * 5));  // all of them in 200 ms
    EXPECT_EQ(consume(cache, files, range(0, 8), 1, 3).right, 8u);
  }
  const double waited = cache.stats().wait_seconds;
  EXPECT_GT(waited, 0.15);
  EXPECT_EQ(consume(cache, files, range(0, 8), 2).right, 8u);
  EXPECT_EQ(cache.stats().wait_seconds, waited);
}

}  // namespace
}  // namespace edgemoe
