#pragma once

#include <cstdint>
#include <cstring>

namespace edgemoe::codec {

/// @brief Weights in a block of a plane (docs/format.md).
inline constexpr int kBlock = 64;

/// @brief 16 bytes that are shifted and masked together.
typedef uint64_t Word __attribute__((vector_size(16)));
inline constexpr int kWord = 16;

inline Word load_word(const uint8_t* bytes) {
  Word word;
  std::memcpy(&word, bytes, kWord);
  return word;
}

inline void store_word(uint8_t* bytes, Word word) { std::memcpy(bytes, &word, kWord); }

constexpr uint64_t every_byte(uint8_t byte) { return 0x0101010101010101u * byte; }

/// @brief Bits shift and shift + 1 of each of blocks * 64 codes, as a 2-bit plane of 16 bytes a block.
inline void pack_two_bits(const uint8_t* codes, int64_t blocks, int shift, uint8_t* plane) {
  constexpr uint64_t mask = every_byte(3);
  for (int64_t b = 0; b < blocks; ++b, codes += kBlock, plane += 16) {
    Word word{};
    for (int k = 0; k < 4; ++k) word |= (load_word(codes + 16 * k) >> shift & mask) << 2 * k;
    store_word(plane, word);
  }
}

/// @brief Bit `shift` of each of blocks * 64 codes, as a row of a 1-bit plane: 32 bytes for four blocks, 16 for one that is left.
inline void pack_one_bit(const uint8_t* codes, int64_t blocks, int shift, uint8_t* plane) {
  constexpr uint64_t mask = every_byte(1);
  for (int64_t b = 0; b < blocks; ++b, codes += kBlock) {
    uint8_t* const to = plane + b / 4 * 32 + b % 2 * 16;
    const int64_t above = b % 4 / 2 * 4;  // blocks 2 and 3 are in the upper nibbles
    Word word = above ? load_word(to) : Word{};
    for (int k = 0; k < 4; ++k) word |= (load_word(codes + 16 * k) >> shift & mask) << (above + k);
    store_word(to, word);
  }
}

}  // namespace edgemoe::codec
