#include "edgemoe/backend/stage.h"

#include <algorithm>
#include <cstring>

#include "edgemoe/backend/execution.h"

namespace edgemoe {
namespace {

using ggml::api;

// A chunk of weight rows that one thread computes: it fits a level-2 cache, and takes a few microseconds.
constexpr size_t kChunkBytes = 96 * 1024;
constexpr int64_t kItemsPerThread = 4;

bool overlap(const ggml::Tensor* a, const ggml::Tensor* b) {
  const auto* x = static_cast<const char*>(a->data);
  const auto* y = static_cast<const char*>(b->data);
  return x < y + api().ggml_nbytes(b) && y < x + api().ggml_nbytes(a);
}

}  // namespace

ExpertProduct::ExpertProduct(ggml::Tensor* product, const StoredTensor* stored) : node(product), weights(stored) {
  const PackTensor* pack = stored->info->pack;
  if (pack) {
    const bool whole = static_cast<int>(stored->levels) > kernels::last_level(pack->format, true) && stored->chosen->empty();
    kind = pack->format != kernels::Format::kT16 && whole ? Weights::kAssembled : Weights::kPlanes;
  }
  if (kind != Weights::kPlanes) traits = api().ggml_get_type_traits_cpu(stored->info->type);
  row_bytes = kind == Weights::kPlanes ? stored->expert_bytes() / static_cast<size_t>(rows())
                                       : api().ggml_row_size(stored->info->type, columns());
}

Stage::Stage(Execution& execution, std::vector<ExpertProduct> products, const std::vector<RoutedExpert>& routed)
    : _execution(execution), _products(std::move(products)) {
  for (const RoutedExpert& expert : routed) _experts.push_back(&expert);
}

bool Stage::accepts(const ExpertProduct& product) const {
  if (product.node->src[1] != input() || product.node->src[2] != ids()) return false;
  // The scheduler may lay a later result over memory that is free by then; computed early, it must not.
  if (overlap(product.node, input()) || overlap(product.node, ids())) return false;
  return std::none_of(_products.begin(), _products.end(), [&](const ExpertProduct& p) { return overlap(p.node, product.node); });
}

bool Stage::many(const RoutedExpert& expert) const {
  // The kernels on planes take any number of rows.
  return expert.rows.size() >= kManyRows &&
         std::none_of(_products.begin(), _products.end(), [](const ExpertProduct& p) { return p.kind == Weights::kPlanes; });
}

void Stage::order(std::vector<PlaneUse>* uses) {
  const Engine& engine = *_products.front().weights->engine;
  const auto resident = [&](const RoutedExpert* e) {
    return std::all_of(_products.begin(), _products.end(), [&](const ExpertProduct& p) { return engine.resident(*p.weights, e->expert); });
  };
  std::vector<std::pair<int, const RoutedExpert*>> ranked;
  for (const RoutedExpert* e : _experts) ranked.push_back({(many(*e) ? 0 : 2) + (resident(e) ? 0 : 1), e});
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.second->rows.size() > b.second->rows.size();
  });
  _first_small = _experts.size();
  for (size_t i = 0; i < ranked.size(); ++i) {
    _experts[i] = ranked[i].second;
    if (!many(*_experts[i])) _first_small = std::min(_first_small, i);
    for (const ExpertProduct& p : _products) {
      _uses.push_back(uses->size());
      for (uint32_t level = 0; level < p.weights->levels_of(_experts[i]->expert); ++level) {
        // Where planes are chosen for each batch, the engine has counted their uses.
        const float weight = engine.chooses() ? 0 : static_cast<float>(_experts[i]->rows.size());
        uses->push_back({p.weights->plane(_experts[i]->expert, level), weight});
      }
    }
  }
}

void Stage::append(ggml::Context* ctx, ggml::Graph* graph) {
  const ggml::Tensor* x = input();
  const int64_t input_rows = x->ne[1] * x->ne[2];
  for (const ExpertProduct& p : _products) {
    const ggml::Type type = p.traits ? p.traits->vec_dot_type : ggml::kTypeCount;
    size_t index = 0;
    while (index < _converted.size() && _converted[index].type != type) ++index;
    if (index == _converted.size()) {
      const size_t row_bytes = p.traits ? api().ggml_row_size(type, x->ne[0]) : kernels::activation_bytes(x->ne[0]);
      _converted.push_back({type, row_bytes, std::vector<uint8_t>(row_bytes * static_cast<size_t>(input_rows))});
    }
    _converted_index.push_back(index);
    _chunk_rows.push_back(std::clamp<int64_t>(static_cast<int64_t>(kChunkBytes / p.row_bytes), 1, p.rows()));
    _chunks.push_back((p.rows() + _chunk_rows.back() - 1) / _chunk_rows.back());
  }
  size_t most_rows = 0;
  for (size_t e = 0; e < _first_small; ++e) most_rows = std::max(most_rows, _experts[e]->rows.size());
  _only_expert.assign(most_rows, 0);
  _execution.append_custom(ctx, graph, [this](int ith, int nth) { convert(ith, nth); });
  _execution.append_custom(ctx, graph, [this](int ith, int nth) { work(ith, nth); });
}

const uint8_t* Stage::input_row(const Converted& converted, const RoutedRow& row) const {
  // An input [n, 1, tokens] is shared by the experts of a token; [n, used, tokens] has a row for each.
  const int64_t per_token = input()->ne[1];
  return converted.bytes.data() + static_cast<size_t>(row.slot % per_token + row.token * per_token) * converted.row_bytes;
}

void Stage::observe() const {
  Observer* observer = _execution.engine()->observer();
  if (!observer || !observer->wants(_products.front().weights->group)) return;
  std::vector<const StoredTensor*> tensors;
  for (const ExpertProduct& p : _products) tensors.push_back(p.weights);
  const ggml::Tensor* x = input();
  for (const RoutedExpert* expert : _experts) {
    for (const RoutedRow& row : expert->rows) {
      const char* from = static_cast<const char*>(x->data) + row.token * x->nb[2] + row.slot % x->ne[1] * x->nb[1];
      observer->add(tensors, expert->expert, reinterpret_cast<const float*>(from), x->ne[0]);
    }
  }
}

void Stage::convert(int ith, int nth) {
  if (ith == 0) observe();
  const ggml::Tensor* x = input();
  for (Converted& c : _converted) {
    const ggml::Type type = c.type;
    if (type == ggml::kTypeCount) {
      for (int64_t row = ith; row < x->ne[1] * x->ne[2]; row += nth) {
        const char* from = static_cast<const char*>(x->data) + row / x->ne[1] * x->nb[2] + row % x->ne[1] * x->nb[1];
        kernels::convert_activation(reinterpret_cast<const float*>(from), x->ne[0], c.bytes.data() + static_cast<size_t>(row) * c.row_bytes);
      }
      continue;
    }
    const ggml::FromFloat from_float = api().ggml_get_type_traits_cpu(type)->from_float;
    // Every thread takes the same share of every row, as ggml does: with one token there is only one row.
    const int64_t block = api().ggml_blck_size(type);
    const int64_t blocks = x->ne[0] / block;
    const int64_t begin = ith * blocks / nth * block;
    const int64_t end = (ith + 1) * blocks / nth * block;
    const size_t begin_bytes = api().ggml_row_size(type, begin);
    uint8_t* out = c.bytes.data() + begin_bytes;
    for (int64_t i2 = 0; i2 < x->ne[2]; ++i2) {
      for (int64_t i1 = 0; i1 < x->ne[1]; ++i1, out += c.row_bytes) {
        const char* row = static_cast<const char*>(x->data) + i2 * x->nb[2] + i1 * x->nb[1];
        const float* in = reinterpret_cast<const float*>(row) + begin;
        if (type == ggml::kTypeF32) {
          std::memcpy(out, in, sizeof(float) * static_cast<size_t>(end - begin));
        } else {
          from_float(in, out, end - begin);
        }
      }
    }
  }
}

void Stage::cut(int nth) {
  // Enough items to keep every thread busy to the end; one an expert where there are many experts.
  if (_first_small > 0) {
    const auto wanted = (kItemsPerThread * nth + static_cast<int64_t>(_first_small) - 1) / static_cast<int64_t>(_first_small);
    int64_t most = _products.front().rows() / kRowGroup;
    for (const ExpertProduct& p : _products) most = std::min(most, p.rows() / kRowGroup);
    _blocks = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(most, 1));
  }
  _left.reset(new std::atomic<int64_t>[_experts.size() * _products.size()]);
  for (size_t e = 0; e < _experts.size(); ++e) {
    for (size_t p = 0; p < _products.size(); ++p) _left[e * _products.size() + p] = e < _first_small ? _blocks : _chunks[p];
  }
}

void Stage::work(int ith, int nth) {
  std::call_once(_cut, [&] { cut(nth); });
  const int64_t batches = static_cast<int64_t>(_first_small) * _blocks;
  int64_t chunks = 0;
  for (const int64_t c : _chunks) chunks += c;
  const int64_t items = batches + chunks * static_cast<int64_t>(_experts.size() - _first_small);
  Bench bench;
  for (;;) {
    const int64_t item = _next_item.fetch_add(1, std::memory_order_relaxed);
    if (item >= items || _execution.failed()) return;
    if (_execution.engine()->cancelled()) throw Aborted{};
    if (item < batches) {
      batch_item(item, bench, _execution.engine()->single_thread_pool(ith));
    } else {
      dot_item(item - batches, bench);
    }
  }
}

void Stage::dot_item(int64_t item, Bench& bench) {
  int64_t chunks = 0;
  for (const int64_t c : _chunks) chunks += c;
  const size_t expert = _first_small + static_cast<size_t>(item / chunks);
  int64_t chunk = item % chunks;
  size_t product = 0;
  while (chunk >= _chunks[product]) chunk -= _chunks[product++];
  dot_chunk(expert, product, chunk, bench);
}

kernels::Matrix Stage::matrix(size_t expert, size_t product) const {
  const StoredTensor& weights = *_products[product].weights;
  kernels::Matrix matrix = weights.info->pack->matrix();
  for (uint32_t level = 0; level < weights.levels_of(_experts[expert]->expert); ++level) {
    matrix.planes[level] = _execution.lease().wait(use_of(expert, product) + level);
  }
  return matrix;
}

const uint8_t* Stage::weight_rows(size_t expert, size_t product, Range range, std::vector<uint8_t>& assembled) const {
  const ExpertProduct& p = _products[product];
  if (p.kind == Weights::kGgml) return _execution.lease().wait(use_of(expert, product)) + static_cast<size_t>(range.begin) * p.row_bytes;
  assembled.resize(std::max(assembled.size(), static_cast<size_t>(range.end - range.begin) * p.row_bytes));
  kernels::assemble(matrix(expert, product), range.begin, range.end, assembled.data());
  return assembled.data();
}

void Stage::done(size_t expert, size_t product) {
  if (_left[expert * _products.size() + product].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (uint32_t level = 0; level < _products[product].weights->levels_of(_experts[expert]->expert); ++level) {
    _execution.lease().release(use_of(expert, product) + level);
  }
}

void Stage::dot_chunk(size_t expert, size_t product, int64_t chunk, Bench& bench) {
  const ExpertProduct& p = _products[product];
  const Range range{chunk * _chunk_rows[product], std::min((chunk + 1) * _chunk_rows[product], p.rows())};
  if (p.kind == Weights::kPlanes) {
    plane_chunk(expert, product, range, bench);
    return;
  }
  bench.assembled.resize(_products.size());
  const uint8_t* weights = weight_rows(expert, product, range, bench.assembled[product]);
  const Converted& converted = _converted[_converted_index[product]];
  const int n = static_cast<int>(p.columns());
  for (const RoutedRow& row : _experts[expert]->rows) {
    const uint8_t* x = input_row(converted, row);
    float* result = p.result(row);
    for (int64_t r = range.begin; r < range.end; ++r) {
      p.traits->vec_dot(n, result + r, 0, weights + static_cast<size_t>(r - range.begin) * p.row_bytes, 0, x, 0, 1);
    }
  }
  done(expert, product);
}

void Stage::plane_chunk(size_t expert, size_t product, Range range, Bench& bench) {
  const ExpertProduct& p = _products[product];
  const Converted& converted = _converted[_converted_index[product]];
  bench.inputs.clear();
  bench.outputs.clear();
  for (const RoutedRow& row : _experts[expert]->rows) {
    bench.inputs.push_back(input_row(converted, row));
    bench.outputs.push_back(p.result(row));
  }
  const int level = static_cast<int>(p.weights->levels_of(_experts[expert]->expert)) - 1;
  kernels::multiply(matrix(expert, product), level, range.begin, range.end, bench.inputs.data(), static_cast<int>(bench.inputs.size()),
                    bench.outputs.data());
  done(expert, product);
}

}  // namespace edgemoe
