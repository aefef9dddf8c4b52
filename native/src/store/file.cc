#include "edgemoe/store/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "edgemoe/error.h"

namespace edgemoe {
namespace {

std::atomic<bool> fault_active{false};
std::mutex fault_mutex;
ReadFault fault;
uint64_t fault_bytes = 0;
std::chrono::steady_clock::time_point fault_free_at;

// Applies the fault in force to a read and cuts `length` to what the file appears to hold; returns the error number to
// report, or 0.
int apply_fault(uint64_t offset, size_t* length) {
  std::chrono::steady_clock::time_point until;
  {
    std::lock_guard lock(fault_mutex);
    if (fault.truncate_at != 0) {
      *length = offset >= fault.truncate_at ? 0 : std::min<uint64_t>(*length, fault.truncate_at - offset);
    }
    fault_bytes += *length;
    if (fault.fail_after_bytes != 0 && fault_bytes > fault.fail_after_bytes) return EIO;
    if (fault.bytes_per_second == 0) return 0;
    const std::chrono::duration<double> cost(static_cast<double>(*length) / static_cast<double>(fault.bytes_per_second));
    fault_free_at = std::max(fault_free_at, std::chrono::steady_clock::now()) +
                    std::chrono::duration_cast<std::chrono::steady_clock::duration>(cost);
    until = fault_free_at;
  }
  std::this_thread::sleep_until(until);
  return 0;
}

// O_NONBLOCK means nothing to a regular file; without it, opening a pipe waits for a writer.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

// Some network and FUSE file systems accept O_DIRECT and then refuse to read.
bool reads(int fd) {
  alignas(kBlock) static thread_local char block[kBlock];
  return ::pread(fd, block, sizeof(block), 0) >= 0 || errno != EINVAL;
}

int open_unbuffered(const char* path) {
#if defined(__APPLE__)
  const int fd = ::open(path, kOpenFlags);
  if (fd >= 0) ::fcntl(fd, F_NOCACHE, 1);
  return fd;
#elif defined(O_DIRECT)
  return ::open(path, kOpenFlags | O_DIRECT);
#else
  (void)path;
  errno = EINVAL;
  return -1;
#endif
}

// Takes `bytes` off the front of the parts from `first` on; returns the first part that is left.
size_t skip(std::vector<iovec>& parts, size_t first, size_t bytes) {
  while (first < parts.size() && bytes >= parts[first].iov_len) bytes -= parts[first++].iov_len;
  if (first < parts.size()) {
    parts[first].iov_base = static_cast<char*>(parts[first].iov_base) + bytes;
    parts[first].iov_len -= bytes;
  }
  return first;
}

}  // namespace

void set_read_fault(const ReadFault& wanted) {
  std::lock_guard lock(fault_mutex);
  fault = wanted;
  fault_bytes = 0;
  fault_free_at = {};
  fault_active = wanted.bytes_per_second != 0 || wanted.fail_after_bytes != 0 || wanted.truncate_at != 0;
}

File::File(const std::string& path, bool unbuffered) : _path(path) {
  if (unbuffered) {
    _fd = open_unbuffered(path.c_str());
    if (_fd >= 0 && !reads(_fd)) {
      ::close(_fd);
      _fd = -1;
    }
    _unbuffered = _fd >= 0;
  }
  if (_fd < 0) _fd = ::open(path.c_str(), kOpenFlags);
  if (_fd < 0) throw IoError("cannot open " + path + ": " + std::strerror(errno));
  struct stat status {};
  if (::fstat(_fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(_fd);
    throw IoError(path + " is not a regular file");
  }
  _size = static_cast<uint64_t>(status.st_size);
}

File::~File() {
  if (_fd >= 0) ::close(_fd);
}

File::File(File&& other) noexcept
    : _path(std::move(other._path)), _fd(other._fd), _size(other._size), _unbuffered(other._unbuffered) {
  other._fd = -1;
}

size_t File::read_at(const std::vector<Span>& spans, uint64_t offset) const {
  size_t length = 0;
  for (const Span& span : spans) length += span.length;
  size_t visible = length;  // a truncated file's bytes are cut after the read: an unbuffered one takes whole blocks only
  if (fault_active.load(std::memory_order_relaxed)) {
    if (const int error = apply_fault(offset, &visible)) {
      throw IoError("reading " + _path + " at byte " + std::to_string(offset) + " failed: " + std::strerror(error));
    }
  }
  std::vector<iovec> left;
  for (const Span& span : spans) left.push_back({span.dst, span.length});
  size_t done = 0;
  for (size_t first = 0; done < length;) {
    const ssize_t n = ::preadv(_fd, left.data() + first, static_cast<int>(left.size() - first), static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      throw IoError("reading " + _path + " at byte " + std::to_string(offset + done) + " failed: " + std::strerror(errno));
    }
    if (n == 0) break;
    done += static_cast<size_t>(n);
    // An unbuffered read that stops inside a block has met the end of the file.
    if (_unbuffered && done % kBlock != 0) break;
    first = skip(left, first, static_cast<size_t>(n));
  }
#if defined(POSIX_FADV_DONTNEED)
  if (!_unbuffered) ::posix_fadvise(_fd, static_cast<off_t>(offset), static_cast<off_t>(length), POSIX_FADV_DONTNEED);
#endif
  return std::min(done, visible);
}

}  // namespace edgemoe
