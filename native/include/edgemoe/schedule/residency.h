/// @file residency.h
/// What to keep and what to evict: pure policy, without I/O, threads or a clock of its own.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace edgemoe {

/// @brief How planes are ranked for eviction.
enum class Ranking {
  kDecayed,   ///< popularity with exponential decay (the default)
  kRecency,   ///< least recently used, for comparison
  kFrequency  ///< least frequently used, for comparison
};

/// @throws std::invalid_argument for a name other than "decayed", "lru", "lfu".
Ranking ranking_from_name(const std::string& name);

/// @brief Ranks planes by popularity: a plane's value at time t is the sum over its uses of w * 2^-((t - t_use) / H), and
/// a use counts 1 + kRecentWeight times until kRecentBatches more batches have begun.
///
/// The sum is of the LRFU family (Lee et al., IEEE Trans. Computers 50(12), 2001): H -> 0 is LRU and H -> infinity LFU.
/// All its values decay alike, so their order does not change between uses, and log2(value) + t / H is a key that needs
/// refreshing only when a use is no longer recent. Layers are visited in a cycle, so recency alone evicts each plane just
/// before its next use when a token's working set does not fit; a half-life of many tokens does not.
class Popularity {
 public:
  static constexpr double kRecentWeight = 8;
  static constexpr uint64_t kRecentBatches = 2;

  /// @param half_life H in tokens; only used by Ranking::kDecayed.
  Popularity(size_t planes, Ranking ranking, double half_life);

  /// @brief Records a use of `plane` with weight `weight` > 0 (rows that used it) at time `now` in tokens. Uses at a
  /// later time than those before are of a new batch; the keys that this lowers are passed on: `lowered(plane)`.
  template <typename Lowered>
  void touch(uint32_t plane, double weight, double now, Lowered&& lowered) {
    if (_ranking != Ranking::kDecayed) return count(plane, weight, now);
    if (now > _now) {
      _now = now;
      ++_batch;
      for (; !_recent.empty() && _recent.front().batch + kRecentBatches < _batch; _recent.pop_front()) {
        if (forget_recent(_recent.front())) lowered(_recent.front().plane);
      }
    }
    count_recent(plane, weight);
  }

  /// @brief Higher keys are worth more; comparable between planes at any time.
  double key(uint32_t plane) const { return _keys[plane]; }
  size_t size() const { return _keys.size(); }

 private:
  struct Recent {
    uint32_t plane;
    uint64_t batch;
  };

  void count(uint32_t plane, double weight, double now);
  void count_recent(uint32_t plane, double weight);
  bool forget_recent(const Recent& use);

  Ranking _ranking;
  double _half_life;
  std::vector<double> _keys;
  std::vector<double> _lasting;  // keys without what recent uses add
  std::vector<uint64_t> _used;   // batch of each plane's last use
  std::deque<Recent> _recent;    // in the order of their batches
  double _now = -1;
  uint64_t _batch = 0;
};

/// @brief The resident planes of one size class, ordered by key: an indexed binary min-heap.
class EvictionHeap {
 public:
  explicit EvictionHeap(size_t planes) : _position(planes, kAbsent) {}

  void push(uint32_t plane, double key);
  void remove(uint32_t plane);
  /// @brief Moves `plane` to where its new key belongs; nothing happens when it is absent.
  void update(uint32_t plane, double key);
  bool contains(uint32_t plane) const { return _position[plane] != kAbsent; }
  bool empty() const { return _heap.empty(); }
  size_t size() const { return _heap.size(); }
  uint32_t lowest() const { return _heap.front().plane; }

 private:
  struct Entry {
    double key;
    uint32_t plane;
  };
  static constexpr uint32_t kAbsent = UINT32_MAX;

  void place(size_t index, Entry entry);
  void sift_up(size_t index, Entry entry);
  void sift_down(size_t index, Entry entry);

  std::vector<Entry> _heap;
  std::vector<uint32_t> _position;  // of each plane in _heap
};

/// @brief One layer's routing for one batch: which experts were used, and by how many rows.
struct RoutingEvent {
  uint32_t group = 0;  ///< layer, as an index into the replayed model's groups
  uint32_t tokens = 0;
  std::vector<uint32_t> experts;
  std::vector<uint32_t> rows;
  std::vector<double> hotness;  ///< of each expert: the squared router weights of its rows, summed
};

}  // namespace edgemoe
