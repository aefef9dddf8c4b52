/// @file replay.h
/// Recorded routing against caches that are not there: what a policy would have read.
#pragma once

#include <cstdint>
#include <vector>

#include "edgemoe/schedule/residency.h"

namespace edgemoe {

struct ReplayResult {
  uint64_t hits = 0;
  uint64_t misses = 0;
};

/// @brief Replays recorded routing against a cache of `capacity` experts.
/// @param experts_per_group experts of each group; @param warmup events that fill the cache but are not counted.
ReplayResult replay(const std::vector<RoutingEvent>& events, const std::vector<uint32_t>& experts_per_group,
                    size_t capacity, Ranking ranking, double half_life, size_t warmup);

/// @brief The experts of one group of a pack. `errors` has as many entries for each expert as there are planes.
struct PlaneGroup {
  std::vector<uint64_t> bytes;  ///< of each plane, all matrices together
  std::vector<float> errors;    ///< relative squared error of each expert with its first 1, 2, ... planes

  uint32_t planes() const { return static_cast<uint32_t>(bytes.size()); }
  uint32_t experts() const { return static_cast<uint32_t>(errors.size() / bytes.size()); }
};

/// @brief Sums over the counted events; `error` over those that used experts, of which there are `events`.
struct PlaneReplayResult {
  uint64_t bytes_read = 0;
  uint64_t bytes_used = 0;  ///< each plane once for each row that uses it
  uint64_t bytes_whole = 0;  ///< what the same rows would use with all planes
  uint64_t events = 0;
  double error = 0;  ///< expected relative squared error of a layer
};

/// @brief Replays routing against a cache of `capacity` bytes of planes, which are chosen, counted and evicted as an engine with
/// this target does it; without reading ahead, and as if planes of any sizes could take each other's place.
/// @param target the error up to which planes are waited for; 0: all planes, always.
/// @throws std::invalid_argument for events that the groups do not have.
PlaneReplayResult replay_planes(const std::vector<RoutingEvent>& events, const std::vector<PlaneGroup>& groups, uint64_t capacity,
                                double target, double half_life, size_t warmup);

}  // namespace edgemoe
