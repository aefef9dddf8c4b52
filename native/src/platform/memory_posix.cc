#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "edgemoe/platform/memory.h"
#include "page_size.h"

namespace edgemoe::platform {
namespace {

constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

// A larger page than the system's is only pretended (EDGEMOE_PAGE_SIZE): refuse here what such a system would refuse.
bool whole_pages(void* address, size_t bytes) {
  const uint64_t mask = page_size() - 1;
  const bool whole = ((reinterpret_cast<uintptr_t>(address) | bytes) & mask) == 0;
  if (!whole) errno = EINVAL;
  return whole;
}

}  // namespace

uint64_t system_page_size() { return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

void* reserve(size_t bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_NONE, kPrivate | MAP_NORESERVE, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

bool commit(void* address, size_t bytes) {
  return whole_pages(address, bytes) && ::mprotect(address, bytes, PROT_READ | PROT_WRITE) == 0;
}

bool decommit(void* address, size_t bytes) {
  // Mapping the range anew gives its memory back.
  return whole_pages(address, bytes) &&
         ::mmap(address, bytes, PROT_NONE, kPrivate | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

void unreserve(void* address, size_t bytes) { ::munmap(address, bytes); }

void* map(size_t bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kPrivate, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

void want_huge_pages([[maybe_unused]] void* address, [[maybe_unused]] size_t bytes) {
#if defined(MADV_HUGEPAGE)
  ::madvise(address, bytes, MADV_HUGEPAGE);
#endif
}

void discard(void* address, size_t bytes) {
  if (!whole_pages(address, bytes)) return;
#if defined(__linux__)
  ::madvise(address, bytes, MADV_DONTNEED);
#elif defined(MADV_FREE)
  // Not MADV_FREE_REUSABLE: it needs MADV_FREE_REUSE before the next write, and these pages' next owner does not know of it.
  ::madvise(address, bytes, MADV_FREE);
#endif
}

void* aligned_alloc(size_t alignment, size_t bytes) { return std::aligned_alloc(alignment, bytes); }

void aligned_free(void* memory) { std::free(memory); }

}  // namespace edgemoe::platform
