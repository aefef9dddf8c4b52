#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>

#include "edgemoe/error.h"
#include "edgemoe/kernels/processor.h"
#include "edgemoe/platform/memory.h"
#include "edgemoe/platform/process.h"
#include "edgemoe/store/read_pool.h"
#include "bindings.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

// Counts reads that end, for one measurement.
class Countdown final : public ReadSink {
 public:
  explicit Countdown(size_t reads) : _left(reads) {}
  void on_read(const Read&, const std::string& error) override {
    std::lock_guard lock(_mutex);
    if (!error.empty()) _error = error;
    if (--_left == 0) _done.notify_all();
  }
  void wait() {
    std::unique_lock lock(_mutex);
    _done.wait(lock, [this] { return _left == 0; });
    if (!_error.empty()) throw IoError(_error);
  }

 private:
  size_t _left;
  std::mutex _mutex;
  std::condition_variable _done;
  std::string _error;
};

// Reads `count` blocks of `length` bytes at random aligned offsets with `threads` readers. Returns bytes per second.
double read_speed(const std::string& path, int threads, size_t length, size_t count, uint64_t seed) {
  const File file(path);
  if (file.size() < length) throw IoError(path + " is smaller than one read of " + std::to_string(length) + " bytes");
  std::mt19937_64 random(seed);
  const uint64_t places = (file.size() - length) / kBlock + 1;
  const size_t slots = static_cast<size_t>(threads) * 2;
  std::unique_ptr<uint8_t, void (*)(void*)> memory(static_cast<uint8_t*>(platform::aligned_alloc(kBlock, slots * length)), platform::aligned_free);
  std::vector<Read> reads;
  Countdown countdown(count);
  for (size_t i = 0; i < count; ++i) {
    reads.push_back({&file, random() % places * kBlock, length, length, memory.get() + i % slots * length, &countdown, 0});
  }
  ReadPool pool(threads);
  const auto started = std::chrono::steady_clock::now();
  pool.submit(reads, true);
  countdown.wait();
  return static_cast<double>(count * length) / std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace

void bind_machine(nb::module_& m) {
  m.def("read_speed", &read_speed, nb::arg("path"), nb::arg("threads"), nb::arg("length"), nb::arg("count"), nb::arg("seed") = 1,
        nb::call_guard<nb::gil_scoped_release>(), "Bytes per second of random unbuffered reads; `length` is a multiple of 4096.");
  m.def("page_size", &platform::page_size, "Bytes of a page, or what EDGEMOE_PAGE_SIZE says.");
  m.def("resident_memory", [] { return platform::process_memory().resident; });
  m.def("held_memory", [] { return platform::process_memory().held; },
        "Bytes that nobody else can have: without pages of files, with what was swapped out or compressed; 0 where nothing tells.");
  m.def("cpu_features", &kernels::processor_features);
}

}  // namespace edgemoe
