// AVX2 with FMA and F16C: half a superblock's 2-bit plane is one register; the assembling of slices of all x86 variants.
#include <immintrin.h>

#include "assemble.h"
#include "loops.h"
#include "x86.h"

namespace edgemoe::kernels {
namespace {

// Nibbles of codes, of groups 0 and 2 with the two bits of level 2 below the others, of groups 1 and 3 with them above.
struct Nibbles {
  __m256i low;
  __m256i high;
};

EDGEMOE_INLINE __m256i low_nibbles(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
EDGEMOE_INLINE __m256i high_nibbles(__m256i v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }

// Two blocks of a 2-bit plane, or the one that is left.
EDGEMOE_INLINE __m256i load_two_bits(const uint8_t* plane, bool both) {
  if (both) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane));
  return _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(plane)));
}

// The bits of half h of a superblock of a 1-bit plane, those of a nibble where `spread` has them.
template <const Spread& kSpread>
EDGEMOE_INLINE __m256i load_one_bit(const uint8_t* plane, int h, int blocks) {
  const __m256i bytes = load_two_bits(plane, blocks != 1);
  const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(kSpread.table)));
  return _mm256_shuffle_epi8(table, h == 0 ? low_nibbles(bytes) : high_nibbles(bytes));
}

// Of the bits of `mask`, those of `one` in the first result and those of `other` in the second, and the rest the other way round.
EDGEMOE_INLINE Nibbles exchange(__m256i mask, __m256i one, __m256i other) {
  const __m256i difference = _mm256_and_si256(_mm256_xor_si256(one, other), mask);
  return {_mm256_xor_si256(other, difference), _mm256_xor_si256(one, difference)};
}

// Codes of level 3 (kLevel 1) or 4 (kLevel 2).
template <int kLevel>
EDGEMOE_INLINE Nibbles nibbles(const Planes& planes, const Place& at, int h, int blocks, __m256i base) {
  __m256i others = load_one_bit<kThirdBits>(planes.codes[1] + at.one_bit, h, blocks);
  if (kLevel == 2) others = _mm256_or_si256(others, load_one_bit<kFourthBits>(planes.codes[2] + at.one_bit, h, blocks));
  return exchange(_mm256_set1_epi8(0x33), base, others);
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(__m256i base, __m256i last) {
  const __m256i mask = _mm256_set1_epi8(0x33);
  const __m256i left = _mm256_slli_epi16(last, 2), right = _mm256_srli_epi16(last, 2);
  return {exchange(mask, base, left).low, exchange(mask, base, right).high};
}

EDGEMOE_INLINE __m256i two(__m128i a, __m128i b) { return _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1); }

// The table rows of one group in each of two blocks, `offsets` pointing at the first block's.
EDGEMOE_INLINE __m256i two_rows(const uint8_t (*table)[16], const uint16_t* offsets) {
  return two(_mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[0])),
             _mm_load_si128(reinterpret_cast<const __m128i*>(table[0] + offsets[4])));
}

// Those of all four groups at level 2, 4 bytes each.
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

  template <int kLevel>
  static EDGEMOE_INLINE const uint16_t* selectors(const uint8_t* from, int64_t superblocks, const Scratch& scratch) {
    return x86_offsets(from, superblocks, scratch.offsets);
  }

  template <int kLevel, int kCount>
  static EDGEMOE_INLINE SelectedRows<uint16_t> choose(const T16Tables&, const uint16_t* selectors, int64_t stride) {
    return {selectors, stride};
  }

  // Bytes of group k of half h meet those of an activation from 64 k + 32 h on.
  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Planes& planes, const Place& at, const uint16_t* offsets, int blocks,
                                 Visit visit) {
    EDGEMOE_UNROLL
    for (int h = 0; h < 2; ++h) {
      if (blocks > 2 * h) t16_half<kLevel>(tables, planes, at, offsets + 8 * h, h, blocks, visit);
    }
  }

  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16_half(const T16Tables& tables, const Planes& planes, const Place& at, const uint16_t* offsets, int h,
                                      int blocks, Visit visit) {
    const bool both = blocks > 2 * h + 1;
    const __m256i base = load_two_bits(planes.codes[0] + at.two_bits + 32 * h, both);
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
      visit_rows(tables, 0, offsets, nibbles<1>(planes, at, h, blocks, base), 0, h, visit);
    } else {
      visit_rows(tables, 1, offsets, nibbles<2>(planes, at, h, blocks, base), 0, h, visit);
      if constexpr (kLevel == 3) {
        const __m256i last = load_two_bits(planes.codes[3] + at.two_bits + 32 * h, both);
        visit_rows(tables, 2, offsets, join(base, last), 1, h, visit);
      }
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const T16Tables& tables, int table, const uint16_t* offsets, Nibbles codes, int part, int h,
                                        Visit visit) {
    const auto* low = tables.low[table];
    const auto* high = tables.high[table];
    visit(part, 0 + h, _mm256_shuffle_epi8(two_rows(low, offsets), low_nibbles(codes.low)));
    visit(part, 2 + h, _mm256_shuffle_epi8(two_rows(high, offsets + 1), low_nibbles(codes.high)));
    visit(part, 4 + h, _mm256_shuffle_epi8(two_rows(low, offsets + 2), high_nibbles(codes.low)));
    visit(part, 6 + h, _mm256_shuffle_epi8(two_rows(high, offsets + 3), high_nibbles(codes.high)));
  }

  struct Lookup {
    Bytes low;
    Bytes high;
  };

  template <int kBits>
  static EDGEMOE_INLINE Lookup lookup(const uint8_t* midpoints) {
    const X86Lookup two = x86_lookup<kBits>(midpoints);
    return {_mm256_broadcastsi128_si256(two.low), _mm256_broadcastsi128_si256(two.high)};
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Planes& planes, const Place& at, const Lookup& lookup, Visit visit) {
    EDGEMOE_UNROLL
    for (int h = 0; h < 2; ++h) slice_half<kBits>(planes, at, h, lookup, visit);
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice_half(const Planes& planes, const Place& at, int h, const Lookup& lookup, Visit visit) {
    const __m256i base = load_two_bits(planes.codes[0] + at.two_bits + 32 * h, true);
    if constexpr (kBits == 2) {
      const auto value = [&](__m256i v) EDGEMOE_LAMBDA {
        return _mm256_shuffle_epi8(lookup.low, _mm256_and_si256(v, _mm256_set1_epi8(3)));
      };
      visit(0 + h, value(base));
      visit(2 + h, value(_mm256_srli_epi16(base, 2)));
      visit(4 + h, value(_mm256_srli_epi16(base, 4)));
      visit(6 + h, value(_mm256_srli_epi16(base, 6)));
    } else {
      const Nibbles n = nibbles<kBits == 3 ? 1 : 2>(planes, at, h, 4, base);
      const __m256i codes[] = {
          _mm256_shuffle_epi8(lookup.low, low_nibbles(n.low)), _mm256_shuffle_epi8(lookup.high, low_nibbles(n.high)),
          _mm256_shuffle_epi8(lookup.low, high_nibbles(n.low)), _mm256_shuffle_epi8(lookup.high, high_nibbles(n.high))};
      const __m256i last = kBits == 5   ? load_one_bit<kAsTwoBits>(planes.codes[3] + at.one_bit, h, 4)
                           : kBits == 6 ? load_two_bits(planes.codes[3] + at.two_bits + 32 * h, true)
                                        : _mm256_setzero_si256();
      EDGEMOE_UNROLL
      for (int k = 0; k < 4; ++k) {
        if constexpr (kBits <= 4) {
          visit(2 * k + h, codes[k]);
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
  using Held = const int8_t*;  // there are too few registers to hold it
  static EDGEMOE_INLINE Held hold(const int8_t* q) { return q; }
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, Held q, int i) { return dot(sum, w, q + static_cast<int>(sizeof(Bytes)) * i); }
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

// Every processor with AVX2 has F16C, for which older clangs cannot ask.
bool available() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace

const Variant kAvx2Variant = {"avx2", available, multiply_with_isa<Avx2>, Assembler<X86Lane>::assemble};

}  // namespace edgemoe::kernels
