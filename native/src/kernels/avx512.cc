// AVX-512 with VNNI and GFNI (Ice Lake, Zen 4 and later): a superblock's 2-bit plane is one register, and one dot product
// takes 64 weights.
#include <immintrin.h>

#include "loops.h"
#include "x86.h"

namespace edgemoe::kernels {
namespace {

// For gf2p8affineqb: moves bit j (0 to 3) of the low or the high nibble of a byte to bit 2 j + to.
constexpr uint64_t spread_matrix(bool high, int to) {
  uint64_t matrix = 0;
  for (int j = 0; j < 4; ++j) matrix |= (uint64_t{1} << (j + (high ? 4 : 0))) << 8 * (7 - (2 * j + to));
  return matrix;
}

// Codes of k = 0 and 2 in the low and high nibbles of `even`, those of 1 and 3 in the nibbles of `odd`.
struct Nibbles {
  __m512i even;
  __m512i odd;
};

EDGEMOE_INLINE __m512i select(__m512i mask, __m512i one, __m512i other) {
  return _mm512_ternarylogic_epi32(mask, one, other, 0xca);
}

EDGEMOE_INLINE __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
EDGEMOE_INLINE __m512i high_nibbles(__m512i v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }

EDGEMOE_INLINE __m512i load_two_bits(const uint8_t* plane, int blocks) {
  return _mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << 2 * blocks) - 1), plane);
}

// Each block's 8 bytes twice: the low nibbles of the first copy are of bytes 0 to 7, the high ones of the second of 8 to 15.
EDGEMOE_INLINE __m512i load_one_bit(const uint8_t* plane, int blocks) {
  const __m256i bits = _mm256_maskz_loadu_epi64(static_cast<__mmask8>((1u << blocks) - 1), plane);
  return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3), _mm512_castsi256_si512(bits));
}

// A 1-bit plane in the places of a 2-bit plane: its bit for k at bit 2 k + kTo.
template <int kTo>
EDGEMOE_INLINE __m512i load_spread(const uint8_t* plane, int blocks) {
  constexpr int64_t kLow = static_cast<int64_t>(spread_matrix(false, kTo));
  constexpr int64_t kHigh = static_cast<int64_t>(spread_matrix(true, kTo));
  const __m512i matrix = _mm512_setr_epi64(kLow, kHigh, kLow, kHigh, kLow, kHigh, kLow, kHigh);
  return _mm512_gf2p8affine_epi64_epi8(load_one_bit(plane, blocks), matrix, 0);
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(__m512i high, __m512i low) {
  const __m512i mask = _mm512_set1_epi8(static_cast<char>(0xcc));
  return {select(mask, _mm512_slli_epi16(high, 2), low), select(mask, high, _mm512_srli_epi16(low, 2))};
}

template <int kLevel>
EDGEMOE_INLINE Nibbles nibbles(const Cursor& row, int blocks, __m512i base) {
  const __m512i third = load_spread<kLevel == 1 ? 0 : 1>(row.codes[1], blocks);
  if constexpr (kLevel == 1) {
    const __m512i mask = _mm512_set1_epi8(0x66);
    return {select(mask, _mm512_slli_epi16(base, 1), third),
            select(mask, _mm512_srli_epi16(base, 1), _mm512_srli_epi16(third, 2))};
  } else {
    return join(base, _mm512_or_si512(third, load_spread<0>(row.codes[2], blocks)));
  }
}

EDGEMOE_INLINE __m512i four(__m128i a, __m128i b, __m128i c, __m128i d) {
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// The table rows of groups k of the four blocks, `selectors` pointing at the first block's.
EDGEMOE_INLINE __m512i whole_rows(const uint8_t (*table)[16], const uint8_t* selectors) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(table[selectors[4 * i]]));
  };
  return four(row(0), row(1), row(2), row(3));
}

// Those of groups k and k + 1, 8 bytes each.
EDGEMOE_INLINE __m512i half_rows(const uint8_t (*table)[16], const uint8_t* selectors) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[selectors[4 * i]])),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(table[selectors[4 * i + 1]])));
  };
  return four(row(0), row(1), row(2), row(3));
}

// Those of all four, 4 bytes each.
EDGEMOE_INLINE __m512i quarter_rows(const uint8_t (*table)[16], const uint8_t* selectors) {
  const auto entry = [&](int g) EDGEMOE_LAMBDA { return load<int32_t>(table[selectors[g]]); };
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    const __m128i first = _mm_cvtsi32_si128(entry(4 * i));
    return _mm_insert_epi32(_mm_insert_epi32(_mm_insert_epi32(first, entry(4 * i + 1), 1), entry(4 * i + 2), 2), entry(4 * i + 3),
                            3);
  };
  return four(row(0), row(1), row(2), row(3));
}

struct Avx512 {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  using Scales = X86Scales;
  static constexpr int kBatchRows = 4;
  static constexpr int kBatchTokens = 3;
  static constexpr bool kMatrix = false;

  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Cursor& row, int blocks, Visit visit) {
    const uint8_t* selectors = row.selectors;
    const __m512i base = load_two_bits(row.codes[0], blocks);
    if constexpr (kLevel == 0) {
      const __m512i three = _mm512_set1_epi8(3);
      const __m512i table = quarter_rows(tables.rows[0], selectors);
      // (v & 3) | group offset
      const auto value = [&](__m512i v, char offset) EDGEMOE_LAMBDA {
        return _mm512_shuffle_epi8(table, _mm512_ternarylogic_epi32(v, three, _mm512_set1_epi8(offset), 0xea));
      };
      visit(0, 0, value(base, 0));
      visit(0, 1, value(_mm512_srli_epi16(base, 2), 4));
      visit(0, 2, value(_mm512_srli_epi16(base, 4), 8));
      visit(0, 3, value(_mm512_srli_epi16(base, 6), 12));
    } else if constexpr (kLevel == 1) {
      const Nibbles codes = nibbles<1>(row, blocks, base);
      const __m512i eight = _mm512_set1_epi8(8);
      const __m512i first = half_rows(tables.rows[1], selectors);
      const __m512i second = half_rows(tables.rows[1], selectors + 2);
      // Bits 3 and 7 of the nibbles are 0, and a shuffle looks at bits 0 to 3 and 7 only.
      visit(0, 0, _mm512_shuffle_epi8(first, codes.even));
      visit(0, 1, _mm512_shuffle_epi8(first, _mm512_or_si512(codes.odd, eight)));
      visit(0, 2, _mm512_shuffle_epi8(second, _mm512_srli_epi16(codes.even, 4)));
      visit(0, 3, _mm512_shuffle_epi8(second, _mm512_or_si512(_mm512_srli_epi16(codes.odd, 4), eight)));
    } else {
      const Nibbles codes = nibbles<2>(row, blocks, base);
      visit_rows(tables.rows[2], selectors, codes, 0, visit);
      if constexpr (kLevel == 3) visit_rows(tables.rows[3], selectors, join(base, load_two_bits(row.codes[3], blocks)), 1, visit);
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const uint8_t (*table)[16], const uint8_t* selectors, Nibbles codes, int part, Visit visit) {
    visit(part, 0, _mm512_shuffle_epi8(whole_rows(table, selectors), low_nibbles(codes.even)));
    visit(part, 1, _mm512_shuffle_epi8(whole_rows(table, selectors + 1), low_nibbles(codes.odd)));
    visit(part, 2, _mm512_shuffle_epi8(whole_rows(table, selectors + 2), high_nibbles(codes.even)));
    visit(part, 3, _mm512_shuffle_epi8(whole_rows(table, selectors + 3), high_nibbles(codes.odd)));
  }

  static EDGEMOE_INLINE Bytes lookup(const uint8_t* midpoints) {
    const __m128i same = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_broadcast_i32x4(midpoints ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(midpoints)) : same);
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Cursor& row, Bytes lookup, Visit visit) {
    const __m512i base = load_two_bits(row.codes[0], 4);
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
      const Nibbles n = nibbles<kBits == 3 ? 1 : 2>(row, 4, base);
      const __m512i codes[] = {low_nibbles(n.even), low_nibbles(n.odd), high_nibbles(n.even), high_nibbles(n.odd)};
      const __m512i last = kBits == 5   ? load_spread<0>(row.codes[3], 4)
                           : kBits == 6 ? load_two_bits(row.codes[3], 4)
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
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, const int8_t* q) { return _mm512_dpbusd_epi32(sum, w, _mm512_loadu_si512(q)); }
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
