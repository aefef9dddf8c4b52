/// @file read_pool.h
/// I/O threads that serve positioned reads in order of priority.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "edgemoe/store/file.h"

namespace edgemoe {

struct Read;

/// @brief Learns how reads ended.
class ReadSink {
 public:
  virtual ~ReadSink() = default;
  /// @param error empty when the read succeeded. Called on an I/O thread, without any lock of the pool held.
  virtual void on_read(const Read& read, const std::string& error) = 0;
};

/// @brief One contiguous read. `dst`, `offset` and `length` obey File::read_at; at least `needed` bytes must arrive.
struct Read {
  const File* file = nullptr;
  uint64_t offset = 0;
  size_t length = 0;
  size_t needed = 0;
  uint8_t* dst = nullptr;
  ReadSink* sink = nullptr;
  uint32_t tag = 0;  ///< for the sink's use
};

/// @brief A fixed set of threads that run reads; each read ends with one call of its sink, unless it is dropped
/// before it starts (by drop_queued or the destructor).
class ReadPool {
 public:
  /// @param threads at least 1. @param together bytes: urgent reads that lie side by side in a file are done at once up to this size, if
  /// no thread is idle that could do them at the same time.
  explicit ReadPool(int threads, size_t together = 256 * 1024);
  ~ReadPool();  ///< drops what has not started, waits for what has
  ReadPool(const ReadPool&) = delete;
  ReadPool& operator=(const ReadPool&) = delete;

  /// @brief Queues reads behind those of the same urgency; urgent ones go before all others.
  void submit(const std::vector<Read>& reads, bool urgent);

  /// @brief Removes the queued reads of `sink` of one urgency that have not started and returns them; the sink is not
  /// called for them.
  std::vector<Read> drop_queued(const ReadSink* sink, bool urgent);

  /// @brief From now on `threads` of the pool's threads read (at least 1, at most all), and `together` is as for the constructor. A disk
  /// with a high cost for each read wants few and long ones.
  void adapt(int threads, size_t together);

  int threads() const { return static_cast<int>(_threads.size()); }
  uint64_t calls() const { return _calls.load(std::memory_order_relaxed); }  ///< of the system, for all reads so far
  uint64_t bytes_read() const { return _bytes_read.load(std::memory_order_relaxed); }

 private:
  void run(int index);
  std::vector<Read> take();
  void serve(const std::vector<Read>& group);
  void end(const Read& read, size_t got);

  size_t _together;
  int _active;
  std::mutex _mutex;
  std::condition_variable _work;
  std::deque<Read> _urgent;
  std::deque<Read> _later;
  std::atomic<bool> _all_active{true};  // then one waiting thread is as good as another
  int _idle = 0;
  bool _stopping = false;
  std::atomic<uint64_t> _bytes_read{0};
  std::atomic<uint64_t> _calls{0};
  std::vector<std::thread> _threads;
};

}  // namespace edgemoe
