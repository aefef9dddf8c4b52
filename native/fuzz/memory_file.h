/// @file memory_file.h
/// A file in memory whose contents change.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace edgemoe::fuzz {

class MemoryFile {
 public:
  MemoryFile() : _fd(::memfd_create("fuzz.gguf", MFD_CLOEXEC)) {
    if (_fd < 0) throw std::runtime_error("there are no files in memory here");
  }
  ~MemoryFile() { ::close(_fd); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void write(const uint8_t* data, size_t size) {
    if (::ftruncate(_fd, 0) != 0 || ::pwrite(_fd, data, size, 0) != static_cast<ssize_t>(size)) {
      throw std::runtime_error("a file in memory cannot be written");
    }
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(_fd); }

 private:
  int _fd;
};

}  // namespace edgemoe::fuzz
