/// @file planes.h
/// Expert matrices cut into bit planes: how a plane is laid out (docs/format.md) and what is computed from it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgemoe::kernels {

enum class Format : uint8_t { kT16 = 0, kSlicedQ4K = 1, kSlicedQ5K = 2, kSlicedQ6K = 3 };

/// The levels of a pack, by index: planes and tables are arrays in this order.
inline constexpr int kLevels[] = {2, 3, 4, 6};
inline constexpr int kLevelCount = 4;

/// @brief The tables of a model's T16 planes. Entries are biased by 64, so 1 to 127; the correction of level 6 is biased too.
struct alignas(64) T16Tables {
  /// A row of 16 bytes for each selector, by code; rows of levels 2 and 3 use the first 4 and 8 bytes.
  uint8_t rows[kLevelCount][256][16];

  // What arrange() derives from them. Vector variants make nibbles of codes, with the two bits of level 2 below or above the
  // others, whichever saves a shift: rows of levels 3, 4 and 6 for either, and the entries of level 2 by code and row.
  uint8_t low[kLevelCount - 1][256][16];
  uint8_t high[kLevelCount - 1][256][16];
  uint8_t entries[4][256];

  /// To be called whenever `rows` was set.
  void arrange();
};

/// @brief Where the gains, a float for each level, begin in the part of midpoints.
inline constexpr size_t kGainsAt = 48;
/// @brief A pack's gains are between these.
inline constexpr float kSmallestGain = 0.5f;
inline constexpr float kLargestGain = 2.0f;

/// @brief Where the parts of one plane begin. A part that the plane does not have is empty: it begins where the next does.
struct PlaneLayout {
  size_t codes = 0;
  size_t selectors = 0;
  size_t scales = 0;
  size_t midpoints = 0;  ///< of slices at levels 2, 3 and 4, 16 bytes each, and the gains of all levels
  size_t biases = 0;
  size_t bytes = 0;  ///< of the whole plane; 0 when the format has no plane of that level
};

/// @param level an index into kLevels. @param biased whether T16 planes of this level carry row biases.
PlaneLayout plane_layout(Format format, int level, int64_t rows, int64_t columns, bool biased);

/// @brief Bytes of the codes of a row of that many blocks of 64 weights, in a 2-bit plane or a 1-bit plane.
constexpr int64_t code_bytes(int64_t blocks, bool two_bits) {
  return two_bits ? 16 * blocks : blocks / 4 * 32 + (blocks % 4 < 2 ? blocks % 4 : 2) * 16;
}

/// @brief The highest level index at which a format has a plane.
int last_level(Format format, bool has_level_6);

/// @brief One matrix of one expert, with the planes that are in memory.
struct Matrix {
  Format format = Format::kT16;
  int64_t rows = 0;
  int64_t columns = 0;
  const T16Tables* tables = nullptr;           ///< null for slices
  const uint8_t* planes[kLevelCount] = {};     ///< by level; null where absent
  uint8_t biased_levels = 0;                   ///< bit i: planes of level index i carry biases
};

/// @brief Bytes of an activation row in the form that multiply() takes.
size_t activation_bytes(int64_t columns);
/// @brief Converts one row of `columns` floats: 8-bit integers with a scale for each 256.
void convert_activation(const float* x, int64_t columns, uint8_t* out);

/// @brief y[i][r] = row r of the matrix at `level` times activation row x[i], for r in [begin, end) and i < count.
/// Planes up to `level` must be present. Any number of threads may work on different rows.
void multiply(const Matrix& matrix, int level, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y);

/// @brief Slices with all planes: rows [begin, end) as the source's own k-quant blocks, one row after another.
void assemble(const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out);

/// @brief Rows [begin, end) at `level` as floats, one row after another: the reference for all of the above.
void dequantize(const Matrix& matrix, int level, int64_t begin, int64_t end, float* out);

/// @brief "scalar", "avx2", "avx512", "neon", "neon-dotprod" or "neon-i8mm": the best for this machine, or what EDGEMOE_KERNEL names.
/// @throws Error when EDGEMOE_KERNEL names one that this machine does not have.
const char* variant();

}  // namespace edgemoe::kernels
