#include "edgemoe/schedule/bits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace edgemoe {
namespace {

constexpr float kErrors[] = {.06f, .015f, .004f, .0005f};
constexpr uint64_t kBytes[] = {260, 100, 100, 200};

ExpertBits expert(double hotness, uint32_t resident = 0, uint32_t planes = 4) {
  return {0, hotness, kErrors, kBytes, planes, resident};
}

double error_of(const std::vector<ExpertBits>& experts, const std::vector<uint8_t>& planes) {
  double error = 0, sum = 0;
  for (size_t i = 0; i < experts.size(); ++i) {
    error += experts[i].hotness * experts[i].errors[planes[i] - 1];
    sum += experts[i].hotness;
  }
  return error / sum;
}

uint64_t bytes_of(const std::vector<ExpertBits>& experts, const std::vector<PlaneRead>& reads) {
  uint64_t bytes = 0;
  for (const PlaneRead& read : reads) bytes += experts[read.index].bytes[read.plane];
  return bytes;
}

struct Choice {
  std::vector<uint8_t> planes;
  std::vector<PlaneRead> reads;
};

Choice choose(const std::vector<ExpertBits>& experts, double target) {
  Choice choice;
  choose_planes(experts, target, &choice.planes, &choice.reads);
  return choice;
}

TEST(ChoosePlanes, GivesEveryExpertItsBase) {
  const Choice choice = choose({expert(1), expert(9), expert(4)}, 1.0);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{1, 1, 1}));
  ASSERT_EQ(choice.reads.size(), 3u);
  EXPECT_EQ(choice.reads[0].index, 1u);  // the hottest first
  EXPECT_EQ(choice.reads[1].index, 2u);
  EXPECT_EQ(choice.reads[2].index, 0u);
}

TEST(ChoosePlanes, ReadsTheHottestBitsUntilTheTargetIsMet) {
  // (.9 eps + .1 .06) <= .02 asks the hot one for .0155 or less: two planes.
  const Choice choice = choose({expert(.1), expert(.9)}, .02);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{1, 2}));
}

TEST(ChoosePlanes, UsesWhatIsInMemoryAndReadsLessForIt) {
  const Choice choice = choose({expert(.5, 4), expert(.5, 1)}, .031);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{4, 1}));  // .5 (.0005 + .06)
  EXPECT_TRUE(choice.reads.empty());
}

TEST(ChoosePlanes, ATargetOutOfReachTakesEverything) {
  const Choice choice = choose({expert(1), expert(2, 0, 3)}, 0);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{4, 3}));
  EXPECT_EQ(choice.reads.size(), 7u);
}

TEST(ChoosePlanes, WithoutHotnessNothingButBasesIsRead) {
  const Choice choice = choose({expert(0), expert(0, 1)}, .001);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{1, 1}));
  EXPECT_EQ(choice.reads.size(), 1u);
}

// By trying every combination: the choice meets the target, in order, with not many more bytes than the cheapest.
TEST(ChoosePlanes, IsAsGoodAsTryingEverything) {
  std::mt19937 random(7);
  std::uniform_real_distribution<double> uniform;
  for (int round = 0; round < 300; ++round) {
    std::vector<ExpertBits> experts;
    for (int i = 0; i < 4; ++i) experts.push_back(expert(uniform(random) * uniform(random), random() % 5));
    const double target = .001 + .05 * uniform(random);
    const Choice choice = choose(experts, target);
    ASSERT_LE(error_of(experts, choice.planes), target + 1e-9);
    std::vector<uint32_t> read(4);
    for (uint32_t i = 0; i < 4; ++i) read[i] = experts[i].resident;
    for (const PlaneRead& r : choice.reads) ASSERT_EQ(r.plane, read[r.index]++);
    for (uint32_t i = 0; i < 4; ++i) ASSERT_EQ(read[i], choice.planes[i]);

    uint64_t cheapest = UINT64_MAX;
    for (int combination = 0; combination < 256; ++combination) {
      std::vector<uint8_t> planes;
      uint64_t bytes = 0;
      for (int i = 0; i < 4; ++i) {
        planes.push_back(static_cast<uint8_t>(1 + (combination >> 2 * i & 3)));
        for (uint32_t p = experts[i].resident; p < planes.back(); ++p) bytes += kBytes[p];
      }
      if (error_of(experts, planes) <= target) cheapest = std::min(cheapest, bytes);
    }
    EXPECT_LE(bytes_of(experts, choice.reads), cheapest + 200);  // the last plane may be more than was lacking
  }
}

Choice choose_at(const std::vector<ExpertBits>& experts, double price) {
  Choice choice;
  choose_worth(experts, price, &choice.planes, &choice.reads);
  return choice;
}

TEST(ChooseWorth, ReadsEveryPlaneThatIsWorthThePrice) {
  // Of hotness 1, planes 2, 3 and 4 are worth .045 / 100, .011 / 100 and .0035 / 200 a byte.
  EXPECT_EQ(choose_at({expert(1)}, .046 / 100).planes, std::vector<uint8_t>{1});
  EXPECT_EQ(choose_at({expert(1)}, .044 / 100).planes, std::vector<uint8_t>{2});
  EXPECT_EQ(choose_at({expert(1)}, .0105 / 100).planes, std::vector<uint8_t>{3});
  EXPECT_EQ(choose_at({expert(1), expert(.1)}, .0034 / 200).planes, (std::vector<uint8_t>{4, 2}));
}

TEST(ChooseWorth, UsesWhatIsInMemoryWhateverThePrice) {
  const Choice choice = choose_at({expert(1, 3), expert(1, 0)}, 1);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{3, 1}));
  ASSERT_EQ(choice.reads.size(), 1u);
  EXPECT_EQ(choice.reads[0].index, 1u);
}

TEST(ChooseWorth, ForNothingEverythingIsRead) {
  const Choice choice = choose_at({expert(0), expert(2, 0, 3)}, 0);
  EXPECT_EQ(choice.planes, (std::vector<uint8_t>{4, 3}));
  EXPECT_EQ(choice.reads.size(), 7u);
}

// By trying every combination: no other one has less error for at most as many bytes.
TEST(ChooseWorth, HasTheLeastErrorForItsBytes) {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform;
  for (int round = 0; round < 300; ++round) {
    std::vector<ExpertBits> experts;
    for (int i = 0; i < 4; ++i) experts.push_back(expert(uniform(random)));
    const Choice choice = choose_at(experts, 1e-4 * uniform(random));
    const double error = error_of(experts, choice.planes);
    for (int combination = 0; combination < 256; ++combination) {
      std::vector<uint8_t> planes;
      uint64_t bytes = 0;
      for (int i = 0; i < 4; ++i) {
        planes.push_back(static_cast<uint8_t>(1 + (combination >> 2 * i & 3)));
        for (uint32_t p = 0; p < planes.back(); ++p) bytes += kBytes[p];
      }
      if (bytes > bytes_of(experts, choice.reads)) continue;
      ASSERT_GE(error_of(experts, planes), error - 1e-9);
    }
  }
}

TEST(KeepingWeight, CountsWhatIsWantedInFull) {
  const ExpertBits e = expert(2.0);
  for (uint32_t plane = 0; plane < 3; ++plane) EXPECT_EQ(keeping_weight(e, plane, 3, 5, .01), 5) << plane;
}

TEST(KeepingWeight, CountsWhatIsNotWantedAtMostATenthByWhatItMends) {
  const ExpertBits e = expert(2.0);
  // Plane 1 mends 2 (.06 - .015) = .09, plane 2 2 (.015 - .004) = .022.
  EXPECT_NEAR(keeping_weight(e, 1, 1, 5, .09), .5, 1e-5);
  EXPECT_NEAR(keeping_weight(e, 1, 1, 5, .009), .5, 1e-5);
  EXPECT_NEAR(keeping_weight(e, 1, 1, 5, .9), .05, 1e-5);
  EXPECT_NEAR(keeping_weight(e, 2, 1, 5, .22), .05, 1e-5);
  EXPECT_GT(keeping_weight(e, 1, 1, 5, .9), keeping_weight(e, 2, 1, 5, .9));
  EXPECT_GT(keeping_weight(expert(4.0), 2, 1, 5, .9), keeping_weight(e, 2, 1, 5, .9));
}

TEST(KeepingWeight, CountsEveryPlaneForSomething) {
  EXPECT_GT(keeping_weight(expert(0.0), 3, 1, 1, .01), 0);
  EXPECT_GT(keeping_weight(expert(1.0), 3, 1, 2, 1e9), keeping_weight(expert(1.0), 3, 1, 1, 1e9));
}

}  // namespace
}  // namespace edgemoe
