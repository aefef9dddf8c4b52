/// The loops of the search, for vectors of N floats. Everything is inlined into functions that are compiled for one instruction
/// set. No variant contracts or reorders sums, so all give the same bytes.
#pragma once

#include <algorithm>
#include <cstring>

#include "half.h"
#include "search.h"
#include "vectors.h"

namespace edgemoe::codec {

inline constexpr int kTried = 2;  // rows of the ranking that are tried exactly

// Largest magnitude of a superblock in units of the table, for each d that is tried.
inline constexpr float kPeaks[] = {44.0f, 48.0f, 52.0f, 56.0f, 60.0f, 63.0f, 66.0f, 70.0f, 74.0f, 78.0f};
inline constexpr int kRefits = 2;

/// costs[row] = sum over the group's weights of importance times the cell's cost.
template <int N>
EDGEMOE_INLINE void rank_rows(const float* grid, const int32_t* cells, const float* importance, float* costs) {
  using V = Vectors<N>;
  for (int row = 0; row < kRows; row += 4 * N) {
    typename V::Floats a{}, b{}, c{}, d{};
    for (int i = 0; i < kGroup; ++i) {
      const float* cell = grid + cells[i] + row;
      const float h = importance[i];
      a += V::load(cell) * h;
      b += V::load(cell + N) * h;
      c += V::load(cell + 2 * N) * h;
      d += V::load(cell + 3 * N) * h;
    }
    V::store(costs + row, a);
    V::store(costs + row + N, b);
    V::store(costs + row + 2 * N, c);
    V::store(costs + row + 3 * N, d);
  }
}

template <int N>
EDGEMOE_INLINE float least(const float* costs) {
  using V = Vectors<N>;
  auto low = V::load(costs);
  for (int row = N; row < kRows; row += N) {
    const auto next = V::load(costs + row);
    low = next < low ? next : low;
  }
  float result = low[0];
  for (int lane = 1; lane < N; ++lane) result = std::min<float>(result, low[lane]);
  return result;
}

/// Codes of 16 values for one row, and their cost without x^2.
template <int N>
EDGEMOE_INLINE float choose_codes(const Search::Lines& lines, const float* values, const float* importance, int32_t* codes) {
  using V = Vectors<N>;
  float parts[kGroup];
  for (int i = 0; i < kGroup; i += N) {
    const auto x = V::load(values + i);
    auto best = lines.offset[0] - lines.slope[0] * x;
    typename V::Ints code{};
    for (int k = 1; k < 16; ++k) {
      const auto cost = lines.offset[k] - lines.slope[k] * x;
      const typename V::Ints better = cost < best;
      best = better ? cost : best;
      code = better ? typename V::Ints{} + k : code;
    }
    V::store(parts + i, best * V::load(importance + i));
    __builtin_memcpy(codes + i, &code, sizeof code);
  }
  float sum = 0;
  for (float part : parts) sum += part;
  return sum;
}

EDGEMOE_INLINE void to_cells(const float* values, int count, int32_t* cells) {
  for (int i = 0; i < count; ++i) {
    float cell = (values[i] + kReach) * kCellsPerUnit + 0.5f;
    cell = cell > 0.0f ? cell : 0.0f;  // a NaN becomes 0 too
    cell = cell > kCells - 1 ? static_cast<float>(kCells - 1) : cell;
    cells[i] = static_cast<int32_t>(cell) * kRows;
  }
}

/// The best row for a group, of those that rank first; sets its codes. @return the cost without x^2.
template <int N>
EDGEMOE_INLINE float choose_row(const Search& search, const float* values, const int32_t* cells, const float* importance, int& row,
                                int32_t* codes) {
  float costs[kRows];
  rank_rows<N>(search.grid(), cells, importance, costs);
  float best = 0;
  row = 0;
  for (int tried = 0; tried < kTried; ++tried) {
    const float low = least<N>(costs);
    int candidate = 0;
    while (candidate < kRows - 1 && costs[candidate] != low) ++candidate;
    costs[candidate] = 3e38f;
    int32_t its_codes[kGroup];
    const float cost = choose_codes<N>(search.lines(candidate), values, importance, its_codes);
    if (tried == 0 || cost < best) {
      best = cost;
      row = candidate;
      std::copy_n(its_codes, kGroup, codes);
    }
  }
  return best;
}

/// The cost of the best rows at scale d, by the grid alone.
template <int N>
EDGEMOE_INLINE float grid_cost(const Search& search, const float* weights, const float* importance, int groups, float d) {
  float values[kSuperblock];
  int32_t cells[kSuperblock];
  const float inverse = 1.0f / d;
  for (int i = 0; i < groups * kGroup; ++i) values[i] = weights[i] * inverse;
  to_cells(values, groups * kGroup, cells);
  float sum = 0;
  for (int g = 0; g < groups; ++g) {
    float costs[kRows];
    rank_rows<N>(search.grid(), cells + g * kGroup, importance + g * kGroup, costs);
    sum += least<N>(costs);
  }
  return sum * d * d;
}

/// Chooses rows and codes at scale out.d. @return the cost; `refit` is the scale that suits the choice best.
template <int N>
EDGEMOE_INLINE float choose_all(const Search& search, const float* weights, const float* importance, int groups, Superblock& out,
                                float& refit) {
  float values[kSuperblock];
  int32_t cells[kSuperblock];
  const float d = from_half(out.d);
  const float inverse = 1.0f / d;
  for (int i = 0; i < groups * kGroup; ++i) values[i] = weights[i] * inverse;
  to_cells(values, groups * kGroup, cells);
  float cost = 0, along = 0, square = 0;
  for (int g = 0; g < groups; ++g) {
    const int first = g * kGroup;
    int row;
    int32_t codes[kGroup] = {};
    cost += choose_row<N>(search, values + first, cells + first, importance + first, row, codes);
    out.selectors[g] = static_cast<uint8_t>(row);
    const Search::Lines& lines = search.lines(row);
    for (int i = 0; i < kGroup; ++i) {
      const int code = codes[i];
      out.codes[first + i] = static_cast<uint8_t>(code);
      along += importance[first + i] * values[first + i] * lines.slope[code];
      square += importance[first + i] * lines.offset[code];
    }
  }
  // sum h (w^2 - d slope x w + d^2 offset) is least at d' = sum h w slope / (2 sum h offset), with w = d x.
  refit = square > 0 ? d * along / (2 * square) : d;
  return cost * d * d;
}

template <int N>
EDGEMOE_INLINE void encode_superblock(const Search& search, const float* weights, const float* importance, int groups, Superblock& out) {
  float peak = 0;
  for (int i = 0; i < groups * kGroup; ++i) peak = std::max(peak, weights[i] < 0 ? -weights[i] : weights[i]);
  out = {};
  uint16_t best_d = 0;
  float best = 0;
  for (float at : kPeaks) {
    const uint16_t d = to_half(std::min(peak / at, kLargestHalf));
    if (d == 0 || d == best_d) continue;
    const float cost = grid_cost<N>(search, weights, importance, groups, from_half(d));
    if (best_d == 0 || cost < best) {
      best = cost;
      best_d = d;
    }
  }
  if (best_d == 0) return;
  out.d = best_d;
  float refit;
  best = choose_all<N>(search, weights, importance, groups, out, refit);
  for (int round = 0; round < kRefits; ++round) {
    Superblock next;
    next.d = to_half(std::min(refit, kLargestHalf));
    if (refit <= 0 || next.d == 0 || next.d == out.d) break;
    const float cost = choose_all<N>(search, weights, importance, groups, next, refit);
    if (cost >= best) break;
    best = cost;
    out = next;
  }
}

template <int N>
EDGEMOE_INLINE void propagate(const float* errors, const float* factor, int64_t stride, int64_t count, float* targets) {
  using V = Vectors<N>;
  for (int64_t k = 0; k < count; k += N) {
    auto sum = V::load(targets + k);
    for (int i = 0; i < kGroup; ++i) sum -= errors[i] * V::load(factor + i * stride + k);
    V::store(targets + k, sum);
  }
}

}  // namespace edgemoe::codec
