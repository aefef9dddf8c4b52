/// @file codes.h
/// Codes of single weights, written down once from docs/format.md in plain code: the reference and the scalar variant.
#pragma once

#include "bits.h"

namespace edgemoe::kernels {
namespace {

/// @brief The code of weight w of a 64-weight block in a 2-bit plane.
[[maybe_unused]] inline int two_bits(const uint8_t* block, int w) { return block[w % 16] >> 2 * (w / 16) & 3; }

/// @brief The bit of a row's weight in a 1-bit plane, `row` pointing at the row's bytes.
[[maybe_unused]] inline int one_bit(const uint8_t* row, int64_t column) {
  const int w = static_cast<int>(column % kSuperblock);
  const int block = w / kBlock;
  const uint8_t byte = row[column / kSuperblock * 32 + block % 2 * 16 + w % 16];
  return byte >> (w / 16 % 4 + block / 2 * 4) & 1;
}

struct Code {
  int base = 0;    ///< of level 2
  int coarse = 0;  ///< of level 4, or of the source's level where that is lower
  int code = 0;    ///< of the level
  int last = 0;    ///< what level 6 adds
};

/// @brief The code of a row's weight. @param row which row. @param column which weight.
[[maybe_unused]] inline Code code_of(const Source& source, int64_t row, int64_t column) {
  const int64_t block = row * source.blocks + column / kBlock;
  const int w = static_cast<int>(column % kBlock);
  const int64_t row_bytes = source.one_bit_row;
  Code result;
  result.base = result.coarse = two_bits(source.codes[0] + 16 * block, w);
  for (int level = 1; level <= 2 && level <= source.level; ++level) {
    result.coarse = 2 * result.coarse + one_bit(source.codes[level] + row * row_bytes, column);
  }
  result.code = result.coarse;
  if (source.level < 3) return result;
  const bool single = source.format == Format::kSlicedQ5K;
  result.last = single ? one_bit(source.codes[3] + row * row_bytes, column) : two_bits(source.codes[3] + 16 * block, w);
  result.code = result.coarse * (single ? 2 : 4) + result.last;
  return result;
}

/// @brief Scales of one superblock of a slice: a weight is d scale[g] value - m minimum[g], g its group of 16, before the gain.
struct SliceScales {
  float d;
  float m;
  int16_t scale[16];
  int16_t minimum[16];
};

[[maybe_unused]] inline SliceScales slice_scales(const Source& source, int64_t superblock) {
  const uint8_t* from = source.scales + superblock * static_cast<int64_t>(scale_bytes(source.format));
  const float unit = slice_unit(source);
  SliceScales result;
  if (source.format == Format::kSlicedQ6K) {
    result.d = load_half(from + 16) * unit;
    result.m = load_half(from + 16);
    for (int g = 0; g < 16; ++g) {
      result.scale[g] = static_cast<int8_t>(from[g]);
      result.minimum[g] = static_cast<int16_t>(32 * result.scale[g]);
    }
    return result;
  }
  const PackedScales packed = unpack_scales(from + 4);
  result.d = load_half(from) * unit;
  result.m = load_half(from + 2);
  for (int g = 0; g < 16; ++g) {
    result.scale[g] = packed.scales >> 8 * (g / 2) & 0xff;
    result.minimum[g] = packed.minimums >> 8 * (g / 2) & 0xff;
  }
  return result;
}

}  // namespace
}  // namespace edgemoe::kernels
