#include "edgemoe/store/read_pool.h"

#include <algorithm>
#include <exception>

#include "edgemoe/error.h"

namespace edgemoe {

ReadPool::ReadPool(int threads) {
  if (threads < 1) throw Error("reading needs at least one thread, not " + std::to_string(threads));
  for (int i = 0; i < threads; ++i) _threads.emplace_back([this] { run(); });
}

ReadPool::~ReadPool() {
  {
    std::lock_guard lock(_mutex);
    _stopping = true;
    _urgent.clear();
    _later.clear();
  }
  _work.notify_all();
  for (std::thread& thread : _threads) thread.join();
}

void ReadPool::submit(const std::vector<Read>& reads, bool urgent) {
  if (reads.empty()) return;
  {
    std::lock_guard lock(_mutex);
    auto& queue = urgent ? _urgent : _later;
    queue.insert(queue.end(), reads.begin(), reads.end());
  }
  if (reads.size() == 1) {
    _work.notify_one();
  } else {
    _work.notify_all();
  }
}

std::vector<Read> ReadPool::drop_queued(const ReadSink* sink, bool urgent) {
  std::lock_guard lock(_mutex);
  auto& queue = urgent ? _urgent : _later;
  const auto mine = std::stable_partition(queue.begin(), queue.end(), [sink](const Read& r) { return r.sink != sink; });
  std::vector<Read> dropped(mine, queue.end());
  queue.erase(mine, queue.end());
  return dropped;
}

void ReadPool::run() {
  for (;;) {
    Read read;
    {
      std::unique_lock lock(_mutex);
      _work.wait(lock, [this] { return _stopping || !_urgent.empty() || !_later.empty(); });
      if (_stopping) return;
      auto& queue = _urgent.empty() ? _later : _urgent;
      read = queue.front();
      queue.pop_front();
    }
    std::string error;
    try {
      const size_t got = read.file->read_at(read.dst, read.offset, read.length);
      _bytes_read.fetch_add(got, std::memory_order_relaxed);
      if (got < read.needed) {
        error = read.file->path() + " ends at byte " + std::to_string(read.offset + got) + ", but " +
                std::to_string(read.needed - got) + " more bytes are needed: the file has shrunk since it was opened";
      }
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    read.sink->on_read(read, error);
  }
}

}  // namespace edgemoe
