// Activations as 8-bit integers with a scale for each 256, arranged as Activation says.
#include <cmath>
#include <cstring>
#include <string>

#include "bits.h"
#include "edgemoe/error.h"

namespace edgemoe::kernels {
namespace {

constexpr float kSmallest = 1e-35f;     // below, 127 / amax is no float; such a superblock counts as 0
constexpr float kRounder = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer, half to even, in the low bits

int64_t superblocks_of(int64_t columns) {
  if (columns <= 0 || columns % (kBlock / 2) != 0) {
    throw Error("activations of " + std::to_string(columns) + " elements: planes have multiples of " +
                std::to_string(kBlock / 2));
  }
  return (columns + kSuperblock - 1) / kSuperblock;
}

// Bits of magnitudes compare as integers, which compilers vectorise without leave to reorder floats.
float largest_magnitude(const float* x) {
  int32_t bits[kSuperblock];
  std::memcpy(bits, x, sizeof(bits));
  int32_t largest = 0;
  for (int i = 0; i < kSuperblock; ++i) {
    const int32_t magnitude = bits[i] & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return load<float>(&largest);
}

int32_t convert_group(const float* x, float inverse, int8_t* q) {
  int32_t sum = 0;
  for (int t = 0; t < 16; ++t) {
    const float shifted = x[t] * inverse + kRounder;
    int32_t bits;
    std::memcpy(&bits, &shifted, sizeof(bits));
    const int32_t value = bits - 0x4b400000;
    q[t] = static_cast<int8_t>(value);
    sum += value;
  }
  return sum;
}

}  // namespace

size_t activation_bytes(int64_t columns) { return (static_cast<size_t>(superblocks_of(columns)) * 296 + 63) / 64 * 64; }

void convert_activation(const float* x, int64_t columns, uint8_t* out) {
  const int64_t superblocks = superblocks_of(columns);
  int8_t* q = reinterpret_cast<int8_t*>(out);
  uint8_t* sums = out + 256 * superblocks;
  uint8_t* corrections = out + 288 * superblocks;
  uint8_t* scales = out + 292 * superblocks;
  for (int64_t s = 0; s < superblocks; ++s, q += kSuperblock) {
    float padded[kSuperblock] = {};
    const int64_t left = columns - s * kSuperblock;
    std::memcpy(padded, x + s * kSuperblock, sizeof(float) * static_cast<size_t>(left < kSuperblock ? left : kSuperblock));
    const float largest = largest_magnitude(padded);
    const float d = largest < kSmallest ? 0.0f : largest / 127;
    const float inverse = largest < kSmallest ? 0.0f : 127 / largest;
    int16_t sum[16];
    int32_t correction = 0;
    for (int g = 0; g < 16; ++g) {
      const int32_t total = convert_group(padded + 16 * g, inverse, q + 64 * (g % 4) + 16 * (g / 4));
      sum[g] = static_cast<int16_t>(total);
      correction -= 64 * total;
    }
    std::memcpy(sums + 32 * s, sum, sizeof(sum));
    std::memcpy(corrections + 4 * s, &correction, sizeof(correction));
    std::memcpy(scales + 4 * s, &d, sizeof(d));
  }
}

}  // namespace edgemoe::kernels
