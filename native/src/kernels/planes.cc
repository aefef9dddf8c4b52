// The layout of planes, and what must hold before any kernel looks at them.
#include "edgemoe/kernels/planes.h"

#include <string>

#include "edgemoe/error.h"
#include "bits.h"

namespace edgemoe::kernels {
namespace {

// Of a row's codes in the plane of a level; 0 where there is no such plane.
int64_t plane_row_bytes(Format format, int level, int64_t blocks) {
  if (level == 3 && format == Format::kSlicedQ4K) return 0;
  return code_bytes(blocks, level == 0 || (level == 3 && format != Format::kSlicedQ5K));
}

constexpr size_t kMidpointBytes = 64;  // and gains

size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

bool is_known(Format format) {
  return format == Format::kT16 || format == Format::kSlicedQ4K || format == Format::kSlicedQ5K ||
         format == Format::kSlicedQ6K;
}

float gain_of(const uint8_t* midpoints, int level) {
  const float gain = load<float>(midpoints + kGainsAt + sizeof(float) * static_cast<size_t>(level));
  if (gain >= kSmallestGain && gain <= kLargestGain) return gain;  // false for a NaN
  throw ModelError("a matrix has the gain " + std::to_string(gain) + " at level " + std::to_string(kLevels[level]) +
                   ", which is not between 0.5 and 2: the pack is damaged; make it again, or verify the download");
}

void check(Format format, int level, int64_t rows, int64_t columns) {
  if (!is_known(format)) throw Error("there is no plane format " + std::to_string(static_cast<int>(format)));
  if (level < 0 || level >= kLevelCount) {
    throw Error("level index " + std::to_string(level) + " is not between 0 and " + std::to_string(kLevelCount - 1));
  }
  const int multiple = format == Format::kT16 ? kBlock / 2 : kSuperblock;
  if (columns <= 0 || columns % multiple != 0) {
    throw Error("rows of " + std::to_string(columns) + " weights cannot be cut into planes: the format needs a multiple of " +
                std::to_string(multiple));
  }
  if (rows < 0) throw Error("a matrix cannot have " + std::to_string(rows) + " rows");
}

}  // namespace

size_t scale_bytes(Format format) { return format == Format::kT16 ? 2 : format == Format::kSlicedQ6K ? 18 : 16; }

PlaneLayout plane_layout(Format format, int level, int64_t rows, int64_t columns, bool biased) {
  check(format, level, rows, columns);
  const size_t r = static_cast<size_t>(rows);
  const size_t blocks = static_cast<size_t>((columns + kBlock - 1) / kBlock);
  const size_t superblocks = (blocks + 3) / 4;
  const bool base = level == 0;
  const bool t16 = format == Format::kT16;
  PlaneLayout layout;
  layout.selectors = padded(r * static_cast<size_t>(plane_row_bytes(format, level, static_cast<int64_t>(blocks))));
  layout.scales = layout.selectors + (base && t16 ? padded(r * superblocks * 16) : 0);
  layout.midpoints = layout.scales + (base ? padded(r * superblocks * scale_bytes(format)) : 0);
  layout.biases = layout.midpoints + (base ? kMidpointBytes : 0);
  layout.bytes = layout.biases + (t16 && biased ? padded(r * 2) : 0);
  return layout;
}

int last_level(Format format, bool has_level_6) {
  return has_level_6 && format != Format::kSlicedQ4K ? 3 : 2;
}

void T16Tables::arrange() {
  for (int row = 0; row < 256; ++row) {
    for (int code = 0; code < 4; ++code) entries[code][row] = rows[0][row][code];
    for (int level = 1; level < kLevelCount; ++level) {
      const NibbleOrder order = nibble_order(level == 1 ? 3 : 4);
      for (int n = 0; n < 16; ++n) {
        low[level - 1][row][n] = rows[level][row][order.low[n]];
        high[level - 1][row][n] = rows[level][row][order.high[n]];
      }
    }
  }
}

Source resolve(const Matrix& matrix, int level) {
  check(matrix.format, level, matrix.rows, matrix.columns);
  const int last = last_level(matrix.format, true);
  Source source{};
  source.format = matrix.format;
  source.level = level < last ? level : last;
  source.full = matrix.format != Format::kT16 && source.level == last;
  source.rows = matrix.rows;
  source.columns = matrix.columns;
  source.blocks = (matrix.columns + kBlock - 1) / kBlock;
  source.superblocks = (source.blocks + 3) / 4;
  source.one_bit_row = code_bytes(source.blocks, false);
  source.tables = matrix.tables;
  for (int i = 0; i <= source.level; ++i) {
    source.codes[i] = matrix.planes[i];
    if (!matrix.planes[i]) throw Error("the plane of level " + std::to_string(kLevels[i]) + " is not in memory");
  }
  const bool t16 = matrix.format == Format::kT16;
  if (t16 && !matrix.tables) throw Error("a T16 matrix needs the tables of its model");
  const auto biased = [&](int i) { return t16 && (matrix.biased_levels >> i & 1); };
  const PlaneLayout base = plane_layout(matrix.format, 0, matrix.rows, matrix.columns, biased(0));
  source.scales = matrix.planes[0] + base.scales;
  if (t16) source.selectors = matrix.planes[0] + base.selectors;
  const uint8_t* midpoints = matrix.planes[0] + base.midpoints;
  if (!t16 && !source.full) source.midpoints = midpoints + 16 * source.level;
  source.gain = source.full ? 1 : gain_of(midpoints, source.level);
  if (biased(source.level)) {
    const PlaneLayout layout = plane_layout(matrix.format, source.level, matrix.rows, matrix.columns, true);
    source.biases = matrix.planes[source.level] + layout.biases;
  }
  return source;
}

}  // namespace edgemoe::kernels
