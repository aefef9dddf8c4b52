/// @file train.h
/// Trains one head: gated bags of words and of character n-grams, averaged apart, then a linear layer and a softmax.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "edgemoe/routing/features.h"

namespace edgemoe::routing {

inline constexpr int kFields = 2;  ///< words, character n-grams

/// @brief The features of many texts: field f of row r is ids[bounds[2r + f]] to ids[bounds[2r + f + 1]].
struct Corpus {
  const int32_t* ids;
  const int64_t* bounds;
  size_t rows;
};

struct Settings {
  uint32_t buckets = 1u << 17;
  int dim = 16;             ///< of an embedding
  int classes = 2;
  bool rectified = true;    ///< negative averages count as 0
  double passes = 6;        ///< over as many rows as there are
  double rate = 0.15;       ///< AdaGrad's, falling to 0
  double dropped = 0.9;     ///< at most; the share of a text's n-grams is drawn anew each time
  double dropped_units = 0.3;  ///< of the averages
  double gate_rate = 0.5;
  double gate_limit = 2.5;  ///< of the logarithm of an n-gram's weight
  uint64_t seed = 1;
};

/// @brief What is learned. An n-gram with embedding e and gate s counts exp(s) e in its field's weighted mean.
struct Head {
  std::vector<float> embeddings;  // [buckets, dim]
  std::vector<float> gates;       // [buckets], logarithms
  std::vector<float> weights;     // [classes, kFields * dim]
  std::vector<float> bias;        // [classes]
};

/// @brief Stochastic gradient descent on the cross entropy; the same seed gives the same head.
/// @param targets [rows, classes], each row a distribution  @param frequencies [rows], how often a row is drawn
Head train(const Corpus& corpus, const float* targets, const double* frequencies, const Settings& settings);

/// @brief Logits [rows, classes] in `out`.
void logits(const Corpus& corpus, const Head& head, const Settings& settings, float* out);

}  // namespace edgemoe::routing
