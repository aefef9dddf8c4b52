// Layouts, activations and single weights against figures worked out by hand from docs/format.md.
#include "edgemoe/error.h"
#include "kernels_fixture.h"

namespace edgemoe::kernels {
namespace {

TEST(KernelsPlanes, LayoutOfT16) {
  const PlaneLayout base = plane_layout(Format::kT16, 0, 3, 288, true);  // 5 blocks, 2 superblocks
  EXPECT_EQ(base.codes, 0u);
  EXPECT_EQ(base.selectors, 256u);
  EXPECT_EQ(base.scales, 256u + 128);
  EXPECT_EQ(base.midpoints, 256u + 128 + 64);
  EXPECT_EQ(base.biases, base.midpoints + 64);
  EXPECT_EQ(base.bytes, 256u + 128 + 64 + 64 + 64);
  EXPECT_EQ(plane_layout(Format::kT16, 1, 3, 288, false).bytes, 192u);  // 48 a row
  EXPECT_EQ(plane_layout(Format::kT16, 2, 3, 288, true).bytes, 192u + 64);
  EXPECT_EQ(plane_layout(Format::kT16, 3, 3, 288, false).bytes, 256u);
}

TEST(KernelsPlanes, LayoutOfSlices) {
  EXPECT_EQ(plane_layout(Format::kSlicedQ4K, 0, 4, 512, false).bytes, 512u + 128 + 64);
  EXPECT_EQ(plane_layout(Format::kSlicedQ6K, 0, 4, 512, false).bytes, 512u + 192 + 64);
  EXPECT_EQ(plane_layout(Format::kSlicedQ4K, 1, 4, 512, true).bytes, 256u);
  EXPECT_EQ(plane_layout(Format::kSlicedQ4K, 3, 4, 512, false).bytes, 0u);
  EXPECT_EQ(plane_layout(Format::kSlicedQ5K, 3, 4, 512, false).bytes, 256u);
  EXPECT_EQ(plane_layout(Format::kSlicedQ6K, 3, 4, 512, false).bytes, 512u);
  EXPECT_EQ(last_level(Format::kT16, true), 3);
  EXPECT_EQ(last_level(Format::kT16, false), 2);
  EXPECT_EQ(last_level(Format::kSlicedQ4K, true), 2);
  EXPECT_EQ(last_level(Format::kSlicedQ6K, true), 3);
}

TEST(KernelsPlanes, RefusesImpossibleShapes) {
  EXPECT_THROW(plane_layout(Format::kT16, 0, 3, 48, false), Error);
  EXPECT_THROW(plane_layout(Format::kT16, 0, 3, 0, false), Error);
  EXPECT_THROW(plane_layout(Format::kT16, 0, -1, 64, false), Error);
  EXPECT_THROW(plane_layout(Format::kT16, 4, 3, 64, false), Error);
  EXPECT_THROW(plane_layout(Format::kSlicedQ4K, 0, 3, 288, false), Error);
  EXPECT_THROW(plane_layout(static_cast<Format>(9), 0, 3, 256, false), Error);
  EXPECT_THROW(activation_bytes(48), Error);
}

// One code set at a time, with planes written as the format's table says.
TEST(KernelsPlanes, CodesOfSingleWeights) {
  auto tables = std::make_unique<T16Tables>();
  for (int c = 0; c < 16; ++c) {
    for (int level = 0; level < kLevelCount; ++level) tables->rows[level][0][c] = static_cast<uint8_t>(64 + c);
  }
  for (const int w : {0, 5, 8, 13, 16, 30, 33, 47, 48, 63, 64 + 21, 128 + 15, 192 + 50, 256 + 9}) {
    std::vector<uint8_t> planes[kLevelCount];
    Matrix matrix{Format::kT16, 1, 320, tables.get(), {}, 0};
    for (int level = 0; level < kLevelCount; ++level) {
      planes[level].resize(plane_layout(Format::kT16, level, 1, 320, false).bytes);
      matrix.planes[level] = planes[level].data();
    }
    const PlaneLayout base = plane_layout(Format::kT16, 0, 1, 320, false);
    for (int s = 0; s < 2; ++s) planes[0][base.scales + static_cast<size_t>(2 * s) + 1] = 0x3c;  // 1.0
    const float gains[] = {1, 2, 0.5f, 1.5f};
    std::memcpy(planes[0].data() + base.midpoints + kGainsAt, gains, sizeof(gains));
    const int block = w / 64, k = w % 64 / 16, t = w % 16;
    planes[0][static_cast<size_t>(16 * block + t)] = static_cast<uint8_t>(2 << 2 * k);
    for (int level = 1; level <= 2; ++level) {
      planes[level][static_cast<size_t>(block / 4 * 32 + block % 2 * 16 + t)] = static_cast<uint8_t>(1 << (k + block % 4 / 2 * 4));
    }
    planes[3][static_cast<size_t>(16 * block + t)] = static_cast<uint8_t>(3 << 2 * k);
    const float values[] = {2, 2 * 5, 0.5f * 11, 1.5f * (11 + 11.0f / 16)};
    for (int level = 0; level < kLevelCount; ++level) {
      std::vector<float> row(320);
      dequantize(matrix, level, 0, 1, row.data());
      for (int i = 0; i < 320; ++i) ASSERT_EQ(row[static_cast<size_t>(i)], i == w ? values[level] : 0) << w << " " << level;
    }
  }
}

TEST(KernelsPlanes, ActivationsAreRoundedToNearest) {
  std::vector<float> x(288);
  for (int i = 0; i < 288; ++i) x[static_cast<size_t>(i)] = static_cast<float>(i % 100) - 30.25f;
  x[17] = -127;
  x[260] = 254;
  std::vector<uint8_t> bytes(activation_bytes(288));
  convert_activation(x.data(), 288, bytes.data());
  const Activation a = Activation::of(bytes.data(), 2);
  for (int s = 0; s < 2; ++s) {
    float d;
    int32_t correction;
    std::memcpy(&d, a.d + 4 * s, 4);
    std::memcpy(&correction, a.correction + 4 * s, 4);
    EXPECT_EQ(d, s == 0 ? 1 : 2);
    int total = 0;
    for (int w = 0; w < 256; ++w) {
      const int at = 256 * s + w / 16 % 4 * 64 + w / 64 * 16 + w % 16;
      const float wanted = 256 * s + w < 288 ? x[static_cast<size_t>(256 * s + w)] / d : 0;
      EXPECT_EQ(a.q[at], std::nearbyint(wanted)) << s << " " << w;
      total += a.q[at];
      if (w % 16 == 15) {
        int16_t sum;
        std::memcpy(&sum, a.sums + 32 * s + w / 16 * 2, 2);
        int group = 0;
        for (int t = 0; t < 16; ++t) group += a.q[at - 15 + t];
        EXPECT_EQ(sum, group);
      }
    }
    EXPECT_EQ(correction, -64 * total);
  }
}

TEST(KernelsPlanes, TinyAndHugeActivations) {
  for (const float amax : {0.0f, 1e-45f, 1e-38f, 1e-30f, 3e38f}) {
    std::vector<float> x(256, amax);
    std::vector<uint8_t> bytes(activation_bytes(256));
    convert_activation(x.data(), 256, bytes.data());
    const Activation a = Activation::of(bytes.data(), 1);
    float d;
    std::memcpy(&d, a.d, 4);
    for (int i = 0; i < 256; ++i) ASSERT_NEAR(static_cast<double>(d) * a.q[i], amax, amax * 1e-5 + 1e-35);
  }
}

}  // namespace
}  // namespace edgemoe::kernels
