/// @file recording_sink.h
/// A ReadSink for tests: remembers how every read ended, and can hold the I/O threads inside their call.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "edgemoe/store/read_pool.h"

namespace edgemoe::testing {

class RecordingSink final : public ReadSink {
 public:
  void on_read(const Read& read, const std::string& error) override {
    std::unique_lock lock(_mutex);
    _order.push_back(read.tag);
    _errors[read.tag].push_back(error);
    _changed.notify_all();
    _changed.wait(lock, [this] { return !_held; });
  }

  /// @brief Blocks until `reads` have ended, up to half a minute. @returns whether they have.
  bool wait_for(size_t reads) {
    std::unique_lock lock(_mutex);
    return _changed.wait_for(lock, std::chrono::seconds(30), [&] { return _order.size() >= reads; });
  }

  /// @brief From now on no I/O thread returns from this sink until let_go().
  void hold() {
    std::lock_guard lock(_mutex);
    _held = true;
  }
  void let_go() {
    std::lock_guard lock(_mutex);
    _held = false;
    _changed.notify_all();
  }

  std::vector<uint32_t> order() const {
    std::lock_guard lock(_mutex);
    return _order;
  }
  /// @brief What was reported for the read with this tag: one element for each call.
  std::vector<std::string> errors(uint32_t tag) const {
    std::lock_guard lock(_mutex);
    const auto it = _errors.find(tag);
    return it == _errors.end() ? std::vector<std::string>{} : it->second;
  }

 private:
  mutable std::mutex _mutex;
  std::condition_variable _changed;
  bool _held = false;
  std::vector<uint32_t> _order;
  std::map<uint32_t, std::vector<std::string>> _errors;
};

}  // namespace edgemoe::testing
