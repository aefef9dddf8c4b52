#include "plane_fixture.h"

#include <chrono>

namespace edgemoe {
namespace {

using testing::consume;
using testing::Consumed;
using testing::FaultGuard;
using testing::PlaneFiles;

using Clock = std::chrono::steady_clock;

constexpr auto kSeconds = std::chrono::milliseconds(1200);  // of each test

std::vector<uint64_t> random_lengths(std::mt19937& random, size_t count) {
  const uint64_t scales[] = {1, 200, 9000, 70'000};
  std::vector<uint64_t> lengths;
  for (size_t i = 0; i < count; ++i) lengths.push_back(scales[random() % 4] + random() % 700);
  return lengths;
}

class PlaneCacheStress : public ::testing::TestWithParam<Ranking> {};

const char* name_of(Ranking ranking) {
  if (ranking == Ranking::kDecayed) return "Decayed";
  return ranking == Ranking::kRecency ? "Recency" : "Frequency";
}

INSTANTIATE_TEST_SUITE_P(Rankings, PlaneCacheStress,
                         ::testing::Values(Ranking::kDecayed, Ranking::kRecency, Ranking::kFrequency),
                         [](const auto& test) { return name_of(test.param); });

TEST_P(PlaneCacheStress, RandomLeasesAndSizesAlwaysSeeTheFilesBytes) {
  std::mt19937 random(70 + static_cast<uint32_t>(GetParam()));
  const PlaneFiles files(random_lengths(random, 120), 32, random() % 2 == 0);
  ReadPool pool(2);
  CacheSettings settings;
  settings.piece = 4 * kBlock;
  settings.ranking = GetParam();
  settings.half_life = 16;
  PlaneCache cache(files.files(), files.planes(), pool, settings);
  const size_t minimum = cache.require(testing::range(0, 10));
  cache.resize(minimum);
  const auto until = Clock::now() + kSeconds;
  int leases = 0;
  for (; Clock::now() < until && leases < 1000; ++leases) {
    const uint32_t count = random() % 8 == 0 ? files.count() : 1 + random() % 30;
    const std::vector<uint32_t> planes = testing::sample(random, files.count(), count);
    const Consumed consumed = consume(cache, files, planes, leases, 1 + static_cast<int>(random() % 4));
    ASSERT_EQ(consumed.right, planes.size());
    const CacheStats stats = cache.stats();
    ASSERT_LE(stats.resident_bytes, stats.capacity_bytes);
    if (random() % 5 == 0) {
      const size_t bytes = minimum + random() % (cache.total_bytes() - minimum + 1);
      cache.resize(bytes);
      ASSERT_LE(cache.stats().capacity_bytes, bytes);
      ASSERT_LE(cache.stats().resident_bytes, cache.stats().capacity_bytes);
    }
  }
  EXPECT_GT(leases, 5);
}

TEST_P(PlaneCacheStress, RandomErrorsAndAbortsAreNeverSilent) {
  std::mt19937 random(80 + static_cast<uint32_t>(GetParam()));
  const PlaneFiles files(random_lengths(random, 60), 32);
  ReadPool pool(3);
  CacheSettings settings;
  settings.piece = kBlock;
  settings.ranking = GetParam();
  PlaneCache cache(files.files(), files.planes(), pool, settings);
  const size_t minimum = cache.require(testing::range(0, 4));
  const auto until = Clock::now() + kSeconds;
  for (int lease = 0; Clock::now() < until && lease < 1000; ++lease) {
    cache.resize(minimum + random() % (cache.total_bytes() / 3));
    const std::vector<uint32_t> planes = testing::sample(random, files.count(), 1 + random() % files.count());
    const int threads = 1 + static_cast<int>(random() % 4);
    std::atomic<int> patience{random() % 3 == 0 ? static_cast<int>(random() % 40) : 1 << 30};
    Consumed consumed;
    {
      const FaultGuard guard(testing::failing_after(random() % 2 ? 0 : 1 + random() % (80 * kBlock)));
      consumed = consume(cache, files, planes, lease, threads, [&patience] { return patience.fetch_sub(1) <= 0; });
    }
    ASSERT_EQ(consumed.wrong, 0u);
    if (consumed.io_errors + consumed.aborts == 0) {
      ASSERT_EQ(consumed.right, planes.size());
    }
    ASSERT_LE(cache.stats().resident_bytes, cache.stats().capacity_bytes);
    if (lease % 4 == 0) {
      ASSERT_EQ(consume(cache, files, testing::range(0, files.count()), lease, 2).right, files.count());
    }
  }
}

}  // namespace
}  // namespace edgemoe
