/// @file guarded_bytes.h
/// Memory that ends where what is in it ends.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace edgemoe {

/// @brief Memory after whose last byte comes a page that may not be touched: reading past the end dies without a sanitizer
/// too, and in code that no sanitizer instruments. Its beginning has whatever alignment the size leaves.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t size) : _size(size) {
    const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t used = (size + page - 1) / page * page;
    _mapped = used + page;
    void* memory = ::mmap(nullptr, _mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory for guarded bytes");
    _base = static_cast<uint8_t*>(memory);
    if (::mprotect(_base + used, page, PROT_NONE) != 0) throw std::runtime_error("a page cannot be guarded");
    _data = _base + used - size;
  }
  ~GuardedBytes() { ::munmap(_base, _mapped); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  uint8_t* data() const { return _data; }
  size_t size() const { return _size; }

 private:
  size_t _size;
  size_t _mapped;
  uint8_t* _base;
  uint8_t* _data;
};

}  // namespace edgemoe
