// AVX2 with FMA and F16C: half a superblock's 2-bit plane is one register; the assembling of slices of all x86 variants.
#include <immintrin.h>

#include "assemble.h"
#include "loops.h"
#include "x86.h"

namespace edgemoe::kernels {
namespace {

// Codes of k = 0 and 2 in the low and high nibbles of `even`, those of 1 and 3 in the nibbles of `odd`.
struct Nibbles {
  __m256i even;
  __m256i odd;
};

EDGEMOE_INLINE __m256i select(__m256i mask, __m256i one, __m256i other) {
  return _mm256_or_si256(_mm256_and_si256(mask, one), _mm256_andnot_si256(mask, other));
}

EDGEMOE_INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
EDGEMOE_INLINE __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

// Two blocks of a 2-bit plane, or the one that is left.
EDGEMOE_INLINE __m256i load_two_bits(const uint8_t* plane, bool both) {
  if (both) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane));
  return _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(plane)));
}

// Two blocks of a 1-bit plane as nibbles: bit k is of group k.
EDGEMOE_INLINE __m256i load_one_bit(const uint8_t* plane, bool both) {
  const __m128i* from = reinterpret_cast<const __m128i*>(plane);
  const __m128i bits = both ? _mm_loadu_si128(from) : _mm_loadl_epi64(from);
  const __m256i twice = _mm256_permute4x64_epi64(_mm256_castsi128_si256(bits), 0x50);
  return low_nibbles(_mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4)));
}

// A 1-bit plane in the places of a 2-bit plane: its bit for k at bit 2 k + kTo.
template <int kTo>
EDGEMOE_INLINE __m256i load_spread(const uint8_t* plane, bool both) {
  const __m128i table = _mm_slli_epi16(
      _mm_setr_epi8(0x00, 0x01, 0x04, 0x05, 0x10, 0x11, 0x14, 0x15, 0x40, 0x41, 0x44, 0x45, 0x50, 0x51, 0x54, 0x55), kTo);
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), load_one_bit(plane, both));
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(__m256i high, __m256i low) {
  const __m256i mask = _mm256_set1_epi8(static_cast<char>(0xcc));
  return {select(mask, _mm256_slli_epi16(high, 2), low), select(mask, high, _mm256_srli_epi16(low, 2))};
}

template <int kLevel>
EDGEMOE_INLINE Nibbles nibbles(const Planes& planes, int64_t at, bool both, __m256i base) {
  const __m256i third = load_spread<kLevel == 1 ? 0 : 1>(planes.codes[1] + at, both);
  if constexpr (kLevel == 1) {
    const __m256i mask = _mm256_set1_epi8(0x66);
    return {select(mask, _mm256_slli_epi16(base, 1), third),
            select(mask, _mm256_srli_epi16(base, 1), _mm256_srli_epi16(third, 2))};
  } else {
    return join(base, _mm256_or_si256(third, load_spread<0>(planes.codes[2] + at, both)));
  }
}

EDGEMOE_INLINE __m256i two(__m128i a, __m128i b) { return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1); }

// The table rows of groups k of two blocks, `offsets` pointing at the first block's.
EDGEMOE_INLINE __m256i whole_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  return two(_mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[0])),
             _mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[4])));
}

// Those of groups k and k + 1, 8 bytes each.
EDGEMOE_INLINE __m256i half_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i])),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i + 1])));
  };
  return two(row(0), row(1));
}

// Those of all four, 4 bytes each.
EDGEMOE_INLINE __m256i quarter_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  const auto entry = [&](int g) EDGEMOE_LAMBDA { return load<int32_t>(table[0] + offsets[g]); };
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_insert_epi32(
        _mm_insert_epi32(_mm_insert_epi32(_mm_cvtsi32_si128(entry(4 * i)), entry(4 * i + 1), 1), entry(4 * i + 2), 2),
        entry(4 * i + 3), 3);
  };
  return two(row(0), row(1));
}

struct Avx2 {
  using Bytes = __m256i;
  using Ints = __m256i;
  using Floats = __m256;
  using Scales = X86Scales;
  static constexpr int kRows = 4;
  static constexpr int kBatchRows = 2;
  static constexpr int kBatchTokens = 2;
  static constexpr bool kMatrix = false;

  // Bytes of group k of half h meet those of an activation from 64 k + 32 h on.
  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Planes& planes, int64_t at, const uint16_t* offsets, int blocks,
                                 Visit visit) {
    EDGEMOE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (blocks > 2 * h) t16_half<kLevel>(tables, planes, at + 16 * h, offsets + 8 * h, h, blocks > 2 * h + 1, visit);
    }
  }

  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16_half(const T16Tables& tables, const Planes& planes, int64_t at, const uint16_t* offsets, int h,
                                      bool both, Visit visit) {
    const __m256i base = load_two_bits(planes.codes[0] + 2 * at, both);
    if constexpr (kLevel == 0) {
      const __m256i table = quarter_rows(tables.rows[0], offsets);
      const auto value = [&](__m256i v, char offset) EDGEMOE_LAMBDA {
        const __m256i code = _mm256_and_si256(v, _mm256_set1_epi8(3));
        return _mm256_shuffle_epi8(table, _mm256_or_si256(code, _mm256_set1_epi8(offset)));
      };
      visit(0, 0 + h, value(base, 0));
      visit(0, 2 + h, value(_mm256_srli_epi16(base, 2), 4));
      visit(0, 4 + h, value(_mm256_srli_epi16(base, 4), 8));
      visit(0, 6 + h, value(_mm256_srli_epi16(base, 6), 12));
    } else if constexpr (kLevel == 1) {
      const Nibbles codes = nibbles<1>(planes, at, both, base);
      const __m256i eight = _mm256_set1_epi8(8);
      const __m256i first = half_rows(tables.rows[1], offsets);
      const __m256i second = half_rows(tables.rows[1], offsets + 2);
      // Bits 3 and 7 of the nibbles are 0, and a shuffle looks at bits 0 to 3 and 7 only.
      visit(0, 0 + h, _mm256_shuffle_epi8(first, codes.even));
      visit(0, 2 + h, _mm256_shuffle_epi8(first, _mm256_or_si256(codes.odd, eight)));
      visit(0, 4 + h, _mm256_shuffle_epi8(second, _mm256_srli_epi16(codes.even, 4)));
      visit(0, 6 + h, _mm256_shuffle_epi8(second, _mm256_or_si256(_mm256_srli_epi16(codes.odd, 4), eight)));
    } else {
      visit_rows(tables.rows[2], offsets, nibbles<2>(planes, at, both, base), 0, h, visit);
      if constexpr (kLevel == 3) {
        visit_rows(tables.rows[3], offsets, join(base, load_two_bits(planes.codes[3] + 2 * at, both)), 1, h, visit);
      }
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const uint8_t (*table)[16], const uint16_t* offsets, Nibbles codes, int part, int h,
                                        Visit visit) {
    visit(part, 0 + h, _mm256_shuffle_epi8(whole_rows(table, offsets), low_nibbles(codes.even)));
    visit(part, 2 + h, _mm256_shuffle_epi8(whole_rows(table, offsets + 1), low_nibbles(codes.odd)));
    visit(part, 4 + h, _mm256_shuffle_epi8(whole_rows(table, offsets + 2), high_nibbles(codes.even)));
    visit(part, 6 + h, _mm256_shuffle_epi8(whole_rows(table, offsets + 3), high_nibbles(codes.odd)));
  }

  static EDGEMOE_INLINE const uint16_t* selectors(const uint8_t* from, int64_t superblocks, const Scratch& scratch) {
    return x86_offsets(from, superblocks, scratch.offsets);
  }

  static EDGEMOE_INLINE Bytes lookup(const uint8_t* midpoints) {
    const __m128i same = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm256_broadcastsi128_si256(midpoints ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(midpoints)) : same);
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Planes& planes, int64_t at, Bytes lookup, Visit visit) {
    EDGEMOE_UNROLL
    for (int h = 0; h < 2; ++h) slice_half<kBits>(planes, at + 16 * h, h, lookup, visit);
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice_half(const Planes& planes, int64_t at, int h, Bytes lookup, Visit visit) {
    const __m256i base = load_two_bits(planes.codes[0] + 2 * at, true);
    if constexpr (kBits == 2) {
      const auto value = [&](__m256i v) EDGEMOE_LAMBDA {
        return _mm256_shuffle_epi8(lookup, _mm256_and_si256(v, _mm256_set1_epi8(3)));
      };
      visit(0 + h, value(base));
      visit(2 + h, value(_mm256_srli_epi16(base, 2)));
      visit(4 + h, value(_mm256_srli_epi16(base, 4)));
      visit(6 + h, value(_mm256_srli_epi16(base, 6)));
    } else {
      const Nibbles n = nibbles<kBits == 3 ? 1 : 2>(planes, at, true, base);
      const __m256i codes[] = {low_nibbles(n.even), low_nibbles(n.odd), high_nibbles(n.even), high_nibbles(n.odd)};
      const __m256i last = kBits == 5   ? load_spread<0>(planes.codes[3] + at, true)
                           : kBits == 6 ? load_two_bits(planes.codes[3] + 2 * at, true)
                                        : _mm256_setzero_si256();
      EDGEMOE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (kBits <= 4) {
          visit(2 * k + h, _mm256_shuffle_epi8(lookup, codes[k]));
        } else {
          const __m256i low = _mm256_and_si256(_mm256_srli_epi16(last, 2 * k), _mm256_set1_epi8(3));
          visit(2 * k + h, _mm256_or_si256(_mm256_slli_epi16(codes[k], kBits - 4), low));
        }
      }
    }
  }

  static EDGEMOE_INLINE Scales scales_q4(const uint8_t* from) { return x86_scales_q4(from); }
  static EDGEMOE_INLINE Scales scales_q6(const uint8_t* from) { return x86_scales_q6(from); }

  // Lanes 4 i to 4 i + 3 of product 2 k + h are of group 8 h + 4 i + k.
  static EDGEMOE_INLINE Ints weigh(Ints total, Ints partial, const Scales& w, int index) {
    const __m128i places =
        _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0),
                     _mm_set1_epi8(static_cast<char>(index / 2 + 8 * (index % 2))));
    const __m256i scales = _mm256_cvtepi8_epi32(_mm_shuffle_epi8(w.scales, places));
    return _mm256_add_epi32(total, _mm256_mullo_epi32(partial, scales));
  }

  static EDGEMOE_INLINE Ints minimums(const Scales& w, const uint8_t* sums) {
    return _mm256_madd_epi16(w.minimums, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums)));
  }

  static EDGEMOE_INLINE Ints no_ints() { return _mm256_setzero_si256(); }
  static EDGEMOE_INLINE Floats no_floats() { return _mm256_setzero_ps(); }
  static EDGEMOE_INLINE Ints start(const uint8_t* correction) {
    return _mm256_zextsi128_si256(_mm_cvtsi32_si128(edgemoe::kernels::load<int32_t>(correction)));
  }
  static EDGEMOE_INLINE Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
  static EDGEMOE_INLINE Ints sixteenfold(Ints a) { return _mm256_slli_epi32(a, 4); }
  // Bytes are at most 127, so sums of two products fit 16 bits.
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, const int8_t* q) {
    const __m256i pairs = _mm256_maddubs_epi16(w, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static EDGEMOE_INLINE Floats step(Floats sum, Ints total, float scale) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_set1_ps(scale), sum);
  }
  static EDGEMOE_INLINE Floats step_back(Floats sum, Ints total, float scale) {
    return _mm256_fnmadd_ps(_mm256_cvtepi32_ps(total), _mm256_set1_ps(scale), sum);
  }
  static EDGEMOE_INLINE float total(Floats sum) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    const __m128 pair = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
  }
  static EDGEMOE_INLINE Bytes load(const uint8_t* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
  static EDGEMOE_INLINE void store(uint8_t* to, Bytes value) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), value); }

  // The product of a row's scales and an activation's.
  static EDGEMOE_INLINE void products(const uint8_t* from, const uint8_t* with, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; ++i) {
      const float scale = _cvtsh_ss(edgemoe::kernels::load<uint16_t>(from + 2 * i)) * factor;
      out[i] = scale * edgemoe::kernels::load<float>(with + 4 * i);
    }
  }

  static EDGEMOE_INLINE void halves(const uint8_t* from, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = _cvtsh_ss(edgemoe::kernels::load<uint16_t>(from + 2 * i)) * factor;
  }
};

struct X86Lane {
  using V = __m128i;
  static EDGEMOE_INLINE V load16(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  static EDGEMOE_INLINE V load8(const uint8_t* from) {
    const V bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    return both(_mm_unpacklo_epi64(bits, _mm_srli_epi16(bits, 4)), of(15));
  }
  static EDGEMOE_INLINE void store(uint8_t* to, V v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), v); }
  static EDGEMOE_INLINE V both(V a, V b) { return _mm_and_si128(a, b); }
  static EDGEMOE_INLINE V either(V a, V b) { return _mm_or_si128(a, b); }
  static EDGEMOE_INLINE V of(int byte) { return _mm_set1_epi8(static_cast<char>(byte)); }
  static EDGEMOE_INLINE V pick(V table, V index) { return _mm_shuffle_epi8(table, index); }
  template <int kBits>
  static EDGEMOE_INLINE V left(V v) {
    return _mm_slli_epi16(v, kBits);
  }
  template <int kBits>
  static EDGEMOE_INLINE V right(V v) {
    return _mm_srli_epi16(v, kBits);
  }
};

bool available() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

const Variant kAvx2Variant = {"avx2", available, multiply_with_isa<Avx2>, Assembler<X86Lane>::assemble};

}  // namespace edgemoe::kernels
