#include <windows.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "edgemoe/platform/environment.h"
#include "edgemoe/platform/file.h"

namespace edgemoe::platform {
namespace {

constexpr size_t kMostAtOnce = 1u << 30;

HANDLE handle(FileHandle file) { return reinterpret_cast<HANDLE>(file); }

std::wstring wide(const std::string& path) {
  const int length = ::MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring result(static_cast<size_t>(std::max(length, 1)), L'\0');
  ::MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, result.data(), length);
  return result;
}

int error_number(DWORD error) {
  switch (error) {
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND: return ENOENT;
    case ERROR_ACCESS_DENIED: return EACCES;
    case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
    case ERROR_INVALID_PARAMETER: return EINVAL;
    default: return EIO;
  }
}

// Waits for overlapped reads of its thread: without one, reads of a file would follow each other.
HANDLE event() {
  struct Close {
    void operator()(void* e) const { ::CloseHandle(e); }
  };
  static thread_local const std::unique_ptr<void, Close> own(::CreateEventW(nullptr, TRUE, FALSE, nullptr));
  return own.get();
}

int64_t read_span(FileHandle file, const Span& span, uint64_t offset) {
  OVERLAPPED at{};
  at.Offset = static_cast<DWORD>(offset);
  at.OffsetHigh = static_cast<DWORD>(offset >> 32);
  at.hEvent = event();
  DWORD got = 0;
  if (::ReadFile(handle(file), span.dst, static_cast<DWORD>(std::min(span.length, kMostAtOnce)), nullptr, &at) == 0 &&
      ::GetLastError() != ERROR_IO_PENDING) {
    if (::GetLastError() == ERROR_HANDLE_EOF) return 0;
    errno = error_number(::GetLastError());
    return -1;
  }
  if (::GetOverlappedResult(handle(file), &at, &got, TRUE) == 0) {
    if (::GetLastError() == ERROR_HANDLE_EOF) return 0;
    errno = error_number(::GetLastError());
    return -1;
  }
  return got;
}

}  // namespace

bool unbuffered_allowed() { return !chooses("EDGEMOE_IO", "direct", "buffered"); }

FileHandle open_file(const std::string& path, bool unbuffered) {
  const DWORD flags = FILE_FLAG_OVERLAPPED | (unbuffered ? FILE_FLAG_NO_BUFFERING : 0);
  const HANDLE opened = ::CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr, OPEN_EXISTING, flags, nullptr);
  if (opened == INVALID_HANDLE_VALUE) errno = error_number(::GetLastError());
  return reinterpret_cast<FileHandle>(opened);
}

void close_file(FileHandle file) { ::CloseHandle(handle(file)); }

int64_t regular_size(FileHandle file) {
  LARGE_INTEGER size;
  if (::GetFileType(handle(file)) != FILE_TYPE_DISK || ::GetFileSizeEx(handle(file), &size) == 0) return -1;
  return size.QuadPart;
}

int64_t read_at(FileHandle file, const Span* spans, size_t count, uint64_t offset) {
  int64_t done = 0;
  for (size_t i = 0; i < count; ++i) {
    const int64_t got = read_span(file, spans[i], offset + static_cast<uint64_t>(done));
    if (got < 0) return done > 0 ? done : -1;
    done += got;
    if (static_cast<size_t>(got) < spans[i].length) break;
  }
  return done;
}

void forget_cached(FileHandle, uint64_t, uint64_t) {}

}  // namespace edgemoe::platform
