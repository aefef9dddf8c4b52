// AVX-512 with VNNI and GFNI (Ice Lake, Zen 4 and later): a superblock's 2-bit plane is one register, and one dot product
// takes 64 weights.
#include <immintrin.h>

#include "loops.h"
#include "x86.h"

namespace edgemoe::kernels {
namespace {

// A matrix for gf2p8affineqb that takes bit from[i] of each byte to bit i, or puts 0 there where from[i] is negative.
constexpr int64_t bit_matrix(int b0, int b1, int b2, int b3, int b4, int b5, int b6, int b7) {
  const int from[] = {b0, b1, b2, b3, b4, b5, b6, b7};
  uint64_t matrix = 0;
  for (int i = 0; i < 8; ++i) {
    if (from[i] >= 0) matrix |= uint64_t{1} << (from[i] + 8 * (7 - i));
  }
  return static_cast<int64_t>(matrix);
}

constexpr int64_t kHighNibble = bit_matrix(4, 5, 6, 7, -1, -1, -1, -1);

// Codes of k = 0 and 2 in the low and high nibbles of `even`, those of 1 and 3 in the nibbles of `odd`.
struct Nibbles {
  __m512i even;
  __m512i odd;
};

// `one` where the mask is set, else `other`. What is replaced is the first operand, so the mask, which lasts, is not it.
EDGEMOE_INLINE __m512i select(__m512i mask, __m512i one, __m512i other) {
  return _mm512_ternarylogic_epi32(other, one, mask, 0xd8);
}

EDGEMOE_INLINE __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
// One instruction for a shift and a mask, and on other ports.
EDGEMOE_INLINE __m512i high_nibbles(__m512i v) { return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(kHighNibble), 0); }

EDGEMOE_INLINE __m512i load_two_bits(const uint8_t* plane, int blocks) {
  __m512i bits = _mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << 2 * blocks) - 1), plane);
  __asm__("" : "+v"(bits));  // compilers would load it again for each shift, and loads are what is short
  return bits;
}

EDGEMOE_INLINE __m256i load_one_bit(const uint8_t* plane, int blocks) {
  return _mm256_maskz_loadu_epi64(static_cast<__mmask8>((1u << blocks) - 1), plane);
}

// Each block's 8 bytes twice, for matrices that take the low nibbles (of bytes 0 to 7 of a 2-bit plane) from the first copy
// and the high ones (of bytes 8 to 15) from the second.
EDGEMOE_INLINE __m512i twice(__m256i bits) {
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), _mm512_castsi256_si512(bits));
}

template <int64_t kFirst, int64_t kSecond, int kXor>
EDGEMOE_INLINE __m512i arrange(__m512i v) {
  const __m512i matrix = _mm512_setr_epi64(kFirst, kSecond, kFirst, kSecond, kFirst, kSecond, kFirst, kSecond);
  return _mm512_gf2p8affine_epi64_epi8(v, matrix, kXor);
}

// Two 1-bit planes as one 2-bit plane.
EDGEMOE_INLINE __m512i weave(__m256i high, __m256i low) {
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i first = _mm256_ternarylogic_epi32(_mm256_slli_epi16(low, 4), high, mask, 0xd8);
  const __m256i second = _mm256_ternarylogic_epi32(_mm256_srli_epi16(high, 4), low, mask, 0xe4);
  const __m512i nibbles = _mm512_permutex2var_epi64(_mm512_castsi256_si512(first), _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11),
                                                    _mm512_castsi256_si512(second));
  return _mm512_gf2p8affine_epi64_epi8(nibbles, _mm512_set1_epi64(bit_matrix(4, 0, 5, 1, 6, 2, 7, 3)), 0);
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(__m512i high, __m512i low) {
  const __m512i mask = _mm512_set1_epi8(static_cast<char>(0xcc));
  return {select(mask, _mm512_slli_epi16(high, 2), low), select(mask, high, _mm512_srli_epi16(low, 2))};
}

// Codes of level 3, kOdd above those in the low nibbles of `odd`.
template <int kOdd>
EDGEMOE_INLINE Nibbles three_bits(const Planes& planes, int64_t at, int blocks, __m512i base) {
  const __m512i third = twice(load_one_bit(planes.codes[1] + at, blocks));
  const __m512i even = arrange<bit_matrix(0, -1, -1, -1, 2, -1, -1, -1), bit_matrix(4, -1, -1, -1, 6, -1, -1, -1), 0>(third);
  const __m512i odd = arrange<bit_matrix(1, -1, -1, -1, 3, -1, -1, -1), bit_matrix(5, -1, -1, -1, 7, -1, -1, -1), kOdd>(third);
  const __m512i mask = _mm512_set1_epi8(0x66);
  return {select(mask, _mm512_slli_epi16(base, 1), even), select(mask, _mm512_srli_epi16(base, 1), odd)};
}

EDGEMOE_INLINE Nibbles four_bits(const Planes& planes, int64_t at, int blocks, __m512i base) {
  return join(base, weave(load_one_bit(planes.codes[1] + at, blocks), load_one_bit(planes.codes[2] + at, blocks)));
}

EDGEMOE_INLINE __m512i four(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// The table rows of groups k of the four blocks, `offsets` pointing at the first block's.
EDGEMOE_INLINE __m512i whole_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i]));
  };
  return four(row(0), row(1), row(2), row(3));
}

// Those of groups k and k + 1, 8 bytes each.
EDGEMOE_INLINE __m512i half_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i])),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i + 1])));
  };
  return four(row(0), row(1), row(2), row(3));
}

// Those of all four, 4 bytes each.
EDGEMOE_INLINE __m512i quarter_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  // Broadcasts under a mask are loads and blends, of which the processor does more at a time than of inserts.
  const auto eight = [&](const uint16_t* from) EDGEMOE_LAMBDA {
    const auto entry = [&](int g) EDGEMOE_LAMBDA { return _mm_cvtsi32_si128(load<int32_t>(table[0] + from[g])); };
    __m256i rows = _mm256_castsi128_si256(entry(0));
    EDGEMOE_UNROLL
    for (int g = 1; g < 8; ++g) rows = _mm256_mask_broadcastd_epi32(rows, static_cast<__mmask8>(1u << g), entry(g));
    return rows;
  };
  return _mm512_inserti64x4(_mm512_castsi256_si512(eight(offsets)), eight(offsets + 8), 1);
}

struct Avx512 {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  using Scales = X86Scales;
  static constexpr int kRows = 4;
  static constexpr int kBatchRows = 4;
  static constexpr int kBatchTokens = 3;
  static constexpr bool kMatrix = false;

  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Planes& planes, int64_t at, const uint16_t* offsets, int blocks,
                                 Visit visit) {
    const __m512i base = load_two_bits(planes.codes[0] + 2 * at, blocks);
    if constexpr (kLevel == 0) {
      const __m512i three = _mm512_set1_epi8(3);
      const __m512i table = quarter_rows(tables.rows[0], offsets);
      // (v & 3) | group offset
      const auto value = [&](__m512i v, char offset) EDGEMOE_LAMBDA {
        return _mm512_shuffle_epi8(table, _mm512_ternarylogic_epi32(v, three, _mm512_set1_epi8(offset), 0xea));
      };
      visit(0, 0, value(base, 0));
      visit(0, 1, value(_mm512_srli_epi16(base, 2), 4));
      visit(0, 2, value(_mm512_srli_epi16(base, 4), 8));
      visit(0, 3, value(_mm512_srli_epi16(base, 6), 12));
    } else if constexpr (kLevel == 1) {
      const Nibbles codes = three_bits<8>(planes, at, blocks, base);
      const __m512i first = half_rows(tables.rows[1], offsets);
      const __m512i second = half_rows(tables.rows[1], offsets + 2);
      // A shuffle looks at bits 0 to 3 and 7 only, and bit 7 of the nibbles is 0.
      visit(0, 0, _mm512_shuffle_epi8(first, codes.even));
      visit(0, 1, _mm512_shuffle_epi8(first, codes.odd));
      visit(0, 2, _mm512_shuffle_epi8(second, _mm512_srli_epi16(codes.even, 4)));
      visit(0, 3, _mm512_shuffle_epi8(second, arrange<kHighNibble, kHighNibble, 8>(codes.odd)));
    } else {
      visit_rows(tables.rows[2], offsets, four_bits(planes, at, blocks, base), 0, visit);
      if constexpr (kLevel == 3) {
        visit_rows(tables.rows[3], offsets, join(base, load_two_bits(planes.codes[3] + 2 * at, blocks)), 1, visit);
      }
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const uint8_t (*table)[16], const uint16_t* offsets, Nibbles codes, int part,
                                        Visit visit) {
    visit(part, 0, _mm512_shuffle_epi8(whole_rows(table, offsets), low_nibbles(codes.even)));
    visit(part, 1, _mm512_shuffle_epi8(whole_rows(table, offsets + 1), low_nibbles(codes.odd)));
    visit(part, 2, _mm512_shuffle_epi8(whole_rows(table, offsets + 2), high_nibbles(codes.even)));
    visit(part, 3, _mm512_shuffle_epi8(whole_rows(table, offsets + 3), high_nibbles(codes.odd)));
  }

  static EDGEMOE_INLINE const uint16_t* selectors(const uint8_t* from, int64_t superblocks, const Scratch& scratch) {
    return x86_offsets(from, superblocks, scratch.offsets);
  }

  static EDGEMOE_INLINE Bytes lookup(const uint8_t* midpoints) {
    const __m128i same = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_broadcast_i32x4(midpoints ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(midpoints)) : same);
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Planes& planes, int64_t at, Bytes lookup, Visit visit) {
    const __m512i base = load_two_bits(planes.codes[0] + 2 * at, 4);
    if constexpr (kBits == 2) {
      const auto value = [&](__m512i v) EDGEMOE_LAMBDA {
        return _mm512_shuffle_epi8(lookup, _mm512_and_si512(v, _mm512_set1_epi8(3)));
      };
      visit(0, value(base));
      visit(1, value(_mm512_srli_epi16(base, 2)));
      visit(2, value(_mm512_srli_epi16(base, 4)));
      visit(3, value(_mm512_srli_epi16(base, 6)));
      return;
    } else {
      const Nibbles n = kBits == 3 ? three_bits<0>(planes, at, 4, base) : four_bits(planes, at, 4, base);
      const __m512i codes[] = {low_nibbles(n.even), low_nibbles(n.odd), high_nibbles(n.even), high_nibbles(n.odd)};
      const __m512i last = kBits == 5   ? weave(_mm256_setzero_si256(), load_one_bit(planes.codes[3] + at, 4))
                           : kBits == 6 ? load_two_bits(planes.codes[3] + 2 * at, 4)
                                        : _mm512_setzero_si512();
      EDGEMOE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (kBits <= 4) {
          visit(k, _mm512_shuffle_epi8(lookup, codes[k]));
        } else {
          const __m512i low = _mm512_and_si512(_mm512_srli_epi16(last, static_cast<unsigned>(2 * k)), _mm512_set1_epi8(3));
          visit(k, _mm512_or_si512(_mm512_slli_epi16(codes[k], kBits - 4), low));
        }
      }
    }
  }

  static EDGEMOE_INLINE Scales scales_q4(const uint8_t* from) { return x86_scales_q4(from); }
  static EDGEMOE_INLINE Scales scales_q6(const uint8_t* from) { return x86_scales_q6(from); }

  // Lanes 4 i to 4 i + 3 of a product k are of group 4 i + k.
  static EDGEMOE_INLINE Ints weigh(Ints total, Ints partial, const Scales& w, int k) {
    const __m128i places = _mm_add_epi8(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12),
                                        _mm_set1_epi8(static_cast<char>(k)));
    const __m512i scales = _mm512_cvtepi8_epi32(_mm_shuffle_epi8(w.scales, places));
    return _mm512_add_epi32(total, _mm512_mullo_epi32(partial, scales));
  }

  static EDGEMOE_INLINE Ints minimums(const Scales& w, const uint8_t* sums) {
    return _mm512_zextsi256_si512(_mm256_madd_epi16(w.minimums, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums))));
  }

  static EDGEMOE_INLINE Ints no_ints() { return _mm512_setzero_si512(); }
  static EDGEMOE_INLINE Floats no_floats() { return _mm512_setzero_ps(); }
  static EDGEMOE_INLINE Ints start(const uint8_t* correction) {
    return _mm512_zextsi128_si512(_mm_cvtsi32_si128(edgemoe::kernels::load<int32_t>(correction)));
  }
  static EDGEMOE_INLINE Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
  static EDGEMOE_INLINE Ints sixteenfold(Ints a) { return _mm512_slli_epi32(a, 4); }
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, const int8_t* q) {
    return _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512(q));
  }
  static EDGEMOE_INLINE Floats step(Floats sum, Ints total, float scale) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(scale), sum);
  }
  static EDGEMOE_INLINE Floats step_back(Floats sum, Ints total, float scale) {
    return _mm512_fnmadd_ps(_mm512_cvtepi32_ps(total), _mm512_set1_ps(scale), sum);
  }
  static EDGEMOE_INLINE float total(Floats sum) { return _mm512_reduce_add_ps(sum); }
  static EDGEMOE_INLINE Bytes load(const uint8_t* from) { return _mm512_load_si512(from); }
  static EDGEMOE_INLINE void store(uint8_t* to, Bytes value) { _mm512_store_si512(to, value); }

  // The product of a row's scales and an activation's.
  static EDGEMOE_INLINE void products(const uint8_t* from, const uint8_t* with, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 mask = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1 << (count - i)) - 1);
      const __m512 values = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from + 2 * i));
      const __m512 scaled = _mm512_mul_ps(values, _mm512_set1_ps(factor));
      _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(mask, with + 4 * i)));
    }
  }

  static EDGEMOE_INLINE void halves(const uint8_t* from, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; i += 16) {
      const __mmask16 mask = static_cast<__mmask16>(count - i >= 16 ? 0xffff : (1 << (count - i)) - 1);
      const __m512 values = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from + 2 * i));
      _mm512_mask_storeu_ps(out + i, mask, _mm512_mul_ps(values, _mm512_set1_ps(factor)));
    }
  }
};

bool available() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("gfni");
}

void assemble(const Source& source, int64_t begin, int64_t end, uint8_t* out) { kAvx2Variant.assemble(source, begin, end, out); }

}  // namespace

const Variant kAvx512Variant = {"avx512", available, multiply_with_isa<Avx512>, assemble};

}  // namespace edgemoe::kernels
