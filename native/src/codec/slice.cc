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
#include "vectors.h"

namespace edgemoe::codec {

using kernels::Format;
using kernels::PlaneLayout;

namespace {

constexpr int64_t kBlocksAtOnce = 1024;  // of 256 weights: what one job cuts
constexpr int kBanks = 4;                // consecutive weights often have the same code; banks let their sums overlap
constexpr int kLanes = 8;                // into which the sum of W^2 h is split

// s^2 h and s W h of a weight, or sums of them; s is the scale of its group.
typedef float Pair __attribute__((vector_size(8)));
typedef double Sum __attribute__((vector_size(16)));

// a[0], b[0], a[1], b[1] and so on.
EDGEMOE_INLINE void store_pairs(float (*to)[2], Vectors<4>::Floats a, Vectors<4>::Floats b) {
  Vectors<4>::store(to[0], __builtin_shufflevector(a, b, 0, 4, 1, 5));
  Vectors<4>::store(to[2], __builtin_shufflevector(a, b, 2, 6, 3, 7));
}
[[maybe_unused]] EDGEMOE_INLINE void store_pairs(float (*to)[2], Vectors<8>::Floats a, Vectors<8>::Floats b) {
  Vectors<8>::store(to[0], __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
  Vectors<8>::store(to[4], __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
}

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
struct RowSums {
  Pair of[kBanks][kCodes];
  float squares[kLanes];
};

// Adds a block of 256 weights, W = scale * code - minimum with the scale and minimum of its group, in vectors of N.
template <int N, int kGroupSize, int kCodes>
EDGEMOE_INLINE void add_block(const uint8_t* codes, const float* importance, const GroupScale* groups, RowSums<kCodes>& sums) {
  using V = Vectors<N>;
  float values[256], products[256][2];
  for (int i = 0; i < 256; ++i) values[i] = codes[i];
  typename V::Floats squares[kLanes / N] = {};
  for (int first = 0; first < 256; first += kLanes) {
    const auto [scale, minimum] = groups[first / kGroupSize];
    for (int part = 0; part < kLanes / N; ++part) {
      const int i = first + part * N;
      const auto h = V::load(importance + i);
      const auto value = scale * V::load(values + i) - minimum, weighted = scale * h;
      store_pairs(products + i, scale * weighted, value * weighted);
      squares[part] += value * value * h;
    }
  }
  for (int i = 0; i < 256; i += kBanks) {
    for (int bank = 0; bank < kBanks; ++bank) {
      Pair pair;
      std::memcpy(&pair, products[i + bank], sizeof(pair));
      sums.of[bank][codes[i + bank]] += pair;
    }
  }
  for (int i = 0; i < kLanes; i += N) V::store(sums.squares + i, V::load(sums.squares + i) + squares[i / N]);
}

struct Source {
  const uint8_t* blocks;
  int64_t columns;
  const float* importance;
};

struct Planes {
  Format format;
  PlaneLayout at[kernels::kLevelCount];
  uint8_t* data[kernels::kLevelCount];
};

template <int N, typename Block>
EDGEMOE_INLINE void cut_block(const Block& block, int64_t index, const Planes& planes, const float* importance, RowSums<1 << Block::kBits>& sums) {
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
  add_block<N, Block::kGroupSize>(codes, importance, groups, sums);
}

template <int N, typename Block>
EDGEMOE_INLINE Sums cut_rows(const Source& source, int64_t begin, int64_t end, const Planes& planes) {
  const auto* blocks = reinterpret_cast<const Block*>(source.blocks);
  const int64_t per_row = source.columns / 256;
  Sums sums;
  for (int64_t r = begin; r < end; ++r) {
    RowSums<1 << Block::kBits> row{};
    for (int64_t b = 0; b < per_row; ++b) {
      cut_block<N>(blocks[r * per_row + b], r * per_row + b, planes, source.importance + b * 256, row);
    }
    for (float square : row.squares) sums.total += square;
    for (const auto& bank : row.of) {
      for (int code = 0; code < 1 << Block::kBits; ++code) sums.codes[code] += __builtin_convertvector(bank[code], Sum);
    }
    if (!std::isfinite(sums.total)) {
      throw ModelError("row " + std::to_string(r) + " of the matrix has a scale or minimum that is not finite: the file is damaged");
    }
  }
  return sums;
}

// One function for each instruction set. No sum is contracted or reordered, so all give the same bytes.
#define EDGEMOE_VARIANT(name, lanes, target)                                                                    \
  target Sums cut_rows_##name(const Source& source, int64_t begin, int64_t end, const Planes& planes) {         \
    if (planes.format == Format::kSlicedQ4K) return cut_rows<lanes, BlockQ4K>(source, begin, end, planes);      \
    if (planes.format == Format::kSlicedQ5K) return cut_rows<lanes, BlockQ5K>(source, begin, end, planes);      \
    return cut_rows<lanes, BlockQ6K>(source, begin, end, planes);                                               \
  }

EDGEMOE_VARIANT(plain, 4, )
#if defined(__x86_64__)
EDGEMOE_VARIANT(avx2, 8, __attribute__((target("avx2"))))
#endif
#undef EDGEMOE_VARIANT

Sums cut(const Source& source, int64_t rows, const Planes& planes, int threads) {
  auto* rows_of = cut_rows_plain;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) rows_of = cut_rows_avx2;
#endif
  const int64_t at_once = std::max<int64_t>(1, kBlocksAtOnce / (source.columns / 256));
  const int64_t jobs = (rows + at_once - 1) / at_once;
  std::vector<Sums> parts(jobs);
  parallel_for(jobs, threads, [&](int64_t i) {
    const int64_t begin = i * at_once;
    parts[i] = rows_of(source, begin, std::min(rows, begin + at_once), planes);
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
  const Sums sums = cut({blocks, columns, importance ? importance : ones.data()}, rows, planes, threads);
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
