// Compares ggml_abi.h with ggml's public headers while compiling; the test at the end shows that it was compiled.
#include "edgemoe/backend/ggml_abi.h"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <gguf.h>
#include <gtest/gtest.h>

#include <cstddef>

#include "same_abi.h"

EDGEMOE_SAME_VALUE(kMaxDims, GGML_MAX_DIMS);
EDGEMOE_SAME_VALUE(kMaxSources, GGML_MAX_SRC);
EDGEMOE_SAME_VALUE(kMaxName, GGML_MAX_NAME);
EDGEMOE_SAME_VALUE(kMaxOpParams, GGML_MAX_OP_PARAMS);
EDGEMOE_SAME_VALUE(kMaxThreads, GGML_MAX_N_THREADS);
EDGEMOE_SAME_VALUE(kTasksMax, GGML_N_TASKS_MAX);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::Type, ggml_type>());
EDGEMOE_SAME_VALUE(kTypeF32, GGML_TYPE_F32);
EDGEMOE_SAME_VALUE(kTypeQ4K, GGML_TYPE_Q4_K);
EDGEMOE_SAME_VALUE(kTypeQ5K, GGML_TYPE_Q5_K);
EDGEMOE_SAME_VALUE(kTypeQ6K, GGML_TYPE_Q6_K);
EDGEMOE_SAME_VALUE(kTypeI8, GGML_TYPE_I8);
EDGEMOE_SAME_VALUE(kTypeI32, GGML_TYPE_I32);
EDGEMOE_SAME_VALUE(kTypeCount, GGML_TYPE_COUNT);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::Op, ggml_op>());
EDGEMOE_SAME_VALUE(kOpNone, GGML_OP_NONE);
EDGEMOE_SAME_VALUE(kOpAdd, GGML_OP_ADD);
EDGEMOE_SAME_VALUE(kOpAddId, GGML_OP_ADD_ID);
EDGEMOE_SAME_VALUE(kOpSub, GGML_OP_SUB);
EDGEMOE_SAME_VALUE(kOpMul, GGML_OP_MUL);
EDGEMOE_SAME_VALUE(kOpDiv, GGML_OP_DIV);
EDGEMOE_SAME_VALUE(kOpSqr, GGML_OP_SQR);
EDGEMOE_SAME_VALUE(kOpMulMat, GGML_OP_MUL_MAT);
EDGEMOE_SAME_VALUE(kOpMulMatId, GGML_OP_MUL_MAT_ID);
EDGEMOE_SAME_VALUE(kOpScale, GGML_OP_SCALE);
EDGEMOE_SAME_VALUE(kOpCont, GGML_OP_CONT);
EDGEMOE_SAME_VALUE(kOpReshape, GGML_OP_RESHAPE);
EDGEMOE_SAME_VALUE(kOpView, GGML_OP_VIEW);
EDGEMOE_SAME_VALUE(kOpPermute, GGML_OP_PERMUTE);
EDGEMOE_SAME_VALUE(kOpTranspose, GGML_OP_TRANSPOSE);
EDGEMOE_SAME_VALUE(kOpGetRows, GGML_OP_GET_ROWS);
EDGEMOE_SAME_VALUE(kOpSoftMax, GGML_OP_SOFT_MAX);
EDGEMOE_SAME_VALUE(kOpClamp, GGML_OP_CLAMP);
EDGEMOE_SAME_VALUE(kOpArgsort, GGML_OP_ARGSORT);
EDGEMOE_SAME_VALUE(kOpTopK, GGML_OP_TOP_K);
EDGEMOE_SAME_VALUE(kOpUnary, GGML_OP_UNARY);
EDGEMOE_SAME_VALUE(kOpCustom, GGML_OP_CUSTOM);
EDGEMOE_SAME_VALUE(kOpGlu, GGML_OP_GLU);

EDGEMOE_SAME_VALUE(kUnarySigmoid, GGML_UNARY_OP_SIGMOID);
EDGEMOE_SAME_VALUE(kFlagCompute, GGML_TENSOR_FLAG_COMPUTE);
EDGEMOE_SAME_VALUE(kUsageCompute, GGML_BACKEND_BUFFER_USAGE_COMPUTE);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::Status, ggml_status>());
EDGEMOE_SAME_VALUE(kStatusAllocFailed, GGML_STATUS_ALLOC_FAILED);
EDGEMOE_SAME_VALUE(kStatusFailed, GGML_STATUS_FAILED);
EDGEMOE_SAME_VALUE(kStatusSuccess, GGML_STATUS_SUCCESS);
EDGEMOE_SAME_VALUE(kStatusAborted, GGML_STATUS_ABORTED);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::LogLevel, ggml_log_level>());
EDGEMOE_SAME_VALUE(kLogNone, GGML_LOG_LEVEL_NONE);
EDGEMOE_SAME_VALUE(kLogDebug, GGML_LOG_LEVEL_DEBUG);
EDGEMOE_SAME_VALUE(kLogInfo, GGML_LOG_LEVEL_INFO);
EDGEMOE_SAME_VALUE(kLogWarn, GGML_LOG_LEVEL_WARN);
EDGEMOE_SAME_VALUE(kLogError, GGML_LOG_LEVEL_ERROR);
EDGEMOE_SAME_VALUE(kLogContinue, GGML_LOG_LEVEL_CONT);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::GgufType, gguf_type>());
EDGEMOE_SAME_VALUE(kGgufUint8, GGUF_TYPE_UINT8);
EDGEMOE_SAME_VALUE(kGgufInt8, GGUF_TYPE_INT8);
EDGEMOE_SAME_VALUE(kGgufUint16, GGUF_TYPE_UINT16);
EDGEMOE_SAME_VALUE(kGgufInt16, GGUF_TYPE_INT16);
EDGEMOE_SAME_VALUE(kGgufUint32, GGUF_TYPE_UINT32);
EDGEMOE_SAME_VALUE(kGgufInt32, GGUF_TYPE_INT32);
EDGEMOE_SAME_VALUE(kGgufFloat32, GGUF_TYPE_FLOAT32);
EDGEMOE_SAME_VALUE(kGgufBool, GGUF_TYPE_BOOL);
EDGEMOE_SAME_VALUE(kGgufString, GGUF_TYPE_STRING);
EDGEMOE_SAME_VALUE(kGgufArray, GGUF_TYPE_ARRAY);
EDGEMOE_SAME_VALUE(kGgufUint64, GGUF_TYPE_UINT64);
EDGEMOE_SAME_VALUE(kGgufInt64, GGUF_TYPE_INT64);
EDGEMOE_SAME_VALUE(kGgufFloat64, GGUF_TYPE_FLOAT64);

EDGEMOE_SAME_VALUE(kDeviceTypeAccel, GGML_BACKEND_DEVICE_TYPE_ACCEL);

EDGEMOE_SAME_STRUCT(Tensor, ggml_tensor);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, type);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, buffer);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, ne);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, nb);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, op);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, op_params);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, flags);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, src);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, view_src);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, view_offs);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, data);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, name);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, extra);
EDGEMOE_SAME_FIELD(Tensor, ggml_tensor, padding);

EDGEMOE_SAME_STRUCT(InitParams, ggml_init_params);
EDGEMOE_SAME_FIELD_COUNT(InitParams, ggml_init_params);
EDGEMOE_SAME_FIELD(InitParams, ggml_init_params, mem_size);
EDGEMOE_SAME_FIELD(InitParams, ggml_init_params, mem_buffer);
EDGEMOE_SAME_FIELD(InitParams, ggml_init_params, no_alloc);

static_assert(edgemoe::testing::same_abi<edgemoe::ggml::AbortCallback, ggml_abort_callback>());
static_assert(edgemoe::testing::same_abi<edgemoe::ggml::LogCallback, ggml_log_callback>());
static_assert(edgemoe::testing::same_abi<edgemoe::ggml::AssertCallback, ggml_abort_callback_t>());
static_assert(edgemoe::testing::same_abi<edgemoe::ggml::CustomOp, ggml_custom_op_t>());
static_assert(edgemoe::testing::same_abi<edgemoe::ggml::FromFloat, ggml_from_float_t>());
static_assert(edgemoe::testing::same_abi<edgemoe::ggml::VecDot, ggml_vec_dot_t>());

EDGEMOE_SAME_STRUCT(GraphPlan, ggml_cplan);
EDGEMOE_SAME_FIELD_COUNT(GraphPlan, ggml_cplan);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, work_size);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, work_data);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, n_threads);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, threadpool);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, abort_callback);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, abort_callback_data);
EDGEMOE_SAME_FIELD(GraphPlan, ggml_cplan, use_ref);

EDGEMOE_SAME_STRUCT(ThreadPoolParams, ggml_threadpool_params);
EDGEMOE_SAME_FIELD(ThreadPoolParams, ggml_threadpool_params, cpumask);
EDGEMOE_SAME_FIELD(ThreadPoolParams, ggml_threadpool_params, n_threads);
EDGEMOE_SAME_FIELD_AS(ThreadPoolParams, priority, ggml_threadpool_params, prio);
EDGEMOE_SAME_FIELD(ThreadPoolParams, ggml_threadpool_params, poll);
EDGEMOE_SAME_FIELD(ThreadPoolParams, ggml_threadpool_params, strict_cpu);
EDGEMOE_SAME_FIELD(ThreadPoolParams, ggml_threadpool_params, paused);

EDGEMOE_SAME_STRUCT(CpuTypeTraits, ggml_type_traits_cpu);
EDGEMOE_SAME_FIELD_COUNT(CpuTypeTraits, ggml_type_traits_cpu);
EDGEMOE_SAME_FIELD(CpuTypeTraits, ggml_type_traits_cpu, from_float);
EDGEMOE_SAME_FIELD(CpuTypeTraits, ggml_type_traits_cpu, vec_dot);
EDGEMOE_SAME_FIELD(CpuTypeTraits, ggml_type_traits_cpu, vec_dot_type);
EDGEMOE_SAME_FIELD(CpuTypeTraits, ggml_type_traits_cpu, nrows);

EDGEMOE_SAME_STRUCT(GgufInitParams, gguf_init_params);
EDGEMOE_SAME_FIELD_COUNT(GgufInitParams, gguf_init_params);
EDGEMOE_SAME_FIELD(GgufInitParams, gguf_init_params, no_alloc);
EDGEMOE_SAME_FIELD(GgufInitParams, gguf_init_params, ctx);

EDGEMOE_SAME_STRUCT(DeviceCaps, ggml_backend_dev_caps);
EDGEMOE_SAME_FIELD_COUNT(DeviceCaps, ggml_backend_dev_caps);
EDGEMOE_SAME_FIELD(DeviceCaps, ggml_backend_dev_caps, async);
EDGEMOE_SAME_FIELD(DeviceCaps, ggml_backend_dev_caps, host_buffer);
EDGEMOE_SAME_FIELD(DeviceCaps, ggml_backend_dev_caps, buffer_from_host_ptr);
EDGEMOE_SAME_FIELD(DeviceCaps, ggml_backend_dev_caps, events);
EDGEMOE_SAME_FIELD(DeviceCaps, ggml_backend_dev_caps, mmap_support);

EDGEMOE_SAME_STRUCT(DeviceProps, ggml_backend_dev_props);
EDGEMOE_SAME_FIELD_COUNT(DeviceProps, ggml_backend_dev_props);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, name);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, description);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, memory_free);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, memory_total);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, type);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, device_id);
EDGEMOE_SAME_FIELD(DeviceProps, ggml_backend_dev_props, caps);

TEST(GgmlAbi, PublicHeadersMatch) {
  RecordProperty("ggml_tensor_bytes", static_cast<int>(sizeof(ggml_tensor)));
  EXPECT_EQ(sizeof(edgemoe::ggml::Tensor), sizeof(ggml_tensor));
}
