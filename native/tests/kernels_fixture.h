/// @file kernels_fixture.h
/// Random matrices in planes, in memory that ends where they end, and what they are worth in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "edgemoe/kernels/planes.h"
#include "guarded_bytes.h"
#include "source.h"

namespace edgemoe::kernels {

enum class Data { kRandom, kExtreme };

inline uint16_t random_half(std::mt19937& random, Data data) {
  if (data == Data::kRandom) return static_cast<uint16_t>((random() & 0x83ff) | (6 + random() % 8) << 10);
  // Zero, the smallest and the largest denormal, the smallest normal number, the largest, and 1, of both signs.
  static const uint16_t halves[] = {0x0000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x3c00};
  return static_cast<uint16_t>(halves[random() % 6] | (random() & 1) << 15);
}

inline std::unique_ptr<T16Tables> random_tables(std::mt19937& random, Data data) {
  auto tables = std::make_unique<T16Tables>();
  for (auto& level : tables->rows) {
    for (auto& row : level) {
      for (uint8_t& entry : row) {
        entry = static_cast<uint8_t>(data == Data::kRandom ? 1 + random() % 127 : random() % 2 ? 127 : 1);
      }
    }
  }
  tables->arrange();
  return tables;
}

/// @brief A matrix with random planes; with kExtreme, codes, selectors and scales are at the ends of what they may be.
class RandomMatrix {
 public:
  RandomMatrix(Format format, int64_t rows, int64_t columns, Data data, uint32_t seed, uint8_t biased_levels = 0)
      : _random(seed), _data(data), _tables(random_tables(_random, data)) {
    matrix.format = format;
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.biased_levels = biased_levels;
    if (format == Format::kT16) matrix.tables = _tables.get();
    for (int level = 0; level <= last_level(format, true); ++level) {
      fill_plane(level, format == Format::kT16 && (biased_levels >> level & 1));
    }
  }

  Matrix matrix;

 private:
  void fill_plane(int level, bool biased) {
    const PlaneLayout layout = plane_layout(matrix.format, level, matrix.rows, matrix.columns, biased);
    _planes.push_back(std::make_unique<GuardedBytes>(layout.bytes - misaligned(level)));
    uint8_t* plane = _planes.back()->data();
    matrix.planes[level] = plane;
    for (size_t i = 0; i < layout.bytes - misaligned(level); ++i) plane[i] = random_byte();
    if (level == 0) fill_base(layout, plane);
    if (!biased) return;
    for (int64_t r = 0; r < matrix.rows; ++r) put_half(plane + layout.biases + 2 * r);
  }

  // Planes are padded to 64 bytes; leaving out a few of the padding puts their beginning at an odd address.
  size_t misaligned(int level) const {
    const size_t rows = static_cast<size_t>(matrix.rows);
    const bool biased = matrix.biased_levels >> level & 1;
    if (matrix.format != Format::kT16) return level == 0 ? 1 : 0;
    const size_t blocks = static_cast<size_t>((matrix.columns + 63) / 64);
    if (level == 0 && !biased) return 0;  // gains are in its last bytes
    const size_t last = biased ? 2 * rows : rows * static_cast<size_t>(code_bytes(static_cast<int64_t>(blocks), level == 3));
    return last % 64 == 0 ? 0 : std::min<size_t>(64 - last % 64, 7);
  }

  void fill_base(const PlaneLayout& layout, uint8_t* plane) {
    const int64_t superblocks = (matrix.columns + 255) / 256;
    const int64_t bytes = static_cast<int64_t>(scale_bytes(matrix.format));
    for (int64_t s = 0; s < matrix.rows * superblocks; ++s) {
      uint8_t* scales = plane + layout.scales + s * bytes;
      if (matrix.format == Format::kSlicedQ6K) {
        put_half(scales + 16);
      } else {
        put_half(scales);
        if (matrix.format != Format::kT16) put_half(scales + 2);
      }
    }
    for (size_t i = 0; i < kGainsAt; ++i) plane[layout.midpoints + i] = random_byte() & 127;
    for (size_t level = 0; level < (matrix.format == Format::kT16 ? 4 : 3); ++level) {
      const float gain = 0.5f + static_cast<float>(_random() % 256) / 256;
      std::memcpy(plane + layout.midpoints + kGainsAt + 4 * level, &gain, sizeof(gain));
    }
  }

  uint8_t random_byte() {
    if (_data == Data::kRandom) return static_cast<uint8_t>(_random());
    static const uint8_t extremes[] = {0x00, 0xff, 0x80, 0x7f};
    return extremes[_random() % 4];
  }

  void put_half(uint8_t* to) {
    const uint16_t half = random_half(_random, _data);
    std::memcpy(to, &half, sizeof(half));
  }

  std::mt19937 _random;
  Data _data;
  std::unique_ptr<T16Tables> _tables;
  std::vector<std::unique_ptr<GuardedBytes>> _planes;
};

/// @brief Activation rows with guarded ends, and the values that their bytes stand for.
class RandomActivations {
 public:
  RandomActivations(int count, int64_t columns, Data data, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < count; ++i) {
      std::vector<float> x(static_cast<size_t>(columns));
      for (float& value : x) value = data == Data::kRandom ? normal(random) : random() % 2 ? 3.0f : -3.0f;
      if (data == Data::kExtreme && i % 3 == 1) std::fill(x.begin(), x.end(), 0.0f);
      _bytes.push_back(std::make_unique<GuardedBytes>(used_bytes(columns)));
      std::vector<uint8_t> whole(activation_bytes(columns));
      convert_activation(x.data(), columns, whole.data());
      std::memcpy(_bytes.back()->data(), whole.data(), used_bytes(columns));
      rows.push_back(_bytes.back()->data());
      values.push_back(decoded(columns));
    }
  }

  std::vector<const uint8_t*> rows;
  std::vector<std::vector<double>> values;

 private:
  // Without the padding at the end, so that most rows begin at addresses that are a multiple of 4 only.
  static size_t used_bytes(int64_t columns) { return static_cast<size_t>((columns + 255) / 256) * 296; }

  std::vector<double> decoded(int64_t columns) const {
    const Activation a = Activation::of(rows.back(), (columns + 255) / 256);
    std::vector<double> x;
    for (int64_t c = 0; c < columns; ++c) {
      float d;
      std::memcpy(&d, a.d + 4 * (c / 256), sizeof(d));
      const int64_t w = c % 256;
      x.push_back(static_cast<double>(d) * a.q[c / 256 * 256 + w / 16 % 4 * 64 + w / 64 * 16 + w % 16]);
    }
    return x;
  }

  std::vector<std::unique_ptr<GuardedBytes>> _bytes;
};

/// @brief Rows [begin, end) times each activation by a variant: one vector of all the matrix's rows for each activation, NaN
/// where a row was not asked for.
inline std::vector<std::vector<float>> product(const Variant& variant, const Matrix& matrix, int level, int64_t begin,
                                               int64_t end, const std::vector<const uint8_t*>& x) {
  std::vector<std::vector<float>> y(x.size(), std::vector<float>(static_cast<size_t>(matrix.rows), std::nanf("")));
  std::vector<float*> pointers;
  for (auto& row : y) pointers.push_back(row.data());
  multiply_with(variant, matrix, level, begin, end, x.data(), static_cast<int>(x.size()), pointers.data());
  return y;
}

inline std::vector<const Variant*> available_variants() {
  std::vector<const Variant*> result;
  for (const Variant* const* v = variants(); *v; ++v) {
    if ((*v)->available()) result.push_back(*v);
  }
  return result;
}

inline constexpr Format kFormats[] = {Format::kT16, Format::kSlicedQ4K, Format::kSlicedQ5K, Format::kSlicedQ6K};

}  // namespace edgemoe::kernels
