#pragma once

#include <array>
#include <vector>

#include "edgemoe/codec/encode.h"
#include "search.h"

namespace edgemoe::codec {

/// @brief The choices for one row; codes of weights beyond the row are 0.
struct RowChoice {
  explicit RowChoice(int64_t columns);

  std::vector<uint16_t> scales;     ///< fp16, one for each superblock
  std::vector<uint8_t> selectors;   ///< kGroups for each superblock
  std::vector<uint8_t> codes;       ///< 0 to 15, in whole blocks
  std::vector<uint8_t> last_codes;  ///< level 6's two bits, in whole blocks
};

/// @brief What all rows of one matrix share while it is encoded.
struct EncodeJob {
  EncodeJob(const MatrixInput& input, const Tables& tables, const EncodeSettings& settings);

  const MatrixInput& input;
  const Tables& tables;
  const EncodeSettings& settings;
  Search search;
  std::vector<float> importance;  ///< of each column, with mean 1 and none quite 0
  PlaneSet planes;
  std::vector<std::array<LevelError, kernels::kLevelCount>> errors;  ///< of each row

  /// @brief A row's value of weight `c` at a level index, as a reader of the planes gets it.
  float value(const RowChoice& row, int64_t c, int level) const;
  /// @brief Writes row r of all planes and sets its errors.
  void finish_row(int64_t r, const RowChoice& row);
};

/// @brief Rows [begin, end), each superblock on its own.
void encode_rows(EncodeJob& job, int64_t begin, int64_t end);

/// @brief Rows [begin, end), each column's error made good by later columns.
void encode_rows_with_feedback(EncodeJob& job, int64_t begin, int64_t end);

/// @brief The two bits of level 6 that bring a weight closest to `target`, in units of the table, given its code of level 4.
uint8_t last_code(const Tables& tables, int selector, int code, float target);

}  // namespace edgemoe::codec
