#pragma once

#include <array>
#include <vector>

#include "edgemoe/codec/encode.h"
#include "gain.h"
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

/// @brief Sums over one row, by level index.
struct RowSums {
  std::array<Loss, kernels::kLevelCount> losses;
  /// What the row's products lose, with W H W^T in place of W^2 h; only where errors are fed back.
  std::array<Loss, kernels::kLevelCount> products;
  double mean_product = 0;                                    ///< of W and the mean input
  std::array<double, kernels::kLevelCount> lost_of_mean{};    ///< of W - Wq and the mean input
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
  std::vector<RowSums> sums;      ///< of each row

  /// @brief A row's value of weight `c` at a level index, as a reader of the planes gets it.
  float value(const RowChoice& row, int64_t c, int level) const;
  /// @brief Writes row r of all planes, and adds up what it loses.
  void finish_row(int64_t r, const RowChoice& row);
  /// @brief When all rows are finished: gains, biases and errors.
  void finish();

 private:
  void add_up(int64_t r, const RowChoice& row, int level);
  void write_biases(int level, double gain);
};

/// @brief Rows [begin, end), each superblock on its own.
void encode_rows(EncodeJob& job, int64_t begin, int64_t end);

/// @brief Rows [begin, end), each column's error made good by later columns.
void encode_rows_with_feedback(EncodeJob& job, int64_t begin, int64_t end);

/// @brief The two bits of level 6 that bring a weight closest to `target`, in units of the table, given its code of level 4.
uint8_t last_code(const Tables& tables, int selector, int code, float target);

}  // namespace edgemoe::codec
