#include "plane_fixture.h"
#include "resident_memory.h"

namespace edgemoe {
namespace {

using testing::consume;
using testing::PlaneFiles;
using testing::range;

uint32_t count_resident(const PlaneCache& cache, uint32_t planes) {
  uint32_t count = 0;
  for (uint32_t p = 0; p < planes; ++p) count += cache.resident(p);
  return count;
}

TEST(PlaneCacheResize, TooSmallIsRefusedWithTheSmallestThatWorks) {
  const PlaneFiles files(std::vector<uint64_t>(30, 2 * kBlock), 32);
  ReadPool pool(1);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  const size_t minimum = cache.require(range(0, 8));
  try {
    cache.resize(minimum - 1);
    FAIL() << "accepted less than the minimum";
  } catch (const BudgetError& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(minimum)), std::string::npos) << error.what();
  }
  cache.resize(minimum);
  EXPECT_THROW(cache.resize(0), BudgetError);
  EXPECT_EQ(cache.stats().capacity_bytes, minimum);
  EXPECT_EQ(consume(cache, files, range(0, 30), 1).right, 30u);
}

TEST(PlaneCacheResize, RequiringLessLaterLowersNothing) {
  const PlaneFiles files(std::vector<uint64_t>(30, kBlock), kBlock);
  ReadPool pool(1);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  const size_t many = cache.require(range(0, 10));
  EXPECT_EQ(cache.require(range(0, 2)), many);
  EXPECT_GT(cache.require(range(0, 12)), many);
  EXPECT_EQ(cache.require(range(0, 30)), cache.total_bytes());
}

TEST(PlaneCacheResize, SurvivorsKeepTheirBytesAndAreNotReadAgain) {
  const PlaneFiles files(std::vector<uint64_t>(32, 3 * kBlock + 5), 32);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  const size_t total = cache.total_bytes();
  cache.resize(total);
  std::mt19937 random(50);
  double now = 0;
  for (int round = 0; round < 20; ++round) {
    consume(cache, files, testing::sample(random, 32, 32), ++now);
    cache.resize(total / 32 * (1 + random() % 31));
    EXPECT_LE(cache.stats().resident_bytes, cache.stats().capacity_bytes);
    std::vector<uint32_t> kept;
    for (uint32_t p = 0; p < 32; ++p) {
      if (cache.resident(p)) kept.push_back(p);
    }
    EXPECT_FALSE(kept.empty());
    const uint64_t before = cache.stats().bytes_read;
    EXPECT_EQ(consume(cache, files, kept, ++now, 2).right, kept.size());
    // Where the whole lease fits it is pinned at once; a smaller cache may evict what it has not pinned.
    if (kept.size() + 4 <= cache.stats().capacity_bytes / (4 * kBlock)) {
      EXPECT_EQ(cache.stats().bytes_read, before);
    }
    cache.resize(total);
    EXPECT_EQ(consume(cache, files, range(0, 32), ++now).right, 32u);
  }
}

TEST(PlaneCacheResize, TheLeastValuableGoFirst) {
  const PlaneFiles files(std::vector<uint64_t>(20, kBlock), kBlock);
  ReadPool pool(1);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  cache.resize(cache.total_bytes());
  double now = 0;
  consume(cache, files, range(0, 20), ++now);
  for (int i = 0; i < 5; ++i) consume(cache, files, {3, 8, 15, 19}, ++now);
  cache.resize(4 * kBlock);
  for (const uint32_t p : {3u, 8u, 15u, 19u}) EXPECT_TRUE(cache.resident(p)) << p;
  EXPECT_EQ(count_resident(cache, 20), 4u);
}

TEST(PlaneCacheResize, SeveralSizeClassesShareTheBytes) {
  std::vector<uint64_t> lengths(20, kBlock);
  lengths.insert(lengths.end(), 20, 8 * kBlock);
  lengths.insert(lengths.end(), 20, 40 * kBlock);
  const PlaneFiles files(lengths, kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  cache.resize(cache.total_bytes() / 2);
  EXPECT_GT(cache.stats().capacity_bytes, cache.total_bytes() * 9 / 20);
  EXPECT_EQ(consume(cache, files, range(0, 60), 1).right, 60u);
  for (const uint32_t first : {0u, 20u, 40u}) {
    uint32_t resident = 0;
    for (uint32_t p = first; p < first + 20; ++p) resident += cache.resident(p);
    EXPECT_GE(resident, 9u);
    EXPECT_LE(resident, 11u);
  }
}

TEST(PlaneCacheResize, GivesMemoryBackToTheSystem) {
  if (testing::resident_bytes() == 0) GTEST_SKIP() << "only Linux tells what is resident, in /proc/self/statm";
  const PlaneFiles files(std::vector<uint64_t>(48, 1u << 20), kBlock);
  ReadPool pool(2);
  PlaneCache cache(files.files(), files.planes(), pool, {});
  cache.resize(cache.total_bytes());
  EXPECT_EQ(consume(cache, files, range(0, 48), 1).right, 48u);
  const size_t full = testing::resident_bytes();
  cache.resize(8u << 20);
  EXPECT_GE(full - testing::resident_bytes(), size_t{36} << 20);
  EXPECT_EQ(cache.stats().resident_bytes, 8u << 20);
  const size_t small = testing::resident_bytes();
  for (int now = 2; now < 5; ++now) EXPECT_EQ(consume(cache, files, range(0, 48), now).right, 48u);
  EXPECT_LT(testing::resident_bytes(), small + (4u << 20)) << "streaming through a small cache grew the process";
}

}  // namespace
}  // namespace edgemoe
