#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "edgemoe/platform/environment.h"
#include "edgemoe/platform/file.h"

namespace edgemoe::platform {
namespace {

// O_NONBLOCK means nothing to a regular file; without it, opening a pipe waits for a writer.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

int open_unbuffered(const char* path) {
#if defined(__APPLE__)
  const int fd = ::open(path, kOpenFlags);
  if (fd >= 0 && ::fcntl(fd, F_NOCACHE, 1) != 0) {
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
  }
  return fd;
#elif defined(O_DIRECT)
  return ::open(path, kOpenFlags | O_DIRECT);
#else
  (void)path;
  errno = EINVAL;
  return -1;
#endif
}

}  // namespace

bool unbuffered_allowed() { return !chooses("EDGEMOE_IO", "direct", "buffered"); }

FileHandle open_file(const std::string& path, bool unbuffered) {
  return unbuffered ? open_unbuffered(path.c_str()) : ::open(path.c_str(), kOpenFlags);
}

void close_file(FileHandle file) { ::close(static_cast<int>(file)); }

int64_t regular_size(FileHandle file) {
  struct stat status {};
  if (::fstat(static_cast<int>(file), &status) != 0 || !S_ISREG(status.st_mode)) return -1;
  return static_cast<int64_t>(status.st_size);
}

int64_t read_at(FileHandle file, const Span* spans, size_t count, uint64_t offset) {
  std::vector<iovec> places;
  places.reserve(count);
  for (size_t i = 0; i < count; ++i) places.push_back({spans[i].dst, spans[i].length});
  for (;;) {
    const ssize_t n = ::preadv(static_cast<int>(file), places.data(), static_cast<int>(count), static_cast<off_t>(offset));
    if (n >= 0 || errno != EINTR) return n;
  }
}

void forget_cached([[maybe_unused]] FileHandle file, [[maybe_unused]] uint64_t offset, [[maybe_unused]] uint64_t length) {
#if defined(POSIX_FADV_DONTNEED)
  ::posix_fadvise(static_cast<int>(file), static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
#endif
}

}  // namespace edgemoe::platform
