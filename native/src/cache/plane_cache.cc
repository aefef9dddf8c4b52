#include "edgemoe/cache/plane_cache.h"

#include <algorithm>
#include <cstring>

#include "edgemoe/error.h"

namespace edgemoe {
namespace {

uint64_t slot_bytes(const Plane& plane) { return align_up(in_block(plane.offset) + plane.length, kBlock); }

std::vector<uint64_t> all_slot_bytes(const std::vector<Plane>& planes) {
  std::vector<uint64_t> sizes;
  sizes.reserve(planes.size());
  for (const Plane& plane : planes) sizes.push_back(slot_bytes(plane));
  return sizes;
}

}  // namespace

PlaneCache::PlaneCache(const std::vector<File>& files, std::vector<Plane> planes, ReadPool& pool, const CacheSettings& settings)
    : _files(files),
      _planes(std::move(planes)),
      _pool(pool),
      _settings(settings),
      _arena(all_slot_bytes(_planes)),
      _states(_planes.size()),
      _popularity(_planes.size(), settings.ranking, settings.half_life) {
  if (settings.piece == 0 || settings.piece % kBlock != 0) {
    throw Error("reads of " + std::to_string(settings.piece) + " bytes are not a multiple of " + std::to_string(kBlock));
  }
  for (const Plane& plane : _planes) {
    if (plane.length == 0) throw ModelError("a plane at byte " + std::to_string(plane.offset) + " is empty");
  }
  for (size_t c = 0; c < _arena.classes().size(); ++c) _evictable.emplace_back(_planes.size());
  _prefetching.resize(_arena.classes().size());
  for (const auto& c : _arena.classes()) _owner.emplace_back(c.planes, 0);
}

PlaneCache::~PlaneCache() { settle(); }

void PlaneCache::settle() {
  std::vector<Read> dropped = _pool.drop_queued(this, true);
  const std::vector<Read> later = _pool.drop_queued(this, false);
  dropped.insert(dropped.end(), later.begin(), later.end());
  std::unique_lock lock(_mutex);
  give_up(dropped);
  _changed.wait(lock, [this] { return _in_flight == 0; });  // reads that have started write into slots
}

void PlaneCache::give_up(const std::vector<Read>& dropped) {
  for (const Read& read : dropped) {
    State& state = _states[read.tag];
    state.failed = true;
    --_in_flight;
    if (--state.pieces == 0) finish(read.tag);
  }
}

size_t PlaneCache::require(const std::vector<uint32_t>& working_set) {
  std::lock_guard lock(_mutex);
  std::vector<uint32_t> count(_arena.classes().size(), kStreamingSlots);
  for (const uint32_t plane : working_set) ++count[_arena.class_of(plane)];
  for (size_t c = 0; c < count.size(); ++c) {
    uint32_t& minimum = _arena.classes()[c].minimum;
    minimum = std::max(minimum, count[c]);
  }
  return _arena.minimum_bytes();
}

size_t PlaneCache::total_bytes() const { return _arena.total_bytes(); }

void PlaneCache::resize(size_t bytes) {
  settle();
  std::lock_guard lock(_mutex);
  if (_uses) throw Error("the plane cache cannot be resized while an operation uses it");
  if (bytes < _arena.minimum_bytes()) {
    throw BudgetError("a plane cache of " + std::to_string(bytes) + " bytes cannot hold one layer's working set of " +
                      std::to_string(_arena.minimum_bytes()) + " bytes");
  }
  const std::vector<uint32_t> wanted = _arena.divide(bytes);
  for (uint32_t c = 0; c < wanted.size(); ++c) {
    auto& size_class = _arena.classes()[c];
    if (wanted[c] < size_class.slots) {
      const uint32_t freed = size_class.slots - wanted[c];
      while (size_class.free.size() < freed && !_evictable[c].empty()) evict(_evictable[c].lowest());
      move_out_of(c, wanted[c]);
      _arena.shrink(c, wanted[c]);
    }
  }
  for (uint32_t c = 0; c < wanted.size(); ++c) _arena.grow(c, wanted[c]);
  _bytes = bytes;
}

void PlaneCache::move_out_of(uint32_t size_class, uint32_t from_slot) {
  auto& free = _arena.classes()[size_class].free;
  std::sort(free.begin(), free.end(), std::greater<>());  // the lowest slots are taken first
  for (uint32_t p = 0; p < _planes.size(); ++p) {
    State& state = _states[p];
    if (state.slot < static_cast<int32_t>(from_slot) || _arena.class_of(p) != size_class) continue;
    const uint32_t to = free.back();
    free.pop_back();
    std::memcpy(_arena.slot(size_class, to), _arena.slot(size_class, state.slot), slot_bytes(_planes[p]));
    free.insert(free.begin(), static_cast<uint32_t>(state.slot));
    state.slot = static_cast<int32_t>(to);
    _owner[size_class][to] = p;
  }
}

CacheStats PlaneCache::stats() const {
  std::lock_guard lock(_mutex);
  return {_bytes_read, _wait_seconds, _resident_bytes, _arena.capacity_bytes()};
}

const uint8_t* PlaneCache::data(uint32_t plane) const {
  return _arena.slot(_arena.class_of(plane), _states[plane].slot) + in_block(_planes[plane].offset);
}

void PlaneCache::pin(uint32_t plane) {
  State& state = _states[plane];
  if (state.pins++ == 0 && state.phase == Phase::kResident) _evictable[_arena.class_of(plane)].remove(plane);
}

void PlaneCache::unpin(uint32_t plane) {
  State& state = _states[plane];
  if (--state.pins == 0 && state.phase == Phase::kResident) {
    _evictable[_arena.class_of(plane)].push(plane, _popularity.key(plane));
  }
}

void PlaneCache::evict(uint32_t plane) {
  const uint32_t c = _arena.class_of(plane);
  _evictable[c].remove(plane);
  _arena.classes()[c].free.push_back(static_cast<uint32_t>(_states[plane].slot));
  _states[plane].slot = -1;
  _states[plane].phase = Phase::kAbsent;
  _resident_bytes -= slot_bytes(_planes[plane]);
}

bool PlaneCache::take_slot(uint32_t plane) {
  const uint32_t c = _arena.class_of(plane);
  auto& free = _arena.classes()[c].free;
  if (free.empty() && !evict_one(c)) return false;
  _owner[c][free.back()] = plane;
  _states[plane].slot = static_cast<int32_t>(free.back());
  free.pop_back();
  return true;
}

void PlaneCache::issue_reads(uint32_t plane, std::vector<Read>* reads) {
  const Plane& where = _planes[plane];
  State& state = _states[plane];
  state.phase = Phase::kLoading;
  state.failed = false;
  const uint64_t start = align_down(where.offset, kBlock);
  const uint64_t end = where.offset + where.length;
  uint8_t* slot = _arena.slot(_arena.class_of(plane), state.slot);
  for (uint64_t at = start; at < end; at += _settings.piece) {
    const uint64_t stop = std::min(at + _settings.piece, end);
    reads->push_back({&_files[where.file], at, align_up(stop, kBlock) - at, stop - at, slot + (at - start), this, plane});
    ++state.pieces;
    ++_in_flight;
  }
}

void PlaneCache::on_read(const Read& read, const std::string& error) {
  std::vector<Read> reads;
  std::unique_lock lock(_mutex);
  State& state = _states[read.tag];
  if (error.empty()) {
    _bytes_read += read.needed;
  } else {
    state.failed = true;
    // A prefetch that fails costs nothing: whoever needs the plane reads it again and meets the error.
    if (state.use != UINT32_MAX && _error.empty()) _error = error;
  }
  const bool ended = --state.pieces == 0;
  if (ended) {
    finish(read.tag);
    if (_error.empty()) pump(&reads);  // a use may have waited for this slot
  }
  if (!reads.empty()) {
    // This read stays counted until they are handed over: until then the cache must not be destroyed.
    lock.unlock();
    _pool.submit(reads, true);
    lock.lock();
  }
  --_in_flight;
  // Under the lock: the cache may be destroyed as soon as its destructor sees no read in flight.
  if (ended || !error.empty() || _in_flight == 0) _changed.notify_all();
}

void PlaneCache::finish(uint32_t plane) {
  State& state = _states[plane];
  if (state.prefetched) --_prefetching[_arena.class_of(plane)];
  state.prefetched = false;
  if (state.failed) {
    const uint32_t c = _arena.class_of(plane);
    _arena.classes()[c].free.push_back(static_cast<uint32_t>(state.slot));
    state.slot = -1;
    state.phase = Phase::kAbsent;
    return;
  }
  state.phase = Phase::kResident;
  _resident_bytes += slot_bytes(_planes[plane]);
  if (state.pins == 0) {
    _evictable[_arena.class_of(plane)].push(plane, _popularity.key(plane));
  } else if (state.use != UINT32_MAX) {
    _uses[state.use].data.store(data(plane), std::memory_order_release);
  }
}

}  // namespace edgemoe
