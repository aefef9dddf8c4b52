// ggml blocks cut into planes by a plain slicer and put together again.
#include "edgemoe/error.h"
#include "kernels_fixture.h"

namespace edgemoe::kernels {
namespace {

size_t block_bytes(Format format) {
  return format == Format::kSlicedQ4K ? 144 : format == Format::kSlicedQ5K ? 176 : 210;
}

// The code of weight w in ggml's block, from ggml's description of its blocks.
int ggml_code(Format format, const uint8_t* block, int w) {
  if (format == Format::kSlicedQ6K) {
    const int half = w / 128, l = w % 128;
    const int low = block[64 * half + l % 64] >> (l < 64 ? 0 : 4) & 15;
    return low | (block[128 + 32 * half + l % 32] >> 2 * (l / 32) & 3) << 4;
  }
  const bool q5 = format == Format::kSlicedQ5K;
  const int low = block[(q5 ? 48 : 16) + 32 * (w / 64) + w % 32] >> (w % 64 < 32 ? 0 : 4) & 15;
  return q5 ? low | (block[16 + w % 32] >> (w / 32) & 1) << 4 : low;
}

// The value of weight w by ggml's formula.
double ggml_value(Format format, const uint8_t* block, int w) {
  const auto half = [&](int at) {
    uint16_t h;
    std::memcpy(&h, block + at, 2);
    const int exponent = h >> 10 & 31;
    const double magnitude = exponent ? std::ldexp(1024 + (h & 1023), exponent - 25) : std::ldexp(h & 1023, -24);
    return h >> 15 ? -magnitude : magnitude;
  };
  const int code = ggml_code(format, block, w);
  if (format == Format::kSlicedQ6K) return half(208) * static_cast<int8_t>(block[192 + w / 16]) * (code - 32);
  const uint8_t* s = block + 4;
  const int j = w / 32;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  const int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
  return half(0) * scale * code - half(2) * minimum;
}

struct Sliced {
  std::vector<std::unique_ptr<GuardedBytes>> planes;
  Matrix matrix;
};

void put_two_bits(uint8_t* plane, int64_t block, int w, int code) {
  plane[16 * block + w % 16] |= static_cast<uint8_t>(code << 2 * (w / 16));
}

void put_one_bit(uint8_t* plane, int64_t block, int w, int bit) {
  plane[block / 4 * 32 + block % 2 * 16 + w % 16] |= static_cast<uint8_t>(bit << (w / 16 + block % 4 / 2 * 4));
}

Sliced slice(Format format, int64_t rows, int64_t columns, const uint8_t* blocks) {
  Sliced sliced;
  sliced.matrix = {format, rows, columns, nullptr, {}, 0};
  for (int level = 0; level <= last_level(format, true); ++level) {
    const size_t bytes = plane_layout(format, level, rows, columns, false).bytes;
    sliced.planes.push_back(std::make_unique<GuardedBytes>(bytes));
    sliced.matrix.planes[level] = sliced.planes.back()->data();
  }
  const auto plane = [&](int level) { return sliced.planes[static_cast<size_t>(level)]->data(); };
  const int rest = format == Format::kSlicedQ4K ? 0 : format == Format::kSlicedQ5K ? 1 : 2;
  const size_t scales = plane_layout(format, 0, rows, columns, false).scales;
  for (int64_t s = 0; s < rows * columns / 256; ++s) {
    const uint8_t* block = blocks + s * static_cast<int64_t>(block_bytes(format));
    const size_t size = scale_bytes(format);
    std::memcpy(plane(0) + scales + static_cast<size_t>(s) * size, block + (format == Format::kSlicedQ6K ? 192 : 0), size);
    for (int w = 0; w < 256; ++w) {
      const int code = ggml_code(format, block, w);
      const int64_t b = 4 * s + w / 64;
      put_two_bits(plane(0), b, w % 64, code >> (2 + rest));
      put_one_bit(plane(1), b, w % 64, code >> (1 + rest) & 1);
      put_one_bit(plane(2), b, w % 64, code >> rest & 1);
      if (rest == 1) put_one_bit(plane(3), b, w % 64, code & 1);
      if (rest == 2) put_two_bits(plane(3), b, w % 64, code & 3);
    }
  }
  return sliced;
}

std::vector<uint8_t> random_blocks(Format format, int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> blocks(static_cast<size_t>(count) * block_bytes(format));
  for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(random());
  for (int64_t i = 0; i < count; ++i) {
    uint8_t* block = blocks.data() + i * static_cast<int64_t>(block_bytes(format));
    const uint16_t d = random_half(random, Data::kRandom);
    const uint16_t m = random_half(random, Data::kRandom);
    std::memcpy(block + (format == Format::kSlicedQ6K ? 208 : 0), &d, 2);
    if (format != Format::kSlicedQ6K) std::memcpy(block + 2, &m, 2);
  }
  return blocks;
}

TEST(KernelsAssemble, GivesBackGgmlsBlocks) {
  for (const Format format : {Format::kSlicedQ4K, Format::kSlicedQ5K, Format::kSlicedQ6K}) {
    for (const int64_t columns : {256, 768, 2048}) {
      const int64_t rows = 5;
      const std::vector<uint8_t> blocks = random_blocks(format, rows * columns / 256, 3);
      const Sliced sliced = slice(format, rows, columns, blocks.data());
      const size_t row_bytes = static_cast<size_t>(columns) / 256 * block_bytes(format);
      for (const Variant* variant : available_variants()) {
        for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {1, 2}, {2, 5}, {3, 3}}) {
          const GuardedBytes out(static_cast<size_t>(end - begin) * row_bytes);
          assemble_with(*variant, sliced.matrix, begin, end, out.data());
          ASSERT_EQ(std::memcmp(out.data(), blocks.data() + static_cast<size_t>(begin) * row_bytes, out.size()), 0)
              << variant->name << " format " << static_cast<int>(format) << " columns " << columns;
        }
      }
    }
  }
}

TEST(KernelsAssemble, FullSlicesAreWorthWhatGgmlSays) {
  for (const Format format : {Format::kSlicedQ4K, Format::kSlicedQ5K, Format::kSlicedQ6K}) {
    const std::vector<uint8_t> blocks = random_blocks(format, 6, 4);
    const Sliced sliced = slice(format, 2, 768, blocks.data());
    std::vector<float> weights(2 * 768);
    dequantize(sliced.matrix, 3, 0, 2, weights.data());
    for (size_t i = 0; i < weights.size(); ++i) {
      const double wanted = ggml_value(format, blocks.data() + i / 256 * block_bytes(format), static_cast<int>(i % 256));
      ASSERT_NEAR(weights[i], wanted, 1e-5 + std::fabs(wanted) * 1e-5) << static_cast<int>(format) << " " << i;
    }
  }
}

TEST(KernelsAssemble, ValuesBelowFullPrecisionComeFromMidpointsAndGains) {
  for (const Format format : {Format::kSlicedQ4K, Format::kSlicedQ5K, Format::kSlicedQ6K}) {
    const double units[] = {0, 8, 4, 2};
    const std::vector<uint8_t> blocks = random_blocks(format, 1, 5);
    const Sliced sliced = slice(format, 1, 256, blocks.data());
    uint8_t* midpoints = sliced.planes[0]->data() + plane_layout(format, 0, 1, 256, false).midpoints;
    for (int i = 0; i < 48; ++i) midpoints[i] = static_cast<uint8_t>((i * 37 + 11) % 128);
    const float gains[] = {1.1f, 1.02f, 0.99f};
    std::memcpy(midpoints + kGainsAt, gains, sizeof(gains));
    const int bits = format == Format::kSlicedQ4K ? 4 : format == Format::kSlicedQ5K ? 5 : 6;
    for (int level = 0; level < last_level(format, true); ++level) {
      float weights[256];
      dequantize(sliced.matrix, level, 0, 1, weights);
      for (int w = 0; w < 256; ++w) {
        const int code = ggml_code(format, blocks.data(), w);
        const double value = midpoints[16 * level + (code >> (bits - kLevels[level]))] / units[static_cast<int>(format)];
        // ggml's formula is a line in the code: put the value there in place of it.
        std::vector<uint8_t> zero = blocks;
        const size_t codes = format == Format::kSlicedQ6K ? 0 : 16;
        const size_t codes_end = codes ? zero.size() : 192;
        std::fill(zero.begin() + static_cast<long>(codes), zero.begin() + static_cast<long>(codes_end), uint8_t{0});
        std::vector<uint8_t> one = zero;
        for (size_t i = codes ? (format == Format::kSlicedQ5K ? 48 : 16) : 0; i < (codes ? one.size() : 128); ++i) one[i] = 0x11;
        const double at_0 = ggml_value(format, zero.data(), w);
        const double wanted = gains[level] * (at_0 + (ggml_value(format, one.data(), w) - at_0) * value);
        ASSERT_NEAR(weights[w], wanted, 1e-4 + std::fabs(at_0) * 1e-5) << static_cast<int>(format) << " " << w;
      }
    }
  }
}

TEST(KernelsAssemble, RefusesT16) {
  const RandomMatrix m(Format::kT16, 1, 256, Data::kRandom, 1);
  uint8_t out[256];
  EXPECT_THROW(assemble(m.matrix, 0, 1, out), Error);
}

}  // namespace
}  // namespace edgemoe::kernels
