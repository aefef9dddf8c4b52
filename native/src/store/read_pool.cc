#include "edgemoe/store/read_pool.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "edgemoe/error.h"
#include "edgemoe/platform/thread.h"

namespace edgemoe {

namespace {

uint64_t end_of(const Read& read) { return read.offset + read.length; }

// Whether a read begins where another ends, or in its last block, as planes do that are not whole blocks.
bool follows(const Read& next, const Read& last) {
  return next.file == last.file && (next.offset == end_of(last) || (next.offset + kBlock == end_of(last) && next.length > kBlock));
}

size_t shared(const Read& next, const Read& last) { return static_cast<size_t>(end_of(last) - next.offset); }

// Reads which follow each other, with one call; what two of them share is copied. Returns the bytes that came, from the first one's offset on.
size_t read_together(const std::vector<Read>& group) {
  std::vector<Span> spans = {{group[0].dst, group[0].length}};
  for (size_t i = 1; i < group.size(); ++i) {
    const size_t common = shared(group[i], group[i - 1]);
    spans.push_back({group[i].dst + common, group[i].length - common});
  }
  const size_t got = group[0].file->read_at(spans, group[0].offset);
  for (size_t i = 1; i < group.size(); ++i) {
    const size_t common = shared(group[i], group[i - 1]);
    std::memcpy(group[i].dst, group[i - 1].dst + group[i - 1].length - common, common);
  }
  return got;
}

}  // namespace

ReadPool::ReadPool(int threads, size_t together) : _together(together), _active(threads) {
  if (threads < 1) throw Error("reading needs at least one thread, not " + std::to_string(threads));
  for (int i = 0; i < threads; ++i) _threads.emplace_back([this, i] { run(i); });
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
  if (reads.size() == 1 && _all_active) {
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

void ReadPool::adapt(int threads, size_t together) {
  std::lock_guard lock(_mutex);
  _active = std::clamp(threads, 1, this->threads());
  _all_active = _active == this->threads();
  _together = together;
  _work.notify_all();
}

void ReadPool::run(int index) {
  platform::serve_computation();
  for (;;) {
    std::vector<Read> group;
    {
      std::unique_lock lock(_mutex);
      ++_idle;
      _work.wait(lock, [this, index] { return _stopping || (index < _active && !(_urgent.empty() && _later.empty())); });
      --_idle;
      if (_stopping) return;
      group = take();
    }
    serve(group);
  }
}

std::vector<Read> ReadPool::take() {
  const bool urgent = !_urgent.empty();
  auto& queue = urgent ? _urgent : _later;
  std::vector<Read> group = {queue.front()};
  queue.pop_front();
  // What is not waited for stays apart: it must be possible to drop it, and to start what is urgent soon.
  const int idle = std::max(0, _idle - (threads() - _active));
  while (urgent && queue.size() > static_cast<size_t>(idle)) {
    const Read& last = group.back();
    const auto next = std::find_if(queue.begin(), queue.end(), [&last](const Read& read) { return follows(read, last); });
    if (next == queue.end() || end_of(*next) - group[0].offset > _together) break;
    group.push_back(*next);
    queue.erase(next);
  }
  return group;
}

void ReadPool::serve(const std::vector<Read>& group) {
  size_t got = 0;
  try {
    _calls.fetch_add(1, std::memory_order_relaxed);
    got = read_together(group);
  } catch (const std::exception& failure) {
    if (group.size() == 1) {
      group[0].sink->on_read(group[0], failure.what());
    } else {
      for (const Read& read : group) serve({read});  // only what lies where it failed is lost
    }
    return;
  }
  for (const Read& read : group) {
    const uint64_t before = read.offset - group[0].offset;
    end(read, got > before ? std::min<size_t>(got - before, read.length) : 0);
  }
}

void ReadPool::end(const Read& read, size_t got) {
  _bytes_read.fetch_add(got, std::memory_order_relaxed);
  std::string error;
  if (got < read.needed) {
    error = read.file->path() + " ends at byte " + std::to_string(read.offset + got) + ", but " + std::to_string(read.needed - got) +
            " more bytes are needed: the file has shrunk since it was opened";
  }
  read.sink->on_read(read, error);
}

}  // namespace edgemoe
