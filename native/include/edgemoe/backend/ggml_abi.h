/// @file ggml_abi.h
/// The part of ggml's binary interface that the backend uses, declared in our own words.
///
/// llama-cpp-python installs a compiled ggml of a pinned version; nothing here is linked. Public structs and the
/// backend vtables (ggml backend API version 2) are mirrored field by field; tests/ggml_abi_test.cc compares every
/// size, offset and value with ggml's own headers.
#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace edgemoe::ggml {

inline constexpr int kBackendApiVersion = 2;
inline constexpr int kMaxDims = 4;
inline constexpr int kMaxSources = 10;
inline constexpr int kMaxName = 64;
inline constexpr int kMaxOpParams = 64;
inline constexpr int kMaxThreads = 512;
inline constexpr int kTasksMax = -1;  // "as many tasks as threads" for a custom operation

using Type = int32_t;  // ggml_type; only the values needed by name are listed
inline constexpr Type kTypeF32 = 0;
inline constexpr Type kTypeQ4K = 12;
inline constexpr Type kTypeQ5K = 13;
inline constexpr Type kTypeQ6K = 14;
inline constexpr Type kTypeI8 = 24;
inline constexpr Type kTypeI32 = 26;
inline constexpr Type kTypeCount = 43;

enum Op : int32_t {
  kOpNone = 0,
  kOpAdd = 2,
  kOpAddId = 3,
  kOpSub = 6,
  kOpMul = 7,
  kOpDiv = 8,
  kOpSqr = 9,
  kOpMulMat = 29,
  kOpMulMatId = 30,
  kOpScale = 32,
  kOpCont = 35,
  kOpReshape = 36,
  kOpView = 37,
  kOpPermute = 38,
  kOpTranspose = 39,
  kOpGetRows = 40,
  kOpSoftMax = 46,
  kOpClamp = 50,
  kOpArgsort = 69,
  kOpTopK = 70,
  kOpUnary = 91,
  kOpCustom = 95,
  kOpGlu = 100,
};

inline constexpr int32_t kUnarySigmoid = 7;    // GGML_UNARY_OP_SIGMOID
inline constexpr int32_t kUsageCompute = 2;    // GGML_BACKEND_BUFFER_USAGE_COMPUTE
inline constexpr int32_t kFlagCompute = 16;  // GGML_TENSOR_FLAG_COMPUTE

enum Status : int32_t { kStatusAllocFailed = -2, kStatusFailed = -1, kStatusSuccess = 0, kStatusAborted = 1 };

enum GgufType : int32_t {
  kGgufUint8,
  kGgufInt8,
  kGgufUint16,
  kGgufInt16,
  kGgufUint32,
  kGgufInt32,
  kGgufFloat32,
  kGgufBool,
  kGgufString,
  kGgufArray,
  kGgufUint64,
  kGgufInt64,
  kGgufFloat64,
};

enum LogLevel : int32_t { kLogNone, kLogDebug, kLogInfo, kLogWarn, kLogError, kLogContinue };

struct Buffer;
struct BufferType;
struct Backend;
struct Device;
struct Registry;
struct Graph;
struct Context;
struct ThreadPool;
struct Gguf;

struct Tensor {
  Type type;
  Buffer* buffer;
  int64_t ne[kMaxDims];
  size_t nb[kMaxDims];
  Op op;
  int32_t op_params[kMaxOpParams / sizeof(int32_t)];
  int32_t flags;
  Tensor* src[kMaxSources];
  Tensor* view_src;
  size_t view_offs;
  void* data;
  char name[kMaxName];
  void* extra;
  char padding[8];
};

struct InitParams {
  size_t mem_size;
  void* mem_buffer;
  bool no_alloc;
};

using AbortCallback = bool (*)(void* data);
using LogCallback = void (*)(LogLevel level, const char* text, void* user_data);
using AssertCallback = void (*)(const char* message);
using CustomOp = void (*)(Tensor* dst, int ith, int nth, void* userdata);

struct CustomOpParams {
  CustomOp fun;
  int n_tasks;
  void* userdata;
};

struct GraphPlan {
  size_t work_size;
  uint8_t* work_data;
  int n_threads;
  ThreadPool* threadpool;
  AbortCallback abort_callback;
  void* abort_callback_data;
  bool use_ref;
};

#if defined(_WIN32)
using Lock = void*;  // as large as an SRWLOCK, and a CONDITION_VARIABLE
using Condition = void*;
#else
using Lock = pthread_mutex_t;
using Condition = pthread_cond_t;
#endif

/// @brief How a thread pool of ggml's CPU library begins. No header of ggml declares it; check_api() sees that it is so.
struct ThreadPool {
  Lock lock;
  Condition condition;
  Graph* graph;     ///< computed now, or last
  GraphPlan* plan;  ///< of that; it may be gone when the graph is done
};

struct ThreadPoolParams {
  bool cpumask[kMaxThreads];
  int n_threads;
  int32_t priority;
  uint32_t poll;
  bool strict_cpu;
  bool paused;
};

using FromFloat = void (*)(const float* x, void* y, int64_t k);
using VecDot = void (*)(int n, float* s, size_t bs, const void* x, size_t bx, const void* y, size_t by, int nrc);

struct CpuTypeTraits {
  FromFloat from_float;
  VecDot vec_dot;
  Type vec_dot_type;
  int64_t nrows;
};

struct GgufInitParams {
  bool no_alloc;
  Context** ctx;
};

// The vtables of ggml-backend-impl.h.

struct BufferTypeInterface {
  const char* (*get_name)(BufferType*);
  Buffer* (*alloc_buffer)(BufferType*, size_t size);
  size_t (*get_alignment)(BufferType*);
  size_t (*get_max_size)(BufferType*);
  size_t (*get_alloc_size)(BufferType*, const Tensor*);
  bool (*is_host)(BufferType*);
};

struct BufferType {
  BufferTypeInterface iface;
  Device* device;
  void* context;
};

struct BufferInterface {
  void (*free_buffer)(Buffer*);
  void* (*get_base)(Buffer*);
  Status (*init_tensor)(Buffer*, Tensor*);
  void (*memset_tensor)(Buffer*, Tensor*, uint8_t value, size_t offset, size_t size);
  void (*set_tensor)(Buffer*, Tensor*, const void* data, size_t offset, size_t size);
  void (*get_tensor)(Buffer*, const Tensor*, void* data, size_t offset, size_t size);
  void (*set_tensor_2d)(Buffer*, Tensor*, const void* data, size_t offset, size_t size, size_t copies,
                        size_t stride_tensor, size_t stride_data);
  void (*get_tensor_2d)(Buffer*, const Tensor*, void* data, size_t offset, size_t size, size_t copies,
                        size_t stride_tensor, size_t stride_data);
  bool (*cpy_tensor)(Buffer*, const Tensor* src, Tensor* dst);
  void (*clear)(Buffer*, uint8_t value);
  void (*reset)(Buffer*);
};

struct Buffer {
  BufferInterface iface;
  BufferType* buft;
  void* context;
  size_t size;
  int32_t usage;
};

struct BackendInterface {
  const char* (*get_name)(Backend*);
  void (*free)(Backend*);
  void (*set_tensor_async)(Backend*, Tensor*, const void*, size_t, size_t);
  void (*get_tensor_async)(Backend*, const Tensor*, void*, size_t, size_t);
  void (*set_tensor_2d_async)(Backend*, Tensor*, const void*, size_t, size_t, size_t, size_t, size_t);
  void (*get_tensor_2d_async)(Backend*, const Tensor*, void*, size_t, size_t, size_t, size_t, size_t);
  bool (*cpy_tensor_async)(Backend*, Backend*, const Tensor*, Tensor*);
  void (*synchronize)(Backend*);
  void* (*graph_plan_create)(Backend*, const Graph*);
  void (*graph_plan_free)(Backend*, void*);
  void (*graph_plan_update)(Backend*, void*, const Graph*);
  Status (*graph_plan_compute)(Backend*, void*);
  Status (*graph_compute)(Backend*, Graph*);
  void (*event_record)(Backend*, void*);
  void (*event_wait)(Backend*, void*);
  void (*graph_optimize)(Backend*, Graph*, void*);
};

struct Backend {
  uint8_t* guid;
  BackendInterface iface;
  Device* device;
  void* context;
};

inline constexpr int32_t kDeviceTypeAccel = 3;

struct DeviceCaps {
  bool async;
  bool host_buffer;
  bool buffer_from_host_ptr;
  bool events;
  bool mmap_support;
};

struct DeviceProps {
  const char* name;
  const char* description;
  size_t memory_free;
  size_t memory_total;
  int32_t type;
  const char* device_id;
  DeviceCaps caps;
};

struct DeviceInterface {
  const char* (*get_name)(Device*);
  const char* (*get_description)(Device*);
  void (*get_memory)(Device*, size_t* free, size_t* total);
  int32_t (*get_type)(Device*);
  void (*get_props)(Device*, DeviceProps*);
  Backend* (*init_backend)(Device*, const char* params);
  BufferType* (*get_buffer_type)(Device*);
  BufferType* (*get_host_buffer_type)(Device*);
  Buffer* (*buffer_from_host_ptr)(Device*, void* ptr, size_t size, size_t max_tensor_size);
  bool (*supports_op)(Device*, const Tensor* op);
  bool (*supports_buft)(Device*, BufferType*);
  bool (*offload_op)(Device*, const Tensor* op);
  void* (*event_new)(Device*);
  void (*event_free)(Device*, void*);
  void (*event_synchronize)(Device*, void*);
};

struct Device {
  DeviceInterface iface;
  Registry* reg;
  void* context;
};

struct RegistryInterface {
  const char* (*get_name)(Registry*);
  size_t (*get_device_count)(Registry*);
  Device* (*get_device)(Registry*, size_t index);
  void* (*get_proc_address)(Registry*, const char* name);
};

struct Registry {
  int api_version;
  RegistryInterface iface;
  void* context;
};

}  // namespace edgemoe::ggml
