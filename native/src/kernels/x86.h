/// @file x86.h
/// What the AVX2 and AVX-512 variants have in common: a slice's scales.
#pragma once

#include <immintrin.h>

#include "loops.h"

namespace edgemoe::kernels {
namespace {

/// @brief Scales of one superblock of a slice: a weight is d scale[g] value - m minimum[g], g its group of 16.
struct X86Scales {
  __m128i scales;    ///< 16 signed bytes, in the order of the weights
  __m256i minimums;  ///< 16 int16
  float d;
  float m;
};

inline X86Scales x86_scales_q4(const uint8_t* from) {
  const PackedScales packed = unpack_scales(from + 4);
  const __m128i scales = _mm_cvtsi64_si128(static_cast<int64_t>(packed.scales));
  const __m128i minimums = _mm_cvtsi64_si128(static_cast<int64_t>(packed.minimums));
  return {_mm_unpacklo_epi8(scales, scales), _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(minimums, minimums)),
          _cvtsh_ss(load<uint16_t>(from)), _cvtsh_ss(load<uint16_t>(from + 2))};
}

inline X86Scales x86_scales_q6(const uint8_t* from) {
  const __m128i scales = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const float d = _cvtsh_ss(load<uint16_t>(from + 16));
  return {scales, _mm256_slli_epi16(_mm256_cvtepi8_epi16(scales), 5), d, d};
}

/// @brief What slices look nibbles up in.
struct X86Lookup {
  __m128i low;
  __m128i high;
};

/// @brief The midpoints of a level, or the codes themselves where there are none, by nibble.
template <int kBits>
EDGEMOE_INLINE X86Lookup x86_lookup(const uint8_t* midpoints) {
  static constexpr NibbleOrder order = nibble_order(kBits);
  const __m128i same = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m128i values = midpoints ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(midpoints)) : same;
  const auto ordered = [&](const uint8_t* codes) { return _mm_shuffle_epi8(values, _mm_load_si128(reinterpret_cast<const __m128i*>(codes))); };
  return {ordered(order.low), ordered(order.high)};
}

/// @brief Selectors as offsets of table rows, which saves a shift for each where they are used.
inline const uint16_t* x86_offsets(const uint8_t* selectors, int64_t superblocks, uint16_t* out) {
  for (int64_t s = 0; s < superblocks; ++s) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(selectors + 16 * s));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 16 * s), _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 4));
  }
  return out;
}

}  // namespace
}  // namespace edgemoe::kernels
