// The values of weights as docs/format.md gives them, one at a time: the reference for all variants.
#include <string>

#include "codes.h"
#include "edgemoe/error.h"

namespace edgemoe::kernels {
namespace {

float t16_value(const Source& source, int64_t row, int64_t column) {
  const int64_t superblock = row * source.superblocks + column / kSuperblock;
  const int selector = source.selectors[16 * superblock + column % kSuperblock / 16];
  const float d = load_half(source.scales + 2 * superblock);
  const Code code = code_of(source, row, column);
  const auto& tables = source.tables->rows;
  if (source.level < 3) return source.gain * (d * static_cast<float>(tables[source.level][selector][code.code] - 64));
  const int coarse = tables[2][selector][code.coarse] - 64;
  const int fine = tables[3][selector][4 * code.base + code.last] - 64;
  return source.gain * (d * (static_cast<float>(16 * coarse + fine) / 16));
}

void slice_values(const Source& source, int64_t row, int64_t superblock, float* out) {
  const SliceScales scales = slice_scales(source, row * source.superblocks + superblock);
  for (int i = 0; i < kSuperblock; ++i) {
    const int code = code_of(source, row, superblock * kSuperblock + i).code;
    const int value = source.full ? code : source.midpoints[code];
    const float scaled = scales.d * static_cast<float>(scales.scale[i / 16] * value);
    out[i] = source.gain * (scaled - scales.m * static_cast<float>(scales.minimum[i / 16]));
  }
}

}  // namespace

void dequantize(const Matrix& matrix, int level, int64_t begin, int64_t end, float* out) {
  const Source source = resolve(matrix, level);
  if (begin < 0 || begin > end || end > matrix.rows) {
    throw Error("rows " + std::to_string(begin) + " to " + std::to_string(end) + " are not of a matrix of " +
                std::to_string(matrix.rows) + " rows");
  }
  for (int64_t row = begin; row < end; ++row) {
    if (source.format == Format::kT16) {
      for (int64_t c = 0; c < source.columns; ++c) *out++ = t16_value(source, row, c);
    } else {
      for (int64_t s = 0; s < source.superblocks; ++s, out += kSuperblock) slice_values(source, row, s, out);
    }
  }
}

}  // namespace edgemoe::kernels
