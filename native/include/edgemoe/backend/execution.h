/// @file execution.h
/// Runs the part of a graph that llama.cpp's scheduler gave to us.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "edgemoe/backend/engine.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/stage.h"

namespace edgemoe {

/// @brief Memory that outlives single executions, so that a token allocates nothing large.
struct ExecutionScratch {
  std::vector<uint8_t> graph;
  std::vector<uint8_t> work;
};

/// @brief One call of graph_compute: expert products become custom nodes, everything else runs as stock nodes, all in one
/// ggml_graph_compute on the shared thread pool.
class Execution {
 public:
  Execution(ggml::Graph* graph, ExecutionScratch& scratch);

  /// @brief The engine whose tensors this graph uses; null when it uses none.
  Engine* engine() const { return _engine; }
  /// @throws the first error of any thread. @returns success or aborted.
  ggml::Status run(int threads, ggml::ThreadPool* pool);

  // For the nodes.
  bool failed() const { return _failed.load(std::memory_order_relaxed); }
  PlaneCache::Lease& lease() { return *_lease; }

  /// @brief A node that calls `work(ith, nth)` on every thread.
  using NodeWork = std::function<void(int ith, int nth)>;
  /// @brief Runs `work`, keeping what it throws: an exception must not leave a ggml worker thread.
  void guarded(const NodeWork& work, int ith, int nth) noexcept;
  void append_custom(ggml::Context* ctx, ggml::Graph* graph, NodeWork work);

 private:
  struct Step {
    ggml::Tensor* node = nullptr;  // a stock node, or
    Stage* stage = nullptr;        // a stage
  };
  struct CustomNode {
    Execution* execution;
    NodeWork work;
  };
  // Rows of an embedding read from disk, laid out as the table that a stock GET_ROWS then takes them from.
  struct RowTable {
    ggml::Tensor* node;
    std::vector<uint8_t> rows;
    std::vector<int32_t> ids;
    int64_t count;
  };

  void plan_products(ggml::Tensor* node);
  void plan_rows(ggml::Tensor* node);
  const std::vector<RoutedExpert>& routing(const ggml::Tensor* ids, uint32_t experts);
  void append_rows(ggml::Context* ctx, ggml::Graph* graph, RowTable& table);
  ggml::Graph* build(ggml::Context* ctx);
  ggml::Status compute(ggml::Graph* graph, int threads, ggml::ThreadPool* pool);

  ggml::Graph* _graph;
  ExecutionScratch& _scratch;
  Engine* _engine = nullptr;
  std::vector<Step> _steps;
  std::deque<Stage> _stages;
  std::deque<RowTable> _tables;
  std::deque<CustomNode> _custom;
  std::unordered_map<const ggml::Tensor*, std::vector<RoutedExpert>> _routing;
  std::vector<std::pair<uint32_t, const ggml::Tensor*>> _routed;  // groups and their ids, once each
  std::unique_ptr<PlaneCache::Lease> _lease;
  std::atomic<bool> _failed{false};
  std::mutex _error_mutex;
  std::exception_ptr _error;
};

/// @brief The stored tensor behind an operand, or null when it is an ordinary tensor.
const StoredTensor* stored_tensor(const ggml::Tensor* operand);

}  // namespace edgemoe
