// PlaneCache's reads ahead of demand.
#include <algorithm>
#include <unordered_set>

#include "edgemoe/cache/plane_cache.h"

namespace edgemoe {

void PlaneCache::prefetch(const std::vector<uint32_t>& planes) {
  std::vector<Read> reads;
  {
    std::lock_guard lock(_mutex);
    if (_next_use < _use_count || !_error.empty()) return;
    // What is wanted and already here must not make room for the rest.
    for (const uint32_t plane : planes) {
      if (_states[plane].phase == Phase::kResident) pin(plane);
    }
    for (const uint32_t plane : planes) prefetch_one(plane, &reads);
    for (const uint32_t plane : planes) {
      if (_states[plane].phase == Phase::kResident) unpin(plane);
    }
  }
  _pool.submit(reads, false);
}

void PlaneCache::upgrade(const std::vector<uint32_t>& planes) {
  std::vector<Read> reads;
  {
    std::lock_guard lock(_mutex);
    if (_in_flight > 0 || _next_use < _use_count || !_error.empty()) return;
    for (const uint32_t plane : planes) {
      const uint32_t c = _arena.class_of(plane);
      if (_arena.classes()[c].free.empty() && lowest_key(c) >= _popularity.key(plane)) continue;
      prefetch_one(plane, &reads);
    }
  }
  _pool.submit(reads, false);
}

void PlaneCache::prefetch_one(uint32_t plane, std::vector<Read>* reads) {
  const uint32_t c = _arena.class_of(plane);
  const auto& size_class = _arena.classes()[c];
  if (_states[plane].phase != Phase::kAbsent || _prefetching[c] + size_class.minimum >= size_class.slots) return;
  if (!take_slot(plane)) return;
  issue_reads(plane, reads);
  _states[plane].prefetched = true;
  ++_prefetching[c];
}

std::vector<Read> PlaneCache::claim_prefetched(const std::vector<PlaneUse>& uses) {
  {
    std::lock_guard lock(_mutex);
    if (std::all_of(_prefetching.begin(), _prefetching.end(), [](uint32_t planes) { return planes == 0; })) return {};
  }
  const std::vector<Read> queued = _pool.drop_queued(this, false);
  std::unordered_set<uint32_t> wanted;
  for (const PlaneUse& use : uses) wanted.insert(use.plane);
  std::vector<Read> claimed;
  std::vector<Read> unwanted;
  for (const Read& read : queued) (wanted.count(read.tag) ? claimed : unwanted).push_back(read);
  std::lock_guard lock(_mutex);
  give_up(unwanted);
  return claimed;
}

}  // namespace edgemoe
