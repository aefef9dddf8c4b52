#include "edgemoe/backend/level_head.h"

#include <algorithm>
#include <cmath>

namespace edgemoe {
namespace {

constexpr double kLargestExponent = 80;  // a product with any squared weight is finite

}  // namespace

void LevelHead::project(const float* x, std::vector<float>* features) const {
  features->assign(static_cast<size_t>(rank), 0);
  const float* row = in.data();
  for (float& feature : *features) {
    for (int64_t i = 0; i < columns; ++i) feature += row[i] * x[i];
    row += columns;
  }
}

double LevelHead::weight(const std::vector<float>& features, uint32_t expert) const {
  const float* row = out.data() + static_cast<int64_t>(expert) * (rank + 1);
  double exponent = row[rank];
  for (size_t i = 0; i < features.size(); ++i) exponent += static_cast<double>(row[i]) * features[i];
  return std::exp(std::clamp(exponent, -kLargestExponent, kLargestExponent));
}

}  // namespace edgemoe
