#pragma once

#include <cstdint>
#include <cstring>

namespace edgemoe::codec {

/// @brief Weights in a block of a plane (docs/format.md).
inline constexpr int kBlock = 64;

inline uint64_t load_word(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

inline void store_word(uint8_t* bytes, uint64_t word) { std::memcpy(bytes, &word, 8); }

constexpr uint64_t every_byte(uint8_t byte) { return 0x0101010101010101u * byte; }

/// @brief Bits shift and shift + 1 of each of blocks * 64 codes, as a 2-bit plane of 16 bytes a block.
inline void pack_two_bits(const uint8_t* codes, int64_t blocks, int shift, uint8_t* plane) {
  constexpr uint64_t mask = every_byte(3);
  for (int64_t b = 0; b < blocks; ++b, codes += kBlock, plane += 16) {
    for (int half = 0; half < 16; half += 8) {
      uint64_t word = 0;
      for (int k = 0; k < 4; ++k) word |= (load_word(codes + 16 * k + half) >> shift & mask) << 2 * k;
      store_word(plane + half, word);
    }
  }
}

/// @brief Bit `shift` of each of blocks * 64 codes, as a row of a 1-bit plane: 32 bytes for four blocks, 16 for one that is left.
inline void pack_one_bit(const uint8_t* codes, int64_t blocks, int shift, uint8_t* plane) {
  constexpr uint64_t mask = every_byte(1);
  for (int64_t b = 0; b < blocks; ++b, codes += kBlock) {
    uint8_t* const to = plane + b / 4 * 32 + b % 2 * 16;
    const int64_t above = b % 4 / 2 * 4;  // blocks 2 and 3 are in the upper nibbles
    for (int half = 0; half < 16; half += 8) {
      uint64_t word = above ? load_word(to + half) : 0;
      for (int k = 0; k < 4; ++k) word |= (load_word(codes + 16 * k + half) >> shift & mask) << (above + k);
      store_word(to + half, word);
    }
  }
}

}  // namespace edgemoe::codec
