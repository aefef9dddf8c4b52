/// @file planes.h
/// What encoding and slicing have in common: the planes of one matrix, and what each level loses.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "edgemoe/kernels/planes.h"

namespace edgemoe::codec {

/// @brief Bytes that are not cleared when they are allocated.
struct Bytes {
  std::unique_ptr<uint8_t[]> data;
  size_t size = 0;

  static Bytes of_size(size_t size) { return {std::unique_ptr<uint8_t[]>(new uint8_t[size]), size}; }
};

/// @brief error = sum (W - Wq)^2 h, total = sum W^2 h, over the whole matrix.
struct LevelError {
  double error = 0;
  double total = 0;
};

/// @brief By level index (kernels::kLevels).
using LevelErrors = std::array<LevelError, kernels::kLevelCount>;

/// @brief One matrix cut into planes as docs/format.md lays them out; arrays are by level index (kernels::kLevels).
struct PlaneSet {
  Bytes planes[kernels::kLevelCount];
  LevelErrors errors;
  int levels = 0;  ///< how many of them, from the lowest
};

}  // namespace edgemoe::codec
