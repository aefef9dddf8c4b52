#include "edgemoe/backend/engine.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/error.h"
#include "edgemoe/platform/memory.h"

namespace edgemoe {
namespace {

thread_local Engine* loading_engine = nullptr;

constexpr size_t kRowPiece = 64 * 1024;
constexpr char kEmbedding[] = "token_embd.weight";

int layer_of(const ExpertGroup& group) { return std::stoi(group.name.substr(std::strlen("blk."))); }

// Those that lie wholly in a buffer.
void discard_pages(uint8_t* base, size_t size) {
  const uint64_t page = platform::page_size();
  const uint64_t begin = align_up(reinterpret_cast<uintptr_t>(base), page);
  const uint64_t end = align_down(reinterpret_cast<uintptr_t>(base) + size, page);
  if (base && begin < end) platform::discard(reinterpret_cast<void*>(begin), end - begin);
}

}  // namespace

Engine::Engine(std::shared_ptr<const ModelFile> model, const EngineSettings& settings)
    : _model(std::move(model)), _settings(settings), _pool(settings.io_threads) {
  list_tensors();
}

Engine::~Engine() {
  if (loading_engine == this) loading_engine = nullptr;
  _cache.reset();
  for (ggml::ThreadPool* pool : _single_pools) ggml::api().ggml_threadpool_free(pool);
  if (_thread_pool) ggml::api().ggml_threadpool_free(_thread_pool);
}

void Engine::list_tensors() {
  std::map<std::string, std::vector<StoredTensor*>> by_group;
  for (const TensorInfo& info : _model->tensors()) {
    const bool rows = _settings.embedding_on_disk && info.name == kEmbedding;
    if (!info.expert && !rows) continue;
    if (info.expert && !info.pack && !ggml::api().ggml_get_type_traits_cpu(info.type)->vec_dot) {
      throw ModelError("tensor " + info.name + " has the type " + ggml::api().ggml_type_name(info.type) +
                       ", by which nothing can be multiplied");
    }
    auto stored = std::make_unique<StoredTensor>();
    stored->engine = this;
    stored->info = &info;
    stored->rows = rows;
    if (info.pack) {
      const int last = kernels::last_level(info.pack->format, _model->pack()->levels() == kernels::kLevelCount);
      stored->levels = static_cast<uint32_t>(std::min({last, _model->pack()->levels() - 1, _settings.top_level}) + 1);
    }
    if (!rows) by_group[routing_group(info.name)].push_back(stored.get());
    _stored.emplace(info.name, std::move(stored));
  }
  for (auto& [name, members] : by_group) {
    _groups.emplace_back();
    _groups.back().name = name;
    _groups.back().members = members;
  }
  std::stable_sort(_groups.begin(), _groups.end(),
                   [](const ExpertGroup& a, const ExpertGroup& b) { return layer_of(a) < layer_of(b); });
  for (uint32_t g = 0; g < _groups.size(); ++g) {
    for (StoredTensor* member : _groups[g].members) {
      member->group = g;
      member->chosen = &_groups[g].planes;
    }
    list_planes(_groups[g]);
  }
}

void Engine::list_planes(ExpertGroup& group) const {
  for (const StoredTensor* member : group.members) group.levels = std::max(group.levels, member->levels);
  group.plane_bytes.assign(group.levels, 0);
  for (const StoredTensor* member : group.members) {
    group.weights += static_cast<uint64_t>(member->info->ne[0] * member->info->ne[1]);
    for (uint32_t level = 0; level < member->levels; ++level) {
      group.plane_bytes[level] += member->info->pack ? member->info->pack->planes[level].bytes : member->expert_bytes();
    }
  }
  if (!_model->pack()) return;
  group.errors = &_model->pack()->errors(group.name);
  group.head = _model->pack()->head(group.name);
}

void Engine::skip(const std::string& tensor) {
  const auto it = _stored.find(tensor);
  if (it != _stored.end()) it->second->live = false;
}

Engine* Engine::loading() { return loading_engine; }

std::FILE* Engine::begin_load(bool planning) {
  _load_error.clear();
  _load_file = std::make_unique<VirtualFile>(
      *_model, !planning, [this](const TensorInfo& tensor) { return _stored.count(tensor.name) != 0; }, planning ? nullptr : &_pool);
  if (!planning) loading_engine = this;
  for (auto& [name, stored] : _stored) stored->live = planning;
  return _load_file->stream();
}

void Engine::end_load(bool loaded) {
  if (loading_engine == this) loading_engine = nullptr;
  if (_load_file) _load_error = _load_file->error();
  _load_file.reset();
  for (const auto& [tensor, stored] : _nameless) {
    if (loaded) stored->info->name.copy(tensor->name, sizeof(tensor->name) - 1);
  }
  _nameless.clear();
}

std::string Engine::load_error() const { return _load_error; }

std::string Engine::pattern() const {
  std::set<std::string> kinds;
  std::string pattern;
  for (const auto& [name, stored] : _stored) {
    if (stored->rows) {
      pattern = "^" + name + "$|";
    } else {
      kinds.insert(name.substr(name.find('.', 4) + 1));
    }
  }
  pattern += "^blk[.][0-9]+[.](";
  for (const std::string& kind : kinds) pattern += (kind == *kinds.begin() ? "" : "|") + kind;
  return pattern + ")$";
}

bool Engine::adopt(ggml::Tensor* tensor) {
  const auto it = _stored.find(tensor->name);
  if (it == _stored.end()) return false;
  it->second->live = true;
  tensor->extra = it->second.get();
  std::memset(tensor->name, 0, sizeof(tensor->name));
  _nameless.emplace_back(tensor, it->second.get());
  return true;
}

uint64_t StoredTensor::expert_bytes() const {
  if (!info->pack) return info->bytes / static_cast<uint64_t>(info->ne[2]);
  uint64_t bytes = 0;
  for (uint32_t level = 0; level < levels; ++level) bytes += info->pack->planes[level].bytes;
  return bytes;
}

void Engine::create_cache() {
  std::vector<Plane> planes;
  for (ExpertGroup& group : _groups) {
    for (StoredTensor* tensor : group.members) {
      if (!tensor->live) continue;
      tensor->first_plane = static_cast<uint32_t>(planes.size());
      for (uint32_t e = 0; e < tensor->experts(); ++e) {
        if (!tensor->info->pack) {
          planes.push_back({tensor->info->file, tensor->info->offset + e * tensor->expert_bytes(), tensor->expert_bytes()});
          continue;
        }
        for (uint32_t level = 0; level < tensor->levels; ++level) {
          const PlanePlace& place = tensor->info->pack->planes[level];
          planes.push_back({0, place.offset + e * place.stride, place.bytes});
        }
      }
    }
  }
  _cache = std::make_unique<PlaneCache>(_model->files(), std::move(planes), _pool, _settings.cache);
}

PlaneCache& Engine::cache() {
  if (!_cache) create_cache();
  return *_cache;
}

uint64_t Engine::minimum_cache(uint32_t experts_used) {
  uint64_t bytes = 0;
  for (const ExpertGroup& group : _groups) {
    std::vector<uint32_t> planes;
    for (const StoredTensor* tensor : group.members) {
      for (uint32_t e = 0; tensor->live && e < std::min(experts_used, tensor->experts()); ++e) {
        for (uint32_t level = 0; level < tensor->levels; ++level) planes.push_back(tensor->plane(e, level));
      }
    }
    bytes = cache().require(planes);
  }
  return bytes;
}

uint64_t Engine::full_cache() { return cache().total_bytes(); }

uint64_t Engine::set_cache(uint64_t bytes) {
  cache().resize(bytes);
  return cache().stats().capacity_bytes;
}

void Engine::attach(void* llama_context, int threads) {
  const auto& g = ggml::api();
  ggml::ThreadPoolParams params = g.ggml_threadpool_params_default(threads);
  _thread_pool = g.ggml_threadpool_new(&params);
  if (!_thread_pool) throw Error("cannot create a thread pool of " + std::to_string(threads) + " threads");
  ggml::ThreadPoolParams single = g.ggml_threadpool_params_default(1);
  for (int i = 0; i < threads; ++i) _single_pools.push_back(g.ggml_threadpool_new(&single));
  g.llama_attach_threadpool(llama_context, _thread_pool, _thread_pool);
  const auto between_nodes = [](void* data) {
    auto* engine = static_cast<Engine*>(data);
    engine->note_work_buffer();
    return engine->cancelled();
  };
  g.llama_set_abort_callback(llama_context, between_nodes, this);
}

void Engine::detach(void* llama_context) {
  _work_base = nullptr;
  ggml::api().llama_detach_threadpool(llama_context);
}

void Engine::note_compute_buffer(const ggml::Buffer* buffer) {
  if (!buffer || buffer->usage != ggml::kUsageCompute || !ggml::api().ggml_backend_buft_is_host(buffer->buft)) return;
  _compute_base = static_cast<uint8_t*>(buffer->iface.get_base(const_cast<ggml::Buffer*>(buffer)));
  _compute_size = buffer->size;
}

void Engine::note_work_buffer() {
  const ggml::GraphPlan& plan = *_thread_pool->plan;
  _work_size = plan.work_data == _work_base ? std::max(_work_size, plan.work_size) : plan.work_size;
  _work_base = plan.work_data;
}

void Engine::release_compute() {
  discard_pages(_compute_base, _compute_size);
  discard_pages(_work_base, _work_size);
  forget_compute_buffer();
}

void Engine::set_error(std::exception_ptr error) {
  std::lock_guard lock(_error_mutex);
  if (!_error) _error = error;
}

std::exception_ptr Engine::take_error() {
  std::lock_guard lock(_error_mutex);
  return std::exchange(_error, nullptr);
}

void Engine::observe(const std::set<uint32_t>& groups) {
  for (const uint32_t group : groups) {
    if (group >= _groups.size()) throw Error("there is no group " + std::to_string(group));
  }
  _observer = groups.empty() ? nullptr : std::make_unique<Observer>(groups);
}

std::vector<ObservedWeights> Engine::take_weights() { return _observer ? _observer->take_weights() : std::vector<ObservedWeights>{}; }

std::vector<ObservedInput> Engine::take_inputs() { return _observer ? _observer->take() : std::vector<ObservedInput>{}; }

void Engine::record_trace(bool on) {
  std::lock_guard lock(_stats_mutex);
  _tracing = on;
}

std::vector<RoutingEvent> Engine::take_trace() {
  std::lock_guard lock(_stats_mutex);
  return std::exchange(_trace, {});
}

EngineStats Engine::stats() const {
  EngineStats stats;
  {
    std::lock_guard lock(_stats_mutex);
    stats.hits = _hits;
    stats.misses = _misses;
    stats.used_bits = _used_bits;
    stats.used_weights = _used_weights;
  }
  stats.expert_time = _expert_time;
  stats.bytes_read = _pool.bytes_read();
  if (_cache) {
    const CacheStats cache = _cache->stats();
    stats.io_wait = cache.wait_seconds;
    stats.cache_bytes = cache.capacity_bytes;
    stats.resident_bytes = cache.resident_bytes;
    stats.expert_bytes = _cache->total_bytes();
  }
  return stats;
}

void Engine::read_rows(const StoredTensor& tensor, const std::vector<int32_t>& rows, uint8_t* dst) {
  if (!_row_reader) _row_reader = std::make_unique<CopyReader>(_pool, kRowPiece);
  const uint64_t row_bytes = tensor.info->bytes / static_cast<uint64_t>(tensor.info->ne[1]);
  std::vector<CopyRange> ranges;
  for (const int32_t row : rows) {
    ranges.push_back({&_model->files()[tensor.info->file], tensor.info->offset + row_bytes * static_cast<uint64_t>(row), row_bytes, dst});
    dst += row_bytes;
  }
  _row_reader->read(ranges);
}

}  // namespace edgemoe
