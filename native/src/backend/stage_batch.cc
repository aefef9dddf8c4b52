// A stage's experts with many rows: ggml's own MUL_MAT_ID over gathered rows, a block of weight rows at a time.
#include <algorithm>
#include <cstring>

#include "edgemoe/backend/stage.h"
#include "edgemoe/error.h"

namespace edgemoe {

using ggml::api;

Stage::Range Stage::block_of(size_t product, int64_t block) const {
  const int64_t rows = _products[product].rows();
  const auto edge = [&](int64_t b) { return b == _blocks ? rows : rows * b / _blocks / kRowGroup * kRowGroup; };
  return {edge(block), edge(block + 1)};
}

void Stage::batch_item(int64_t item, Bench& bench, ggml::ThreadPool* pool) {
  const size_t expert = static_cast<size_t>(item / _blocks);
  const int64_t block = item % _blocks;
  gather(expert, bench);
  multiply(expert, block, bench, pool);
  scatter(expert, block, bench);
  for (size_t p = 0; p < _products.size(); ++p) done(expert, p);
}

void Stage::gather(size_t expert, Bench& bench) const {
  const auto& rows = _experts[expert]->rows;
  bench.gathered.resize(_converted.size());
  for (size_t c = 0; c < _converted.size(); ++c) {
    const size_t row_bytes = _converted[c].row_bytes;
    bench.gathered[c].resize(std::max(bench.gathered[c].size(), rows.size() * row_bytes));
    for (size_t r = 0; r < rows.size(); ++r) {
      std::memcpy(bench.gathered[c].data() + r * row_bytes, input_row(_converted[c], rows[r]), row_bytes);
    }
  }
}

void Stage::multiply(size_t expert, int64_t block, Bench& bench, ggml::ThreadPool* pool) {
  const auto& g = api();
  const int64_t count = static_cast<int64_t>(_experts[expert]->rows.size());
  bench.graph.resize(g.ggml_graph_overhead_custom(_products.size(), false) + (4 * _products.size() + 1) * g.ggml_tensor_overhead() + 1024);
  std::unique_ptr<ggml::Context, void (*)(ggml::Context*)> ctx(g.ggml_init({bench.graph.size(), bench.graph.data(), true}), g.ggml_free);
  ggml::Graph* graph = g.ggml_new_graph_custom(ctx.get(), _products.size(), false);
  bench.results.resize(_products.size());
  bench.assembled.resize(_products.size());
  for (size_t i = 0; i < _products.size(); ++i) {
    const ExpertProduct& p = _products[i];
    const Range range = block_of(i, block);
    const int64_t rows = range.end - range.begin;
    bench.results[i].resize(std::max(bench.results[i].size(), sizeof(float) * static_cast<size_t>(rows * count)));
    ggml::Tensor* weights = g.ggml_new_tensor_3d(ctx.get(), p.weights->info->type, p.columns(), rows, 1);
    ggml::Tensor* x = g.ggml_new_tensor_3d(ctx.get(), p.traits->vec_dot_type, p.columns(), 1, count);
    ggml::Tensor* ids = g.ggml_new_tensor_3d(ctx.get(), ggml::kTypeI32, 1, count, 1);
    ggml::Tensor* result = g.ggml_new_tensor_3d(ctx.get(), ggml::kTypeF32, rows, 1, count);
    weights->data = const_cast<uint8_t*>(weight_rows(expert, i, range, bench.assembled[i]));
    x->data = bench.gathered[_converted_index[i]].data();
    ids->data = _only_expert.data();
    result->data = bench.results[i].data();
    result->op = ggml::kOpMulMatId;
    std::memcpy(result->op_params, p.node->op_params, sizeof(result->op_params));
    result->flags |= ggml::kFlagCompute;
    result->src[0] = weights;
    result->src[1] = x;
    result->src[2] = ids;
    g.ggml_graph_add_node(graph, result);
  }
  ggml::GraphPlan plan = g.ggml_graph_plan(graph, 1, pool);
  bench.work.resize(std::max(bench.work.size(), plan.work_size));
  plan.work_data = bench.work.data();
  if (g.ggml_graph_compute(graph, &plan) != ggml::kStatusSuccess) throw Error("ggml could not multiply by an expert's weights");
}

void Stage::scatter(size_t expert, int64_t block, const Bench& bench) const {
  const auto& rows = _experts[expert]->rows;
  for (size_t i = 0; i < _products.size(); ++i) {
    const Range range = block_of(i, block);
    const size_t bytes = sizeof(float) * static_cast<size_t>(range.end - range.begin);
    for (size_t r = 0; r < rows.size(); ++r) {
      std::memcpy(_products[i].result(rows[r]) + range.begin, bench.results[i].data() + r * bytes, bytes);
    }
  }
}

}  // namespace edgemoe
