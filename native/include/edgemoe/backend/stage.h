/// @file stage.h
/// Expert matrix products that share their input and routing: gate and up together, or down alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "edgemoe/backend/engine.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/routing.h"

namespace edgemoe {

class Execution;

/// @brief One MUL_MAT_ID node over stored experts.
struct ExpertProduct {
  ggml::Tensor* node = nullptr;
  const StoredTensor* weights = nullptr;
  const ggml::CpuTypeTraits* traits = nullptr;
  size_t row_bytes = 0;  // of a weight row

  int64_t columns() const { return weights->info->ne[0]; }
  int64_t rows() const { return weights->info->ne[1]; }
  /// @brief Where the result for one routed row begins.
  float* result(const RoutedRow& row) const {
    return reinterpret_cast<float*>(static_cast<char*>(node->data) + row.slot * node->nb[1] + row.token * node->nb[2]);
  }
};

/// @brief Products over one input, appended to a graph as a few nodes.
///
/// Experts with few rows are computed by dot products, chunk by chunk, on whichever thread is free; experts with many
/// rows are handed to ggml's own MUL_MAT_ID, one at a time, over gathered rows. Both give the bits that stock
/// llama.cpp gives, because ggml chooses its kernel by the number of rows of each expert.
class Stage {
 public:
  /// @brief From this many rows on, ggml's tiled kernels take over (ggml_tiled_min_batch in ggml-cpu/tiled).
  static constexpr size_t kManyRows = 8;

  Stage(Execution& execution, std::vector<ExpertProduct> products, const std::vector<RoutedExpert>& routed);

  /// @brief True when `product` can be computed in this stage: same input, same ids, and results that do not overlap.
  bool accepts(const ExpertProduct& product) const;
  void add(const ExpertProduct& product) { _products.push_back(product); }

  /// @brief Orders the experts (resident first, then by rows, most first) and lists the planes in order of use.
  void order(std::vector<PlaneUse>* uses);
  size_t node_count() const;
  void append(ggml::Context* ctx, ggml::Graph* graph);

  const std::vector<ExpertProduct>& products() const { return _products; }
  ggml::Tensor* input() const { return _products.front().node->src[1]; }
  ggml::Tensor* ids() const { return _products.front().node->src[2]; }

 private:
  // The input converted to what a product's dot product takes.
  struct Converted {
    const ggml::CpuTypeTraits* traits;
    size_t row_bytes;
    std::vector<uint8_t> bytes;
  };
  // An expert with many rows, on its way through ggml's kernel.
  struct Batch {
    Stage* stage;
    size_t expert;  // index into _experts
    std::vector<ggml::Tensor*> weights;
    std::vector<const uint8_t*> results;
  };

  bool many(const RoutedExpert& expert) const { return expert.rows.size() >= kManyRows; }
  size_t use_of(size_t expert, size_t product) const { return _first_use + expert * _products.size() + product; }
  const uint8_t* input_row(const Converted& converted, const RoutedRow& row) const;
  Converted& converted_for(const ExpertProduct& product);

  void convert(int ith, int nth);
  void dot_products(int nth);
  void dot_chunk(size_t expert, size_t product, int64_t chunk);
  void gather(Batch& batch, int ith, int nth);
  void scatter(Batch& batch, int ith, int nth);
  void append_batch(ggml::Context* ctx, ggml::Graph* graph, size_t expert);

  Execution& _execution;
  std::vector<ExpertProduct> _products;
  std::vector<const RoutedExpert*> _experts;
  size_t _first_use = 0;
  size_t _first_small = 0;  // experts from here on have few rows
  std::vector<Converted> _converted;
  std::vector<size_t> _converted_index;  // of each product
  std::vector<int64_t> _chunk_rows;      // of each product
  std::vector<int64_t> _chunks;          // of each product
  std::atomic<int64_t> _next_item{0};
  std::unique_ptr<std::atomic<int64_t>[]> _left;  // chunks to do, by expert and product
  std::vector<std::unique_ptr<Batch>> _batches;
  std::vector<int32_t> _only_expert;            // ids of a batch: its rows all use the one expert it is given
  std::vector<std::vector<uint8_t>> _gathered;  // by converted form
  std::vector<std::vector<uint8_t>> _results;   // by product
};

}  // namespace edgemoe
