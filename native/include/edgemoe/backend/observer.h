/// @file observer.h
/// Keeps the inputs that experts see, for calibration.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace edgemoe {

/// @brief Rows that one expert saw through one input, which several of its matrices may share.
struct ObservedInput {
  std::vector<const struct StoredTensor*> tensors;  ///< that take this input
  uint32_t expert = 0;
  int64_t columns = 0;
  std::vector<float> rows;
};

/// @brief Squared router weights (see Lookahead::squares) of the rows that one expert served, in the order of its inputs' rows.
struct ObservedWeights {
  uint32_t group = 0;
  uint32_t expert = 0;
  std::vector<float> squares;
};

/// @brief Collects inputs of the experts of chosen groups until they are taken.
class Observer {
 public:
  explicit Observer(std::set<uint32_t> groups) : _groups(std::move(groups)) {}

  bool wants(uint32_t group) const { return _groups.count(group) > 0; }
  void add(const std::vector<const struct StoredTensor*>& tensors, uint32_t expert, const float* row, int64_t columns);
  void add_weight(uint32_t group, uint32_t expert, float square);
  std::vector<ObservedInput> take();
  std::vector<ObservedWeights> take_weights();

 private:
  std::set<uint32_t> _groups;
  std::mutex _mutex;
  std::map<std::pair<const struct StoredTensor*, uint32_t>, ObservedInput> _inputs;  // by the first tensor and the expert
  std::map<std::pair<uint32_t, uint32_t>, std::vector<float>> _squares;              // by group and expert
};

}  // namespace edgemoe
