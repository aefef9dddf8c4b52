/// @file lookahead.h
/// What the routers say: how much each routed expert weighs, and which experts the next layer will probably use.
#pragma once

#include <cstdint>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/backend/routing.h"

namespace edgemoe {

/// @brief An expert that a layer will probably use, and its hotness (see ExpertBits).
struct PredictedExpert {
  uint32_t expert;
  double hotness;
};

/// @brief Predicts routing one layer ahead: the residual stream changes little from layer to layer, so the next layer's
/// router, applied to this layer's normalised input, mostly chooses what it will choose (Eliseev and Mazur,
/// arXiv 2312.17238, section 3.2). Routers are found in the graph, behind the ids of an expert product.
class Lookahead {
 public:
  explicit Lookahead(size_t groups) : _layers(groups) {}

  /// @brief Learns how the ids of `group` come about and how good the last prediction for it was, and predicts.
  /// @returns the experts that group next() will probably use for these tokens, the likeliest first; empty when nothing is known, or
  /// when predictions have been poor. Valid until the next call.
  const std::vector<PredictedExpert>& look(uint32_t group, const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed);

  /// @brief Squared weights that the router of `group` gives each of `routed`, summed over its rows; a token's weights add up to 1.
  /// Rows count alike where no router is found that reads `input`, the experts' own. Valid until the next call.
  const std::vector<double>& hotness(uint32_t group, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed);
  /// @brief The squared weight of each slot of each token, [tokens][used], that the last hotness() added up.
  const std::vector<float>& squares() const { return _squares; }

  /// @brief The group that follows `group` in a batch; `group` itself for the last one.
  uint32_t next(uint32_t group) const { return _layers[group].next == 0 ? group : _layers[group].next; }

 private:
  // What stands between the router's product and the choice of the largest.
  struct Step {
    enum Kind { kAdd, kSigmoid, kSoftmax } kind;
    const float* addend;  // of kAdd: one for each expert
  };
  struct Router {
    const ggml::Tensor* weights = nullptr;  // [columns, experts]
    const ggml::Tensor* norm = nullptr;     // weights of the norm before it, [columns]
    const ggml::Tensor* input = nullptr;    // of this batch
    std::vector<Step> steps;                // the last one first
  };
  struct Layer {
    Router router;
    uint32_t next = 0;
    std::vector<float> ratio;  // the next layer's norm weights over this one's
    std::vector<PredictedExpert> predicted;  // for this batch, the likeliest first
    double accuracy = 1;  // decayed share of the experts in use that were predicted
  };

  static void find_router(const ggml::Tensor* ids, Router* router);  // without weights: not found
  bool weigh_rows(const Router& router, const ggml::Tensor* ids);  // into _squares; false: not numbers
  void note_accuracy(Layer& layer, const std::vector<RoutedExpert>& routed);
  void predict(const Layer& from, Layer& to, const ggml::Tensor* ids);
  // What the router `to` makes of the input of `from` times `ratio` (empty: 1), into _input for dot().
  void prepare(const Router& from, const std::vector<float>& ratio, const Router& to, int64_t token);
  float dot(const Router& to, uint32_t expert) const;
  // Turns a token's logits of the experts that it uses into weights that add up to 1.
  static void weigh(const Router& router, const std::vector<uint32_t>& experts, std::vector<float>& logits);
  void score(const Router& to);  // all experts: logits into _logits, what the largest are chosen by into _scores

  std::vector<Layer> _layers;
  uint32_t _last = UINT32_MAX;
  uint64_t _looks = 0;
  const std::vector<PredictedExpert> _nothing;
  std::vector<double> _hotness;
  std::vector<float> _squares;
  // Of one token; kept for their memory.
  std::vector<float> _input;
  std::vector<uint8_t> _converted;
  const void* _operand = nullptr;
  std::vector<float> _logits;
  std::vector<float> _scores;
  std::vector<uint32_t> _order;
};

}  // namespace edgemoe
