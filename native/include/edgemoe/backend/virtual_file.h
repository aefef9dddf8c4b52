/// @file virtual_file.h
/// A stdio stream over a model whose expert tensors cannot be read through it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "edgemoe/backend/model_file.h"
#include "edgemoe/platform/stream.h"
#include "edgemoe/store/copy_reader.h"

namespace edgemoe {

/// @brief Serves llama.cpp's loader: header and dense tensors as they are. Tensors that stay on disk are holes, which
/// keep their place and size and have no particular content. The C library reads custom streams block by block, so the
/// disk is read in windows: by a thread of its own, ahead of the loader, each window on all I/O threads. Several windows
/// stay in memory because the order of the loader is not the order of the file.
class VirtualFile final : public platform::StreamSource {
 public:
  /// @param stays_on_disk says of each tensor whether it is a hole. @param pool null: dense tensors are holes too.
  VirtualFile(const ModelFile& model, bool with_vocabulary, const std::function<bool(const TensorInfo&)>& stays_on_disk,
              ReadPool* pool);
  ~VirtualFile() override;
  VirtualFile(const VirtualFile&) = delete;
  VirtualFile& operator=(const VirtualFile&) = delete;

  std::FILE* stream() const { return _stream; }
  /// @brief The first read error, empty when there was none.
  const std::string& error() const { return _error; }
  uint64_t size() const override { return _layout.size; }

  /// @brief Copies bytes [position, position + length), as far as the file goes. @returns the bytes covered, -1 on error.
  int64_t read(char* dst, size_t length) override;
  /// @returns the new position, -1 when it would lie outside.
  int64_t seek(int64_t offset, int whence) override;
  uint64_t next_content(uint64_t position) const override;

 private:
  struct Segment {
    uint64_t start;
    uint64_t length;
    const TensorInfo* tensor;  // null for a hole
  };

  /// An aligned stretch of the stream.
  struct Window {
    uint64_t index = UINT64_MAX;  // in units of its length
    uint64_t last_use = 0;
    bool ready = false;
    std::exception_ptr error;
    uint8_t* bytes = nullptr;
  };

  /// The first segment that ends behind `position`.
  std::vector<Segment>::const_iterator segment_behind(uint64_t position) const;
  bool has_dense_bytes(uint64_t window) const;
  /// Waits for a window and has what follows it read. Throws what reading it threw.
  const Window& window(uint64_t index);
  /// Has `index` read, before all others when `now`.
  Window* request(uint64_t index, bool now);
  void fill(Window* window);
  void fill_requested();
  void stop_filling();

  const ModelFile& _model;
  VirtualLayout _layout;
  std::vector<Segment> _segments;
  std::unique_ptr<CopyReader> _reader;
  std::vector<Window> _windows;
  std::unique_ptr<void, std::function<void(void*)>> _memory;  // of all windows: mapped, so that it goes back to the system at once
  uint64_t _uses = 0;
  std::mutex _mutex;
  std::condition_variable _changed;
  std::deque<Window*> _requested;
  bool _closing = false;
  std::thread _filler;
  std::vector<char> _stream_buffer;
  std::FILE* _stream = nullptr;
  uint64_t _position = 0;
  std::string _error;
};

}  // namespace edgemoe
