/// K-quant blocks of 256 weights, as files hold them. A weight is scale * code - minimum, with a scale and a minimum for each group.
#pragma once

#include <cstdint>
#include <cstring>

#include "bit_planes.h"
#include "half.h"

namespace edgemoe::codec {

struct GroupScale {
  float scale;
  float minimum;
};

/// Six-bit scales and minimums of 8 groups in 12 bytes: those of groups 0 to 3 in the low six bits of bytes 0 to 3 (scales) and 4
/// to 7 (minimums), those of groups 4 to 7 with four bits in the nibbles of bytes 8 to 11 and two in the top of bytes 0 to 7.
inline void unpack_k_scales(const uint8_t* packed, float d, float dmin, GroupScale* groups) {
  for (int g = 0; g < 4; ++g) {
    groups[g] = {d * (packed[g] & 63), dmin * (packed[g + 4] & 63)};
    const int scale = (packed[g + 8] & 15) | packed[g] >> 6 << 4;
    const int minimum = packed[g + 8] >> 4 | packed[g + 4] >> 6 << 4;
    groups[g + 4] = {d * scale, dmin * minimum};
  }
}

struct BlockQ4K {
  static constexpr int kBits = 4, kGroupSize = 32, kScaleBytes = 16;
  uint8_t scales[16];  ///< fp16 d, fp16 dmin, 12 packed bytes
  uint8_t low[128];    ///< of each 64 weights 32 bytes: the first 32 weights in the low nibbles

  void unpack(uint8_t* codes) const {
    for (int j = 0; j < 128; j += 32) {
      for (int i = 0; i < 32; i += kWord) {
        const Word word = load_word(low + j + i);
        store_word(codes + 2 * j + i, word & every_byte(15));
        store_word(codes + 2 * j + 32 + i, word >> 4 & every_byte(15));
      }
    }
  }
  void unpack_scales(GroupScale* groups) const {
    uint16_t halves[2];
    std::memcpy(halves, scales, 4);
    unpack_k_scales(scales + 4, from_half(halves[0]), from_half(halves[1]), groups);
  }
  void copy_scales(uint8_t* out) const { std::memcpy(out, scales, 16); }
};
static_assert(sizeof(BlockQ4K) == 144);

struct BlockQ5K {
  static constexpr int kBits = 5, kGroupSize = 32, kScaleBytes = 16;
  uint8_t scales[16];  ///< as in Q4_K
  uint8_t high[32];    ///< bit g of byte i: the highest bit of weight i of group g
  uint8_t low[128];    ///< as in Q4_K

  void unpack(uint8_t* codes) const {
    for (int g = 0; g < 8; ++g) {
      for (int i = 0; i < 32; i += kWord) {
        const Word nibbles = load_word(low + g / 2 * 32 + i) >> 4 * (g % 2) & every_byte(15);
        const Word top = (load_word(high + i) >> g & every_byte(1)) << 4;
        store_word(codes + 32 * g + i, nibbles | top);
      }
    }
  }
  void unpack_scales(GroupScale* groups) const {
    uint16_t halves[2];
    std::memcpy(halves, scales, 4);
    unpack_k_scales(scales + 4, from_half(halves[0]), from_half(halves[1]), groups);
  }
  void copy_scales(uint8_t* out) const { std::memcpy(out, scales, 16); }
};
static_assert(sizeof(BlockQ5K) == 176);

struct BlockQ6K {
  static constexpr int kBits = 6, kGroupSize = 16, kScaleBytes = 18;
  uint8_t low[128];    ///< of each 128 weights 64 bytes: weights 0 to 63 in the low nibbles, 64 to 127 in the high ones
  uint8_t high[64];    ///< of each 128 weights 32 bytes: two bits of weights i, 32 + i, 64 + i and 96 + i, lowest first
  uint8_t scales[18];  ///< 16 int8, fp16 d

  void unpack(uint8_t* codes) const {
    for (int half = 0; half < 2; ++half) {
      for (int quarter = 0; quarter < 4; ++quarter) {
        for (int i = 0; i < 32; i += kWord) {
          const Word nibbles = load_word(low + 64 * half + quarter % 2 * 32 + i) >> 4 * (quarter / 2) & every_byte(15);
          const Word top = (load_word(high + 32 * half + i) >> 2 * quarter & every_byte(3)) << 4;
          store_word(codes + 128 * half + 32 * quarter + i, nibbles | top);
        }
      }
    }
  }
  void unpack_scales(GroupScale* groups) const {
    uint16_t half;
    std::memcpy(&half, scales + 16, 2);
    const float d = from_half(half);
    for (int g = 0; g < 16; ++g) {
      const float scale = d * static_cast<int8_t>(scales[g]);
      groups[g] = {scale, 32 * scale};
    }
  }
  void copy_scales(uint8_t* out) const { std::memcpy(out, scales, 18); }
};
static_assert(sizeof(BlockQ6K) == 210);

}  // namespace edgemoe::codec
