#include "edgemoe/backend/lookahead.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/views.h"

namespace edgemoe {
namespace {

using ggml::api;

// Below this share, reading ahead costs more than it brings; now and then a prediction is made only to see whether it got better.
constexpr double kWorthReading = 0.5;
constexpr uint64_t kCheckEvery = 32;
constexpr double kAccuracyDecay = 0.95;

// A weight that can be read here: not computed, and not on a GPU.
bool is_leaf(const ggml::Tensor* t) {
  return t && t->op == ggml::kOpNone && t->data && t->buffer && api().ggml_backend_buft_is_host(t->buffer->buft);
}

bool is_float_row(const ggml::Tensor* t, int64_t length) {
  return is_leaf(t) && t->type == ggml::kTypeF32 && t->ne[0] == length && t->ne[1] * t->ne[2] * t->ne[3] == 1;
}

float sigmoid(float value) { return 1 / (1 + std::exp(-value)); }

void softmax(std::vector<float>& values) {
  const float largest = *std::max_element(values.begin(), values.end());
  float sum = 0;
  for (float& v : values) sum += v = std::exp(v - largest);
  for (float& v : values) v /= sum;
}

}  // namespace

void Lookahead::find_router(const ggml::Tensor* ids, Router* router) {
  router->weights = nullptr;
  router->steps.clear();
  const ggml::Tensor* t = behind_views(ids);
  if (!t || (t->op != ggml::kOpArgsort && t->op != ggml::kOpTopK)) return;
  for (t = behind_views(t->src[0]); t && t->op != ggml::kOpMulMat; t = behind_views(t->src[0])) {
    if (t->op == ggml::kOpAdd && is_float_row(t->src[1], t->ne[0])) {
      router->steps.push_back({Step::kAdd, static_cast<const float*>(t->src[1]->data)});
    } else if (t->op == ggml::kOpUnary && t->op_params[0] == ggml::kUnarySigmoid) {
      router->steps.push_back({Step::kSigmoid, nullptr});
    } else if (t->op == ggml::kOpSoftMax && !t->src[1]) {
      router->steps.push_back({Step::kSoftmax, nullptr});
    } else {
      return;
    }
  }
  if (!t) return;
  const ggml::Tensor* weights = t->src[0];
  const ggml::Tensor* x = t->src[1];
  if (!is_leaf(weights) || x->type != ggml::kTypeF32 || x->ne[0] != weights->ne[0] || x->ne[2] != 1 || x->nb[0] != sizeof(float) ||
      !x->data || !api().ggml_get_type_traits_cpu(weights->type)->vec_dot) {
    return;
  }
  router->weights = weights;
  router->input = x;
  const ggml::Tensor* normalised = behind_views(x);
  const bool normal = normalised->op == ggml::kOpMul && is_float_row(normalised->src[1], x->ne[0]);
  router->norm = normal ? normalised->src[1] : nullptr;
}

void Lookahead::note_accuracy(Layer& layer, const std::vector<RoutedExpert>& routed) {
  if (layer.predicted.empty() || routed.empty()) return;
  const auto& predicted = layer.predicted;
  const auto found = std::count_if(routed.begin(), routed.end(), [&](const RoutedExpert& e) {
    return std::any_of(predicted.begin(), predicted.end(), [&](const PredictedExpert& p) { return p.expert == e.expert; });
  });
  layer.accuracy = kAccuracyDecay * layer.accuracy + (1 - kAccuracyDecay) * static_cast<double>(found) / static_cast<double>(routed.size());
  layer.predicted.clear();
}

void Lookahead::prepare(const Router& from, const std::vector<float>& ratio, const Router& to, int64_t token) {
  const ggml::Tensor* x = from.input;
  const int64_t columns = x->ne[0];
  const auto* row = reinterpret_cast<const float*>(static_cast<const char*>(x->data) + token * x->nb[1]);
  _input.assign(row, row + columns);
  for (size_t i = 0; i < ratio.size(); ++i) _input[i] *= ratio[i];
  const ggml::Type type = api().ggml_get_type_traits_cpu(to.weights->type)->vec_dot_type;
  _operand = _input.data();
  if (type == ggml::kTypeF32) return;
  _converted.resize(api().ggml_row_size(type, columns));
  api().ggml_get_type_traits_cpu(type)->from_float(_input.data(), _converted.data(), columns);
  _operand = _converted.data();
}

float Lookahead::dot(const Router& to, uint32_t expert) const {
  float result;
  const char* weights = static_cast<const char*>(to.weights->data) + expert * to.weights->nb[1];
  api().ggml_get_type_traits_cpu(to.weights->type)->vec_dot(static_cast<int>(_input.size()), &result, 0, weights, 0, _operand, 0, 1);
  return result;
}

void Lookahead::score(const Router& to) {
  _logits.resize(static_cast<size_t>(to.weights->ne[1]));
  for (uint32_t e = 0; e < _logits.size(); ++e) _logits[e] = dot(to, e);
  _scores = _logits;
  for (auto step = to.steps.rbegin(); step != to.steps.rend(); ++step) {
    if (step->kind == Step::kSoftmax) softmax(_scores);
    for (size_t e = 0; e < _scores.size(); ++e) {
      if (step->kind == Step::kAdd) _scores[e] += step->addend[e];
      if (step->kind == Step::kSigmoid) _scores[e] = sigmoid(_scores[e]);
    }
  }
}

void Lookahead::weigh(const Router& router, const std::vector<uint32_t>& experts, std::vector<float>& logits) {
  // What is added after the first function only decides the choice. Softmax over the chosen is softmax over all, scaled.
  for (auto step = router.steps.rbegin(); step != router.steps.rend(); ++step) {
    if (step->kind == Step::kSoftmax) break;
    if (step->kind == Step::kSigmoid) {
      float sum = 0;
      for (float& v : logits) sum += v = sigmoid(v);
      for (float& v : logits) v /= sum;
      return;
    }
    for (size_t i = 0; i < experts.size(); ++i) logits[i] += step->addend[experts[i]];
  }
  softmax(logits);
}

const std::vector<double>& Lookahead::hotness(uint32_t group, const ggml::Tensor* ids, const ggml::Tensor* input,
                                              const std::vector<RoutedExpert>& routed) {
  Router& router = _layers[group].router;
  find_router(ids, &router);
  // Another tensor's memory may serve something else by now.
  const bool readable = router.weights && router.input->data == input->data && router.input->ne[1] == ids->ne[1];
  if (!readable || !weigh_rows(router, ids)) _squares.assign(static_cast<size_t>(ids->ne[0] * ids->ne[1]), 1);
  _hotness.assign(routed.size(), 0);
  for (size_t i = 0; i < routed.size(); ++i) {
    for (const RoutedRow& row : routed[i].rows) _hotness[i] += static_cast<double>(_squares[static_cast<size_t>(row.token * ids->ne[0] + row.slot)]);
  }
  return _hotness;
}

bool Lookahead::weigh_rows(const Router& router, const ggml::Tensor* ids) {
  _squares.clear();
  std::vector<uint32_t> chosen(static_cast<size_t>(ids->ne[0]));
  for (int64_t token = 0; token < ids->ne[1]; ++token) {
    prepare(router, {}, router, token);
    _logits.resize(chosen.size());
    for (size_t slot = 0; slot < chosen.size(); ++slot) {
      const char* id = static_cast<const char*>(ids->data) + token * ids->nb[1] + static_cast<int64_t>(slot) * ids->nb[0];
      chosen[slot] = static_cast<uint32_t>(*reinterpret_cast<const int32_t*>(id));
      if (chosen[slot] >= router.weights->ne[1]) return false;
      _logits[slot] = dot(router, chosen[slot]);
    }
    weigh(router, chosen, _logits);
    for (const float weight : _logits) _squares.push_back(weight * weight);
  }
  return std::all_of(_squares.begin(), _squares.end(), [](float s) { return std::isfinite(s); });
}

void Lookahead::predict(const Layer& from, Layer& to, const ggml::Tensor* ids) {
  to.predicted.clear();
  for (int64_t token = 0; token < ids->ne[1]; ++token) {
    prepare(from.router, from.ratio, to.router, token);
    score(to.router);
    _order.resize(_scores.size());
    std::iota(_order.begin(), _order.end(), 0);
    const auto used = std::min<size_t>(static_cast<size_t>(ids->ne[0]), _order.size());
    std::partial_sort(_order.begin(), _order.begin() + static_cast<std::ptrdiff_t>(used), _order.end(),
                      [&](uint32_t a, uint32_t b) { return _scores[a] > _scores[b]; });
    _order.resize(used);
    for (size_t i = 0; i < used; ++i) _scores[i] = _logits[_order[i]];
    _scores.resize(used);
    weigh(to.router, _order, _scores);
    for (size_t i = 0; i < used; ++i) {
      const double hot = static_cast<double>(_scores[i]) * _scores[i];
      const auto known = std::find_if(to.predicted.begin(), to.predicted.end(), [&](const PredictedExpert& p) { return p.expert == _order[i]; });
      if (known == to.predicted.end()) {
        to.predicted.push_back({_order[i], hot});
      } else {
        known->hotness += hot;
      }
    }
  }
}

const std::vector<PredictedExpert>& Lookahead::look(uint32_t group, const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed) {
  if (_last != UINT32_MAX && group > _last && _layers[_last].next == 0) _layers[_last].next = group;
  _last = group;
  Layer& layer = _layers[group];
  note_accuracy(layer, routed);
  find_router(ids, &layer.router);
  if (!layer.router.weights || layer.next == 0) return _nothing;
  Layer& following = _layers[layer.next];
  const Router& router = following.router;
  if (!router.weights || router.weights->ne[0] != layer.router.weights->ne[0]) return _nothing;
  const bool reading = following.accuracy >= kWorthReading;
  if (!reading && ++_looks % kCheckEvery != 0) return _nothing;
  if (layer.ratio.empty() && layer.router.norm && router.norm) {
    const auto* mine = static_cast<const float*>(layer.router.norm->data);
    const auto* its = static_cast<const float*>(router.norm->data);
    for (int64_t i = 0; i < layer.router.norm->ne[0]; ++i) layer.ratio.push_back(mine[i] == 0 ? 0 : its[i] / mine[i]);
  }
  predict(layer, following, ids);
  return reading ? following.predicted : _nothing;
}

}  // namespace edgemoe
