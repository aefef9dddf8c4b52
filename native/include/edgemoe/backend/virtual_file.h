/// @file virtual_file.h
/// A stdio stream over a model in which the tensors that stay on disk read as holes.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "edgemoe/backend/model_file.h"
#include "edgemoe/store/copy_reader.h"

namespace edgemoe {

/// @brief Serves llama.cpp's loader: header and dense tensors as they are; a hole costs nothing, because the reader's
/// buffer is left as it is and our buffer type drops what is written to it.
class VirtualFile {
 public:
  /// @param stays_on_disk says of each tensor whether it is a hole. @param pool null: dense tensors are holes too.
  VirtualFile(const ModelFile& model, bool with_vocabulary, const std::function<bool(const TensorInfo&)>& stays_on_disk,
              ReadPool* pool);
  ~VirtualFile();
  VirtualFile(const VirtualFile&) = delete;
  VirtualFile& operator=(const VirtualFile&) = delete;

  std::FILE* stream() const { return _stream; }
  /// @brief The first read error, empty when there was none.
  const std::string& error() const { return _error; }
  uint64_t size() const { return _layout.size; }

  /// @brief Copies bytes [position, position + length), as far as the file goes. @returns the bytes covered, -1 on error.
  int64_t read(char* dst, size_t length);
  /// @returns the new position, -1 when it would lie outside.
  int64_t seek(int64_t offset, int whence);

 private:
  struct Segment {
    uint64_t start;
    uint64_t length;
    const TensorInfo* tensor;  // null for a hole
  };

  const ModelFile& _model;
  VirtualLayout _layout;
  std::vector<Segment> _segments;
  std::unique_ptr<CopyReader> _reader;
  std::FILE* _stream = nullptr;
  uint64_t _position = 0;
  std::string _error;
};

}  // namespace edgemoe
