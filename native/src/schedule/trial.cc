#include "edgemoe/schedule/trial.h"

#include <algorithm>

namespace edgemoe {
namespace {

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

void Trial::record(double seconds) {
  if (_trying && _step % _settings.block >= _settings.skipped) _times[on()].push_back(seconds);
  ++_step;
  if (_trying && _step >= int64_t{_settings.block} * _settings.blocks) decide();
  if (!_trying && _step >= _settings.hold) {
    _trying = true;
    _step = 0;
  }
}

void Trial::decide() {
  if (!_times[0].empty() && !_times[1].empty()) _kept = median(_times[1]) <= median(_times[0]) * (1 + _settings.margin);
  _times[0].clear();
  _times[1].clear();
  _trying = false;
  _step = 0;
}

}  // namespace edgemoe
