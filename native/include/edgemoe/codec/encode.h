/// @file encode.h
/// Float weights to T16 planes.
#pragma once

#include "edgemoe/codec/planes.h"
#include "edgemoe/codec/tables.h"

namespace edgemoe::codec {

/// @brief What is known of one matrix. Rows are outputs, columns inputs.
struct MatrixInput {
  const float* weights = nullptr;     ///< [rows, columns]
  int64_t rows = 0;
  int64_t columns = 0;                ///< a multiple of 32
  const float* importance = nullptr;  ///< second moment of each column's input; null: 1
  const float* mean_input = nullptr;  ///< mean of each column's input; null: 0, so biases are 0
  /// [columns, columns], upper triangular U with U^T U the inverse of the inputs' second moments: errors of one column
  /// are then made good by later ones. Null: each superblock on its own.
  const float* feedback = nullptr;
};

struct EncodeSettings {
  LevelWeights weights;
  int levels = 3;             ///< how many of kernels::kLevels, from the lowest
  uint8_t biased_levels = 0;  ///< bit i: level index i gets row biases
  int threads = 1;
};

/// @brief Encodes a matrix. The bytes do not depend on the number of threads, nor on the machine.
/// @throws Error when a weight is not finite or too large, or sizes do not fit.
PlaneSet encode(const MatrixInput& input, const Tables& tables, const EncodeSettings& settings);

}  // namespace edgemoe::codec
