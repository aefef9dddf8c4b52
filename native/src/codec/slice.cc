#include "edgemoe/codec/slice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "bit_planes.h"
#include "edgemoe/error.h"
#include "gain.h"
#include "half.h"
#include "k_quants.h"
#include "parallel.h"

namespace edgemoe::codec {

using kernels::Format;
using kernels::PlaneLayout;

namespace {

constexpr int64_t kBlocksAtOnce = 1024;  // of 256 weights: what one job cuts
constexpr int kBanks = 4;                // consecutive weights often have the same code; banks let their sums overlap
constexpr int kLanes = 8;                // sums that a compiler can keep in one vector

// Of some rows, s the scale of a weight's group: sums of s^2 h and of s W h by source code, and of W^2 h.
struct Sums {
  std::array<double, 64> codes{};
  std::array<double, 64> products{};
  double total = 0;

  void add(const Sums& other) {
    for (size_t i = 0; i < codes.size(); ++i) {
      codes[i] += other.codes[i];
      products[i] += other.products[i];
    }
    total += other.total;
  }
};

struct CodeSum {
  float square;   // s^2 h
  float product;  // s W h
};

struct alignas(64) CodeSums {
  CodeSum of[kBanks][64];
  float squares[kLanes];
};

// Adds a block of 256 weights, W = scale * code - minimum with the scale and minimum of its group.
template <int kGroupSize>
void add_block(const uint8_t* codes, const float* importance, const GroupScale* groups, CodeSums& sums) {
  float scale_squares[256], products[256];
  float squares[kLanes] = {};
  for (int g = 0; g < 256 / kGroupSize; ++g) {
    const float scale = groups[g].scale, minimum = groups[g].minimum;
    for (int i = g * kGroupSize; i < (g + 1) * kGroupSize; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const float value = scale * codes[i + lane] - minimum;
        const float weighted = scale * importance[i + lane];
        scale_squares[i + lane] = scale * weighted;
        products[i + lane] = value * weighted;
        squares[lane] += value * value * importance[i + lane];
      }
    }
  }
  for (int i = 0; i < 256; i += kBanks) {
    for (int bank = 0; bank < kBanks; ++bank) {
      CodeSum& sum = sums.of[bank][codes[i + bank]];
      sum.square += scale_squares[i + bank];
      sum.product += products[i + bank];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) sums.squares[lane] += squares[lane];
}

struct Planes {
  Format format;
  int levels;
  PlaneLayout at[kernels::kLevelCount];
  uint8_t* data[kernels::kLevelCount];
};

template <typename Block>
void cut_block(const Block& block, int64_t index, const Planes& planes, const float* importance, CodeSums& sums) {
  alignas(64) uint8_t codes[256];
  GroupScale groups[256 / Block::kGroupSize];
  block.unpack(codes);
  block.unpack_scales(groups);
  constexpr int kBits = Block::kBits;
  pack_two_bits(codes, 4, kBits - 2, planes.data[0] + planes.at[0].codes + index * 64);
  pack_one_bit(codes, 4, kBits - 3, planes.data[1] + planes.at[1].codes + index * 32);
  pack_one_bit(codes, 4, kBits - 4, planes.data[2] + planes.at[2].codes + index * 32);
  if (kBits == 5) pack_one_bit(codes, 4, 0, planes.data[3] + planes.at[3].codes + index * 32);
  if (kBits == 6) pack_two_bits(codes, 4, 0, planes.data[3] + planes.at[3].codes + index * 64);
  block.copy_scales(planes.data[0] + planes.at[0].scales + index * Block::kScaleBytes);
  add_block<Block::kGroupSize>(codes, importance, groups, sums);
}

template <typename Block>
Sums cut_rows(const uint8_t* source, int64_t begin, int64_t end, int64_t columns, const Planes& planes, const float* importance) {
  const auto* blocks = reinterpret_cast<const Block*>(source);
  const int64_t per_row = columns / 256;
  Sums sums;
  for (int64_t r = begin; r < end; ++r) {
    CodeSums row{};
    for (int64_t b = 0; b < per_row; ++b) {
      cut_block(blocks[r * per_row + b], r * per_row + b, planes, importance + b * 256, row);
    }
    for (float square : row.squares) sums.total += square;
    for (const auto& bank : row.of) {
      for (int code = 0; code < 64; ++code) {
        sums.codes[code] += bank[code].square;
        sums.products[code] += bank[code].product;
      }
    }
    if (!std::isfinite(sums.total)) {
      throw ModelError("row " + std::to_string(r) + " of the matrix has a scale or minimum that is not finite: the file is damaged");
    }
  }
  return sums;
}

Sums cut(const Planes& planes, const uint8_t* source, int64_t rows, int64_t columns, const float* importance, int threads) {
  const int64_t at_once = std::max<int64_t>(1, kBlocksAtOnce / (columns / 256));
  const int64_t jobs = (rows + at_once - 1) / at_once;
  std::vector<Sums> parts(jobs);
  parallel_for(jobs, threads, [&](int64_t i) {
    const int64_t begin = i * at_once, end = std::min(rows, begin + at_once);
    const auto rows_of = planes.format == Format::kSlicedQ4K   ? cut_rows<BlockQ4K>
                         : planes.format == Format::kSlicedQ5K ? cut_rows<BlockQ5K>
                                                               : cut_rows<BlockQ6K>;
    parts[i] = rows_of(source, begin, end, columns, planes, importance);
  });
  Sums sums;
  for (const Sums& part : parts) sums.add(part);
  return sums;
}

int bits_of(Format format) { return format == Format::kSlicedQ4K ? 4 : format == Format::kSlicedQ5K ? 5 : 6; }

// The value for each code of a level: the mean of the source's codes that it stands for, in units of 1 / per_code.
void set_midpoints(const Sums& sums, int bits, int level, uint8_t* midpoints) {
  const int per_code = 128 >> bits;
  const int cells = 4 << level, span = (1 << bits) / cells;
  for (int cell = 0; cell < cells; ++cell) {
    double weight = 0, value = 0;
    for (int code = cell * span; code < (cell + 1) * span; ++code) {
      weight += sums.codes[code];
      value += sums.codes[code] * code;
    }
    const double mean = weight > 0 ? value / weight : cell * span + (span - 1) / 2.0;
    midpoints[cell] = static_cast<uint8_t>(std::lround(mean * per_code));
  }
}

Loss loss_of(const Sums& sums, int bits, int level, const uint8_t* midpoints) {
  Loss loss;
  loss.total = sums.total;
  if (level + 2 >= bits || level > 2) return loss;
  for (int code = 0; code < 1 << bits; ++code) {
    const double lost = code - midpoints[code >> (bits - level - 2)] / static_cast<double>(128 >> bits);
    loss.squares += sums.codes[code] * lost * lost;
    loss.along += sums.products[code] * lost;
  }
  return loss;
}

void check(Format format, int64_t rows, int64_t columns, const float* importance, int threads) {
  if (format == Format::kT16) throw Error("only Q4_K, Q5_K and Q6_K are cut into slices");
  if (rows < 1) throw Error("a matrix has at least one row, not " + std::to_string(rows));
  if (columns < 256 || columns % 256 != 0) {
    throw Error("a row has " + std::to_string(columns) + " weights; those of k-quants have a multiple of 256");
  }
  if (threads < 1) throw Error("slicing needs at least one thread, not " + std::to_string(threads));
  for (int64_t c = 0; importance && c < columns; ++c) {
    if (importance[c] >= 0 && std::isfinite(importance[c])) continue;
    throw Error("the importance of column " + std::to_string(c) + " is " + std::to_string(importance[c]) +
                "; it has to be finite and 0 or more");
  }
}

// What follows a part until the next begins.
void clear_padding(uint8_t* plane, size_t end, size_t next) { std::fill(plane + end, plane + next, uint8_t{0}); }

}  // namespace

size_t block_bytes(Format format) {
  if (format == Format::kSlicedQ4K) return sizeof(BlockQ4K);
  if (format == Format::kSlicedQ5K) return sizeof(BlockQ5K);
  if (format == Format::kSlicedQ6K) return sizeof(BlockQ6K);
  throw Error("only Q4_K, Q5_K and Q6_K are cut into slices");
}

PlaneSet slice(Format format, const uint8_t* blocks, int64_t rows, int64_t columns, const float* importance, int threads) {
  check(format, rows, columns, importance, threads);
  const int bits = bits_of(format);
  PlaneSet set;
  set.levels = kernels::last_level(format, true) + 1;
  Planes planes{format, set.levels, {}, {}};
  const size_t superblocks = static_cast<size_t>(rows * (columns / 256));
  for (int level = 0; level < set.levels; ++level) {
    planes.at[level] = kernels::plane_layout(format, level, rows, columns, false);
    set.planes[level] = Bytes::of_size(planes.at[level].bytes);
    planes.data[level] = set.planes[level].data.get();
    const bool two_bits = level == 0 || (level == 3 && bits == 6);
    clear_padding(planes.data[level], superblocks * (two_bits ? 64 : 32), planes.at[level].selectors);
  }
  clear_padding(planes.data[0], planes.at[0].scales + superblocks * (bits == 6 ? 18 : 16), planes.at[0].biases);
  const std::vector<float> ones(importance ? 0 : columns, 1.0f);
  const Sums sums = cut(planes, blocks, rows, columns, importance ? importance : ones.data(), threads);
  uint8_t* const all_midpoints = planes.data[0] + planes.at[0].midpoints;
  float gains[kernels::kLevelCount] = {1, 1, 1, 1};
  for (int level = 0; level < set.levels; ++level) {
    uint8_t* const midpoints = all_midpoints + 16 * level;
    if (level < 3) set_midpoints(sums, bits, level, midpoints);
    const Loss loss = loss_of(sums, bits, level, midpoints);
    gains[level] = gain_of(loss);
    set.errors[level] = error_of(loss, gains[level]);
  }
  std::memcpy(all_midpoints + kernels::kGainsAt, gains, sizeof(gains));
  return set;
}

}  // namespace edgemoe::codec
