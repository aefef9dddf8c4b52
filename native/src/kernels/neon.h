/// @file neon.h
/// NEON: a block's 2-bit plane is one register. What the NEON variants share.
///
/// Integers of a superblock are summed across lanes before the float step, so that it does not matter whether they come from
/// products of bytes, dot products or matrix products.
#pragma once

#include <arm_neon.h>

#include "arm_features.h"
#include "assemble.h"
#include "loops.h"

namespace edgemoe::kernels {
namespace {

struct NeonLane {
  using V = uint8x16_t;
  static EDGEMOE_INLINE V load16(const uint8_t* from) { return vld1q_u8(from); }
  static EDGEMOE_INLINE void store(uint8_t* to, V v) { vst1q_u8(to, v); }
  static EDGEMOE_INLINE V both(V a, V b) { return vandq_u8(a, b); }
  static EDGEMOE_INLINE V either(V a, V b) { return vorrq_u8(a, b); }
  static EDGEMOE_INLINE V of(int byte) { return vdupq_n_u8(static_cast<uint8_t>(byte)); }
  static EDGEMOE_INLINE V pick(V table, V index) { return vqtbl1q_u8(table, index); }
  template <int kBits>
  static EDGEMOE_INLINE V left(V v) {
    if constexpr (kBits == 0) return v;
    return vshlq_n_u8(v, kBits);
  }
  template <int kBits>
  static EDGEMOE_INLINE V right(V v) {
    return vshrq_n_u8(v, kBits);
  }
};

// Nibbles of codes, of groups 0 and 2 with the two bits of level 2 below the others, of groups 1 and 3 with them above.
struct Nibbles {
  uint8x16_t low;
  uint8x16_t high;
};

EDGEMOE_INLINE uint8x16_t low_nibbles(uint8x16_t v) { return vandq_u8(v, vdupq_n_u8(15)); }
EDGEMOE_INLINE uint8x16_t high_nibbles(uint8x16_t v) { return vshrq_n_u8(v, 4); }

// Block i's bits of a superblock of a 1-bit plane, those of a nibble where `spread` has them.
EDGEMOE_INLINE uint8x16_t load_one_bit(const Spread& spread, const uint8_t* plane, int i) {
  const uint8x16_t bytes = vld1q_u8(plane + i % 2 * 16);
  return vqtbl1q_u8(vld1q_u8(spread.table), i < 2 ? low_nibbles(bytes) : high_nibbles(bytes));
}

// Codes of level 3 (kLevel 1) or 4 (kLevel 2).
template <int kLevel>
EDGEMOE_INLINE Nibbles nibbles(const Planes& planes, const Place& at, int i, uint8x16_t base) {
  uint8x16_t others = load_one_bit(kThirdBits, planes.codes[1] + at.one_bit, i);
  if (kLevel == 2) others = vorrq_u8(others, load_one_bit(kFourthBits, planes.codes[2] + at.one_bit, i));
  const uint8x16_t mask = vdupq_n_u8(0x33);
  return {vbslq_u8(mask, base, others), vbslq_u8(mask, others, base)};
}

// Two 2-bit planes side by side.
EDGEMOE_INLINE Nibbles join(uint8x16_t base, uint8x16_t last) {
  const uint8x16_t mask = vdupq_n_u8(0x33);
  return {vbslq_u8(mask, base, vshlq_n_u8(last, 2)), vbslq_u8(mask, vshrq_n_u8(last, 2), base)};
}

// The table rows of four groups at level 2, 4 bytes each.
EDGEMOE_INLINE uint8x16_t quarter_rows(const uint8_t (*table)[16], const uint8_t* selectors) {
  uint32x4_t rows = vdupq_n_u32(load<uint32_t>(table[selectors[0]]));
  rows = vsetq_lane_u32(load<uint32_t>(table[selectors[1]]), rows, 1);
  rows = vsetq_lane_u32(load<uint32_t>(table[selectors[2]]), rows, 2);
  return vreinterpretq_u8_u32(vsetq_lane_u32(load<uint32_t>(table[selectors[3]]), rows, 3));
}

EDGEMOE_INLINE float half_at(const uint8_t* from) {
  __fp16 half;
  std::memcpy(&half, from, sizeof(half));
  return static_cast<float>(half);
}

/// @brief Scales of one superblock of a slice: a weight is d scale[g] value - m minimum[g], g its group of 16.
struct NeonScales {
  int32_t scale[16];
  int16x8_t minimums[2];
  float d;
  float m;
};

EDGEMOE_INLINE void widen(int8x16_t from, int32_t* to) {
  const int16x8_t low = vmovl_s8(vget_low_s8(from));
  const int16x8_t high = vmovl_s8(vget_high_s8(from));
  vst1q_s32(to, vmovl_s16(vget_low_s16(low)));
  vst1q_s32(to + 4, vmovl_s16(vget_high_s16(low)));
  vst1q_s32(to + 8, vmovl_s16(vget_low_s16(high)));
  vst1q_s32(to + 12, vmovl_s16(vget_high_s16(high)));
}

struct Neon {
  using Bytes = uint8x16_t;
  using Ints = int32x4_t;
  using Floats = float;
  using Scales = NeonScales;
  static constexpr int kRows = 4;
  static constexpr int kBatchRows = 4;
  static constexpr int kBatchTokens = 2;
  static constexpr bool kMatrix = false;

  // Addresses take a selector as it is.
  template <int kLevel>
  static EDGEMOE_INLINE const uint8_t* selectors(const uint8_t* from, int64_t, const Scratch&) {
    return from;
  }

  template <int kLevel, int kCount>
  static EDGEMOE_INLINE SelectedRows<uint8_t> choose(const T16Tables&, const uint8_t* selectors, int64_t stride) {
    return {selectors, stride};
  }

  // Bytes of group k of block i meet those of an activation from 64 k + 16 i on.
  template <int kLevel, class Visit>
  static EDGEMOE_INLINE void t16(const T16Tables& tables, const Planes& planes, const Place& at, const uint8_t* all, int blocks,
                                 Visit visit) {
    for (int i = 0; i < blocks; ++i) {
      const uint8_t* selectors = all + 4 * i;
      const uint8x16_t base = vld1q_u8(planes.codes[0] + at.two_bits + 16 * i);
      if constexpr (kLevel == 0) {
        const uint8x16_t table = quarter_rows(tables.rows[0], selectors);
        const auto value = [&](uint8x16_t v, uint8_t offset) EDGEMOE_LAMBDA {
          return vqtbl1q_u8(table, vorrq_u8(vandq_u8(v, vdupq_n_u8(3)), vdupq_n_u8(offset)));
        };
        visit(0, 0 + i, value(base, 0));
        visit(0, 4 + i, value(vshrq_n_u8(base, 2), 4));
        visit(0, 8 + i, value(vshrq_n_u8(base, 4), 8));
        visit(0, 12 + i, value(vshrq_n_u8(base, 6), 12));
      } else if constexpr (kLevel == 1) {
        visit_rows(tables, 0, selectors, nibbles<1>(planes, at, i, base), 0, i, visit);
      } else {
        visit_rows(tables, 1, selectors, nibbles<2>(planes, at, i, base), 0, i, visit);
        if constexpr (kLevel == 3) {
          const uint8x16_t last = vld1q_u8(planes.codes[3] + at.two_bits + 16 * i);
          visit_rows(tables, 2, selectors, join(base, last), 1, i, visit);
        }
      }
    }
  }

  template <class Visit>
  static EDGEMOE_INLINE void visit_rows(const T16Tables& tables, int table, const uint8_t* selectors, Nibbles codes, int part, int i,
                                        Visit visit) {
    const auto* low = tables.low[table];
    const auto* high = tables.high[table];
    visit(part, 0 + i, vqtbl1q_u8(vld1q_u8(low[selectors[0]]), low_nibbles(codes.low)));
    visit(part, 4 + i, vqtbl1q_u8(vld1q_u8(high[selectors[1]]), low_nibbles(codes.high)));
    visit(part, 8 + i, vqtbl1q_u8(vld1q_u8(low[selectors[2]]), high_nibbles(codes.low)));
    visit(part, 12 + i, vqtbl1q_u8(vld1q_u8(high[selectors[3]]), high_nibbles(codes.high)));
  }

  struct Lookup {
    Bytes low;
    Bytes high;
  };

  template <int kBits>
  static EDGEMOE_INLINE Lookup lookup(const uint8_t* midpoints) {
    static const uint8_t same[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static constexpr NibbleOrder order = nibble_order(kBits);
    const uint8x16_t values = vld1q_u8(midpoints ? midpoints : same);
    return {vqtbl1q_u8(values, vld1q_u8(order.low)), vqtbl1q_u8(values, vld1q_u8(order.high))};
  }

  template <int kBits, class Visit>
  static EDGEMOE_INLINE void slice(const Planes& planes, const Place& at, const Lookup& lookup, Visit visit) {
    for (int i = 0; i < 4; ++i) {
      const uint8x16_t base = vld1q_u8(planes.codes[0] + at.two_bits + 16 * i);
      const uint8x16_t three = vdupq_n_u8(3);
      if constexpr (kBits == 2) {
        visit(0 + i, vqtbl1q_u8(lookup.low, vandq_u8(base, three)));
        visit(4 + i, vqtbl1q_u8(lookup.low, vandq_u8(vshrq_n_u8(base, 2), three)));
        visit(8 + i, vqtbl1q_u8(lookup.low, vandq_u8(vshrq_n_u8(base, 4), three)));
        visit(12 + i, vqtbl1q_u8(lookup.low, vshrq_n_u8(base, 6)));
      } else {
        const Nibbles n = nibbles<kBits == 3 ? 1 : 2>(planes, at, i, base);
        const uint8x16_t codes[] = {vqtbl1q_u8(lookup.low, low_nibbles(n.low)), vqtbl1q_u8(lookup.high, low_nibbles(n.high)),
                                    vqtbl1q_u8(lookup.low, high_nibbles(n.low)), vqtbl1q_u8(lookup.high, high_nibbles(n.high))};
        if constexpr (kBits <= 4) {
          for (int k = 0; k < 4; ++k) visit(4 * k + i, codes[k]);
        } else {
          const uint8x16_t last = kBits == 5 ? load_one_bit(kAsTwoBits, planes.codes[3] + at.one_bit, i)
                                             : vld1q_u8(planes.codes[3] + at.two_bits + 16 * i);
          const uint8x16_t low[] = {vandq_u8(last, three), vandq_u8(vshrq_n_u8(last, 2), three),
                                    vandq_u8(vshrq_n_u8(last, 4), three), vshrq_n_u8(last, 6)};
          for (int k = 0; k < 4; ++k) visit(4 * k + i, vorrq_u8(vshlq_n_u8(codes[k], kBits - 4), low[k]));
        }
      }
    }
  }

  static EDGEMOE_INLINE Scales scales_q4(const uint8_t* from) {
    const PackedScales packed = unpack_scales(from + 4);
    const uint8x8_t scales = vcreate_u8(packed.scales);
    const uint8x8_t minimums = vcreate_u8(packed.minimums);
    Scales result;
    widen(vreinterpretq_s8_u8(vcombine_u8(vzip1_u8(scales, scales), vzip2_u8(scales, scales))), result.scale);
    result.minimums[0] = vreinterpretq_s16_u16(vmovl_u8(vzip1_u8(minimums, minimums)));
    result.minimums[1] = vreinterpretq_s16_u16(vmovl_u8(vzip2_u8(minimums, minimums)));
    result.d = half_at(from);
    result.m = half_at(from + 2);
    return result;
  }

  static EDGEMOE_INLINE Scales scales_q6(const uint8_t* from) {
    const int8x16_t scales = vreinterpretq_s8_u8(vld1q_u8(from));
    Scales result;
    widen(scales, result.scale);
    result.minimums[0] = vshll_n_s8(vget_low_s8(scales), 5);
    result.minimums[1] = vshll_n_s8(vget_high_s8(scales), 5);
    result.d = result.m = half_at(from + 16);
    return result;
  }

  // Product 4 k + i is of group 4 i + k.
  static EDGEMOE_INLINE Ints weigh(Ints total, Ints partial, const Scales& w, int index) {
    return vmlaq_n_s32(total, partial, w.scale[index % 4 * 4 + index / 4]);
  }

  static EDGEMOE_INLINE Ints minimums(const Scales& w, const uint8_t* sums) {
    const int16x8_t first = vreinterpretq_s16_u8(vld1q_u8(sums));
    const int16x8_t second = vreinterpretq_s16_u8(vld1q_u8(sums + 16));
    Ints total = vmull_s16(vget_low_s16(w.minimums[0]), vget_low_s16(first));
    total = vmlal_s16(total, vget_high_s16(w.minimums[0]), vget_high_s16(first));
    total = vmlal_s16(total, vget_low_s16(w.minimums[1]), vget_low_s16(second));
    return vmlal_s16(total, vget_high_s16(w.minimums[1]), vget_high_s16(second));
  }

  static EDGEMOE_INLINE Ints no_ints() { return vdupq_n_s32(0); }
  static EDGEMOE_INLINE Floats no_floats() { return 0; }
  static EDGEMOE_INLINE Ints start(const uint8_t* correction) {
    return vsetq_lane_s32(edgemoe::kernels::load<int32_t>(correction), no_ints(), 0);
  }
  static EDGEMOE_INLINE Ints add(Ints a, Ints b) { return vaddq_s32(a, b); }
  static EDGEMOE_INLINE Ints sixteenfold(Ints a) { return vshlq_n_s32(a, 4); }
  // Bytes are at most 127, so they are signed bytes too, and two products fit into 16 bits.
  using Held = const int8_t*;
  static EDGEMOE_INLINE Held hold(const int8_t* q) { return q; }
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, Held q, int i) { return dot(sum, w, q + static_cast<int>(sizeof(Bytes)) * i); }
  static EDGEMOE_INLINE Ints dot(Ints sum, Bytes w, const int8_t* q) {
    const int8x16_t a = vreinterpretq_s8_u8(w);
    const int8x16_t b = vld1q_s8(q);
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    return vpadalq_s16(sum, vmlal_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vget_high_s8(a), vget_high_s8(b)));
#endif
  }
  static EDGEMOE_INLINE Floats step(Floats sum, Ints total, float scale) {
    return __builtin_fmaf(static_cast<float>(vaddvq_s32(total)), scale, sum);
  }
  static EDGEMOE_INLINE Floats step_back(Floats sum, Ints total, float scale) {
    return __builtin_fmaf(-static_cast<float>(vaddvq_s32(total)), scale, sum);
  }
  static EDGEMOE_INLINE float total(Floats sum) { return sum; }
  static EDGEMOE_INLINE Bytes load(const uint8_t* from) { return vld1q_u8(from); }
  static EDGEMOE_INLINE void store(uint8_t* to, Bytes value) { vst1q_u8(to, value); }

  // The product of a row's scales and an activation's.
  static EDGEMOE_INLINE void products(const uint8_t* from, const uint8_t* with, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = half_at(from + 2 * i) * factor * edgemoe::kernels::load<float>(with + 4 * i);
  }

  static EDGEMOE_INLINE void halves(const uint8_t* from, int64_t count, float factor, float* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = half_at(from + 2 * i) * factor;
  }
};

}  // namespace
}  // namespace edgemoe::kernels
