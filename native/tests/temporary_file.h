/// @file temporary_file.h
/// Files of random bytes for tests, and what tests read them into.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgemoe/store/file.h"

namespace edgemoe::testing {

/// @brief A path in the test's folder that is deleted with the object.
class TemporaryPath {
 public:
  TemporaryPath() : _path(::testing::TempDir() + "edgemoe_XXXXXX") {
    const int fd = ::mkstemp(_path.data());
    if (fd < 0) throw std::runtime_error("cannot create " + _path);
    ::close(fd);
  }
  ~TemporaryPath() { ::unlink(_path.c_str()); }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;

  const std::string& path() const { return _path; }

 private:
  std::string _path;
};

/// @brief A file of `size` random bytes, which stay in memory for comparison.
class RandomFile {
 public:
  RandomFile(size_t size, uint32_t seed) : _bytes(size) {
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = random();
      std::memcpy(_bytes.data() + i, &word, std::min<size_t>(8, size - i));
    }
    std::ofstream file(path(), std::ios::binary);
    file.write(reinterpret_cast<const char*>(_bytes.data()), static_cast<std::streamsize>(size));
  }

  const std::string& path() const { return _path.path(); }
  const uint8_t* data() const { return _bytes.data(); }
  size_t size() const { return _bytes.size(); }
  bool equal(uint64_t offset, const uint8_t* bytes, size_t length) const {
    return length == 0 || std::memcmp(_bytes.data() + offset, bytes, length) == 0;
  }

 private:
  TemporaryPath _path;
  std::vector<uint8_t> _bytes;
};

/// @brief Memory that unbuffered reads accept; it starts as 0xEE so that bytes nobody wrote show.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t size)
      : _bytes(static_cast<uint8_t*>(std::aligned_alloc(kBlock, align_up(size + 1, kBlock))), std::free) {
    std::memset(_bytes.get(), 0xEE, align_up(size + 1, kBlock));
  }
  uint8_t* data() const { return _bytes.get(); }

 private:
  std::unique_ptr<uint8_t, void (*)(void*)> _bytes;
};

/// @brief Keeps a read fault in force until the end of the scope.
class FaultGuard {
 public:
  explicit FaultGuard(const ReadFault& fault) { set_read_fault(fault); }
  ~FaultGuard() { set_read_fault({}); }
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
};

inline ReadFault throttled_to(uint64_t bytes_per_second) {
  ReadFault fault;
  fault.bytes_per_second = bytes_per_second;
  return fault;
}

inline ReadFault failing_after(uint64_t bytes) {
  ReadFault fault;
  fault.fail_after_bytes = bytes;
  return fault;
}

inline ReadFault truncated_at(uint64_t size) {
  ReadFault fault;
  fault.truncate_at = size;
  return fault;
}

}  // namespace edgemoe::testing
