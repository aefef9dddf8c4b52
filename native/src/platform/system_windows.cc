#include <windows.h>
#include <io.h>

#include <cstdlib>
#include <string>

#include <psapi.h>

#include "edgemoe/platform/library.h"
#include "edgemoe/platform/process.h"
#include "edgemoe/platform/thread.h"
#include "temporary_file.h"

namespace edgemoe::platform {

void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(::GetProcAddress(static_cast<HMODULE>(library), name));
}

void serve_computation() {}

ProcessMemory process_memory() {
  PROCESS_MEMORY_COUNTERS_EX counters{};
  counters.cb = sizeof(counters);
  if (::GetProcessMemoryInfo(::GetCurrentProcess(), reinterpret_cast<PROCESS_MEMORY_COUNTERS*>(&counters), sizeof(counters)) == 0) return {};
  return {counters.WorkingSetSize, counters.PrivateUsage};
}

// "D" deletes the file when it is closed.
std::FILE* temporary_file() {
  wchar_t folder[MAX_PATH + 1], path[MAX_PATH + 1];
  if (::GetTempPathW(MAX_PATH, folder) == 0 || ::GetTempFileNameW(folder, L"edg", 0, path) == 0) return nullptr;
  return ::_wfopen(path, L"w+bD");
}

bool set_file_size(std::FILE* file, uint64_t size) { return ::_chsize_s(::_fileno(file), static_cast<int64_t>(size)) == 0; }

bool write_at(std::FILE* file, const char* bytes, size_t length, uint64_t offset) {
  return ::_fseeki64(file, static_cast<int64_t>(offset), SEEK_SET) == 0 && std::fwrite(bytes, 1, length, file) == length;
}

bool rewind_file(std::FILE* file) { return std::fflush(file) == 0 && ::_fseeki64(file, 0, SEEK_SET) == 0; }

}  // namespace edgemoe::platform
