#include "edgemoe/schedule/residency.h"

#include <cmath>
#include <limits>
#include <stdexcept>

namespace edgemoe {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

}  // namespace

Ranking ranking_from_name(const std::string& name) {
  if (name == "decayed") return Ranking::kDecayed;
  if (name == "lru") return Ranking::kRecency;
  if (name == "lfu") return Ranking::kFrequency;
  throw std::invalid_argument("unknown policy '" + name + "': use decayed, lru or lfu");
}

Popularity::Popularity(size_t planes, Ranking ranking, double half_life)
    : _ranking(ranking), _half_life(half_life), _keys(planes, kNever), _lasting(planes, kNever), _used(planes, 0) {
  if (!(half_life > 0)) throw std::invalid_argument("the half-life must be a positive number of tokens");
}

void Popularity::count(uint32_t plane, double weight, double now) {
  double& key = _keys[plane];
  key = _ranking == Ranking::kRecency ? now : std::isinf(key) ? weight : key + weight;
}

void Popularity::count_recent(uint32_t plane, double weight) {
  const double shift = _now / _half_life;
  const double value = std::exp2(_lasting[plane] - shift) + weight;
  _lasting[plane] = std::log2(value) + shift;
  _keys[plane] = std::log2(value + kRecentWeight * weight) + shift;
  _used[plane] = _batch;
  _recent.push_back({plane, _batch});
}

bool Popularity::forget_recent(const Recent& use) {
  if (_used[use.plane] != use.batch) return false;
  _keys[use.plane] = _lasting[use.plane];
  return true;
}

void EvictionHeap::place(size_t index, Entry entry) {
  _heap[index] = entry;
  _position[entry.plane] = static_cast<uint32_t>(index);
}

void EvictionHeap::sift_up(size_t index, Entry entry) {
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (_heap[parent].key <= entry.key) break;
    place(index, _heap[parent]);
    index = parent;
  }
  place(index, entry);
}

void EvictionHeap::sift_down(size_t index, Entry entry) {
  for (;;) {
    size_t child = 2 * index + 1;
    if (child >= _heap.size()) break;
    if (child + 1 < _heap.size() && _heap[child + 1].key < _heap[child].key) ++child;
    if (entry.key <= _heap[child].key) break;
    place(index, _heap[child]);
    index = child;
  }
  place(index, entry);
}

void EvictionHeap::push(uint32_t plane, double key) {
  _heap.push_back({});
  sift_up(_heap.size() - 1, {key, plane});
}

void EvictionHeap::remove(uint32_t plane) {
  const size_t index = _position[plane];
  _position[plane] = kAbsent;
  const Entry last = _heap.back();
  _heap.pop_back();
  if (last.plane == plane) return;
  if (index > 0 && last.key < _heap[(index - 1) / 2].key) {
    sift_up(index, last);
  } else {
    sift_down(index, last);
  }
}

void EvictionHeap::update(uint32_t plane, double key) {
  if (!contains(plane)) return;
  const size_t index = _position[plane];
  if (key < _heap[index].key) {
    sift_up(index, {key, plane});
  } else {
    sift_down(index, {key, plane});
  }
}

}  // namespace edgemoe
