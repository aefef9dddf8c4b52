/// @file slice.h
/// K-quants cut by the significance of their bits: nothing is lost, and lower levels are read without the rest.
#pragma once

#include "edgemoe/codec/planes.h"

namespace edgemoe::codec {

/// @brief Bytes of 256 weights as the k-quant stores them. @throws Error when the format is no slice.
size_t block_bytes(kernels::Format format);

/// @brief Cuts a matrix of k-quant blocks, `rows` rows of columns / 256 blocks.
/// @param importance second moment of each input channel, or null for 1. It decides the midpoints and the errors.
/// @param planes where to write the plane of each level that the format has, kernels::plane_layout(...).bytes each.
/// @return the error of each level.
/// @throws Error when the sizes do not fit. @throws ModelError when a scale is not finite.
LevelErrors slice(kernels::Format format, const uint8_t* blocks, int64_t rows, int64_t columns, const float* importance, int threads,
                  uint8_t* const* planes);

/// @brief The same, into memory of its own.
PlaneSet slice(kernels::Format format, const uint8_t* blocks, int64_t rows, int64_t columns, const float* importance, int threads);

}  // namespace edgemoe::codec
