#include "edgemoe/backend/observer.h"

namespace edgemoe {

void Observer::add(const std::vector<const StoredTensor*>& tensors, uint32_t expert, const float* row, int64_t columns) {
  std::lock_guard lock(_mutex);
  ObservedInput& input = _inputs[{tensors.front(), expert}];
  if (input.tensors.empty()) {
    input.tensors = tensors;
    input.expert = expert;
    input.columns = columns;
  }
  input.rows.insert(input.rows.end(), row, row + columns);
}

std::vector<ObservedInput> Observer::take() {
  std::lock_guard lock(_mutex);
  std::vector<ObservedInput> taken;
  for (auto& [key, input] : _inputs) taken.push_back(std::move(input));
  _inputs.clear();
  return taken;
}

void Observer::add_weight(uint32_t group, uint32_t expert, float square) {
  std::lock_guard lock(_mutex);
  _squares[{group, expert}].push_back(square);
}

std::vector<ObservedWeights> Observer::take_weights() {
  std::lock_guard lock(_mutex);
  std::vector<ObservedWeights> taken;
  for (auto& [key, squares] : _squares) taken.push_back({key.first, key.second, std::move(squares)});
  _squares.clear();
  return taken;
}

}  // namespace edgemoe
