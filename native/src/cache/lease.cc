// PlaneCache's leases: what one operation holds, waits for and gives up.
#include <algorithm>
#include <chrono>

#include "edgemoe/cache/plane_cache.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

// A wait spins this long before it sleeps: an NVMe read ends within it, a context switch costs more.
constexpr auto kSpin = std::chrono::microseconds(30);

}  // namespace

void PlaneCache::check_uses(const std::vector<PlaneUse>& uses) {
  std::vector<uint32_t> planes;
  for (const PlaneUse& use : uses) {
    if (_arena.classes()[_arena.class_of(use.plane)].slots == 0) throw Error("the plane cache has no memory yet: resize it first");
    planes.push_back(use.plane);
  }
  std::sort(planes.begin(), planes.end());
  if (std::adjacent_find(planes.begin(), planes.end()) != planes.end()) throw Error("an operation may use a plane only once");
}

void PlaneCache::open_lease(std::vector<PlaneUse> uses, double now) {
  {
    std::lock_guard lock(_mutex);
    if (_uses) throw Error("the plane cache serves one operation at a time");
    check_uses(uses);
  }
  std::vector<Read> reads = claim_prefetched(uses);
  {
    std::lock_guard lock(_mutex);
    _error.clear();
    _use_count = uses.size();
    _next_use = 0;
    _uses.reset(new Use[uses.size()]);
    std::vector<uint32_t> room;
    for (const auto& c : _arena.classes()) room.push_back(c.slots - std::min(c.slots, kStreamingSlots));
    for (size_t i = 0; i < uses.size(); ++i) {
      const uint32_t plane = uses[i].plane;
      _uses[i].want = uses[i];
      if (uses[i].weight > 0) count_use(plane, uses[i].weight, now);
      uint32_t& left = room[_arena.class_of(plane)];
      if (_states[plane].phase == Phase::kResident && left > 0) {
        --left;
        pin(plane);
        _states[plane].use = static_cast<uint32_t>(i);
        _uses[i].issued = true;
        _uses[i].data.store(data(plane), std::memory_order_release);
      }
    }
    pump(&reads);
  }
  _pool.submit(reads, true);
}

void PlaneCache::close_lease() {
  const std::vector<Read> dropped = _pool.drop_queued(this, true);
  std::unique_lock lock(_mutex);
  _next_use = _use_count;  // an aborted lease asks for nothing more
  give_up(dropped);
  _changed.wait(lock, [this] {
    return std::none_of(_uses.get(), _uses.get() + _use_count,
                        [this](const Use& use) { return use.issued && _states[use.want.plane].phase == Phase::kLoading; });
  });
  for (size_t i = 0; i < _use_count; ++i) {
    if (!_uses[i].issued || _uses[i].released) continue;
    _states[_uses[i].want.plane].use = UINT32_MAX;
    unpin(_uses[i].want.plane);
  }
  _uses.reset();
  _use_count = 0;
}

void PlaneCache::pump(std::vector<Read>* reads) {
  for (; _next_use < _use_count; ++_next_use) {
    Use& use = _uses[_next_use];
    if (use.issued) continue;
    const uint32_t plane = use.want.plane;
    State& state = _states[plane];
    if (state.phase == Phase::kLoading && state.failed) return;  // its last read has to end first
    if (state.phase == Phase::kAbsent) {
      if (!take_slot(plane)) return;
      issue_reads(plane, reads);
    }
    pin(plane);
    use.issued = true;
    state.use = static_cast<uint32_t>(_next_use);
    if (state.phase == Phase::kResident) use.data.store(data(plane), std::memory_order_release);
  }
}

const uint8_t* PlaneCache::wait_slow(size_t index, const std::function<bool()>& abort) {
  const auto started = std::chrono::steady_clock::now();
  const auto& ready = _uses[index].data;
  while (std::chrono::steady_clock::now() - started < kSpin) {
    if (const uint8_t* bytes = ready.load(std::memory_order_acquire)) return bytes;
  }
  std::unique_lock lock(_mutex);
  if (_waiters++ == 0) _wait_started = started;
  const uint8_t* bytes = nullptr;
  bool aborted = false;
  while (!(bytes = ready.load(std::memory_order_relaxed)) && _error.empty()) {
    _changed.wait_for(lock, std::chrono::milliseconds(5));
    lock.unlock();  // the caller's function may need what a thread that waits for this lock holds
    aborted = abort();
    lock.lock();
    if (aborted) break;
  }
  if (--_waiters == 0) _wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - _wait_started).count();
  if (bytes) return bytes;
  if (aborted) throw Aborted{};
  throw IoError(_error);
}

PlaneCache::Lease::Lease(PlaneCache& cache, std::vector<PlaneUse> uses, double now, std::function<bool()> abort)
    : _cache(cache), _abort(std::move(abort)) {
  cache.open_lease(std::move(uses), now);
}

PlaneCache::Lease::~Lease() { _cache.close_lease(); }

const uint8_t* PlaneCache::Lease::wait(size_t index) {
  if (const uint8_t* bytes = _cache._uses[index].data.load(std::memory_order_acquire)) return bytes;
  return _cache.wait_slow(index, _abort);
}

void PlaneCache::Lease::release(size_t index) {
  std::vector<Read> reads;
  {
    std::lock_guard lock(_cache._mutex);
    Use& use = _cache._uses[index];
    if (!use.issued || use.released) return;
    use.released = true;
    use.data.store(nullptr, std::memory_order_relaxed);
    _cache._states[use.want.plane].use = UINT32_MAX;
    _cache.unpin(use.want.plane);
    if (_cache._error.empty()) _cache.pump(&reads);
  }
  _cache._pool.submit(reads, true);
}

}  // namespace edgemoe
