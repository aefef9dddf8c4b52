#pragma once

#include <cstdint>
#include <vector>

#include "edgemoe/codec/tables.h"

namespace edgemoe::codec {

inline constexpr int kSuperblock = 256;
inline constexpr int kGroups = kSuperblock / kGroup;
inline constexpr int kLevelsSearched = 3;

// The grid of values, in units of a table: cell i stands for i / kCellsPerUnit - kReach.
inline constexpr float kReach = 80.0f;
inline constexpr float kCellsPerUnit = 2.0f;
inline constexpr int kCells = 321;

/// @brief Codebooks with entries of any precision: entry of level l (0 to 2) for the finest code k is of[l][row][k].
struct Codebooks {
  float of[kLevelsSearched][kRows][16];
};

Codebooks codebooks(const Tables& tables);

/// @brief What choosing codes needs of the codebooks.
///
/// The error of code k for a value x is sum_l w_l (x - T_l[k])^2 = x^2 + offset[k] - slope[k] x with weights that sum to 1, so a
/// code is chosen by 16 straight lines. The grid holds the least of the 16 (with x^2) for each cell and row: adding up the
/// cells of a group's 16 weights ranks all 256 rows, and only the first few are tried exactly.
class Search {
 public:
  Search(const Codebooks& books, const LevelWeights& weights);

  struct alignas(64) Lines {
    float slope[16];
    float offset[16];
  };

  const Lines& lines(int row) const { return _lines[row]; }
  const float* grid() const { return _aligned; }
  const Codebooks& books() const { return _books; }
  float weight(int level) const { return _weights[level]; }

 private:
  Codebooks _books;
  float _weights[kLevelsSearched];
  std::vector<Lines> _lines;
  std::vector<float> _grid;
  float* _aligned = nullptr;
};

/// @brief What stands for up to 256 consecutive weights of a row.
struct Superblock {
  uint16_t d = 0;
  uint8_t selectors[kGroups] = {};
  uint8_t codes[kSuperblock] = {};
};

/// @brief The best superblock for groups * 16 weights with their importance.
using EncodeSuperblock = void (*)(const Search&, const float* weights, const float* importance, int groups, Superblock& out);

/// @brief The best row for 16 values (in units of the table).
using ChooseRow = int (*)(const Search&, const float* values, const float* importance);

/// @brief targets[k] -= sum_i errors[i] factor[i * stride + k] for i < 16 and k < count, a multiple of 16.
using Propagate = void (*)(const float* errors, const float* factor, int64_t stride, int64_t count, float* targets);

struct SearchKernels {
  EncodeSuperblock encode_superblock;
  ChooseRow choose_row;
  Propagate propagate;
};

/// @brief The widest vectors that this machine has; all variants give the same results to the bit.
const SearchKernels& search_kernels();

}  // namespace edgemoe::codec
