#include "edgemoe/codec/encode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "../src/codec/half.h"
#include "../src/codec/parallel.h"
#include "../src/codec/search.h"
#include "../src/codec/search_kernel.h"
#include "edgemoe/error.h"

namespace edgemoe::codec {
namespace {

std::vector<float> weights_of(int64_t count, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> weights(count);
  for (float& weight : weights) weight = normal(random);
  return weights;
}

std::vector<float> identity_of(int64_t columns) {
  std::vector<float> identity(static_cast<size_t>(columns * columns));
  for (int64_t i = 0; i < columns; ++i) identity[static_cast<size_t>(i * (columns + 1))] = 1;
  return identity;
}

MatrixInput input_of(const std::vector<float>& weights, int64_t columns) {
  MatrixInput input;
  input.weights = weights.data();
  input.columns = columns;
  input.rows = static_cast<int64_t>(weights.size()) / columns;
  return input;
}

bool same(const PlaneSet& a, const PlaneSet& b) {
  for (int level = 0; level < kernels::kLevelCount; ++level) {
    const Bytes &x = a.planes[level], &y = b.planes[level];
    if (x.size != y.size || !std::equal(x.data.get(), x.data.get() + x.size, y.data.get())) return false;
  }
  return true;
}

TEST(Half, RoundsEveryValueToItself) {
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half & 0x7c00) == 0x7c00) continue;
    EXPECT_EQ(to_half(from_half(static_cast<uint16_t>(half))), half);
  }
}

TEST(Half, RoundsToTheNearestAndTiesToEven) {
  EXPECT_EQ(from_half(to_half(1.0f + 0x1p-11f)), 1.0f);
  EXPECT_EQ(from_half(to_half(1.0f + 3 * 0x1p-11f)), 1.0f + 0x1p-9f);
  EXPECT_EQ(from_half(to_half(1.0f + 0x1.2p-11f)), 1.0f + 0x1p-10f);
  EXPECT_EQ(from_half(to_half(0x1.8p-25f)), 0x1p-24f);
  EXPECT_EQ(from_half(to_half(0x1p-25f)), 0.0f);
  EXPECT_EQ(from_half(to_half(-0x1.fffp-15f)), -0x1p-14f);
  EXPECT_EQ(from_half(to_half(kLargestHalf)), kLargestHalf);
}

TEST(ParallelFor, DoesEachOnceAndThrowsTheFirstError) {
  std::vector<std::atomic<int>> done(1000);
  parallel_for(1000, 4, [&](int64_t i) { ++done[i]; });
  EXPECT_TRUE(std::all_of(done.begin(), done.end(), [](const auto& count) { return count == 1; }));
  try {
    parallel_for(1000, 4, [](int64_t i) {
      if (i >= 300) throw Error(std::to_string(i));
    });
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "300");
  }
}

TEST(Search, ChoosesTheNearestCode) {
  const Search search(codebooks(default_tables()), {});
  float values[kGroup], ones[kGroup];
  for (int i = 0; i < kGroup; ++i) {
    values[i] = -60.0f + 8 * i;
    ones[i] = 1;
  }
  for (int row = 0; row < kRows; row += 17) {
    int32_t codes[kGroup];
    choose_codes<4>(search.lines(row), values, ones, codes);
    for (int i = 0; i < kGroup; ++i) {
      const auto cost = [&](int code) {
        double sum = 0;
        for (int l = 0; l < kLevelsSearched; ++l) sum += search.weight(l) * std::pow(values[i] - search.books().of[l][row][code], 2);
        return sum;
      };
      for (int code = 0; code < 16; ++code) EXPECT_LE(cost(codes[i]), cost(code) + 1e-2);
    }
  }
}

// The ranking by the grid against trying all rows exactly.
TEST(Search, FindsARowThatIsAsGoodAsTheBest) {
  const Search search(codebooks(default_tables()), {});
  const std::vector<float> weights = weights_of(200 * kGroup);
  const std::vector<float> ones(kGroup, 1.0f);
  double found = 0, best = 0;
  for (int g = 0; g < 200; ++g) {
    float values[kGroup];
    double square = 0;
    for (int i = 0; i < kGroup; ++i) {
      values[i] = weights[g * kGroup + i] * 900;
      square += values[i] * values[i];
    }
    int32_t codes[kGroup];
    float least = std::numeric_limits<float>::max();
    for (int row = 0; row < kRows; ++row) least = std::min(least, choose_codes<4>(search.lines(row), values, ones.data(), codes));
    best += least + square;
    const int row = search_kernels().choose_row(search, values, ones.data());
    found += choose_codes<4>(search.lines(row), values, ones.data(), codes) + square;
  }
  EXPECT_LT(found, best * 1.01);
}

TEST(Search, IsTheSameForAllWidthsOfVectors) {
  const Search search(codebooks(default_tables()), {});
  const std::vector<float> weights = weights_of(kSuperblock * 20);
  const std::vector<float> importance = [] {
    std::vector<float> h = weights_of(kSuperblock, 7);
    for (float& value : h) value = 1 + 30 * std::abs(value);
    return h;
  }();
  for (int s = 0; s < 20; ++s) {
    Superblock narrow, wide, best;
    encode_superblock<4>(search, weights.data() + s * kSuperblock, importance.data(), kGroups, narrow);
    encode_superblock<8>(search, weights.data() + s * kSuperblock, importance.data(), kGroups, wide);
    search_kernels().encode_superblock(search, weights.data() + s * kSuperblock, importance.data(), kGroups, best);
    for (const Superblock* other : {&wide, &best}) {
      EXPECT_EQ(narrow.d, other->d);
      EXPECT_TRUE(std::equal(narrow.selectors, narrow.selectors + kGroups, other->selectors));
      EXPECT_TRUE(std::equal(narrow.codes, narrow.codes + kSuperblock, other->codes));
    }
  }
}

TEST(Encode, IsTheSameForAnyNumberOfThreads) {
  const std::vector<float> weights = weights_of(70 * 288);
  const std::vector<float> identity = identity_of(288);
  MatrixInput input = input_of(weights, 288);
  EncodeSettings settings;
  settings.levels = 4;
  for (const float* feedback : {static_cast<const float*>(nullptr), static_cast<const float*>(identity.data())}) {
    input.feedback = feedback;
    settings.threads = 1;
    const PlaneSet one = encode(input, default_tables(), settings);
    settings.threads = 6;
    EXPECT_TRUE(same(one, encode(input, default_tables(), settings)));
  }
}

TEST(Encode, WithoutCorrelationFeedbackChangesLittle) {
  const std::vector<float> weights = weights_of(16 * 512);
  const std::vector<float> identity = identity_of(512);
  MatrixInput input = input_of(weights, 512);
  const PlaneSet plain = encode(input, default_tables(), {});
  input.feedback = identity.data();
  const PlaneSet fed = encode(input, default_tables(), {});
  for (int level = 0; level < 3; ++level) EXPECT_NEAR(fed.errors[level].error / plain.errors[level].error, 1.0, 0.02);
}

// Where columns do not correlate, both ways of encoding have the same gain to make.
TEST(Encode, GainsKeepTheSizeOfTheWeights) {
  const std::vector<float> weights = weights_of(37 * 288);
  const std::vector<float> identity = identity_of(288);
  MatrixInput input = input_of(weights, 288);
  EncodeSettings settings;
  settings.levels = 4;
  const auto tables = std::make_unique<kernels::T16Tables>();
  for (int row = 0; row < kRows; ++row) {
    const int8_t* rows[] = {default_tables().level2[row], default_tables().level3[row], default_tables().level4[row], default_tables().level6[row]};
    for (int level = 0; level < 4; ++level) {
      for (int i = 0; i < (level == 0 ? 4 : level == 1 ? 8 : 16); ++i) tables->rows[level][row][i] = static_cast<uint8_t>(64 + rows[level][i]);
    }
  }
  for (const float* feedback : {static_cast<const float*>(nullptr), static_cast<const float*>(identity.data())}) {
    input.feedback = feedback;
    const PlaneSet set = encode(input, default_tables(), settings);
    kernels::Matrix matrix{kernels::Format::kT16, 37, 288, tables.get(), {}, 0};
    for (int level = 0; level < 4; ++level) {
      matrix.planes[level] = set.planes[level].data.get();
      std::vector<float> read(weights.size());
      kernels::dequantize(matrix, level, 0, 37, read.data());
      double along = 0, square = 0, lost = 0;
      for (size_t i = 0; i < weights.size(); ++i) {
        along += static_cast<double>(weights[i]) * read[i];
        square += static_cast<double>(weights[i]) * weights[i];
        lost += std::pow(static_cast<double>(weights[i]) - read[i], 2);
      }
      EXPECT_NEAR(along / square, 1, 1e-5) << level;
      EXPECT_NEAR(set.errors[level].error / lost, 1, 1e-4) << level;
      EXPECT_NEAR(set.errors[level].total / square, 1, 1e-9) << level;
    }
  }
}

TEST(Encode, NamesWhatDoesNotFit) {
  const std::vector<float> weights = weights_of(4 * 64);
  const auto refused = [&](MatrixInput input, EncodeSettings settings) { EXPECT_THROW(encode(input, default_tables(), settings), Error); };
  EncodeSettings settings;
  settings.levels = 5;
  refused(input_of(weights, 64), settings);
  settings = {};
  settings.threads = 0;
  refused(input_of(weights, 64), settings);
  settings = {};
  std::fill_n(settings.weights.of, 3, 0.0f);
  refused(input_of(weights, 64), settings);
  refused(input_of(weights, 16), {});
  Tables tables = default_tables();
  tables.level3[5][5] = 64;
  EXPECT_THROW(encode(input_of(weights, 64), tables, {}), Error);
  std::vector<float> factor(64 * 64);
  MatrixInput input = input_of(weights, 64);
  input.feedback = factor.data();
  refused(input, {});
}

TEST(LearnTables, SuitTheirSamples) {
  std::vector<float> samples = weights_of(60 * 256);
  for (float& sample : samples) sample = std::copysign(1 + 3 * std::abs(sample), sample);
  LearnSettings settings;
  settings.iterations = 6;
  settings.threads = 2;
  const Tables tables = learn_tables(samples.data(), nullptr, 60, 256, settings);
  const MatrixInput input = input_of(samples, 256);
  const PlaneSet own = encode(input, tables, {}), common = encode(input, default_tables(), {});
  for (int level = 0; level < 3; ++level) EXPECT_LT(own.errors[level].error, common.errors[level].error);
}

}  // namespace
}  // namespace edgemoe::codec
