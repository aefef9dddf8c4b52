/// @file assemble.h
/// k-quant blocks from slices, a 64-weight block at a time in 128-bit registers.
///
/// A Lane has load16, store, both, either, left<n>, right<n>
/// (of 16-bit elements or narrower: bits that cross bytes are masked) and of (a byte everywhere), pick (16-entry table).
#pragma once

#include "bits.h"

namespace edgemoe::kernels {
namespace {

template <class Lane>
struct Assembler {
  using V = typename Lane::V;

  struct Planes {
    const uint8_t* base;
    const uint8_t* third;
    const uint8_t* fourth;
    const uint8_t* last;
  };

  // Block i's bits of a superblock of a 1-bit plane; those of group k at bit 2 k + kTo.
  template <int kTo>
  static V spread(const uint8_t* from, int i) {
    const V bytes = Lane::load16(from + i % 2 * 16);
    const V bits = Lane::both(i < 2 ? bytes : Lane::template right<4>(bytes), Lane::of(15));
    const V at = Lane::pick(Lane::load16(kAsTwoBits.table), bits);
    return kTo == 0 ? at : Lane::template left<kTo>(at);
  }

  // 4-bit codes out of two 2-bit planes: of groups 0 and 2 in the nibbles of the first, of 1 and 3 in those of the second.
  static V even(V high, V low) {
    return Lane::either(Lane::both(Lane::template left<2>(high), Lane::of(0xcc)), Lane::both(low, Lane::of(0x33)));
  }
  static V odd(V high, V low) {
    return Lane::either(Lane::both(high, Lane::of(0xcc)), Lane::both(Lane::template right<2>(low), Lane::of(0x33)));
  }

  static void q4(const Planes& planes, uint8_t* qs) {
    for (int i = 0; i < 4; ++i) {
      const V high = Lane::load16(planes.base + 16 * i);
      const V low = Lane::either(spread<1>(planes.third, i), spread<0>(planes.fourth, i));
      Lane::store(qs + 32 * i, even(high, low));
      Lane::store(qs + 32 * i + 16, odd(high, low));
    }
  }

  // Bits 1 and 3 of the nibbles of x become bits 0 and 1.
  static V top_bits(V x) {
    return Lane::either(Lane::both(x, Lane::of(0x01)), Lane::both(Lane::template right<3>(x), Lane::of(0x02)));
  }

  template <int kBlockIndex>
  static void q5_block(const Planes& planes, uint8_t* qs, V* high) {
    const V base = Lane::load16(planes.base + 16 * kBlockIndex);
    const V third = spread<0>(planes.third, kBlockIndex);
    const V low = Lane::either(spread<1>(planes.fourth, kBlockIndex), spread<0>(planes.last, kBlockIndex));
    // The low bit of the base and the third plane's bit are the upper half of the block's low nibble.
    const V upper = Lane::either(Lane::both(Lane::template left<1>(base), Lane::of(0xaa)), third);
    Lane::store(qs + 32 * kBlockIndex, even(upper, low));
    Lane::store(qs + 32 * kBlockIndex + 16, odd(upper, low));
    const V first = top_bits(Lane::template right<1>(base));
    const V second = top_bits(Lane::template right<3>(base));
    high[0] = Lane::either(high[0], Lane::template left<2 * kBlockIndex>(first));
    high[1] = Lane::either(high[1], Lane::template left<2 * kBlockIndex>(second));
  }

  static void q5(const Planes& planes, uint8_t* qh, uint8_t* qs) {
    V high[2] = {Lane::of(0), Lane::of(0)};
    q5_block<0>(planes, qs, high);
    q5_block<1>(planes, qs, high);
    q5_block<2>(planes, qs, high);
    q5_block<3>(planes, qs, high);
    Lane::store(qh, high[0]);
    Lane::store(qh + 16, high[1]);
  }

  struct SixBits {
    V low[4];   // nibbles of the groups
    V high[2];  // two bits of groups 0 and 2 in bits 0 to 3, of 1 and 3 in bits 0 to 3
  };

  static SixBits six_bits(const Planes& planes, int i) {
    const V base = Lane::load16(planes.base + 16 * i);
    const V last = Lane::load16(planes.last + 16 * i);
    const V middle = Lane::either(spread<1>(planes.third, i), spread<0>(planes.fourth, i));
    const V nibble = Lane::of(15);
    const V even_low = even(middle, last);
    const V odd_low = odd(middle, last);
    const auto pair = [](V x) {
      return Lane::either(Lane::both(x, Lane::of(0x03)), Lane::both(Lane::template right<2>(x), Lane::of(0x0c)));
    };
    return {{Lane::both(even_low, nibble), Lane::both(odd_low, nibble), Lane::both(Lane::template right<4>(even_low), nibble),
             Lane::both(Lane::template right<4>(odd_low), nibble)},
            {pair(base), pair(Lane::template right<2>(base))}};
  }

  static void q6(const Planes& planes, uint8_t* ql, uint8_t* qh) {
    for (int half = 0; half < 2; ++half) {
      const SixBits first = six_bits(planes, 2 * half);
      const SixBits second = six_bits(planes, 2 * half + 1);
      for (int k = 0; k < 4; ++k) {
        Lane::store(ql + 64 * half + 16 * k, Lane::either(first.low[k], Lane::template left<4>(second.low[k])));
      }
      for (int k = 0; k < 2; ++k) {
        Lane::store(qh + 32 * half + 16 * k, Lane::either(first.high[k], Lane::template left<4>(second.high[k])));
      }
    }
  }

  static void assemble(const Source& source, int64_t begin, int64_t end, uint8_t* out) {
    for (int64_t s = begin * source.superblocks; s < end * source.superblocks; ++s) {
      Planes planes{source.codes[0] + 64 * s, source.codes[1] + 32 * s, source.codes[2] + 32 * s, nullptr};
      if (source.format == Format::kSlicedQ4K) {
        std::memcpy(out, source.scales + 16 * s, 16);
        q4(planes, out + 16);
        out += 144;
      } else if (source.format == Format::kSlicedQ5K) {
        planes.last = source.codes[3] + 32 * s;
        std::memcpy(out, source.scales + 16 * s, 16);
        q5(planes, out + 16, out + 48);
        out += 176;
      } else {
        planes.last = source.codes[3] + 64 * s;
        q6(planes, out, out + 128);
        std::memcpy(out + 192, source.scales + 18 * s, 18);
        out += 210;
      }
    }
  }
};

}  // namespace
}  // namespace edgemoe::kernels
