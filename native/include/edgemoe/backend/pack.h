/// @file pack.h
/// What the header of a pack says of its experts (docs/format.md).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/backend/level_head.h"
#include "edgemoe/kernels/planes.h"
#include "edgemoe/store/file.h"

namespace edgemoe {

/// @brief Where the planes of one level lie: that of expert e begins at offset + e * stride. No bytes: no such plane.
struct PlanePlace {
  uint64_t offset = 0;
  uint64_t stride = 0;
  uint64_t bytes = 0;
};

/// @brief One stack of expert matrices of a pack.
struct PackTensor {
  std::string name;
  ggml::Type type = 0;  ///< in the source
  kernels::Format format = kernels::Format::kT16;
  int64_t columns = 0;
  int64_t rows = 0;
  int64_t experts = 0;
  uint8_t biased_levels = 0;
  std::array<PlanePlace, kernels::kLevelCount> planes;
  const kernels::T16Tables* tables = nullptr;

  /// @brief The planes of a matrix, without their bytes.
  kernels::Matrix matrix() const;
};

/// @brief A tensor as the file's header lists it.
struct ListedTensor {
  ggml::Type type = 0;
  int64_t ne[4] = {1, 1, 1, 1};
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

class Pack {
 public:
  /// @returns null when the file is no pack. @throws ModelError naming what is wrong and its value, IoError.
  static std::unique_ptr<Pack> parse(const ggml::Gguf* gguf, const File& file,
                                     const std::unordered_map<std::string, ListedTensor>& listed);

  const std::vector<PackTensor>& tensors() const { return _tensors; }
  /// @brief Relative squared errors of a group's experts, [experts][levels()]; never rising from level to level.
  const std::vector<float>& errors(const std::string& group) const { return _errors.at(group); }
  /// @brief The head of a group, or null where the pack has none.
  const LevelHead* head(const std::string& group) const;
  /// @brief Of a pack with heads: prices of a byte (see choose_worth) at which the i-th of equal steps of mean bits is used, from base
  /// planes alone to all planes; never rising. Empty without heads.
  const std::vector<float>& prices() const { return _prices; }
  /// @brief How many of kernels::kLevels the pack has.
  int levels() const { return _levels; }
  /// @brief Whether a tensor of the file holds planes, tables or checksums, and is no tensor of the model.
  static bool own(const std::string& tensor);

 private:
  Pack() = default;
  void read_levels(const ggml::Gguf* gguf, const std::string& path);
  void read_tensors(const ggml::Gguf* gguf, const std::string& path);
  void read_tables(const File& file, const std::unordered_map<std::string, ListedTensor>& listed);
  void place_planes(const File& file, const std::unordered_map<std::string, ListedTensor>& listed);
  void read_errors(const File& file, const std::string& group, int64_t experts, const std::unordered_map<std::string, ListedTensor>& listed);

  void read_heads(const ggml::Gguf* gguf, const File& file, const std::unordered_map<std::string, ListedTensor>& listed);

  int _levels = 0;
  uint8_t _biased_levels = 0;
  std::vector<PackTensor> _tensors;
  std::unordered_map<std::string, std::vector<float>> _errors;  // by group
  std::unordered_map<std::string, LevelHead> _heads;  // by group
  std::vector<float> _prices;
  std::unique_ptr<kernels::T16Tables> _tables;
};

}  // namespace edgemoe
