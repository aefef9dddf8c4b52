#include "edgemoe/store/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "edgemoe/error.h"
#include "edgemoe/platform/environment.h"
#include "edgemoe/platform/memory.h"

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

// Some network and FUSE file systems accept O_DIRECT and then refuse to read.
bool reads(platform::FileHandle file) {
  const std::unique_ptr<void, void (*)(void*)> block(platform::aligned_alloc(kBlock, kBlock), platform::aligned_free);
  const Span span{block.get(), kBlock};
  return block && (platform::read_at(file, &span, 1, 0) >= 0 || errno != EINVAL);
}

// Where EDGEMOE_PAGE_SIZE makes blocks larger than they are, reads are refused that a system with such blocks would refuse.
bool whole_blocks(const std::vector<Span>& spans, uint64_t offset) {
  uint64_t bits = offset;
  for (const Span& span : spans) bits |= reinterpret_cast<uintptr_t>(span.dst) | span.length;
  return in_block(bits) == 0;
}

// Takes `bytes` off the front of the parts from `first` on; returns the first part that is left.
size_t skip(std::vector<Span>& parts, size_t first, size_t bytes) {
  while (first < parts.size() && bytes >= parts[first].length) bytes -= parts[first++].length;
  if (first < parts.size()) {
    parts[first].dst = static_cast<char*>(parts[first].dst) + bytes;
    parts[first].length -= bytes;
  }
  return first;
}

}  // namespace

uint64_t block_size() noexcept try {
  return platform::variable("EDGEMOE_PAGE_SIZE", "").empty() ? kUsualBlock : std::max(kUsualBlock, platform::page_size());
} catch (const Error&) {
  return kUsualBlock;
}

void set_read_fault(const ReadFault& wanted) {
  std::lock_guard lock(fault_mutex);
  fault = wanted;
  fault_bytes = 0;
  fault_free_at = {};
  fault_active = wanted.bytes_per_second != 0 || wanted.fail_after_bytes != 0 || wanted.truncate_at != 0;
}

File::File(const std::string& path, bool unbuffered) : _path(path) {
  platform::page_size();  // a value of EDGEMOE_PAGE_SIZE that is none is refused here
  if (unbuffered && platform::unbuffered_allowed()) {
    _handle = platform::open_file(path, true);
    if (_handle != platform::kNoFile && !reads(_handle)) {
      platform::close_file(_handle);
      _handle = platform::kNoFile;
    }
    _unbuffered = _handle != platform::kNoFile;
  }
  if (_handle == platform::kNoFile) _handle = platform::open_file(path, false);
  if (_handle == platform::kNoFile) throw IoError("cannot open " + path + ": " + std::strerror(errno));
  const int64_t size = platform::regular_size(_handle);
  if (size < 0) {
    platform::close_file(_handle);
    throw IoError(path + " is not a regular file");
  }
  _size = static_cast<uint64_t>(size);
}

File::~File() {
  if (_handle != platform::kNoFile) platform::close_file(_handle);
}

File::File(File&& other) noexcept
    : _path(std::move(other._path)), _handle(other._handle), _size(other._size), _unbuffered(other._unbuffered) {
  other._handle = platform::kNoFile;
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
  if (kBlock != kUsualBlock && _unbuffered && !whole_blocks(spans, offset)) {
    throw IoError("reading " + _path + " at byte " + std::to_string(offset) + " failed: not whole blocks of " + std::to_string(kBlock));
  }
  std::vector<Span> left(spans);
  size_t done = 0;
  for (size_t first = 0; done < length;) {
    const int64_t n = platform::read_at(_handle, left.data() + first, left.size() - first, offset + done);
    if (n < 0) {
      throw IoError("reading " + _path + " at byte " + std::to_string(offset + done) + " failed: " + std::strerror(errno));
    }
    if (n == 0) break;
    done += static_cast<size_t>(n);
    // An unbuffered read that stops inside a block has met the end of the file.
    if (_unbuffered && in_block(done) != 0) break;
    first = skip(left, first, static_cast<size_t>(n));
  }
  if (!_unbuffered) platform::forget_cached(_handle, offset, length);
  return std::min(done, visible);
}

}  // namespace edgemoe
