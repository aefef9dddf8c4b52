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

// s^2 h and s W h of a weight, or sums of them; s is the scale of its group.
typedef float Pair __attribute__((vector_size(8)));
typedef float Lanes __attribute__((vector_size(16)));
typedef double Sum __attribute__((vector_size(16)));

// Of some rows: sums by source code, and of W^2 h.
struct Sums {
  std::array<Sum, 64> codes{};
  double total = 0;

  void add(const Sums& other) {
    for (size_t i = 0; i < codes.size(); ++i) codes[i] += other.codes[i];
    total += other.total;
  }
};

// Of one row.
template <int kCodes>
struct alignas(64) RowSums {
  Pair of[kBanks][kCodes];
  Lanes squares[2];
};

// Adds a block of 256 weights, W = scale * code - minimum with the scale and minimum of its group.
template <int kGroupSize, int kCodes>
void add_block(const uint8_t* codes, const float* importance, const GroupScale* groups, RowSums<kCodes>& sums) {
  float values[256], products[256][2];
  for (int i = 0; i < 256; ++i) values[i] = codes[i];
  Lanes squares[2] = {};
  for (int i = 0; i < 256; i += 8) {
    const float scale = groups[i / kGroupSize].scale, minimum = groups[i / kGroupSize].minimum;
    for (int half = 0; half < 2; ++half) {
      const int at = i + 4 * half;
      Lanes code, h;
      std::memcpy(&code, values + at, sizeof(code));
      std::memcpy(&h, importance + at, sizeof(h));
      const Lanes value = scale * code - minimum, weighted = scale * h;
      const Lanes square = scale * weighted, product = value * weighted;
      const Lanes low = __builtin_shufflevector(square, product, 0, 4, 1, 5), high = __builtin_shufflevector(square, product, 2, 6, 3, 7);
      std::memcpy(products[at], &low, sizeof(low));
      std::memcpy(products[at + 2], &high, sizeof(high));
      squares[half] += value * value * h;
    }
  }
  for (int i = 0; i < 256; i += kBanks) {
    for (int bank = 0; bank < kBanks; ++bank) {
      Pair pair;
      std::memcpy(&pair, products[i + bank], sizeof(pair));
      sums.of[bank][size_t{codes[i + bank]}] += pair;
    }
  }
  for (int half = 0; half < 2; ++half) sums.squares[half] += squares[half];
}

struct Planes {
  Format format;
  PlaneLayout at[kernels::kLevelCount];
  uint8_t* data[kernels::kLevelCount];
};

template <typename Block>
void cut_block(const Block& block, int64_t index, const Planes& planes, const float* importance, RowSums<1 << Block::kBits>& sums) {
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
    RowSums<1 << Block::kBits> row{};
    for (int64_t b = 0; b < per_row; ++b) {
      cut_block(blocks[r * per_row + b], r * per_row + b, planes, importance + b * 256, row);
    }
    for (int lane = 0; lane < kLanes; ++lane) sums.total += row.squares[lane / 4][lane % 4];
    for (const auto& bank : row.of) {
      for (int code = 0; code < 1 << Block::kBits; ++code) sums.codes[code] += __builtin_convertvector(bank[code], Sum);
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
      weight += sums.codes[code][0];
      value += sums.codes[code][0] * code;
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
    loss.squares += sums.codes[code][0] * lost * lost;
    loss.along += sums.codes[code][1] * lost;
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

LevelErrors slice(Format format, const uint8_t* blocks, int64_t rows, int64_t columns, const float* importance, int threads,
                  uint8_t* const* into) {
  check(format, rows, columns, importance, threads);
  const int bits = bits_of(format), levels = kernels::last_level(format, true) + 1;
  Planes planes{format, {}, {}};
  const size_t superblocks = static_cast<size_t>(rows * (columns / 256));
  for (int level = 0; level < levels; ++level) {
    planes.at[level] = kernels::plane_layout(format, level, rows, columns, false);
    planes.data[level] = into[level];
    const bool two_bits = level == 0 || (level == 3 && bits == 6);
    clear_padding(planes.data[level], superblocks * (two_bits ? 64 : 32), planes.at[level].selectors);
  }
  clear_padding(planes.data[0], planes.at[0].scales + superblocks * (bits == 6 ? 18 : 16), planes.at[0].biases);
  const std::vector<float> ones(importance ? 0 : columns, 1.0f);
  const Sums sums = cut(planes, blocks, rows, columns, importance ? importance : ones.data(), threads);
  uint8_t* const all_midpoints = planes.data[0] + planes.at[0].midpoints;
  float gains[kernels::kLevelCount] = {1, 1, 1, 1};
  LevelErrors errors;
  for (int level = 0; level < levels; ++level) {
    uint8_t* const midpoints = all_midpoints + 16 * level;
    if (level < 3) set_midpoints(sums, bits, level, midpoints);
    const Loss loss = loss_of(sums, bits, level, midpoints);
    gains[level] = gain_of(loss);
    errors[level] = error_of(loss, gains[level]);
  }
  std::memcpy(all_midpoints + kernels::kGainsAt, gains, sizeof(gains));
  return errors;
}

PlaneSet slice(Format format, const uint8_t* blocks, int64_t rows, int64_t columns, const float* importance, int threads) {
  check(format, rows, columns, importance, threads);
  PlaneSet set;
  set.levels = kernels::last_level(format, true) + 1;
  uint8_t* planes[kernels::kLevelCount] = {};
  for (int level = 0; level < set.levels; ++level) {
    set.planes[level] = Bytes::of_size(kernels::plane_layout(format, level, rows, columns, false).bytes);
    planes[level] = set.planes[level].data.get();
  }
  set.errors = slice(format, blocks, rows, columns, importance, threads, planes);
  return set;
}

}  // namespace edgemoe::codec
