#include "edgemoe/schedule/trial.h"

#include <gtest/gtest.h>

#include <random>

namespace edgemoe {
namespace {

// Steps take `on` or `off` seconds, with noise and now and then a pause. @returns the share of steps with it on, trials left out.
double share_on(Trial& trial, double on, double off, int steps) {
  std::mt19937 random(3);
  std::uniform_real_distribution<double> noise(.8, 1.2);
  int used = 0, counted = 0;
  for (int i = 0; i < steps; ++i) {
    if (i >= 64) {
      used += trial.on();
      ++counted;
    }
    const double pause = random() % 16 == 0 ? 5 : 0;
    trial.record((trial.on() ? on : off) * noise(random) + pause);
  }
  return static_cast<double>(used) / counted;
}

TEST(Trial, KeepsWhatIsFaster) {
  Trial better, worse;
  EXPECT_EQ(share_on(better, .03, .04, 2000), 1);
  EXPECT_EQ(share_on(worse, .04, .03, 2000), 0);
}

TEST(Trial, StaysOnWhereItMakesNoDifference) {
  Trial trial;
  for (int i = 0; i < 64; ++i) trial.record(.03);
  EXPECT_TRUE(trial.on());
}

TEST(Trial, TriesBothEquallyOften) {
  Trial trial;
  int on = 0;
  for (int i = 0; i < 64; ++i) {
    on += trial.on();
    trial.record(1);
  }
  EXPECT_EQ(on, 32);
}

TEST(Trial, TriesAgainAndChangesItsMind) {
  Trial trial;
  EXPECT_EQ(share_on(trial, .04, .03, 1000), 0);
  bool seen = false;
  for (int i = 0; i < 2048 + 64; ++i) trial.record(trial.on() ? .03 : .04);
  for (int i = 0; i < 500; ++i) {
    seen = trial.on();
    trial.record(.03);
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace edgemoe
