/// @file plane_cache.h
/// The planes of experts that are in memory, within a fixed number of bytes, and the reads that bring in others.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "edgemoe/cache/slot_arena.h"
#include "edgemoe/schedule/residency.h"
#include "edgemoe/store/file.h"
#include "edgemoe/store/read_pool.h"

namespace edgemoe {

/// @brief Thrown out of Lease::wait when the caller's abort function returned true.
struct Aborted {};

/// @brief Where one plane lies on disk.
struct Plane {
  uint32_t file = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
};

/// @brief One plane that an operation is about to consume.
struct PlaneUse {
  uint32_t plane = 0;
  float weight = 1;  ///< of this use for keeping the plane, such as the rows it serves; 0: it has been counted by touch()
};

struct CacheSettings {
  size_t piece = 256 * 1024;  ///< bytes of one read; larger planes are split so that several threads fetch them
  Ranking ranking = Ranking::kDecayed;
  double half_life = 256;  ///< tokens
};

struct CacheStats {
  uint64_t bytes_read = 0;
  double wait_seconds = 0;  ///< during which at least one thread waited for a plane
  uint64_t resident_bytes = 0;
  uint64_t capacity_bytes = 0;
};

/// @brief A cache of planes. One lease is open at a time; its waits and releases may come from several threads.
class PlaneCache final : private ReadSink {
 public:
  PlaneCache(const std::vector<File>& files, std::vector<Plane> planes, ReadPool& pool, const CacheSettings& settings);
  ~PlaneCache() override;

  /// @brief Slots of each size class that must exist: `working_set` planes are what one operation consumes.
  /// @returns the bytes that these minimums need.
  size_t require(const std::vector<uint32_t>& working_set);

  /// @brief Shrinks or grows the cache to at most `bytes`; planes of the lowest value go first. Not while a lease is open.
  /// @throws BudgetError when `bytes` is below what require() returned.
  void resize(size_t bytes);

  /// @brief Reads planes that the next operation will probably use, behind all reads that are waited for, in place of the least
  /// valuable ones. Nothing happens while the open lease still waits for slots, nor beyond what leaves each size class its
  /// minimum. What has not been read when the next lease begins is read at once if that lease wants it, or given up.
  void prefetch(const std::vector<uint32_t>& planes);

  /// @brief Reads planes that make a result better where nothing else is being read, and only in place of planes that are worth less.
  void upgrade(const std::vector<uint32_t>& planes);

  /// @brief Counts uses for keeping planes without consuming them, such as those of planes that a batch could have used.
  void touch(const std::vector<PlaneUse>& uses, double now);

  bool resident(uint32_t plane) const { return _states[plane].phase == Phase::kResident; }
  size_t total_bytes() const;  ///< to hold every plane
  /// @brief Whether there are slots for every plane. Without a lock: not while another thread resizes the cache.
  bool holds_all() const { return _arena.capacity_bytes() >= _arena.total_bytes(); }
  CacheStats stats() const;

  /// @brief An operation's hold over the planes that it consumes, in order.
  class Lease {
   public:
    /// @param uses each plane at most once. @param now tokens processed so far, the clock of the popularity.
    Lease(PlaneCache& cache, std::vector<PlaneUse> uses, double now, std::function<bool()> abort);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    /// @brief Blocks until use `index` is in memory. @returns its first byte, valid until release(index).
    /// @throws IoError when a read failed, Aborted when the abort function says so.
    const uint8_t* wait(size_t index);
    /// @brief Ends use `index`; its slot may now serve later uses.
    void release(size_t index);

   private:
    PlaneCache& _cache;
    std::function<bool()> _abort;
  };

 private:
  // Slots of a class that resident planes of an operation may not pin, so that missing ones can always stream through.
  static constexpr uint32_t kStreamingSlots = 4;

  enum class Phase : uint8_t { kAbsent, kLoading, kResident };
  struct State {
    std::atomic<Phase> phase{Phase::kAbsent};  // written under the lock
    bool failed = false;      // by an error, or given up: absent as soon as its last read has ended
    bool prefetched = false;  // being read though no lease has asked for it
    int32_t slot = -1;
    uint32_t pins = 0;
    uint32_t pieces = 0;  // reads still to end
    uint32_t use = UINT32_MAX;
  };
  struct Use {
    PlaneUse want;
    bool issued = false;
    bool released = false;
    std::atomic<const uint8_t*> data{nullptr};
  };

  void on_read(const Read& read, const std::string& error) override;
  void check_uses(const std::vector<PlaneUse>& uses);
  void open_lease(std::vector<PlaneUse> uses, double now);
  void close_lease();
  const uint8_t* wait_slow(size_t index, const std::function<bool()>& abort);
  void pin(uint32_t plane);
  void unpin(uint32_t plane);
  void finish(uint32_t plane);  // the last piece of a plane has ended
  void give_up(const std::vector<Read>& dropped);
  void settle();  // ends all reads; with none in flight, slots may be moved
  std::vector<Read> claim_prefetched(const std::vector<PlaneUse>& uses);
  bool take_slot(uint32_t plane);
  void prefetch_one(uint32_t plane, std::vector<Read>* reads);
  bool evict_one(uint32_t size_class);  // of this class, or slots of another one that are worth less
  bool take_from(uint32_t other, uint32_t size_class);
  bool drop_top(uint32_t size_class);
  double lowest_key(uint32_t size_class) const;
  void count_use(uint32_t plane, double weight, double now);
  void evict(uint32_t plane);
  void pump(std::vector<Read>* reads);  // issues as many further uses as there are slots for
  void issue_reads(uint32_t plane, std::vector<Read>* reads);
  const uint8_t* data(uint32_t plane) const;
  void move_out_of(uint32_t size_class, uint32_t from_slot);

  const std::vector<File>& _files;
  std::vector<Plane> _planes;
  ReadPool& _pool;
  CacheSettings _settings;
  SlotArena _arena;

  mutable std::mutex _mutex;
  std::condition_variable _changed;
  int _waiters = 0;
  std::vector<State> _states;
  Popularity _popularity;
  std::vector<EvictionHeap> _evictable;  // by size class: resident and not pinned
  std::vector<uint32_t> _prefetching;    // by size class: planes
  std::vector<std::vector<uint32_t>> _owner;  // by size class and slot: the plane in it
  size_t _bytes = 0;                          // that all slots may take
  std::string _error;
  std::unique_ptr<Use[]> _uses;
  size_t _use_count = 0;
  size_t _next_use = 0;
  uint64_t _in_flight = 0;  // reads handed to the pool that have not ended
  std::chrono::steady_clock::time_point _wait_started;
  double _wait_seconds = 0;
  double _touches = 0;  // the clock of Ranking::kRecency
  uint64_t _bytes_read = 0;
  uint64_t _resident_bytes = 0;
};

}  // namespace edgemoe
