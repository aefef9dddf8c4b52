// What is asked of an engine: an error, mean bits, or levels.
#include <algorithm>
#include <cstdio>

#include "edgemoe/backend/engine.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

std::string rounded(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.2f", value);
  return digits;
}

}  // namespace

void Engine::set_target(double error) {
  if (!(error >= 0)) throw Error("a target of " + std::to_string(error) + " is no relative error");
  _settings.target = error;
  _priced = false;
  for (ExpertGroup& group : _groups) group.planes.clear();
}

void Engine::set_bits(double bits) {
  const double price = price_of(bits);
  set_target(0);
  _price = price;
  _priced = true;
}

std::optional<std::pair<double, double>> Engine::head_bits() const {
  const Pack* pack = _model->pack();
  if (!pack || pack->prices().empty()) return std::nullopt;
  double least = 0, most = 0, weights = 0;
  for (const PackTensor& tensor : pack->tensors()) {
    weights += static_cast<double>(tensor.rows * tensor.columns);
    least += 8.0 * static_cast<double>(tensor.planes[0].bytes);
    for (const PlanePlace& plane : tensor.planes) most += 8.0 * static_cast<double>(plane.bytes);
  }
  return std::make_pair(least / weights, most / weights);
}

double Engine::price_of(double bits) const {
  const Pack* pack = _model->pack();
  if (!pack || pack->prices().empty()) {
    throw Error("this file has no heads, which choose levels for a mean of bits: make a pack with --calibrate");
  }
  const auto [least, most] = *head_bits();
  const double share = (bits - least) / (most - least);
  if (!(share >= 0 && share <= 1)) {
    throw Error("a mean of " + rounded(bits) + " bits per weight is out of reach: this pack has " + rounded(least) + " to " +
                rounded(most));
  }
  const std::vector<float>& prices = pack->prices();
  const double place = share * static_cast<double>(prices.size() - 1);
  const auto before = std::min(static_cast<size_t>(place), prices.size() - 2);
  return prices[before] + (place - static_cast<double>(before)) * (static_cast<double>(prices[before + 1]) - prices[before]);
}

const std::vector<double>& Engine::losses(const LevelHead& head, const ggml::Tensor* ids, const ggml::Tensor* input,
                                          const std::vector<RoutedExpert>& routed) {
  if (input->type != ggml::kTypeF32 || input->ne[0] != head.columns) throw Error("the heads of the pack are for another input of the experts");
  _losses.assign(routed.size(), 0);
  const std::vector<float>& squares = _lookahead->squares();
  std::vector<std::vector<float>> features(static_cast<size_t>(input->ne[2]));
  for (size_t i = 0; i < routed.size(); ++i) {
    for (const RoutedRow& row : routed[i].rows) {
      std::vector<float>& own = features[static_cast<size_t>(row.token)];
      if (own.empty()) head.project(reinterpret_cast<const float*>(static_cast<const char*>(input->data) + row.token * input->nb[2]), &own);
      _losses[i] += static_cast<double>(squares[static_cast<size_t>(row.token * ids->ne[0] + row.slot)]) * head.weight(own, routed[i].expert);
    }
    _losses[i] /= static_cast<double>(routed[i].rows.size());
  }
  return _losses;
}

void Engine::set_token_targets(const std::vector<double>& errors) {
  for (const double error : errors) {
    if (!(error >= 0)) throw Error("a target of " + std::to_string(error) + " is no relative error");
  }
  const bool chose = chooses();
  _token_targets = errors;
  if (chose && !chooses()) set_target(_settings.target);
}

void Engine::set_levels(uint32_t group, const std::vector<uint8_t>& planes) {
  if (group >= _groups.size()) throw Error("there is no group " + std::to_string(group));
  if (chooses()) throw Error("levels of single experts need a fixed quality, not a target");
  if (std::find(planes.begin(), planes.end(), 0) != planes.end()) throw Error("an expert needs its base plane at least");
  ExpertGroup& chosen = _groups[group];
  if (!planes.empty() && planes.size() != chosen.experts()) {
    throw Error(chosen.name + " has " + std::to_string(chosen.experts()) + " experts, and levels were given for " +
                std::to_string(planes.size()));
  }
  chosen.planes = planes;
}

}  // namespace edgemoe
