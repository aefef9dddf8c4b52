/// @file level_head.h
/// A layer's second router: how much the error of each expert matters for one token (D2MoE, arXiv 2504.15299).
#pragma once

#include <cstdint>
#include <vector>

namespace edgemoe {

/// @brief Predicts from a layer's input x what an error of expert e costs: exp(out_e . (in x, 1)) times the relative squared error of
/// its weights times the squared router weight is what the model loses. docs/format.md says what it was fitted to.
struct LevelHead {
  int64_t columns = 0;
  int64_t rank = 0;
  std::vector<float> in;   ///< [rank][columns]
  std::vector<float> out;  ///< [experts][rank + 1]

  /// @brief in x. @param x of `columns` floats. @param[out] features resized to `rank`.
  void project(const float* x, std::vector<float>* features) const;
  /// @brief The prediction for one expert, from what project() gave.
  double weight(const std::vector<float>& features, uint32_t expert) const;
};

}  // namespace edgemoe
