/// @file gain.h
/// What a level of a matrix loses, and the factor that keeps its weights' size.
#pragma once

#include "edgemoe/codec/planes.h"

namespace edgemoe::codec {

/// @brief Sums over weights W and what stands for them before the gain, Wq.
struct Loss {
  double total = 0;    ///< of W^2 h
  double squares = 0;  ///< of (W - Wq)^2 h
  double along = 0;    ///< of W (W - Wq) h

  void add(const Loss& other) {
    total += other.total;
    squares += other.squares;
    along += other.along;
  }
};

/// @brief The g with sum (g Wq) W h = sum W^2 h: without it, values that are means of what they stand for are too small on the
/// whole. 1 where no gain that a pack may have does that.
inline float gain_of(const Loss& loss) {
  const double kept = loss.total - loss.along;
  const bool fits = kept * kernels::kSmallestGain <= loss.total && loss.total <= kept * kernels::kLargestGain && kept > 0;
  return fits ? static_cast<float>(loss.total / kept) : 1.0f;
}

/// @brief The level's error with the gain.
inline LevelError error_of(const Loss& loss, double gain) {
  const double off = 1 - gain;
  return {off * off * loss.total + 2 * gain * off * loss.along + gain * gain * loss.squares, loss.total};
}

}  // namespace edgemoe::codec
