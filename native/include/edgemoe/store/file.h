/// @file file.h
/// Positioned reads that bypass the page cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "edgemoe/platform/file.h"
#include "edgemoe/platform/memory.h"

namespace edgemoe {

inline constexpr uint64_t kUsualBlock = 4096;

/// @brief Alignment in bytes of offsets, lengths and addresses of unbuffered reads, a power of two: 4 KiB, as pages of 16 and 64 KiB
/// still allow blocks of 4 KiB, unless EDGEMOE_PAGE_SIZE asks for more.
/// A value that is none is refused where pages are used first.
uint64_t block_size() noexcept;
inline const uint64_t kBlock = block_size();

/// @brief Where in its block a position lies.
inline uint64_t in_block(uint64_t position) { return position & (kBlock - 1); }

constexpr uint64_t align_down(uint64_t x, uint64_t to) { return x / to * to; }
constexpr uint64_t align_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

using platform::Span;

/// @brief A file open for positioned reading, unbuffered where the file system can (O_DIRECT, F_NOCACHE).
class File {
 public:
  /// @throws IoError naming the path and the system's reason.
  explicit File(const std::string& path, bool unbuffered = true);
  ~File();
  File(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  File& operator=(File&&) = delete;

  /// @brief Reads `length` bytes at `offset` into `dst`. For an unbuffered file all three are multiples of kBlock,
  /// except that the range may pass the end of the file, where reading stops.
  /// @returns the bytes read; fewer than `length` only at the end of the file. Thread-safe.
  /// @throws IoError naming file, offset and reason.
  size_t read_at(void* dst, uint64_t offset, size_t length) const { return read_at(std::vector<Span>{{dst, length}}, offset); }

  /// @brief The same for bytes that follow each other in the file and go to several places, with one call of the system.
  size_t read_at(const std::vector<Span>& spans, uint64_t offset) const;

  uint64_t size() const { return _size; }
  bool unbuffered() const { return _unbuffered; }
  const std::string& path() const { return _path; }

 private:
  std::string _path;
  platform::FileHandle _handle = platform::kNoFile;
  uint64_t _size = 0;
  bool _unbuffered = false;
};

/// @brief Makes every later read of this process slow or failing, to prove how the rest behaves. All zero turns it off.
struct ReadFault {
  uint64_t bytes_per_second = 0;  ///< throttles all readers together to this rate
  uint64_t fail_after_bytes = 0;  ///< reads fail with EIO once this many bytes have been read in all
  uint64_t truncate_at = 0;       ///< files appear to end here, as if they had shrunk after being opened
};
void set_read_fault(const ReadFault& fault);

}  // namespace edgemoe
