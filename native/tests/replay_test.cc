#include "edgemoe/schedule/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <vector>

namespace edgemoe {
namespace {

constexpr uint32_t kLayers = 4;
constexpr uint32_t kExperts = 16;
const std::vector<uint32_t> kGroups(kLayers, kExperts);

// Every token uses the same `used` experts of every layer: a cycle of used * kLayers planes.
std::vector<RoutingEvent> cycle(uint32_t tokens, uint32_t used) {
  std::vector<RoutingEvent> events;
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      RoutingEvent event{layer, 1, std::vector<uint32_t>(used), std::vector<uint32_t>(used, 1), {}};
      std::iota(event.experts.begin(), event.experts.end(), 0u);
      events.push_back(event);
    }
  }
  return events;
}

// Experts drawn with probability falling with their number.
std::vector<RoutingEvent> skewed(uint32_t tokens, uint32_t used) {
  std::mt19937 random(33);
  std::vector<RoutingEvent> events;
  for (uint32_t t = 0; t < tokens; ++t) {
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      std::set<uint32_t> chosen;
      while (chosen.size() < used) chosen.insert(std::min(random() % kExperts, random() % kExperts));
      events.push_back({layer, 1, {chosen.begin(), chosen.end()}, std::vector<uint32_t>(used, 1), {}});
    }
  }
  return events;
}

double hit_rate(const std::vector<RoutingEvent>& events, size_t capacity, Ranking ranking, size_t warmup = 0) {
  const ReplayResult result = replay(events, kGroups, capacity, ranking, 32, warmup);
  return static_cast<double>(result.hits) / static_cast<double>(result.hits + result.misses);
}

TEST(Replay, BelowATokensWorkingSetRecencyNeverHitsAndDecayDoes) {
  const auto events = cycle(200, 8);
  for (const size_t capacity : {1u, 8u, 16u, 31u}) {
    EXPECT_EQ(hit_rate(events, capacity, Ranking::kRecency), 0) << capacity;
  }
  for (const size_t capacity : {8u, 16u, 31u}) {
    EXPECT_GT(hit_rate(skewed(200, 8), capacity, Ranking::kDecayed), 0.05) << capacity;
  }
}

TEST(Replay, DecayHitsInACycleThatDoesNotFit) {
  const auto events = cycle(200, 8);
  for (const size_t capacity : {16u, 24u, 31u}) EXPECT_GT(hit_rate(events, capacity, Ranking::kDecayed), 0) << capacity;
}

TEST(Replay, ACycleThatFitsMissesOnlyOnce) {
  const auto events = cycle(10, 8);
  for (const Ranking ranking : {Ranking::kDecayed, Ranking::kRecency, Ranking::kFrequency}) {
    const ReplayResult cold = replay(events, kGroups, 32, ranking, 32, 0);
    EXPECT_EQ(cold.misses, 32u);
    EXPECT_EQ(cold.hits, 9 * 32u);
    const ReplayResult warm = replay(events, kGroups, 32, ranking, 32, kLayers);
    EXPECT_EQ(warm.misses, 0u);
    EXPECT_EQ(warm.hits, 9 * 32u);
  }
}

TEST(Replay, WithoutCapacityNothingHits) {
  const ReplayResult result = replay(cycle(5, 8), kGroups, 0, Ranking::kDecayed, 32, 0);
  EXPECT_EQ(result.hits, 0u);
  EXPECT_EQ(result.misses, 5u * kLayers * 8);
}

TEST(Replay, OfNothingCountsNothing) {
  const ReplayResult result = replay({}, kGroups, 4, Ranking::kDecayed, 32, 0);
  EXPECT_EQ(result.hits + result.misses, 0u);
}

TEST(Replay, MoreCapacityHitsMoreAndAllOfItMissesEachExpertOnce) {
  const auto events = skewed(300, 4);
  // LRU is a stack algorithm: its hits never fall with capacity. The others may dip by chance only a little.
  for (const Ranking ranking : {Ranking::kRecency, Ranking::kDecayed, Ranking::kFrequency}) {
    const double slack = ranking == Ranking::kRecency ? 0 : 0.02;
    double last = 0;
    for (size_t capacity = 1; capacity <= kLayers * kExperts; capacity += 7) {
      const double rate = hit_rate(events, capacity, ranking);
      EXPECT_GE(rate + slack, last) << capacity;
      last = rate;
    }
    EXPECT_LE(replay(events, kGroups, kLayers * kExperts, ranking, 32, 0).misses, kLayers * kExperts);
  }
}

TEST(Replay, RowsWeighAnExpertAndLayersHaveSizesOfTheirOwn) {
  // Expert 4 of the second group serves 50 rows of a batch and outlives those that serve one row.
  const std::vector<RoutingEvent> events = {
      {0, 50, {0, 1}, {1, 1}, {}},
      {1, 50, {4}, {50}, {}},
      {0, 1, {0, 2}, {1, 1}, {}},
      {1, 1, {0, 1, 2, 3}, {1, 1, 1, 1}, {}},
      {1, 1, {4}, {1}, {}},
  };
  const ReplayResult result = replay(events, {3, 5}, 2, Ranking::kDecayed, 64, 4);
  EXPECT_EQ(result.hits, 1u);
  EXPECT_EQ(replay(events, {3, 5}, 2, Ranking::kRecency, 64, 4).hits, 0u);
}

// Planes of 100, 50 and 50 bytes; every expert loses .06, .01 and .001 with them.
std::vector<PlaneGroup> plane_groups(uint32_t groups, uint32_t experts) {
  PlaneGroup group{{100, 50, 50}, {}};
  for (uint32_t e = 0; e < experts; ++e) group.errors.insert(group.errors.end(), {.06f, .01f, .001f});
  return std::vector<PlaneGroup>(groups, group);
}

TEST(ReplayPlanes, ReadsWhatTheTargetAsksFor) {
  const std::vector<RoutingEvent> events = {{0, 1, {0, 1}, {1, 1}, {.9, .1}}};
  const auto run = [&](double target) { return replay_planes(events, plane_groups(1, 4), 1000, target, 256, 0); };
  EXPECT_EQ(run(1).bytes_read, 200u);  // base planes
  EXPECT_NEAR(run(1).error, .06, 1e-6);
  const PlaneReplayResult some = run(.02);  // .9 .01 + .1 .06 = .015
  EXPECT_EQ(some.bytes_read, 250u);
  EXPECT_NEAR(some.error, .015, 1e-6);
  EXPECT_EQ(some.bytes_used, 250u);
  EXPECT_EQ(some.bytes_whole, 400u);
  EXPECT_EQ(some.events, 1u);
  EXPECT_EQ(run(0).bytes_read, 400u);
}

TEST(ReplayPlanes, WhatIsInMemoryIsUsedAndNotReadAgain) {
  const RoutingEvent event{0, 1, {0, 1}, {1, 1}, {.9, .1}};
  const RoutingEvent swapped{0, 1, {0, 1}, {1, 1}, {.1, .9}};
  // Of the second, expert 1 asks for its next plane; the third finds one of each, .01.
  const PlaneReplayResult result = replay_planes({event, swapped, event}, plane_groups(1, 4), 1000, .02, 256, 1);
  EXPECT_EQ(result.bytes_read, 50u);
  EXPECT_NEAR(result.error, .01 + .01, 1e-6);
}

TEST(ReplayPlanes, UpperPlanesOfColdExpertsGoFirst) {
  std::vector<RoutingEvent> events;
  for (int t = 0; t < 20; ++t) events.push_back({0, 1, {0, 1}, {1, 1}, {.5, .5}});
  events.push_back({0, 1, {2, 3}, {1, 1}, {.5, .5}});
  for (int t = 0; t < 2; ++t) events.push_back({0, 1, {0, 1}, {1, 1}, {.5, .5}});
  // Room for four base planes and for one more of two experts: the base planes of the popular ones outlive the visit.
  const PlaneReplayResult result = replay_planes(events, plane_groups(1, 4), 500, .04, 256, 20);
  EXPECT_EQ(result.bytes_read, 250u);  // 2 and 3, one of them with a second plane; 0 and 1 are still there
}

TEST(ReplayPlanes, NothingStaysInACacheOfNothing) {
  const RoutingEvent event{0, 1, {0, 1}, {1, 1}, {.5, .5}};
  EXPECT_EQ(replay_planes({event, event}, plane_groups(1, 2), 0, 0, 256, 0).bytes_read, 800u);
  EXPECT_EQ(replay_planes({event, event}, plane_groups(1, 2), 400, 0, 256, 0).bytes_read, 400u);
}

TEST(ReplayPlanes, MoreMemoryOrAWiderTargetReadsLess) {
  std::vector<RoutingEvent> events = skewed(300, 4);
  std::mt19937 random(5);
  for (RoutingEvent& event : events) {
    for (size_t i = 0; i < event.experts.size(); ++i) event.hotness.push_back(1.0 / (1 + random() % 9));
  }
  uint64_t last = UINT64_MAX;
  for (const double target : {0.0, .005, .02, .04}) {
    uint64_t less = UINT64_MAX;
    for (const uint64_t capacity : {600u, 1200u, 3000u, 6000u, 12800u}) {
      const PlaneReplayResult result = replay_planes(events, plane_groups(kLayers, kExperts), capacity, target, 256, 100);
      EXPECT_LE(result.bytes_read, less + less / 50) << capacity;
      if (target > 0) {
        EXPECT_LE(result.error, target * static_cast<double>(result.events));
      }
      less = result.bytes_read;
      if (capacity == 3000) {
        EXPECT_LE(result.bytes_read, last);
        last = result.bytes_read;
      }
    }
  }
}

TEST(ReplayPlanes, RefusesEventsOfOtherModels) {
  const auto run = [](const RoutingEvent& event) { return replay_planes({event}, plane_groups(1, 2), 1000, .02, 256, 0); };
  EXPECT_THROW(run({1, 1, {0}, {1}, {1}}), std::invalid_argument);
  EXPECT_THROW(run({0, 1, {2}, {1}, {1}}), std::invalid_argument);
  EXPECT_THROW(run({0, 1, {0}, {1}, {}}), std::invalid_argument);
  EXPECT_THROW(replay_planes({}, {PlaneGroup{{}, {}}}, 0, 0, 256, 0), std::invalid_argument);
}

}  // namespace
}  // namespace edgemoe
