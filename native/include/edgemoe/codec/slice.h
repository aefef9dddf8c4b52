/// @file slice.h
/// K-quants cut by the significance of their bits: nothing is lost, and lower levels are read without the rest.
#pragma once

#include "edgemoe/codec/planes.h"

namespace edgemoe::codec {

/// @brief Bytes of 256 weights as the k-quant stores them. @throws Error when the format is no slice.
size_t block_bytes(kernels::Format format);

/// @brief What is known of a matrix of k-quant blocks, `rows` rows of columns / 256 blocks.
struct SliceInput {
  kernels::Format format = kernels::Format::kSlicedQ4K;
  const uint8_t* blocks = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  const float* importance = nullptr;  ///< second moment of each column's input; null: 1. Decides the midpoints and the errors.
  const float* mean_input = nullptr;  ///< mean of each column's input; null: 0, so biases are 0
  uint8_t biased_levels = 0;          ///< bit i: level index i gets row biases; the last level, which loses nothing, has zeros
};

/// @brief Cuts a matrix. @throws Error when the sizes do not fit. @throws ModelError when a scale is not finite.
PlaneSet slice(const SliceInput& input, int threads);

}  // namespace edgemoe::codec
