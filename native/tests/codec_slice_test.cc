#include "edgemoe/codec/slice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "edgemoe/error.h"

namespace edgemoe::codec {
namespace {

using kernels::Format;

// Blocks with any codes and scales; the fp16 numbers are 1/128.
std::vector<uint8_t> blocks_of(Format format, int64_t count) {
  const size_t size = block_bytes(format);
  std::vector<uint8_t> blocks(size * count);
  std::mt19937 random(1);
  for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random());
  for (size_t at = 0; at < blocks.size(); at += size) {
    const size_t halves = format == Format::kSlicedQ6K ? 208 : 0;
    for (size_t i = 0; i < (halves ? 2u : 4u); i += 2) {
      blocks[at + halves + i] = 0;
      blocks[at + halves + i + 1] = 0x20;
    }
  }
  return blocks;
}

class Slices : public testing::TestWithParam<Format> {};

TEST_P(Slices, HaveTheirSizes) {
  const PlaneSet set = slice(GetParam(), blocks_of(GetParam(), 6).data(), 3, 512, nullptr, 2);
  constexpr size_t scales = 128;  // 6 of 16 or 18 bytes, padded to 64
  EXPECT_EQ(set.planes[0].size, 6 * 64 + scales + 64);
  EXPECT_EQ(set.planes[1].size, 6u * 32);
  EXPECT_EQ(set.planes[2].size, 6u * 32);
  EXPECT_EQ(set.levels, GetParam() == Format::kSlicedQ4K ? 3 : 4);
  EXPECT_EQ(set.planes[3].size, GetParam() == Format::kSlicedQ4K ? 0 : GetParam() == Format::kSlicedQ5K ? 6u * 32 : 6u * 64);
}

TEST_P(Slices, LoseLessAtEachLevelAndNothingAtTheLast) {
  const PlaneSet set = slice(GetParam(), blocks_of(GetParam(), 40).data(), 10, 1024, nullptr, 1);
  for (int level = 0; level + 1 < set.levels; ++level) EXPECT_GT(set.errors[level].error, set.errors[level + 1].error);
  EXPECT_EQ(set.errors[set.levels - 1].error, 0);
  EXPECT_GT(set.errors[0].total, 0);
}

TEST_P(Slices, AreTheSameForAnyNumberOfThreads) {
  const std::vector<uint8_t> blocks = blocks_of(GetParam(), 8000);
  const PlaneSet one = slice(GetParam(), blocks.data(), 4000, 512, nullptr, 1);
  const PlaneSet many = slice(GetParam(), blocks.data(), 4000, 512, nullptr, 5);
  for (int level = 0; level < one.levels; ++level) {
    EXPECT_EQ(one.errors[level].error, many.errors[level].error);
    ASSERT_EQ(one.planes[level].size, many.planes[level].size);
    EXPECT_TRUE(std::equal(one.planes[level].data.get(), one.planes[level].data.get() + one.planes[level].size,
                           many.planes[level].data.get()));
  }
}

TEST_P(Slices, RefuseScalesThatAreNotFinite) {
  std::vector<uint8_t> blocks = blocks_of(GetParam(), 4);
  blocks[2 * block_bytes(GetParam()) + (GetParam() == Format::kSlicedQ6K ? 209 : 1)] = 0x7c;
  try {
    slice(GetParam(), blocks.data(), 4, 256, nullptr, 2);
    FAIL();
  } catch (const ModelError& e) {
    EXPECT_NE(std::string(e.what()).find("row 2"), std::string::npos) << e.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Slices, testing::Values(Format::kSlicedQ4K, Format::kSlicedQ5K, Format::kSlicedQ6K));

TEST(Slice, NamesWhatDoesNotFit) {
  const std::vector<uint8_t> blocks = blocks_of(Format::kSlicedQ4K, 1);
  EXPECT_THROW(slice(Format::kT16, blocks.data(), 1, 256, nullptr, 1), Error);
  EXPECT_THROW(slice(Format::kSlicedQ4K, blocks.data(), 1, 255, nullptr, 1), Error);
  EXPECT_THROW(slice(Format::kSlicedQ4K, blocks.data(), 0, 256, nullptr, 1), Error);
  EXPECT_THROW(slice(Format::kSlicedQ4K, blocks.data(), 1, 256, nullptr, 0), Error);
  std::vector<float> importance(256, 1.0f);
  importance[9] = -1;
  EXPECT_THROW(slice(Format::kSlicedQ4K, blocks.data(), 1, 256, importance.data(), 1), Error);
}

}  // namespace
}  // namespace edgemoe::codec
