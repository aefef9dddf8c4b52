// AVX-512 with VNNI, VBMI and GFNI (Ice Lake, Zen 4 and later): a superblock's 2-bit plane is one register, and one dot product
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

// Nibbles of codes, of groups 0 and 2 with the two bits of level 2 below the others, of groups 1 and 3 with them above.
struct Nibbles {
  __m512i low;
  __m512i high;
};

// `one` where the mask is set, else `other`. What is replaced is the first operand, so the mask, which lasts, is not it.
EDGEMOE_INLINE __m512i select(__m512i mask, __m512i one, __m512i other) {
  return _mm512_ternarylogic_epi32(other, one, mask, 0xd8);
}

EDGEMOE_INLINE __m512i low_nibbles(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }

// Moves bits of each byte, and flips those of kFlip: one instruction for a shift, a mask and a constant.
template <int64_t kMatrix, int kFlip = 0>
EDGEMOE_INLINE __m512i move_bits(__m512i v) {
  return _mm512_gf2p8affine_epi64_epi8(v, _mm512_set1_epi64(kMatrix), kFlip);
}

EDGEMOE_INLINE __m512i high_nibbles(__m512i v) { return move_bits<bit_matrix(4, 5, 6, 7, -1, -1, -1, -1)>(v); }

EDGEMOE_INLINE __m512i load_two_bits(const uint8_t* plane, int blocks) {
  __m512i bits = _mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << 2 * blocks) - 1), plane);
  __asm__("" : "+v"(bits));  // compilers would load it again for each use, and loads are what is short
  return bits;
}

// Bytes for blocks 0 and 1, then again for blocks 2 and 3, whose bits are in the upper nibbles.
EDGEMOE_INLINE __m512i load_one_bit(const uint8_t* plane, int blocks) {
  if (blocks != 1) return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane)));
  return _mm512_zextsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(plane)));
}

// The bits of groups 0 to 3 at p0 to p3, those of blocks 0 and 1 from the lower nibbles and those of 2 and 3 from the upper ones.
template <int p0, int p1, int p2, int p3>
EDGEMOE_INLINE __m512i spread_bits(__m512i v) {
  constexpr auto from = [](int place, int first) {
    return place == p0 ? first : place == p1 ? first + 1 : place == p2 ? first + 2 : place == p3 ? first + 3 : -1;
  };
  constexpr auto matrix = [=](int first) {
    return bit_matrix(from(0, first), from(1, first), from(2, first), from(3, first), from(4, first), from(5, first), from(6, first),
                      from(7, first));
  };
  constexpr int64_t below = matrix(0), above = matrix(4);
  const __m512i matrices = _mm512_setr_epi64(below, below, below, below, above, above, above, above);
  return _mm512_gf2p8affine_epi64_epi8(v, matrices, 0);
}

// Codes of level 3 (kLevel 1) or 4 (kLevel 2).
template <int kLevel>
EDGEMOE_INLINE Nibbles nibbles(const Planes& planes, const Place& at, int blocks, __m512i base) {
  __m512i others = spread_bits<3, 1, 7, 5>(load_one_bit(planes.codes[1] + at.one_bit, blocks));
  if (kLevel == 2) {
    others = _mm512_or_si512(others, spread_bits<2, 0, 6, 4>(load_one_bit(planes.codes[2] + at.one_bit, blocks)));
  }
  const __m512i mask = _mm512_set1_epi8(0x33);
  return {select(mask, base, others), select(mask, others, base)};
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(__m512i base, __m512i last) {
  const __m512i mask = _mm512_set1_epi8(0x33);
  return {select(mask, base, _mm512_slli_epi16(last, 2)), select(mask, _mm512_srli_epi16(last, 2), base)};
}

// The table rows of one group in each of the four blocks, `offsets` pointing at the first block's.
EDGEMOE_INLINE __m512i four_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  const auto row = [&](int i) EDGEMOE_LAMBDA {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[4 * i]));
  };
  // A broadcast under a mask is a load and a blend, of which the processor does more at a time than of inserts.
  const auto pair = [&](int i) EDGEMOE_LAMBDA { return _mm256_mask_broadcast_i64x2(_mm256_castsi128_si256(row(i)), 0xc, row(i + 1)); };
  return _mm512_inserti64x4(_mm512_castsi256_si512(pair(0)), pair(2), 1);
}

// Level 2 of up to four rows of a matrix: what their selectors stand for, looked up in registers, 64 selectors at once. Each
// of the four results is for one row: of each block (a lane) the four entries of each group.
template <int kCount>
struct Entries {
  __m512i of[4];

  EDGEMOE_INLINE Entries(const T16Tables& tables, const uint8_t* selectors, int64_t stride) {
    const auto load = [&](int r) EDGEMOE_LAMBDA {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(selectors + r * stride));
    };
    __m512i chosen = _mm512_castsi128_si512(load(0));
    if constexpr (kCount > 1) chosen = _mm512_inserti64x2(chosen, load(1), 1);
    if constexpr (kCount > 2) chosen = _mm512_inserti64x2(chosen, load(2), 2);
    if constexpr (kCount > 3) chosen = _mm512_inserti64x2(chosen, load(3), 3);
    // From rows of blocks to blocks of rows.
    chosen = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), chosen);
    const __mmask64 upper = _mm512_movepi8_mask(chosen);
    __m512i entry[4];
    EDGEMOE_UNROLL
    for (int c = 0; c < 4; ++c) {
      const auto* table = reinterpret_cast<const __m512i*>(tables.entries[c]);
      entry[c] = _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(table[0], chosen, table[1]),
                                        _mm512_permutex2var_epi8(table[2], chosen, table[3]));
    }
    const __m512i first[] = {_mm512_unpacklo_epi8(entry[0], entry[1]), _mm512_unpacklo_epi8(entry[2], entry[3])};
    const __m512i second[] = {_mm512_unpackhi_epi8(entry[0], entry[1]), _mm512_unpackhi_epi8(entry[2], entry[3])};
    of[0] = _mm512_unpacklo_epi16(first[0], first[1]);
    of[1] = _mm512_unpackhi_epi16(first[0], first[1]);
    of[2] = _mm512_unpacklo_epi16(second[0], second[1]);
    of[3] = _mm512_unpackhi_epi16(second[0], second[1]);
  }

  EDGEMOE_INLINE __m512i row(int r) const { return of[r]; }
};

struct Avx512 {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  using Scales = X86Scales;
  static constexpr int kRows = 4;
  static constexpr int kBatchRows = 4;
  static constexpr int kBatchTokens = 3;
  static constexpr bool kMatrix = false;

  template <int kLevel>
  static EDGEMOE_INLINE auto selectors(const uint8_t* from, int64_t superblocks, const Scratch& scratch) {
    if constexpr (kLevel == 0) return from;
    if constexpr (kLevel != 0) return x86_offsets(from, superblocks, scratch.offsets);
  }

  template <int kLevel, int kCount, class Selectors>
  static EDGEMOE_INLINE auto choose(const T16Tables& tables, const Selectors* selectors, int64_t stride) {
    if constexpr (kLevel == 0) return Entries<kCount>(tables, selectors, stride);
    if constexpr (kLevel != 0) return SelectedRows<Selectors>{selectors, stride};
  }

  template <int kLevel, class Chosen, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Planes& planes, const Place& at, Chosen chosen, int blocks,
                                 Visit visit) {
    const __m512i base = load_two_bits(planes.codes[0] + at.two_bits, blocks);
    if constexpr (kLevel == 0) {
      visit(0, 0, _mm512_shuffle_epi8(chosen, _mm512_and_si512(base, _mm512_set1_epi8(3))));
      visit(0, 1, _mm512_shuffle_epi8(chosen, move_bits<bit_matrix(2, 3, -1, -1, -1, -1, -1, -1), 4>(base)));
      visit(0, 2, _mm512_shuffle_epi8(chosen, move_bits<bit_matrix(4, 5, -1, -1, -1, -1, -1, -1), 8>(base)));
      visit(0, 3, _mm512_shuffle_epi8(chosen, move_bits<bit_matrix(6, 7, -1, -1, -1, -1, -1, -1), 12>(base)));
    } else if constexpr (kLevel == 1) {
      visit_rows(tables, 0, chosen, nibbles<1>(planes, at, blocks, base), 0, visit);
    } else {
      visit_rows(tables, 1, chosen, nibbles<2>(planes, at, blocks, base), 0, visit);
      if constexpr (kLevel == 3) {
        visit_rows(tables, 2, chosen, join(base, load_two_bits(planes.codes[3] + at.two_bits, blocks)), 1, visit);
      }
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const T16Tables& tables, int table, const uint16_t* offsets, Nibbles codes, int part,
                                        Visit visit) {
    const auto* low = tables.low[table];
    const auto* high = tables.high[table];
    visit(part, 0, _mm512_shuffle_epi8(four_rows(low, offsets), low_nibbles(codes.low)));
    visit(part, 1, _mm512_shuffle_epi8(four_rows(high, offsets + 1), low_nibbles(codes.high)));
    visit(part, 2, _mm512_shuffle_epi8(four_rows(low, offsets + 2), high_nibbles(codes.low)));
    visit(part, 3, _mm512_shuffle_epi8(four_rows(high, offsets + 3), high_nibbles(codes.high)));
  }

  struct Lookup {
    Bytes low;
    Bytes high;
  };

  template <int kBits>
  static EDGEMOE_INLINE Lookup lookup(const uint8_t* midpoints) {
    const X86Lookup two = x86_lookup<kBits>(midpoints);
    return {_mm512_broadcast_i32x4(two.low), _mm512_broadcast_i32x4(two.high)};
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Planes& planes, const Place& at, const Lookup& lookup, Visit visit) {
    const __m512i base = load_two_bits(planes.codes[0] + at.two_bits, 4);
    if constexpr (kBits == 2) {
      visit(0, _mm512_shuffle_epi8(lookup.low, _mm512_and_si512(base, _mm512_set1_epi8(3))));
      visit(1, _mm512_shuffle_epi8(lookup.low, move_bits<bit_matrix(2, 3, -1, -1, -1, -1, -1, -1)>(base)));
      visit(2, _mm512_shuffle_epi8(lookup.low, move_bits<bit_matrix(4, 5, -1, -1, -1, -1, -1, -1)>(base)));
      visit(3, _mm512_shuffle_epi8(lookup.low, move_bits<bit_matrix(6, 7, -1, -1, -1, -1, -1, -1)>(base)));
    } else {
      const Nibbles n = nibbles<kBits == 3 ? 1 : 2>(planes, at, 4, base);
      const __m512i codes[] = {
          _mm512_shuffle_epi8(lookup.low, low_nibbles(n.low)), _mm512_shuffle_epi8(lookup.high, low_nibbles(n.high)),
          _mm512_shuffle_epi8(lookup.low, high_nibbles(n.low)), _mm512_shuffle_epi8(lookup.high, high_nibbles(n.high))};
      const __m512i last = kBits == 5   ? spread_bits<0, 2, 4, 6>(load_one_bit(planes.codes[3] + at.one_bit, 4))
                           : kBits == 6 ? load_two_bits(planes.codes[3] + at.two_bits, 4)
                                        : _mm512_setzero_si512();
      EDGEMOE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (kBits <= 4) {
          visit(k, codes[k]);
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
  // An activation's superblock in registers, for all rows that pass.
  struct Held {
    __m512i q[4];
  };
  static EDGEMOE_INLINE Held hold(const int8_t* q) {
    __m512i q0 = _mm512_loadu_si512(q), q1 = _mm512_loadu_si512(q + 64);
    __m512i q2 = _mm512_loadu_si512(q + 128), q3 = _mm512_loadu_si512(q + 192);
    __asm__("" : "+v"(q0), "+v"(q1), "+v"(q2), "+v"(q3));  // compilers would load them again for each row
    return {{q0, q1, q2, q3}};
  }
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, const Held& held, int i) { return _mm512_dpbusd_epi32(sum, w, held.q[i]); }
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
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("gfni");
}

void assemble(const Source& source, int64_t begin, int64_t end, uint8_t* out) { kAvx2Variant.assemble(source, begin, end, out); }

}  // namespace

const Variant kAvx512Variant = {"avx512", available, multiply_with_isa<Avx512>, assemble};

}  // namespace edgemoe::kernels
