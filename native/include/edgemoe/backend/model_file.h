/// @file model_file.h
/// A GGUF model as it lies on disk: one file or several shards.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/backend/pack.h"
#include "edgemoe/store/file.h"

namespace edgemoe {

/// @brief One tensor: its shape as ggml orders it (`ne[0]` is the row length) and the bytes it occupies.
struct TensorInfo {
  std::string name;
  ggml::Type type = 0;
  int64_t ne[4] = {1, 1, 1, 1};
  uint32_t file = 0;
  uint64_t offset = 0;  ///< from the start of the file
  uint64_t bytes = 0;
  bool expert = false;  ///< a stack of expert matrices, one per ne[2]
  const PackTensor* pack = nullptr;  ///< where its planes lie; it has no offset then, and its bytes are those of its source
};

/// @brief A single GGUF that stands for all shards: its header, and where each tensor of tensors() begins in it.
struct VirtualLayout {
  std::vector<uint8_t> header;
  std::vector<uint64_t> offsets;
  uint64_t size = 0;
};

/// @brief The parsed headers of a model, checked against the files' real sizes.
class ModelFile {
 public:
  /// @param path the file, or the first shard (NAME-00001-of-000NN.gguf) of several.
  /// @throws IoError, ModelError.
  explicit ModelFile(const std::string& path);
  ~ModelFile();
  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  const std::vector<File>& files() const { return _files; }
  const std::vector<TensorInfo>& tensors() const { return _tensors; }
  /// @brief What the files hold; tensors(), but for a pack, whose planes, tables and checksums are listed here.
  const std::vector<TensorInfo>& stored() const { return _pack ? _stored : _tensors; }
  const TensorInfo* find(const std::string& name) const;
  /// @brief The metadata of the first shard.
  const ggml::Gguf* metadata() const { return _shards.front().gguf; }
  uint64_t bytes() const;
  /// @brief What a pack says of its experts; null for any other GGUF.
  const Pack* pack() const { return _pack.get(); }

  /// @brief What llama.cpp is shown: all shards as one.
  /// @param with_vocabulary false leaves the tokenizer out, for planning passes that need no tokens.
  VirtualLayout layout(bool with_vocabulary) const;

 private:
  struct Shard {
    ggml::Gguf* gguf = nullptr;
    ggml::Context* ctx = nullptr;
  };

  void open_shard(const std::string& path);
  void collect(uint32_t shard);
  void unfold_pack();
  void close();
  void remove_vocabulary(ggml::Gguf* header) const;
  uint16_t shard_count() const;

  std::vector<File> _files;
  std::vector<Shard> _shards;
  std::vector<TensorInfo> _tensors;
  std::unordered_map<std::string, size_t> _index;
  std::unique_ptr<Pack> _pack;
  std::vector<TensorInfo> _stored;  // of a pack
};

}  // namespace edgemoe
