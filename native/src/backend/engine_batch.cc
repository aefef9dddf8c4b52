// What an engine decides for each layer of a batch: which planes are used, and what is read before it is asked for.
#include <algorithm>
#include <limits>
#include <numeric>

#include "edgemoe/backend/engine.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

constexpr int64_t kMostTokensAhead = 4;  // a larger batch routes to most experts anyway

}  // namespace

Lookahead& Engine::lookahead() {
  if (!_lookahead) _lookahead = std::make_unique<Lookahead>(_groups.size());
  return *_lookahead;
}

bool Engine::resident(const StoredTensor& tensor, uint32_t expert) const {
  for (uint32_t level = 0; level < tensor.levels_of(expert); ++level) {
    if (!_cache->resident(tensor.plane(expert, level))) return false;
  }
  return true;
}

uint32_t Engine::resident_planes(const ExpertGroup& group, uint32_t expert) const {
  uint32_t level = 0;
  for (; level < group.levels; ++level) {
    const bool whole = std::all_of(group.members.begin(), group.members.end(), [&](const StoredTensor* member) {
      return !member->live || level >= member->levels || _cache->resident(member->plane(expert, level));
    });
    if (!whole) break;
  }
  return level;
}

ExpertBits Engine::bits(const ExpertGroup& group, uint32_t expert, double hotness, uint32_t resident) const {
  const auto stride = static_cast<size_t>(_model->pack()->levels());
  return {expert, hotness, group.errors->data() + expert * stride, group.plane_bytes.data(), group.levels, resident};
}

double Engine::strictest_target() const {
  return _token_targets.empty() ? _settings.target : *std::min_element(_token_targets.begin(), _token_targets.end());
}

void Engine::choose_for_batch() {
  _priced ? choose_worth(_bits, _price, &_chosen, &_reads) : choose_planes(_bits, strictest_target(), &_chosen, &_reads);
}

void Engine::choose_by_token(const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed) {
  struct Slot {
    size_t index;  // into _bits
    float square;
  };
  std::vector<std::vector<Slot>> tokens(_token_targets.size());
  const std::vector<float>& squares = _lookahead->squares();
  for (size_t i = 0; i < routed.size(); ++i) {
    for (const RoutedRow& row : routed[i].rows) {
      tokens[static_cast<size_t>(row.token)].push_back({i, squares[static_cast<size_t>(row.token * ids->ne[0] + row.slot)]});
    }
  }
  std::vector<size_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return _token_targets[a] < _token_targets[b]; });
  std::vector<uint8_t> most(_bits.size(), 1);
  for (const size_t token : order) {
    std::vector<ExpertBits> own;
    for (const Slot& slot : tokens[token]) {
      own.push_back(_bits[slot.index]);
      own.back().hotness = slot.square;
      own.back().resident = std::max<uint32_t>(own.back().resident, most[slot.index]);
    }
    choose_planes(own, _token_targets[token], &_chosen, &_reads);
    for (size_t k = 0; k < own.size(); ++k) most[tokens[token][k].index] = _chosen[k];
  }
  _chosen = std::move(most);
}

void Engine::choose(ExpertGroup& group, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed) {
  const std::vector<double>& weights = lookahead().hotness(group.members.front()->group, ids, input, routed);
  const std::vector<double>& hotness = _priced ? losses(*group.head, ids, input, routed) : weights;
  _bits.clear();
  for (size_t i = 0; i < routed.size(); ++i) _bits.push_back(bits(group, routed[i].expert, hotness[i], 0));
  const bool by_token = _token_targets.size() == static_cast<size_t>(ids->ne[1]);
  const auto decide = [&] { by_token ? choose_by_token(ids, routed) : choose_for_batch(); };
  decide();
  _wanted = _chosen;
  for (ExpertBits& b : _bits) b.resident = resident_planes(group, b.expert);
  decide();
  if (group.planes.empty()) group.planes.assign(group.experts(), 1);
  for (size_t i = 0; i < routed.size(); ++i) group.planes[routed[i].expert] = _chosen[i];
  touch(group, routed);
  choose_upgrade(group);
}

void Engine::choose_upgrade(const ExpertGroup& group) {
  double most = 0;
  _upgrade = {};
  _upgrade_group = group.members.front()->group;
  for (size_t i = 0; i < _bits.size(); ++i) {
    const ExpertBits& b = _bits[i];
    if (_chosen[i] >= b.planes) continue;
    const double gain = b.hotness * (static_cast<double>(b.errors[_chosen[i] - 1]) - b.errors[_chosen[i]]);
    const double value = gain / static_cast<double>(group.plane_bytes[_chosen[i]] + 1);
    if (value <= most) continue;
    most = value;
    _upgrade = {b.expert, _chosen[i]};
  }
}

void Engine::touch(const ExpertGroup& group, const std::vector<RoutedExpert>& routed) {
  double sum = 0;
  for (const ExpertBits& b : _bits) sum += b.hotness;
  std::vector<PlaneUse> uses;
  for (size_t i = 0; i < routed.size(); ++i) {
    const ExpertBits& b = _bits[i];
    for (uint32_t level = 0; level < group.levels; ++level) {
      const double enough = _priced ? _price * static_cast<double>(group.plane_bytes[level] + 1) : strictest_target() * sum;
      const double weight = keeping_weight(b, level, _wanted[i], static_cast<double>(routed[i].rows.size()), enough);
      for (const StoredTensor* member : group.members) {
        if (member->live && level < member->levels) uses.push_back({member->plane(b.expert, level), static_cast<float>(weight)});
      }
    }
  }
  _cache->touch(uses, _tokens);
}

bool Engine::enter(const StoredTensor& tensor, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed) {
  ExpertGroup& group = _groups[tensor.group];
  const bool first = group.executed.empty();
  const bool again = std::find(group.executed.begin(), group.executed.end(), &tensor) != group.executed.end();
  if (again) group.executed.clear();
  group.executed.push_back(&tensor);
  if (!first && !again) return false;
  if (tensor.group == 0) time_step(ids->ne[1]);
  if (chooses()) choose(group, ids, input, routed);
  if (_observer && _observer->wants(tensor.group)) observe_weights(tensor.group, ids, input, routed);
  RoutingEvent event{tensor.group, static_cast<uint32_t>(ids->ne[1]), {}, {}, {}};
  if (_tracing) event.hotness = lookahead().hotness(tensor.group, ids, input, routed);
  uint64_t hits = 0, rows = 0, bytes = 0;
  for (const RoutedExpert& expert : routed) {
    event.experts.push_back(expert.expert);
    event.rows.push_back(static_cast<uint32_t>(expert.rows.size()));
    hits += std::all_of(group.members.begin(), group.members.end(),
                        [&](const StoredTensor* member) { return !member->live || resident(*member, expert.expert); });
    const uint32_t planes = group.planes.empty() ? group.levels : std::min<uint32_t>(group.levels, group.planes[expert.expert]);
    rows += expert.rows.size();
    for (uint32_t level = 0; level < planes; ++level) bytes += expert.rows.size() * group.plane_bytes[level];
  }
  std::lock_guard lock(_stats_mutex);
  _hits += hits;
  _misses += event.experts.size() - hits;
  _used_bits += 8 * bytes;
  _used_weights += rows * group.weights;
  if (tensor.group == 0) _tokens += event.tokens;
  if (_tracing) _trace.push_back(std::move(event));
  return true;
}

void Engine::observe_weights(uint32_t group, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed) {
  if (routed.empty()) return;
  lookahead().hotness(group, ids, input, routed);
  for (const RoutedExpert& expert : routed) {
    for (const RoutedRow& row : expert.rows) {
      _observer->add_weight(group, expert.expert, _lookahead->squares()[static_cast<size_t>(row.token * ids->ne[0] + row.slot)]);
    }
  }
}

void Engine::time_step(int64_t tokens) {
  const auto now = std::chrono::steady_clock::now();
  if (_step_timed) {
    const double seconds = std::chrono::duration<double>(now - _step_began).count();
    if (!_ahead_pays.trying()) _upgrades_pay.record(seconds);
    _ahead_pays.record(seconds);
  }
  _step_began = now;
  _step_timed = tokens <= kMostTokensAhead && (chooses() || !_cache->holds_all());
}

void Engine::plan_rest(const ExpertGroup& group, const std::vector<RoutedExpert>& routed) {
  for (const RoutedExpert& expert : routed) {
    for (const StoredTensor* member : group.members) {
      if (!member->live || std::find(group.executed.begin(), group.executed.end(), member) != group.executed.end()) continue;
      for (uint32_t level = 0; level < member->levels_of(expert.expert); ++level) _planes_ahead.push_back(member->plane(expert.expert, level));
    }
  }
}

void Engine::plan_next(uint32_t next, const std::vector<PredictedExpert>& predicted) {
  const ExpertGroup& group = _groups[next];
  const auto add = [&](uint32_t expert, uint32_t level) {
    for (const StoredTensor* member : group.members) {
      if (member->live && level < member->levels) _planes_ahead.push_back(member->plane(expert, level));
    }
  };
  if (!chooses()) {
    for (const PredictedExpert& p : predicted) {
      for (uint32_t level = 0; level < group.levels; ++level) add(p.expert, level);
    }
    return;
  }
  _bits.clear();
  for (const PredictedExpert& p : predicted) _bits.push_back(bits(group, p.expert, p.hotness, resident_planes(group, p.expert)));
  // What the next layer's head will say of its input is not known yet, but base planes are needed in any case.
  _priced ? choose_worth(_bits, std::numeric_limits<double>::infinity(), &_chosen, &_reads) : choose_for_batch();
  for (const PlaneRead& read : _reads) add(_bits[read.index].expert, read.plane);
}

void Engine::read_ahead(uint32_t group, const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed) {
  if (!_settings.read_ahead || (_cache->holds_all() && !chooses())) return;
  _planes_ahead.clear();
  plan_rest(_groups[group], routed);
  const bool few = ids->ne[1] <= kMostTokensAhead;
  if (few && (!_settings.try_ahead || _ahead_pays.on())) {
    const std::vector<PredictedExpert>& predicted = lookahead().look(group, ids, routed);
    if (!predicted.empty()) plan_next(lookahead().next(group), predicted);
  }
  if (!_planes_ahead.empty()) _cache->prefetch(_planes_ahead);
  const bool pays = !_settings.try_ahead || (!_ahead_pays.trying() && _upgrades_pay.on());
  const bool upgrades = few && chooses() && pays;
  if (!upgrades || _upgrade.plane == 0 || _upgrade_group != group) return;
  _planes_ahead.clear();
  for (const StoredTensor* member : _groups[group].members) {
    if (member->live && _upgrade.plane < member->levels) _planes_ahead.push_back(member->plane(_upgrade.index, _upgrade.plane));
  }
  _cache->upgrade(_planes_ahead);
}

}  // namespace edgemoe
