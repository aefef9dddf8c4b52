#include "edgemoe/kernels/planes.h"

namespace edgemoe::kernels {
namespace {

size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

int last_level(Format format, bool has_level_6) {
  if (format == Format::kSlicedQ4K) return 2;
  if (format == Format::kT16) return has_level_6 ? 3 : 2;
  return 3;
}

PlaneLayout plane_layout(Format format, int level, int64_t rows, int64_t columns, bool biased) {
  PlaneLayout layout;
  if (level > last_level(format, true)) return layout;
  const size_t r = static_cast<size_t>(rows);
  const size_t blocks = (static_cast<size_t>(columns) + 63) / 64;
  const size_t superblocks = (blocks + 3) / 4;
  const bool two_bits = level == 0 || (level == 3 && format != Format::kSlicedQ5K);
  const bool t16 = format == Format::kT16;
  size_t scale = t16 ? 2 : format == Format::kSlicedQ6K ? 18 : 16;
  if (level != 0) scale = 0;
  layout.selectors = padded(r * blocks * (two_bits ? 16 : 8));
  layout.scales = layout.selectors + (t16 && level == 0 ? padded(r * superblocks * 16) : 0);
  layout.midpoints = layout.scales + padded(r * superblocks * scale);
  layout.biases = layout.midpoints + (!t16 && level == 0 ? 64 : 0);
  layout.bytes = layout.biases + (t16 && biased ? padded(r * 2) : 0);
  return layout;
}

}  // namespace edgemoe::kernels
