/// @file copy_reader.h
/// Blocking reads of arbitrary byte ranges, spread over the I/O threads through aligned bounce buffers.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "edgemoe/store/read_pool.h"

namespace edgemoe {

/// @brief A range of a file and where its bytes go; no alignment is asked of either.
struct CopyRange {
  const File* file = nullptr;
  uint64_t offset = 0;
  size_t length = 0;
  uint8_t* dst = nullptr;
};

/// @brief Reads ranges unbuffered and copies them to their destinations. One caller at a time.
class CopyReader final : private ReadSink {
 public:
  /// @param piece bytes of one bounce buffer, a multiple of kBlock.
  CopyReader(ReadPool& pool, size_t piece);

  /// @brief Returns when every range has arrived. @throws IoError with the first failure, after all reads have ended.
  void read(const std::vector<CopyRange>& ranges);

 private:
  struct Slot {
    CopyRange part;
    uint64_t start = 0;  // of the aligned read that covers `part`
    uint8_t* buffer = nullptr;
  };

  void on_read(const Read& read, const std::string& error) override;
  void start(const CopyRange& part);

  ReadPool& _pool;
  size_t _piece;
  std::unique_ptr<uint8_t[]> _memory;
  std::vector<Slot> _slots;
  std::mutex _mutex;
  std::condition_variable _changed;
  std::vector<uint32_t> _free;
  std::string _error;
};

}  // namespace edgemoe
