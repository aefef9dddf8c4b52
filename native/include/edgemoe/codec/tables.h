/// @file tables.h
/// The nested codebooks of T16, and how they are learned.
#pragma once

#include <cstdint>

namespace edgemoe::codec {

inline constexpr int kRows = 256;    ///< codebooks that a selector chooses from
inline constexpr int kGroup = 16;    ///< weights that share a selector
inline constexpr int kLargest = 63;  ///< magnitude of table entries

/// @brief As the pack stores them (docs/format.md): a row for each selector; level 6 corrects level 4 in sixteenths.
struct Tables {
  int8_t level2[kRows][4];
  int8_t level3[kRows][8];
  int8_t level4[kRows][16];
  int8_t level6[kRows][16];
};

/// @brief The tables that this project ships, learned by tools/learn_tables.py.
const Tables& default_tables();

/// @throws Error when an entry is beyond kLargest.
void check_tables(const Tables& tables);

/// @brief How much the squared error of levels 2, 3 and 4 counts when one choice decides all of them.
struct LevelWeights {
  float of[3] = {0.2f, 0.3f, 0.5f};
};

struct LearnSettings {
  LevelWeights weights;
  int iterations = 30;
  uint64_t seed = 1;
  int threads = 1;
};

/// @brief Learns tables from rows of weights, starting from parametric rows (Lloyd, IEEE Trans. Inf. Theory 28(2), 1982).
/// @param samples [rows, columns], columns a multiple of 32; rows should have about the same magnitude.
/// @param importance [rows, columns], or null for 1.
Tables learn_tables(const float* samples, const float* importance, int64_t rows, int64_t columns, const LearnSettings& settings);

}  // namespace edgemoe::codec
