/// @file source.h
/// A matrix at one level with everything that its kernels need resolved: what each variant gets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "edgemoe/kernels/planes.h"

namespace edgemoe::kernels {

inline constexpr int kBlock = 64;          // weights
inline constexpr int kSuperblock = 256;    // weights
inline constexpr int kMaxBatchRows = 4;    // rows that a variant unpacks at a time, at most
inline constexpr int kMaxParts = 2;        // bytes that a weight becomes at most (level 6 of T16)

/// @brief Pointers to the first row of each part; null where the matrix has none at this level.
struct Source {
  Format format;
  int level;              ///< index into kLevels, at most that of the last plane
  bool full;              ///< slices with all planes
  int64_t rows;
  int64_t columns;
  int64_t blocks;         ///< in a row
  int64_t superblocks;    ///< in a row
  int64_t one_bit_row;    ///< bytes of a row of a 1-bit plane
  const uint8_t* codes[kLevelCount];
  const uint8_t* selectors;
  const uint8_t* scales;
  const uint8_t* midpoints;  ///< 16 bytes, of this level
  float gain;                ///< of this level; variants leave it to multiply_with()
  const uint8_t* biases;     ///< of this level
  const T16Tables* tables;
};

/// @throws Error where the matrix lacks a plane or its shape is not one of the format's.
Source resolve(const Matrix& matrix, int level);

/// @brief Bytes of one superblock's scales.
size_t scale_bytes(Format format);

/// @brief An activation row: bytes of superblock s begin at q + 256 s, and byte 64 k + 16 i + t of them belongs to
/// weight 64 i + 16 k + t, the order in which shifts of a plane yield its codes.
struct Activation {
  const int8_t* q;
  const uint8_t* sums;        ///< int16, of 16 consecutive weights, 16 for each superblock, in the order of the weights
  const uint8_t* correction;  ///< int32, -64 times the sum of each superblock: takes the bias of table rows away
  const uint8_t* d;           ///< float, the scale of each superblock

  static Activation of(const uint8_t* bytes, int64_t superblocks) {
    return {reinterpret_cast<const int8_t*>(bytes), bytes + 256 * superblocks, bytes + 288 * superblocks,
            bytes + 292 * superblocks};
  }
};

/// @brief Memory that a call works in, all 64-byte aligned.
struct Scratch {
  uint8_t* values;    ///< kMaxBatchRows rows of kMaxParts bytes for each weight of the padded row
  float* scales;      ///< kMaxBatchRows rows of one for each superblock
  uint16_t* offsets;  ///< kMaxBatchRows rows of one for each selector
};

/// @brief One implementation. multiply() gets rows in range; assemble() gets slices with all planes.
struct Variant {
  const char* name;
  bool (*available)();
  void (*multiply)(const Source& source, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y,
                   const Scratch& scratch);
  void (*assemble)(const Source& source, int64_t begin, int64_t end, uint8_t* out);
};

/// @brief The variants compiled into this library, best first, null at the end.
const Variant* const* variants();

/// @brief multiply() and assemble() by a variant of choice.
void multiply_with(const Variant& variant, const Matrix& matrix, int level, int64_t begin, int64_t end, const uint8_t* const* x,
                   int count, float* const* y);
void assemble_with(const Variant& variant, const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out);

extern const Variant kScalarVariant;
extern const Variant kAvx2Variant;
extern const Variant kAvx512Variant;
extern const Variant kNeonVariant;
extern const Variant kNeonDotprodVariant;
extern const Variant kNeonI8mmVariant;

}  // namespace edgemoe::kernels
