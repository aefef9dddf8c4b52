/// @file ggml_api.h
/// Every ggml, gguf and llama function the backend calls, taken by name from the library that llama-cpp-python loaded.
#pragma once

#include "edgemoe/backend/ggml_abi.h"

namespace edgemoe::ggml {

struct Api {
  // clang-format off
#define EDGEMOE_GGML_FUNCTIONS(F) \
  F(Context*, ggml_init, (InitParams)) \
  F(void, ggml_free, (Context*)) \
  F(size_t, ggml_tensor_overhead, ()) \
  F(size_t, ggml_graph_overhead_custom, (size_t size, bool grads)) \
  F(Graph*, ggml_new_graph_custom, (Context*, size_t size, bool grads)) \
  F(void, ggml_graph_add_node, (Graph*, Tensor*)) \
  F(int, ggml_graph_n_nodes, (Graph*)) \
  F(Tensor*, ggml_graph_node, (Graph*, int i)) \
  F(Tensor*, ggml_new_tensor_3d, (Context*, Type, int64_t, int64_t, int64_t)) \
  F(Tensor*, ggml_new_tensor_4d, (Context*, Type, int64_t, int64_t, int64_t, int64_t)) \
  F(Tensor*, ggml_get_first_tensor, (const Context*)) \
  F(Tensor*, ggml_get_next_tensor, (const Context*, Tensor*)) \
  F(size_t, ggml_nbytes, (const Tensor*)) \
  F(size_t, ggml_row_size, (Type, int64_t ne)) \
  F(size_t, ggml_type_size, (Type)) \
  F(int64_t, ggml_blck_size, (Type)) \
  F(const char*, ggml_type_name, (Type)) \
  F(const char*, ggml_version, ()) \
  F(AssertCallback, ggml_set_abort_callback, (AssertCallback)) \
  F(GraphPlan, ggml_graph_plan, (const Graph*, int n_threads, ThreadPool*)) \
  F(Status, ggml_graph_compute, (Graph*, GraphPlan*)) \
  F(ThreadPoolParams, ggml_threadpool_params_default, (int n_threads)) \
  F(ThreadPool*, ggml_threadpool_new, (ThreadPoolParams*)) \
  F(void, ggml_threadpool_free, (ThreadPool*)) \
  F(const CpuTypeTraits*, ggml_get_type_traits_cpu, (Type)) \
  F(Buffer*, ggml_backend_buffer_init, (BufferType*, BufferInterface, void* context, size_t size)) \
  F(BufferType*, ggml_backend_cpu_buffer_type, ()) \
  F(bool, ggml_backend_buft_is_host, (BufferType*)) \
  F(Registry*, ggml_backend_load, (const char* path)) \
  F(Gguf*, gguf_init_empty, ()) \
  F(Gguf*, gguf_init_from_file, (const char* path, GgufInitParams)) \
  F(void, gguf_free, (Gguf*)) \
  F(uint32_t, gguf_get_version, (const Gguf*)) \
  F(size_t, gguf_get_data_offset, (const Gguf*)) \
  F(size_t, gguf_get_alignment, (const Gguf*)) \
  F(int64_t, gguf_get_n_kv, (const Gguf*)) \
  F(int64_t, gguf_find_key, (const Gguf*, const char* key)) \
  F(const char*, gguf_get_key, (const Gguf*, int64_t)) \
  F(GgufType, gguf_get_kv_type, (const Gguf*, int64_t)) \
  F(GgufType, gguf_get_arr_type, (const Gguf*, int64_t)) \
  F(size_t, gguf_get_arr_n, (const Gguf*, int64_t)) \
  F(const void*, gguf_get_arr_data, (const Gguf*, int64_t)) \
  F(const char*, gguf_get_arr_str, (const Gguf*, int64_t, size_t)) \
  F(const void*, gguf_get_val_data, (const Gguf*, int64_t)) \
  F(const char*, gguf_get_val_str, (const Gguf*, int64_t)) \
  F(int64_t, gguf_get_n_tensors, (const Gguf*)) \
  F(const char*, gguf_get_tensor_name, (const Gguf*, int64_t)) \
  F(size_t, gguf_get_tensor_offset, (const Gguf*, int64_t)) \
  F(int64_t, gguf_remove_key, (Gguf*, const char* key)) \
  F(void, gguf_set_val_u32, (Gguf*, const char* key, uint32_t)) \
  F(void, gguf_set_val_str, (Gguf*, const char* key, const char*)) \
  F(void, gguf_set_kv, (Gguf*, const Gguf* src)) \
  F(void, gguf_add_tensor, (Gguf*, const Tensor*)) \
  F(size_t, gguf_get_meta_size, (const Gguf*)) \
  F(void, gguf_get_meta_data, (const Gguf*, void*)) \
  F(void, llama_attach_threadpool, (void* ctx, ThreadPool*, ThreadPool*)) \
  F(void, llama_detach_threadpool, (void* ctx)) \
  F(void, llama_set_abort_callback, (void* ctx, AbortCallback, void* data)) \
  F(void, llama_log_get, (LogCallback*, void** user_data)) \
  F(void, llama_log_set, (LogCallback, void* user_data))
  // clang-format on
#define EDGEMOE_DECLARE(result, name, arguments) result(*name) arguments = nullptr;
  EDGEMOE_GGML_FUNCTIONS(EDGEMOE_DECLARE)
#undef EDGEMOE_DECLARE
};

/// @brief Looks up every function in the dynamic library `handle` (as dlopen returned it) and its dependencies.
/// @throws Error naming the first function that is missing.
void bind_api(void* handle);

/// @brief The bound table. @throws Error when bind_api has not succeeded yet.
const Api& api();

/// @brief Calls each accessor once on values whose answer is known, so that a changed ABI is found at import.
/// @throws Error naming the accessor and both values.
void check_api();

}  // namespace edgemoe::ggml
