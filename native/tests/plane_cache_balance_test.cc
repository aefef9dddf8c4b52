#include <algorithm>

#include "plane_fixture.h"

namespace edgemoe {
namespace {

using testing::consume;
using testing::PlaneFiles;
using testing::range;

// 40 planes of one block and 40 of four.
PlaneFiles two_classes() {
  std::vector<uint64_t> lengths(40, kBlock);
  lengths.insert(lengths.end(), 40, 4 * kBlock);
  return PlaneFiles(lengths, kBlock);
}

uint32_t resident(const PlaneCache& cache, uint32_t first, uint32_t last) {
  uint32_t count = 0;
  for (uint32_t p = first; p < last; ++p) count += cache.resident(p);
  return count;
}

class PlaneCacheBalance : public ::testing::Test {
 protected:
  PlaneCacheBalance() : files(two_classes()), pool(2), cache(files.files(), files.planes(), pool, {}) {
    cache.require({0, 1, 40, 41});
    cache.resize(cache.total_bytes() / 2);
    bytes = cache.stats().capacity_bytes;
    consume(cache, files, range(0, 80), 0);
  }

  void use(uint32_t first, uint32_t last) {
    for (int round = 0; round < 30; ++round) {
      for (uint32_t p = first; p < last; p += 2) {
        ASSERT_EQ(consume(cache, files, {p, p + 1}, ++now).right, 2u);
        ASSERT_LE(cache.stats().capacity_bytes, cache.total_bytes() / 2);
      }
    }
  }

  PlaneFiles files;
  ReadPool pool;
  PlaneCache cache;
  size_t bytes = 0;
  double now = 0;
};

TEST_F(PlaneCacheBalance, MemoryGoesToTheClassThatIsUsed) {
  use(0, 40);
  EXPECT_EQ(resident(cache, 0, 40), 40u);
  use(40, 60);
  EXPECT_EQ(resident(cache, 40, 60), 20u);
  use(0, 40);
  EXPECT_EQ(resident(cache, 0, 40), 40u);
  EXPECT_GE(cache.stats().capacity_bytes + 4 * kBlock, bytes);  // nothing is lost on the way
}

TEST_F(PlaneCacheBalance, EveryClassKeepsItsMinimum) {
  use(0, 40);
  EXPECT_EQ(consume(cache, files, {40, 41}, ++now).right, 2u);
  EXPECT_EQ(resident(cache, 40, 42), 2u);
}

TEST_F(PlaneCacheBalance, AResizeKeepsTheDivision) {
  use(0, 40);
  ASSERT_EQ(resident(cache, 0, 40), 40u);
  cache.resize(bytes - 4 * kBlock);
  const uint32_t small = resident(cache, 0, 40);
  EXPECT_GE(small, 36u);
  cache.resize(bytes);
  EXPECT_EQ(resident(cache, 0, 40), small);
}

TEST_F(PlaneCacheBalance, UsesCountedWithoutALeaseKeepPlanes) {
  std::vector<PlaneUse> uses;
  for (uint32_t p = 60; p < 64; ++p) uses.push_back({p, 1000});
  consume(cache, files, range(60, 64), ++now);
  cache.touch(uses, now);
  use(40, 60);
  EXPECT_EQ(resident(cache, 60, 64), 4u);
}

}  // namespace
}  // namespace edgemoe
