#include "edgemoe/schedule/replay.h"

#include <algorithm>
#include <stdexcept>

#include "edgemoe/schedule/bits.h"

namespace edgemoe {
namespace {

class PlaneReplay {
 public:
  PlaneReplay(const std::vector<PlaneGroup>& groups, uint64_t capacity, double target, double half_life)
      : _groups(groups),
        _capacity(capacity),
        _target(target),
        _first(first_planes(groups)),
        _popularity(_first.back(), Ranking::kDecayed, half_life),
        _resident(_first.back()),
        _bytes(_first.back()) {
    for (size_t g = 0; g < groups.size(); ++g) {
      for (size_t i = 0; i < _first[g + 1] - _first[g]; ++i) _bytes[_first[g] + i] = groups[g].bytes[i % groups[g].planes()];
    }
  }

  void step(const RoutingEvent& event, double now, PlaneReplayResult* result) {
    check(event);
    const PlaneGroup& group = _groups[event.group];
    std::vector<ExpertBits> experts;
    for (size_t i = 0; i < event.experts.size(); ++i) {
      const float* errors = group.errors.data() + size_t{event.experts[i]} * group.planes();
      experts.push_back({event.experts[i], event.hotness[i], errors, group.bytes.data(), group.planes(), 0});
    }
    choose_planes(experts, _target, &_wanted, &_reads);
    for (ExpertBits& e : experts) e.resident = resident_planes(event.group, e.expert);
    choose_planes(experts, _target, &_chosen, &_reads);
    touch(event, experts, now);
    read(event.group, experts, result);
    count(event, experts, result);
  }

 private:
  static std::vector<uint32_t> first_planes(const std::vector<PlaneGroup>& groups) {
    std::vector<uint32_t> first{0};
    for (const PlaneGroup& group : groups) {
      if (group.bytes.empty() || group.errors.size() % group.bytes.size() != 0) throw std::invalid_argument("a group needs planes and their errors");
      first.push_back(first.back() + static_cast<uint32_t>(group.errors.size()));
    }
    return first;
  }

  void check(const RoutingEvent& event) const {
    if (event.group >= _groups.size()) throw std::invalid_argument("an event is of a group that is not there");
    const uint32_t experts = _groups[event.group].experts();
    const bool known = std::all_of(event.experts.begin(), event.experts.end(), [&](uint32_t e) { return e < experts; });
    if (!known) throw std::invalid_argument("an event uses an expert that is not there");
    if (event.hotness.size() != event.experts.size() || event.rows.size() != event.experts.size()) {
      throw std::invalid_argument("an event needs rows and hotness of each expert");
    }
  }

  uint32_t plane(uint32_t group, uint32_t expert, uint32_t level) const { return _first[group] + expert * _groups[group].planes() + level; }

  uint32_t resident_planes(uint32_t group, uint32_t expert) const {
    uint32_t level = 0;
    while (level < _groups[group].planes() && _resident.contains(plane(group, expert, level))) ++level;
    return level;
  }

  void touch(const RoutingEvent& event, const std::vector<ExpertBits>& experts, double now) {
    double sum = 0;
    for (const ExpertBits& e : experts) sum += e.hotness;
    const auto rank = [this](uint32_t p) { _resident.update(p, _popularity.key(p)); };
    for (size_t i = 0; i < experts.size(); ++i) {
      for (uint32_t level = 0; level < experts[i].planes; ++level) {
        const uint32_t p = plane(event.group, experts[i].expert, level);
        _popularity.touch(p, keeping_weight(experts[i], level, _wanted[i], event.rows[i], _target * sum), now, rank);
        rank(p);
      }
    }
  }

  // What is used stays in memory until the layer is done, and is there even where the cache is smaller.
  void read(uint32_t group, const std::vector<ExpertBits>& experts, PlaneReplayResult* result) {
    std::vector<uint32_t> used;
    for (size_t i = 0; i < experts.size(); ++i) {
      for (uint32_t level = 0; level < _chosen[i]; ++level) used.push_back(plane(group, experts[i].expert, level));
    }
    for (const uint32_t p : used) {
      if (_resident.contains(p)) {
        _resident.remove(p);
      } else {
        result->bytes_read += _bytes[p];
        _held += _bytes[p];
      }
    }
    while (_held > _capacity && !_resident.empty()) {
      _held -= _bytes[_resident.lowest()];
      _resident.remove(_resident.lowest());
    }
    for (const uint32_t p : used) _resident.push(p, _popularity.key(p));
    while (_held > _capacity) {
      _held -= _bytes[_resident.lowest()];
      _resident.remove(_resident.lowest());
    }
  }

  void count(const RoutingEvent& event, const std::vector<ExpertBits>& experts, PlaneReplayResult* result) const {
    double error = 0, sum = 0;
    for (size_t i = 0; i < experts.size(); ++i) {
      error += experts[i].hotness * experts[i].errors[_chosen[i] - 1];
      sum += experts[i].hotness;
      for (uint32_t level = 0; level < experts[i].planes; ++level) {
        const uint64_t bytes = event.rows[i] * experts[i].bytes[level];
        result->bytes_whole += bytes;
        if (level < _chosen[i]) result->bytes_used += bytes;
      }
    }
    if (sum > 0) {
      result->error += error / sum;
      ++result->events;
    }
  }

  const std::vector<PlaneGroup>& _groups;
  uint64_t _capacity;
  double _target;
  std::vector<uint32_t> _first;  // plane of each group, and the number of all
  Popularity _popularity;
  EvictionHeap _resident;
  std::vector<uint64_t> _bytes;
  uint64_t _held = 0;
  std::vector<uint8_t> _wanted, _chosen;
  std::vector<PlaneRead> _reads;
};

}  // namespace

ReplayResult replay(const std::vector<RoutingEvent>& events, const std::vector<uint32_t>& experts_per_group,
                    size_t capacity, Ranking ranking, double half_life, size_t warmup) {
  std::vector<uint32_t> first(experts_per_group.size() + 1, 0);
  for (size_t g = 0; g < experts_per_group.size(); ++g) first[g + 1] = first[g] + experts_per_group[g];
  Popularity popularity(first.back(), ranking, half_life);
  EvictionHeap resident(first.back());
  const auto rank = [&](uint32_t plane) { resident.update(plane, popularity.key(plane)); };
  ReplayResult result;
  double tokens = 0;
  uint64_t order = 0;
  for (size_t i = 0; i < events.size(); ++i) {
    const RoutingEvent& event = events[i];
    if (event.group == 0) tokens += event.tokens;
    const bool counted = i >= warmup;
    for (size_t k = 0; k < event.experts.size(); ++k) {
      const uint32_t plane = first[event.group] + event.experts[k];
      const bool hit = resident.contains(plane);
      if (counted) ++(hit ? result.hits : result.misses);
      popularity.touch(plane, event.rows[k], ranking == Ranking::kRecency ? static_cast<double>(++order) : tokens, rank);
      if (hit) {
        rank(plane);
      } else if (capacity > 0) {
        if (resident.size() == capacity) resident.remove(resident.lowest());
        resident.push(plane, popularity.key(plane));
      }
    }
  }
  return result;
}

PlaneReplayResult replay_planes(const std::vector<RoutingEvent>& events, const std::vector<PlaneGroup>& groups, uint64_t capacity,
                                double target, double half_life, size_t warmup) {
  PlaneReplay cache(groups, capacity, target, half_life);
  PlaneReplayResult result;
  double tokens = 0;
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].group == 0) tokens += events[i].tokens;
    PlaneReplayResult uncounted;
    cache.step(events[i], tokens, i < warmup ? &uncounted : &result);
  }
  return result;
}

}  // namespace edgemoe
