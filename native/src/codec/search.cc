#include "search.h"

#include <algorithm>
#include <string>

#include "edgemoe/error.h"
#include "search_kernel.h"

namespace edgemoe::codec {
namespace {

template <int N>
EDGEMOE_INLINE int chosen_row(const Search& search, const float* values, const float* importance) {
  int32_t cells[kGroup];
  int32_t codes[kGroup] = {};
  int row;
  to_cells(values, kGroup, cells);
  choose_row<N>(search, values, cells, importance, row, codes);
  return row;
}

// One set of functions for each instruction set.
#define EDGEMOE_VARIANT(name, lanes, target)                                                                                        \
  target void encode_superblock_##name(const Search& search, const float* weights, const float* importance, int groups,            \
                                       Superblock& out) {                                                                           \
    encode_superblock<lanes>(search, weights, importance, groups, out);                                                             \
  }                                                                                                                                 \
  target int choose_row_##name(const Search& search, const float* values, const float* importance) {                               \
    return chosen_row<lanes>(search, values, importance);                                                                           \
  }                                                                                                                                 \
  target void propagate_##name(const float* errors, const float* factor, int64_t stride, int64_t count, float* targets) {          \
    propagate<lanes>(errors, factor, stride, count, targets);                                                                       \
  }                                                                                                                                 \
  constexpr SearchKernels kernels_##name{encode_superblock_##name, choose_row_##name, propagate_##name};

EDGEMOE_VARIANT(plain, 4, )
#if defined(__x86_64__)
EDGEMOE_VARIANT(avx2, 8, __attribute__((target("avx2"))))
#if defined(__clang__)  // has no such preference for a function; vectors of that width are used by their type
EDGEMOE_VARIANT(avx512, 16, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#else
EDGEMOE_VARIANT(avx512, 16, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))))
#endif
#endif
#undef EDGEMOE_VARIANT

}  // namespace

Codebooks codebooks(const Tables& tables) {
  Codebooks books;
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < 16; ++k) {
      books.of[0][row][k] = tables.level2[row][k >> 2];
      books.of[1][row][k] = tables.level3[row][k >> 1];
      books.of[2][row][k] = tables.level4[row][k];
    }
  }
  return books;
}

Search::Search(const Codebooks& books, const LevelWeights& weights)
    : _books(books), _lines(kRows), _grid(static_cast<size_t>(kCells) * kRows + 16) {
  float sum = 0;
  for (float weight : weights.of) {
    if (!(weight >= 0)) throw Error("a level's weight is " + std::to_string(weight) + "; it has to be 0 or more");
    sum += weight;
  }
  if (!(sum > 0)) throw Error("the weights of all levels are 0: at least one has to be more");
  for (int l = 0; l < kLevelsSearched; ++l) _weights[l] = weights.of[l] / sum;
  for (int row = 0; row < kRows; ++row) {
    for (int k = 0; k < 16; ++k) {
      float mean = 0, square = 0;
      for (int l = 0; l < kLevelsSearched; ++l) {
        const float entry = books.of[l][row][k];
        mean += _weights[l] * entry;
        square += _weights[l] * entry * entry;
      }
      _lines[row].slope[k] = 2 * mean;
      _lines[row].offset[k] = square;
    }
  }
  const auto address = reinterpret_cast<uintptr_t>(_grid.data());
  _aligned = _grid.data() + (64 - address % 64) % 64 / sizeof(float);
  for (int cell = 0; cell < kCells; ++cell) {
    const float x = cell / kCellsPerUnit - kReach;
    for (int row = 0; row < kRows; ++row) {
      const Lines& lines = _lines[row];
      float low = lines.offset[0] - lines.slope[0] * x;
      for (int k = 1; k < 16; ++k) low = std::min(low, lines.offset[k] - lines.slope[k] * x);
      _aligned[cell * kRows + row] = low + x * x;
    }
  }
}

const SearchKernels& search_kernels() {
#if defined(__x86_64__)
  static const SearchKernels* const best = [] {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      return &kernels_avx512;
    }
    return __builtin_cpu_supports("avx2") ? &kernels_avx2 : &kernels_plain;
  }();
  return *best;
#else
  return kernels_plain;
#endif
}

}  // namespace edgemoe::codec
