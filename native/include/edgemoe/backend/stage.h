/// @file stage.h
/// Expert matrix products that share their input and routing: gate and up together, or down alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "edgemoe/backend/engine.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/routing.h"

namespace edgemoe {

class Execution;

/// @brief How the weights of a product are turned into numbers.
enum class Weights {
  kGgml,       ///< they lie in memory as ggml has them
  kAssembled,  ///< slices with all planes: put together to ggml's blocks, chunk by chunk, and computed as those are
  kPlanes      ///< multiplied plane by plane
};

/// @brief One MUL_MAT_ID node over stored experts.
struct ExpertProduct {
  ExpertProduct(ggml::Tensor* product, const StoredTensor* stored);

  ggml::Tensor* node = nullptr;
  const StoredTensor* weights = nullptr;
  Weights kind = Weights::kGgml;
  const ggml::CpuTypeTraits* traits = nullptr;  // null for planes
  size_t row_bytes = 0;                         // of a weight row in memory, or assembled

  int64_t columns() const { return weights->info->ne[0]; }
  int64_t rows() const { return weights->info->ne[1]; }
  /// @brief Where the result for one routed row begins.
  float* result(const RoutedRow& row) const {
    return reinterpret_cast<float*>(static_cast<char*>(node->data) + row.slot * node->nb[1] + row.token * node->nb[2]);
  }
};

/// @brief Products over one input, appended to a graph as a few nodes.
///
/// Work is cut into items that any free thread takes. Experts with few rows are computed by dot products, a chunk of
/// weight rows at a time; experts with many rows by ggml's own MUL_MAT_ID over gathered rows, run by the one thread that
/// took the item, so that threads never wait for each other between experts. Both give the bits that stock llama.cpp
/// gives, because ggml chooses its kernel by the number of rows of each expert, and no kernel's result for one element
/// depends on which others are computed with it.
class Stage {
 public:
  /// @brief From this many rows on, ggml's tiled kernels take over (ggml_tiled_min_batch in ggml-cpu/tiled).
  static constexpr size_t kManyRows = 8;
  /// @brief The tiled kernels work on groups of this many weight rows; a multiple of their 16-row tiles.
  static constexpr int64_t kRowGroup = 64;

  Stage(Execution& execution, std::vector<ExpertProduct> products, const std::vector<RoutedExpert>& routed);

  /// @brief True when `product` can be computed in this stage: same input, same ids, and results that do not overlap.
  bool accepts(const ExpertProduct& product) const;
  void add(const ExpertProduct& product) { _products.push_back(product); }

  /// @brief Orders the experts (resident first, then by rows, most first) and lists the planes in order of use.
  void order(std::vector<PlaneUse>* uses);
  static constexpr size_t kNodes = 2;
  void append(ggml::Context* ctx, ggml::Graph* graph);

  const std::vector<ExpertProduct>& products() const { return _products; }
  ggml::Tensor* input() const { return _products.front().node->src[1]; }
  ggml::Tensor* ids() const { return _products.front().node->src[2]; }

 private:
  // The input converted to what a product's dot product takes.
  struct Converted {
    ggml::Type type;  // kTypeCount: what the kernels on planes take
    size_t row_bytes;
    std::vector<uint8_t> bytes;
  };
  // Memory of one thread, kept from item to item.
  struct Bench {
    std::vector<const uint8_t*> inputs;  // rows of one expert, for the kernels on planes
    std::vector<float*> outputs;
    std::vector<std::vector<uint8_t>> gathered;  // input rows of one expert, by converted form
    std::vector<std::vector<uint8_t>> results;   // by product
    std::vector<std::vector<uint8_t>> assembled;  // weight rows, by product
    std::vector<uint8_t> graph;
    std::vector<uint8_t> work;
  };
  // Weight rows [begin, end) of a product.
  struct Range {
    int64_t begin;
    int64_t end;
  };

  bool many(const RoutedExpert& expert) const;
  size_t use_of(size_t expert, size_t product) const { return _uses[expert * _products.size() + product]; }
  kernels::Matrix matrix(size_t expert, size_t product) const;
  const uint8_t* weight_rows(size_t expert, size_t product, Range range, std::vector<uint8_t>& assembled) const;
  void done(size_t expert, size_t product);
  const uint8_t* input_row(const Converted& converted, const RoutedRow& row) const;

  void convert(int ith, int nth);
  void observe() const;
  void work(int ith, int nth);
  void cut(int nth);
  Range block_of(size_t product, int64_t block) const;
  void batch_item(int64_t item, Bench& bench, ggml::ThreadPool* pool);
  void gather(size_t expert, Bench& bench) const;
  void multiply(size_t expert, int64_t block, Bench& bench, ggml::ThreadPool* pool);
  void scatter(size_t expert, int64_t block, const Bench& bench) const;
  void dot_item(int64_t item, Bench& bench);
  void dot_chunk(size_t expert, size_t product, int64_t chunk, Bench& bench);
  void plane_chunk(size_t expert, size_t product, Range range, Bench& bench);

  Execution& _execution;
  std::vector<ExpertProduct> _products;
  std::vector<const RoutedExpert*> _experts;
  std::vector<size_t> _uses;  // of each expert and product: the first of its planes in the lease
  size_t _first_small = 0;  // experts from here on have few rows
  std::vector<Converted> _converted;
  std::vector<size_t> _converted_index;  // of each product
  std::vector<int64_t> _chunk_rows;      // of each product
  std::vector<int64_t> _chunks;          // of each product
  int64_t _blocks = 1;                   // into which each expert with many rows is cut
  std::once_flag _cut;
  std::atomic<int64_t> _next_item{0};
  std::unique_ptr<std::atomic<int64_t>[]> _left;  // items to do: by use, chunks or blocks
  std::vector<int32_t> _only_expert;              // ids of a batch: its rows all use the one expert it is given
};

}  // namespace edgemoe
