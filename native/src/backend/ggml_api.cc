#include "edgemoe/backend/ggml_api.h"

#include <string>

#include "edgemoe/error.h"
#include "edgemoe/platform/library.h"

namespace edgemoe::ggml {
namespace {

Api table;
bool bound = false;

void expect(bool holds, const std::string& what) {
  if (!holds) {
    throw Error("the installed llama-cpp-python does not behave as the version edgemoe was built for: " + what);
  }
}

}  // namespace

void bind_api(void* handle) {
  Api found;
  const auto take = [handle](const char* name) {
    void* symbol = platform::find_symbol(handle, name);
    if (!symbol) throw Error(std::string("the installed llama-cpp-python has no function ") + name);
    return symbol;
  };
#define EDGEMOE_TAKE(result, name, arguments) found.name = reinterpret_cast<result(*) arguments>(take(#name));
  EDGEMOE_GGML_FUNCTIONS(EDGEMOE_TAKE)
#undef EDGEMOE_TAKE
  table = found;
  bound = true;
}

const Api& api() {
  if (!bound) throw Error("the llama library has not been bound yet");
  return table;
}

namespace {

// Computes a graph on a pool, which then has to name both.
bool pool_has_plan(Graph* graph) {
  const Api& g = api();
  ThreadPoolParams params = g.ggml_threadpool_params_default(1);
  ThreadPool* pool = g.ggml_threadpool_new(&params);
  if (!pool) return false;
  GraphPlan plan = g.ggml_graph_plan(graph, 1, pool);
  const bool computed = g.ggml_graph_compute(graph, &plan) == kStatusSuccess;
  const bool named = pool->graph == graph && pool->plan == &plan;
  g.ggml_threadpool_free(pool);
  return computed && named;
}

}  // namespace

void check_api() {
  const Api& g = api();
  expect(g.ggml_tensor_overhead() >= sizeof(Tensor), "tensor size");
  expect(g.ggml_type_size(kTypeF32) == 4 && g.ggml_blck_size(kTypeF32) == 1, "type F32");
  expect(std::string(g.ggml_type_name(kTypeI32)) == "i32", "type I32");
  const ThreadPoolParams pool = g.ggml_threadpool_params_default(3);
  expect(pool.n_threads == 3 && !pool.paused, "ggml_threadpool_params_default");

  alignas(16) static uint8_t memory[64 * 1024];
  Context* ctx = g.ggml_init({sizeof(memory), memory, true});
  expect(ctx != nullptr, "ggml_init");
  Tensor* tensor = g.ggml_new_tensor_3d(ctx, kTypeF32, 5, 3, 2);
  const bool shape = tensor->ne[0] == 5 && tensor->ne[1] == 3 && tensor->ne[2] == 2 && tensor->nb[1] == 20 &&
                     tensor->op == kOpNone && tensor->data == nullptr && g.ggml_nbytes(tensor) == 120;
  Graph* graph = g.ggml_new_graph_custom(ctx, 8, false);
  g.ggml_graph_add_node(graph, tensor);
  const bool node = g.ggml_graph_n_nodes(graph) == 1 && g.ggml_graph_node(graph, 0) == tensor;
  const GraphPlan plan = g.ggml_graph_plan(graph, 2, nullptr);
  const bool pooled = pool_has_plan(graph);
  g.ggml_free(ctx);
  expect(shape, "layout of a tensor");
  expect(node, "graph accessors");
  expect(pooled, "the beginning of a thread pool");
  expect(plan.n_threads >= 1 && plan.n_threads <= 2 && plan.abort_callback == nullptr, "ggml_graph_plan");

  const CpuTypeTraits* f32 = g.ggml_get_type_traits_cpu(kTypeF32);
  expect(f32->vec_dot_type == kTypeF32 && f32->vec_dot != nullptr, "CPU type traits");
  const float x[4] = {1, 2, 3, 4};
  float dot = 0;
  f32->vec_dot(4, &dot, 0, x, 0, x, 0, 1);
  expect(dot == 30.0f, "vec_dot");
  BufferType* cpu = g.ggml_backend_cpu_buffer_type();
  expect(g.ggml_backend_buft_is_host(cpu) && cpu->iface.get_alignment(cpu) >= 16, "CPU buffer type");
}

}  // namespace edgemoe::ggml
