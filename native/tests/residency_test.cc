#include "edgemoe/schedule/residency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace edgemoe {
namespace {

struct UseRecord {
  double weight;
  double time;
};

const auto kNothing = [](uint32_t) {};

double decayed_value(const std::vector<UseRecord>& uses, double now, double half_life) {
  double sum = 0;
  for (const UseRecord& use : uses) sum += use.weight * std::exp2(-(now - use.time) / half_life);
  return sum;
}

TEST(Ranking, HasThreeNames) {
  EXPECT_EQ(ranking_from_name("decayed"), Ranking::kDecayed);
  EXPECT_EQ(ranking_from_name("lru"), Ranking::kRecency);
  EXPECT_EQ(ranking_from_name("lfu"), Ranking::kFrequency);
}

TEST(Ranking, RefusesOtherNamesAndSaysWhich) {
  for (const char* name : {"", "LRU", "arc", "decayed "}) {
    try {
      ranking_from_name(name);
      FAIL() << name;
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("'" + std::string(name) + "'"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("lfu"), std::string::npos);
    }
  }
}

TEST(Popularity, RefusesAHalfLifeThatIsNotPositive) {
  EXPECT_THROW(Popularity(3, Ranking::kDecayed, 0), std::invalid_argument);
  EXPECT_THROW(Popularity(3, Ranking::kDecayed, -1), std::invalid_argument);
  EXPECT_THROW(Popularity(3, Ranking::kDecayed, std::nan("")), std::invalid_argument);
}

TEST(Popularity, UnusedPlanesAreWorthLeast) {
  for (const Ranking ranking : {Ranking::kDecayed, Ranking::kRecency, Ranking::kFrequency}) {
    Popularity popularity(2, ranking, 10);
    EXPECT_EQ(popularity.size(), 2u);
    popularity.touch(1, 1e-6, 0, kNothing);
    EXPECT_LT(popularity.key(0), popularity.key(1));
  }
}

TEST(Popularity, DecayedKeysOrderPlanesAsTheSumOverAllUsesDoesWithRecentOnesCountedMore) {
  constexpr uint32_t kPlanes = 12;
  for (const double half_life : {0.5, 8.0, 256.0, 1e6}) {
    std::mt19937 random(31);
    Popularity popularity(kPlanes, Ranking::kDecayed, half_life);
    std::vector<std::vector<UseRecord>> uses(kPlanes);
    std::vector<uint64_t> batch_of(kPlanes, 0);
    double now = 0;
    uint64_t batch = 0;
    const auto value = [&](uint32_t plane) {
      const double sum = decayed_value(uses[plane], now, half_life);
      if (uses[plane].empty() || batch_of[plane] + Popularity::kRecentBatches < batch) return sum;
      return sum + Popularity::kRecentWeight * decayed_value({uses[plane].back()}, now, half_life);
    };
    for (int step = 0; step < 400; ++step) {
      const double passed = random() % 3;
      if (passed > 0) ++batch;
      now += passed;
      const uint32_t plane = random() % kPlanes;
      const double weight = 1 + random() % 20;
      uses[plane].push_back({weight, now});
      batch_of[plane] = batch;
      std::vector<double> before(kPlanes);
      for (uint32_t p = 0; p < kPlanes; ++p) before[p] = popularity.key(p);
      std::vector<uint32_t> lowered{plane};
      popularity.touch(plane, weight, now, [&](uint32_t p) { lowered.push_back(p); });
      for (uint32_t a = 0; a < kPlanes; ++a) {
        if (std::find(lowered.begin(), lowered.end(), a) == lowered.end()) {
          ASSERT_EQ(before[a], popularity.key(a));
        }
        for (uint32_t b = a + 1; b < kPlanes; ++b) {
          const double va = value(a), vb = value(b);
          if (std::abs(va - vb) <= 1e-9 * std::max(va, vb)) continue;  // a tie, or both forgotten
          ASSERT_EQ(va < vb, popularity.key(a) < popularity.key(b)) << "half-life " << half_life << " step " << step;
        }
      }
    }
  }
}

TEST(Popularity, DecayedKeyIsTheLogarithmOfTheValue) {
  Popularity popularity(2, Ranking::kDecayed, 100);
  popularity.touch(0, 3, 50, kNothing);
  popularity.touch(0, 5, 150, kNothing);
  EXPECT_NEAR(popularity.key(0), std::log2(3 * 0.5 + 5 + 8 * 5) + 150.0 / 100, 1e-12);
  for (const double now : {200.0, 220.0, 221.0}) {
    EXPECT_NEAR(popularity.key(0), std::log2(3 * 0.5 + 5 + 8 * 5) + 150.0 / 100, 1e-12) << now;
    popularity.touch(1, 1, now, kNothing);
  }
  EXPECT_NEAR(popularity.key(0), std::log2(3 * 0.5 + 5) + 150.0 / 100, 1e-12);
}

TEST(Popularity, StaysFiniteAfterManyTokensAndLongPauses) {
  Popularity popularity(2, Ranking::kDecayed, 1);
  for (double now = 0; now < 1e9; now = now * 10 + 1) {
    popularity.touch(0, 1000, now, kNothing);
    popularity.touch(1, 1, now + 0.5, kNothing);
    ASSERT_TRUE(std::isfinite(popularity.key(0)));
    ASSERT_TRUE(std::isfinite(popularity.key(1)));
    ASSERT_GT(popularity.key(0), popularity.key(1));
  }
}

TEST(Popularity, RecencyAndFrequencyRankByLastUseAndTotalWeight) {
  Popularity recency(3, Ranking::kRecency, 1);
  Popularity frequency(3, Ranking::kFrequency, 1);
  for (Popularity* popularity : {&recency, &frequency}) {
    popularity->touch(0, 2, 1, kNothing);
    popularity->touch(1, 9, 2, kNothing);
    popularity->touch(2, 4, 3, kNothing);
    popularity->touch(0, 3, 4, kNothing);
  }
  EXPECT_LT(recency.key(1), recency.key(2));
  EXPECT_LT(recency.key(2), recency.key(0));
  EXPECT_LT(frequency.key(2), frequency.key(0));  // 4 < 2 + 3 < 9
  EXPECT_LT(frequency.key(0), frequency.key(1));
}

TEST(EvictionHeap, BehavesLikeAnOrderedSet) {
  constexpr uint32_t kPlanes = 60;
  std::mt19937 random(32);
  EvictionHeap heap(kPlanes);
  std::set<std::pair<double, uint32_t>> reference;
  std::vector<double> keys(kPlanes);
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  const auto fresh_key = [&] { return random() % 10 == 0 ? kNever : random() % 1000 + random() / 5e9; };
  for (int step = 0; step < 20'000; ++step) {
    const uint32_t plane = random() % kPlanes;
    const bool present = reference.count({keys[plane], plane}) != 0;
    ASSERT_EQ(heap.contains(plane), present);
    const double key = fresh_key();
    if (!present && random() % 3 != 0) {
      heap.push(plane, key);
      reference.insert({keys[plane] = key, plane});
    } else if (present && random() % 2 == 0) {
      heap.remove(plane);
      reference.erase({keys[plane], plane});
    } else {
      heap.update(plane, key);
      if (present) {
        reference.erase({keys[plane], plane});
        reference.insert({keys[plane] = key, plane});
      }
    }
    ASSERT_EQ(heap.size(), reference.size());
    ASSERT_EQ(heap.empty(), reference.empty());
    if (!heap.empty()) {
      ASSERT_TRUE(heap.contains(heap.lowest()));
      ASSERT_EQ(keys[heap.lowest()], reference.begin()->first);
    }
  }
  double last = kNever;
  while (!heap.empty()) {
    const uint32_t lowest = heap.lowest();
    ASSERT_LE(last, keys[lowest]);
    last = keys[lowest];
    heap.remove(lowest);
    ASSERT_FALSE(heap.contains(lowest));
  }
}

}  // namespace
}  // namespace edgemoe
