#include "edgemoe/backend/execution.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "edgemoe/error.h"

namespace edgemoe {
namespace {

using ggml::api;

}  // namespace

Execution::Execution(ggml::Graph* graph, ExecutionScratch& scratch) : _graph(graph), _scratch(scratch) {
  const int nodes = api().ggml_graph_n_nodes(graph);
  for (int i = 0; i < nodes && !_engine; ++i) {
    const ggml::Tensor* node = api().ggml_graph_node(graph, i);
    if (const StoredTensor* stored = node->src[0] ? stored_tensor(node->src[0]) : nullptr) _engine = stored->engine;
  }
}

const std::vector<RoutedExpert>& Execution::routing(const ggml::Tensor* ids, uint32_t experts) {
  const auto it = _routing.find(ids);
  return it != _routing.end() ? it->second : _routing.emplace(ids, group_rows(*ids, experts)).first->second;
}

void Execution::plan_products(ggml::Tensor* node) {
  const StoredTensor* weights = stored_tensor(node->src[0]);
  const auto& routed = routing(node->src[2], weights->experts());
  if (_engine->enter(*weights, node->src[2], node->src[1], routed)) _routed.emplace_back(weights->group, node->src[2]);
  const ExpertProduct product(node, weights);
  Stage* last = _steps.empty() ? nullptr : _steps.back().stage;
  if (last && last->accepts(product)) {
    last->add(product);
  } else {
    _stages.emplace_back(*this, std::vector<ExpertProduct>{product}, routed);
    _steps.push_back({nullptr, &_stages.back()});
  }
}

void Execution::plan_rows(ggml::Tensor* node) {
  const StoredTensor* stored = stored_tensor(node->src[0]);
  const ggml::Tensor* ids = node->src[1];
  const int64_t count = ids->ne[0] * ids->ne[1] * ids->ne[2];
  const size_t row_bytes = node->src[0]->nb[1];
  std::vector<int32_t> wanted;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t row = static_cast<const int32_t*>(ids->data)[i];
    if (row < 0 || row >= stored->info->ne[1]) throw ModelError("token " + std::to_string(row) + " is outside the vocabulary");
    wanted.push_back(row);
  }
  _tables.push_back({node, std::vector<uint8_t>(row_bytes * wanted.size()), std::vector<int32_t>(wanted.size()), count});
  for (size_t i = 0; i < wanted.size(); ++i) _tables.back().ids[i] = static_cast<int32_t>(i);
  _engine->read_rows(*stored, wanted, _tables.back().rows.data());
}

void Execution::append_rows(ggml::Context* ctx, ggml::Graph* graph, RowTable& table) {
  const auto& g = api();
  const ggml::Tensor* source = table.node->src[0];
  ggml::Tensor* rows = g.ggml_new_tensor_3d(ctx, source->type, source->ne[0], table.count, 1);
  rows->data = table.rows.data();
  ggml::Tensor* ids = g.ggml_new_tensor_3d(ctx, ggml::kTypeI32, table.count, 1, 1);
  ids->data = table.ids.data();
  ggml::Tensor* result = g.ggml_new_tensor_3d(ctx, table.node->type, table.node->ne[0], table.count, 1);
  result->data = table.node->data;
  result->op = ggml::kOpGetRows;
  result->flags |= ggml::kFlagCompute;
  result->src[0] = rows;
  result->src[1] = ids;
  g.ggml_graph_add_node(graph, result);
}

void Execution::append_custom(ggml::Context* ctx, ggml::Graph* graph, NodeWork work) {
  const auto& g = api();
  _custom.push_back({this, std::move(work)});
  ggml::Tensor* node = g.ggml_new_tensor_3d(ctx, ggml::kTypeF32, 1, 1, 1);
  node->data = node;  // the result is written through the work's own pointers
  node->op = ggml::kOpCustom;
  node->flags |= ggml::kFlagCompute;
  const ggml::CustomOpParams params{[](ggml::Tensor*, int ith, int nth, void* userdata) {
                                      auto* custom = static_cast<CustomNode*>(userdata);
                                      custom->execution->guarded(custom->work, ith, nth);
                                    },
                                    ggml::kTasksMax, &_custom.back()};
  std::memcpy(node->op_params, &params, sizeof(params));
  g.ggml_graph_add_node(graph, node);
}

void Execution::guarded(const NodeWork& work, int ith, int nth) noexcept {
  if (failed()) return;
  try {
    work(ith, nth);
  } catch (...) {
    std::lock_guard lock(_error_mutex);
    if (!_error) _error = std::current_exception();
    _failed = true;
  }
}

ggml::Graph* Execution::build(ggml::Context* ctx) {
  size_t nodes = 0;
  for (const Step& step : _steps) nodes += step.stage ? Stage::kNodes : 1;
  ggml::Graph* graph = api().ggml_new_graph_custom(ctx, nodes, false);
  if (_engine) _engine->note_compute_buffer(api().ggml_graph_node(_graph, 0)->buffer);
  size_t table = 0;
  for (const Step& step : _steps) {
    if (step.stage) {
      step.stage->append(ctx, graph);
    } else if (table < _tables.size() && _tables[table].node == step.node) {
      append_rows(ctx, graph, _tables[table++]);
    } else {
      api().ggml_graph_add_node(graph, step.node);
    }
  }
  return graph;
}

ggml::Status Execution::run(int threads, ggml::ThreadPool* pool) {
  const auto& g = api();
  const auto started = std::chrono::steady_clock::now();
  const int count = g.ggml_graph_n_nodes(_graph);
  for (int i = 0; i < count; ++i) {
    ggml::Tensor* node = g.ggml_graph_node(_graph, i);
    if (!(node->flags & ggml::kFlagCompute)) continue;  // ggml skips these too: an input that this batch does not use
    const StoredTensor* stored = node->src[0] ? stored_tensor(node->src[0]) : nullptr;
    if (stored && !stored->rows && node->op == ggml::kOpMulMatId) {
      plan_products(node);
      continue;
    }
    if (stored && stored->rows && node->op == ggml::kOpGetRows) plan_rows(node);
    _steps.push_back({node, nullptr});
  }

  std::vector<PlaneUse> uses;
  size_t tensors = _tables.size() * 3;
  size_t nodes = _steps.size();
  for (Stage& stage : _stages) {
    stage.order(&uses);
    nodes += Stage::kNodes;
    tensors += Stage::kNodes;
  }
  _scratch.graph.resize(g.ggml_graph_overhead_custom(nodes, false) + (tensors + 1) * g.ggml_tensor_overhead() + 1024);
  std::unique_ptr<ggml::Context, void (*)(ggml::Context*)> ctx(g.ggml_init({_scratch.graph.size(), _scratch.graph.data(), true}),
                                                              g.ggml_free);
  if (!uses.empty()) {
    _lease = std::make_unique<PlaneCache::Lease>(_engine->cache(), std::move(uses), _engine->tokens(), _engine->abort_function());
    for (const auto& [group, ids] : _routed) _engine->read_ahead(group, ids, _routing.at(ids));
  }
  const ggml::Status status = compute(build(ctx.get()), threads, pool);
  _lease.reset();
  if (_engine) _engine->add_expert_time(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
  return status;
}

ggml::Status Execution::compute(ggml::Graph* graph, int threads, ggml::ThreadPool* pool) {
  ggml::GraphPlan plan = api().ggml_graph_plan(graph, threads, pool);
  if (_scratch.work.size() < plan.work_size) _scratch.work.resize(plan.work_size);
  plan.work_data = _scratch.work.data();
  plan.abort_callback = [](void* data) {
    const auto* self = static_cast<const Execution*>(data);
    return self->failed() || (self->_engine && self->_engine->cancelled());
  };
  plan.abort_callback_data = this;
  const ggml::Status status = api().ggml_graph_compute(graph, &plan);
  if (_error) {
    try {
      std::rethrow_exception(_error);
    } catch (const Aborted&) {
      return ggml::kStatusAborted;
    }
  }
  return status;
}

}  // namespace edgemoe
