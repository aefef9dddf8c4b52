/// @file stream.h
/// A FILE* whose bytes come from a function: fopencookie, funopen, or a temporary file where there is neither.
#pragma once

#include <cstdint>
#include <cstdio>

namespace edgemoe::platform {

/// @brief Where the bytes of a stream come from.
class StreamSource {
 public:
  virtual ~StreamSource() = default;
  /// @brief Copies bytes from the position on and moves it. @returns how many, -1 and errno on an error.
  virtual int64_t read(char* dst, size_t length) = 0;
  /// @returns the new position, -1 when it would lie outside.
  virtual int64_t seek(int64_t offset, int whence) = 0;
  virtual uint64_t size() const = 0;
  /// @brief Where bytes begin that matter, from `position` on; size() when there are none. What lies between reads as zeros in a file.
  virtual uint64_t next_content(uint64_t position) const = 0;
};

/// @brief A stream that asks `source`, which must outlive it. EDGEMOE_STREAM=file, and every system without such streams, first copies
/// everything into a temporary file with holes, in TMPDIR or /tmp, which has no name any more when this returns.
/// @throws IoError when the system refuses, or the temporary file has no room. @throws Error when the variable has another value than `file` or `memory`.
std::FILE* open_stream(StreamSource& source);

/// @brief Whether the system's streams ask for bytes as they are read.
bool streams_ask();

}  // namespace edgemoe::platform
