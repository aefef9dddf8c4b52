/// @file bits.h
/// Loads and fields of the format that all variants read the same way.
///
/// Variants are compiled with flags of their own, so everything here has internal linkage: the linker must not put one
/// variant's copy in place of another's.
#pragma once

#include <cstdint>
#include <cstring>

#include "source.h"

namespace edgemoe::kernels {
namespace {

template <class T>
[[maybe_unused]] inline T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// @brief fp16 as float, exact; there are no infinities or NaNs in a pack.
[[maybe_unused]] inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  // Read as a float, the field is 2^112 too small, denormals included.
  const float value = load<float>(&magnitude) * 0x1p112f;
  uint32_t bits = load<uint32_t>(&value);
  bits |= sign;
  return load<float>(&bits);
}

[[maybe_unused]] inline float load_half(const uint8_t* from) { return half_to_float(load<uint16_t>(from)); }

/// @brief The 12 bytes of a Q4_K or Q5_K superblock: eight 6-bit scales and eight 6-bit minimums, one of each for 32 weights.
struct PackedScales {
  uint64_t scales;  ///< a byte each
  uint64_t minimums;
};

[[maybe_unused]] inline PackedScales unpack_scales(const uint8_t* from) {
  const uint32_t a = load<uint32_t>(from);
  const uint32_t b = load<uint32_t>(from + 4);
  const uint32_t c = load<uint32_t>(from + 8);
  const uint32_t low_scales = a & 0x3f3f3f3fu;
  const uint32_t low_minimums = b & 0x3f3f3f3fu;
  const uint32_t high_scales = (c & 0x0f0f0f0fu) | ((a >> 2) & 0x30303030u);
  const uint32_t high_minimums = ((c >> 4) & 0x0f0f0f0fu) | ((b >> 2) & 0x30303030u);
  return {low_scales | static_cast<uint64_t>(high_scales) << 32, low_minimums | static_cast<uint64_t>(high_minimums) << 32};
}

/// @brief The code that each nibble stands for, with the two bits of level 2 below the others (low) or above them (high).
/// Where a code has 3 bits, its last one is the upper one of the two others; of 2 bits, nibbles are codes.
struct NibbleOrder {
  alignas(16) uint8_t low[16];
  alignas(16) uint8_t high[16];
};

[[maybe_unused]] constexpr NibbleOrder nibble_order(int bits) {
  NibbleOrder order{};
  const int left_out = bits < 4 ? 4 - bits : 0;
  for (int n = 0; n < 16; ++n) {
    order.low[n] = static_cast<uint8_t>(bits == 2 ? n : ((n & 3) << 2 | n >> 2) >> left_out);
    order.high[n] = static_cast<uint8_t>(bits == 2 ? n : n >> left_out);
  }
  return order;
}

/// @brief A nibble of a 1-bit plane, bits of the groups 0 to 3, as a byte: bit k goes to places[k].
struct Spread {
  alignas(16) uint8_t table[16];
};

[[maybe_unused]] constexpr Spread spread(int p0, int p1, int p2, int p3) {
  Spread result{};
  for (int n = 0; n < 16; ++n) {
    result.table[n] = static_cast<uint8_t>((n & 1) << p0 | (n >> 1 & 1) << p1 | (n >> 2 & 1) << p2 | (n >> 3 & 1) << p3);
  }
  return result;
}

// Where the nibbles of codes have the bits of levels 3 and 4: those of groups 0 and 2 above the two bits of level 2, which have
// them below, in the nibbles of one byte; those of groups 1 and 3 below, in the nibbles of another. So one byte has both.
inline constexpr Spread kThirdBits = spread(3, 1, 7, 5);
inline constexpr Spread kFourthBits = spread(2, 0, 6, 4);
inline constexpr Spread kAsTwoBits = spread(0, 2, 4, 6);  // as the lower bits of a 2-bit plane

/// @brief What a slice's value byte counts in codes, as a factor.
[[maybe_unused]] inline float slice_unit(const Source& source) {
  if (source.full) return 1.0f;
  return source.format == Format::kSlicedQ4K ? 1.0f / 8 : source.format == Format::kSlicedQ5K ? 1.0f / 4 : 1.0f / 2;
}

}  // namespace
}  // namespace edgemoe::kernels
