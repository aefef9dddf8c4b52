/// @file pooling.h
/// The forward pass that training and inference share.
#pragma once

#include <vector>

#include "edgemoe/routing/train.h"

namespace edgemoe::routing {

/// @brief An n-gram of a row: its bucket, its field, and exp(gate).
struct Gram {
  int32_t bucket;
  int field;
  float weight;
};

/// @brief Weighted means of a row's embeddings, one after the other for each field.
struct Pool {
  explicit Pool(int dim) : means(static_cast<size_t>(kFields * dim)) {}

  void mean(const std::vector<Gram>& grams, const Head& head, int dim);

  std::vector<float> means;
  float totals[kFields] = {};
};

/// @brief logits = weights * means + bias
void apply(const Head& head, const std::vector<float>& means, int classes, float* out);

}  // namespace edgemoe::routing
