#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace edgemoe::platform {

// A file that is gone when it is closed, open for reading and writing; null, and errno, when there is none.
std::FILE* temporary_file();
// Whether it has that size now, with holes where the system can.
bool set_file_size(std::FILE* file, uint64_t size);
bool write_at(std::FILE* file, const char* bytes, size_t length, uint64_t offset);
bool rewind_file(std::FILE* file);

}  // namespace edgemoe::platform
