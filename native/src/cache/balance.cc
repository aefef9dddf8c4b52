// PlaneCache's choice of what to evict: within a size class the plane that is worth least, and memory goes from one class to another
// where that one's least valuable planes are worth clearly less.
#include <cstring>
#include <limits>

#include "edgemoe/cache/plane_cache.h"

namespace edgemoe {
namespace {

// By so much (log2 of popularity) another class's planes must be worth less: moving slots costs a copy and fresh pages.
constexpr double kWorthMoving = 1;

}  // namespace

void PlaneCache::count_use(uint32_t plane, double weight, double now) {
  const auto rank = [this](uint32_t p) { _evictable[_arena.class_of(p)].update(p, _popularity.key(p)); };
  _popularity.touch(plane, weight, _settings.ranking == Ranking::kRecency ? ++_touches : now, rank);
  rank(plane);
}

void PlaneCache::touch(const std::vector<PlaneUse>& uses, double now) {
  std::lock_guard lock(_mutex);
  for (const PlaneUse& use : uses) count_use(use.plane, use.weight, now);
}

double PlaneCache::lowest_key(uint32_t size_class) const {
  const EvictionHeap& heap = _evictable[size_class];
  return heap.empty() ? std::numeric_limits<double>::infinity() : _popularity.key(heap.lowest());
}

bool PlaneCache::evict_one(uint32_t size_class) {
  if (_evictable[size_class].empty()) return false;  // an operation holds them all, and will give them back
  uint32_t other = size_class;
  for (uint32_t c = 0; c < _evictable.size(); ++c) {
    if (c != size_class && lowest_key(c) < lowest_key(other)) other = c;
  }
  const bool moves = lowest_key(size_class) - lowest_key(other) > kWorthMoving;
  if (!moves || !take_from(other, size_class)) evict(_evictable[size_class].lowest());
  return true;
}

bool PlaneCache::take_from(uint32_t other, uint32_t size_class) {
  auto& from = _arena.classes()[other];
  auto& to = _arena.classes()[size_class];
  if (to.slots >= to.planes) return false;
  while (_arena.capacity_bytes() + to.bytes > _bytes) {
    if (from.slots <= from.minimum || !drop_top(other)) return false;
  }
  _arena.grow(size_class, to.slots + 1);
  return true;
}

bool PlaneCache::drop_top(uint32_t size_class) {
  auto& c = _arena.classes()[size_class];
  const uint32_t top = c.slots - 1;
  const uint32_t owner = _owner[size_class][top];
  const bool used = _states[owner].slot == static_cast<int32_t>(top) && _arena.class_of(owner) == size_class;
  if (used && !_evictable[size_class].contains(owner)) return false;  // pinned, or still being read
  if (c.free.empty()) {
    if (_evictable[size_class].empty()) return false;
    evict(_evictable[size_class].lowest());
  }
  if (_states[owner].slot == static_cast<int32_t>(top) && used) {
    const uint32_t slot = c.free.back();
    c.free.pop_back();
    std::memcpy(_arena.slot(size_class, slot), _arena.slot(size_class, top), c.bytes);
    _states[owner].slot = static_cast<int32_t>(slot);
    _owner[size_class][slot] = owner;
    c.free.push_back(top);
  }
  _arena.shrink(size_class, top);
  return true;
}

}  // namespace edgemoe
