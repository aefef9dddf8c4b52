/// @file process.h
/// Memory of this process as the system counts it.
#pragma once

#include <cstdint>

namespace edgemoe::platform {

struct ProcessMemory {
  uint64_t resident = 0;  ///< bytes of pages in memory, those of files included
  /// Bytes nobody else can have: without pages of files, with what was swapped out or compressed (macOS: phys_footprint); the
  /// resident ones where Linux does not tell.
  uint64_t held = 0;
};

/// @returns zeros where the system does not tell.
ProcessMemory process_memory();

}  // namespace edgemoe::platform
