/// @file file.h
/// Positioned reads as the system has them: O_DIRECT and preadv, F_NOCACHE, FILE_FLAG_NO_BUFFERING.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgemoe::platform {

using FileHandle = std::intptr_t;
inline constexpr FileHandle kNoFile = -1;

/// @brief Where a part of a read goes.
struct Span {
  void* dst = nullptr;
  size_t length = 0;
};

/// @brief Whether reads may go past the page cache: not with EDGEMOE_IO=buffered. @throws Error when the variable is neither that nor `direct`.
bool unbuffered_allowed();

/// @brief Opens for reading, past the page cache or not, without waiting (as for a writer of a pipe).
/// @returns kNoFile, and errno, when it cannot be opened so.
FileHandle open_file(const std::string& path, bool unbuffered);
void close_file(FileHandle file);

/// @brief Size of a regular file in bytes; -1 of anything else.
int64_t regular_size(FileHandle file);

/// @brief Reads bytes that follow each other in the file into several places, with one call of the system where it has one.
/// @returns the bytes read, perhaps fewer than asked for; 0 at the end of the file; -1, and errno. Interruptions are not reported.
int64_t read_at(FileHandle file, const Span* spans, size_t count, uint64_t offset);

/// @brief Asks that the page cache forgets a range that was read through it.
void forget_cached(FileHandle file, uint64_t offset, uint64_t length);

}  // namespace edgemoe::platform
