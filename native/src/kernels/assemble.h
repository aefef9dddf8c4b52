/// @file assemble.h
/// k-quant blocks from slices, a 64-weight block at a time in 128-bit registers.
///
/// A Lane has load16, load8 (8 bytes, their low nibbles followed by their high ones), store, both, either, left<n>, right<n>
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

  // A 1-bit plane's bits of the groups k at bit 2 k + kTo.
  template <int kTo>
  static V spread(const uint8_t* from) {
    static const uint8_t table[16] = {0x00 << kTo, 0x01 << kTo, 0x04 << kTo, 0x05 << kTo, 0x10 << kTo, 0x11 << kTo,
                                      0x14 << kTo, 0x15 << kTo, 0x40 << kTo, 0x41 << kTo, 0x44 << kTo, 0x45 << kTo,
                                      0x50 << kTo, 0x51 << kTo, 0x54 << kTo, 0x55 << kTo};
    return Lane::pick(Lane::load16(table), Lane::load8(from));
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
      const V low = Lane::either(spread<1>(planes.third + 8 * i), spread<0>(planes.fourth + 8 * i));
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
    const V third = spread<0>(planes.third + 8 * kBlockIndex);
    const V low = Lane::either(spread<1>(planes.fourth + 8 * kBlockIndex), spread<0>(planes.last + 8 * kBlockIndex));
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
    const V middle = Lane::either(spread<1>(planes.third + 8 * i), spread<0>(planes.fourth + 8 * i));
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
