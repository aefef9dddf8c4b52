/// @file resident_memory.h
/// How much memory this process has, as the system counts it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>

namespace edgemoe::testing {

/// @brief The resident set in bytes, or 0 where the system has no /proc/self/statm; on Linux that fails the test.
inline size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t pages = 0;
  size_t resident = 0;
  if (!(statm >> pages >> resident)) {
#if defined(__linux__)
    ADD_FAILURE() << "/proc/self/statm cannot be read";
#endif
    return 0;
  }
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace edgemoe::testing
