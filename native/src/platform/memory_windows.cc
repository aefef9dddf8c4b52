#include <windows.h>
#include <malloc.h>

#include <cerrno>

#include "edgemoe/platform/memory.h"
#include "page_size.h"

namespace edgemoe::platform {
namespace {

void* allocate(void* address, size_t bytes, DWORD kind, DWORD protection) {
  void* got = ::VirtualAlloc(address, bytes, kind, protection);
  if (!got) errno = ENOMEM;
  return got;
}

}  // namespace

uint64_t system_page_size() {
  SYSTEM_INFO info;
  ::GetSystemInfo(&info);
  return info.dwPageSize;
}

void* reserve(size_t bytes) { return allocate(nullptr, bytes, MEM_RESERVE, PAGE_NOACCESS); }

bool commit(void* address, size_t bytes) { return bytes == 0 || allocate(address, bytes, MEM_COMMIT, PAGE_READWRITE) != nullptr; }

bool decommit(void* address, size_t bytes) { return bytes == 0 || ::VirtualFree(address, bytes, MEM_DECOMMIT) != 0; }

void unreserve(void* address, size_t) { ::VirtualFree(address, 0, MEM_RELEASE); }

void* map(size_t bytes) { return allocate(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE); }

void want_huge_pages(void*, size_t) {}

// Takes the pages out of the working set; their content may be lost.
void discard(void* address, size_t bytes) { ::VirtualAlloc(address, bytes, MEM_RESET, PAGE_READWRITE); }

void* aligned_alloc(size_t alignment, size_t bytes) { return ::_aligned_malloc(bytes, alignment); }

void aligned_free(void* memory) { ::_aligned_free(memory); }

}  // namespace edgemoe::platform
