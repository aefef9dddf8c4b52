// Compares ggml_abi.h and ggml_api.h with headers that ggml keeps to itself, while compiling.
#include <ggml-backend-impl.h>
#include <ggml-cpu.h>
#include <ggml-impl.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <cstddef>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/backend/ggml_api.h"
#include "same_abi.h"

EDGEMOE_SAME_VALUE(kBackendApiVersion, GGML_BACKEND_API_VERSION);

EDGEMOE_SAME_STRUCT(BufferTypeInterface, ggml_backend_buffer_type_i);
EDGEMOE_SAME_FIELD_COUNT(BufferTypeInterface, ggml_backend_buffer_type_i);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, get_name);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, alloc_buffer);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, get_alignment);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, get_max_size);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, get_alloc_size);
EDGEMOE_SAME_FIELD(BufferTypeInterface, ggml_backend_buffer_type_i, is_host);

EDGEMOE_SAME_STRUCT(BufferType, ggml_backend_buffer_type);
EDGEMOE_SAME_FIELD_COUNT(BufferType, ggml_backend_buffer_type);
EDGEMOE_SAME_FIELD(BufferType, ggml_backend_buffer_type, iface);
EDGEMOE_SAME_FIELD(BufferType, ggml_backend_buffer_type, device);
EDGEMOE_SAME_FIELD(BufferType, ggml_backend_buffer_type, context);

EDGEMOE_SAME_STRUCT(BufferInterface, ggml_backend_buffer_i);
EDGEMOE_SAME_FIELD_COUNT(BufferInterface, ggml_backend_buffer_i);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, free_buffer);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, get_base);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, init_tensor);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, memset_tensor);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, set_tensor);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, get_tensor);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, set_tensor_2d);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, get_tensor_2d);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, cpy_tensor);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, clear);
EDGEMOE_SAME_FIELD(BufferInterface, ggml_backend_buffer_i, reset);

EDGEMOE_SAME_STRUCT(Buffer, ggml_backend_buffer);
EDGEMOE_SAME_FIELD_COUNT(Buffer, ggml_backend_buffer);
EDGEMOE_SAME_FIELD(Buffer, ggml_backend_buffer, iface);
EDGEMOE_SAME_FIELD(Buffer, ggml_backend_buffer, buft);
EDGEMOE_SAME_FIELD(Buffer, ggml_backend_buffer, context);
EDGEMOE_SAME_FIELD(Buffer, ggml_backend_buffer, size);
EDGEMOE_SAME_FIELD(Buffer, ggml_backend_buffer, usage);

EDGEMOE_SAME_STRUCT(BackendInterface, ggml_backend_i);
EDGEMOE_SAME_FIELD_COUNT(BackendInterface, ggml_backend_i);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, get_name);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, free);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, set_tensor_async);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, get_tensor_async);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, set_tensor_2d_async);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, get_tensor_2d_async);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, cpy_tensor_async);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, synchronize);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_plan_create);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_plan_free);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_plan_update);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_plan_compute);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_compute);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, event_record);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, event_wait);
EDGEMOE_SAME_FIELD(BackendInterface, ggml_backend_i, graph_optimize);

EDGEMOE_SAME_STRUCT(Backend, ggml_backend);
EDGEMOE_SAME_FIELD_COUNT(Backend, ggml_backend);
EDGEMOE_SAME_FIELD(Backend, ggml_backend, guid);
EDGEMOE_SAME_FIELD(Backend, ggml_backend, iface);
EDGEMOE_SAME_FIELD(Backend, ggml_backend, device);
EDGEMOE_SAME_FIELD(Backend, ggml_backend, context);

EDGEMOE_SAME_STRUCT(DeviceInterface, ggml_backend_device_i);
EDGEMOE_SAME_FIELD_COUNT(DeviceInterface, ggml_backend_device_i);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_name);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_description);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_memory);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_type);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_props);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, init_backend);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_buffer_type);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, get_host_buffer_type);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, buffer_from_host_ptr);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, supports_op);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, supports_buft);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, offload_op);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, event_new);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, event_free);
EDGEMOE_SAME_FIELD(DeviceInterface, ggml_backend_device_i, event_synchronize);

EDGEMOE_SAME_STRUCT(Device, ggml_backend_device);
EDGEMOE_SAME_FIELD_COUNT(Device, ggml_backend_device);
EDGEMOE_SAME_FIELD(Device, ggml_backend_device, iface);
EDGEMOE_SAME_FIELD(Device, ggml_backend_device, reg);
EDGEMOE_SAME_FIELD(Device, ggml_backend_device, context);

EDGEMOE_SAME_STRUCT(RegistryInterface, ggml_backend_reg_i);
EDGEMOE_SAME_FIELD_COUNT(RegistryInterface, ggml_backend_reg_i);
EDGEMOE_SAME_FIELD(RegistryInterface, ggml_backend_reg_i, get_name);
EDGEMOE_SAME_FIELD(RegistryInterface, ggml_backend_reg_i, get_device_count);
EDGEMOE_SAME_FIELD(RegistryInterface, ggml_backend_reg_i, get_device);
EDGEMOE_SAME_FIELD(RegistryInterface, ggml_backend_reg_i, get_proc_address);

EDGEMOE_SAME_STRUCT(Registry, ggml_backend_reg);
EDGEMOE_SAME_FIELD_COUNT(Registry, ggml_backend_reg);
EDGEMOE_SAME_FIELD(Registry, ggml_backend_reg, api_version);
EDGEMOE_SAME_FIELD(Registry, ggml_backend_reg, iface);
EDGEMOE_SAME_FIELD(Registry, ggml_backend_reg, context);

EDGEMOE_SAME_STRUCT(CustomOpParams, ggml_custom_op_params);
EDGEMOE_SAME_FIELD_COUNT(CustomOpParams, ggml_custom_op_params);
EDGEMOE_SAME_FIELD(CustomOpParams, ggml_custom_op_params, fun);
EDGEMOE_SAME_FIELD(CustomOpParams, ggml_custom_op_params, n_tasks);
EDGEMOE_SAME_FIELD(CustomOpParams, ggml_custom_op_params, userdata);
// Every function of the table has the result and the arguments that ggml, gguf and llama declare.
#define EDGEMOE_SAME_SIGNATURE(result, name, arguments) \
  static_assert(edgemoe::testing::same_abi<decltype(edgemoe::ggml::Api::name), decltype(&::name)>(), "signature of " #name);
EDGEMOE_GGML_FUNCTIONS(EDGEMOE_SAME_SIGNATURE)

TEST(GgmlAbi, BackendVtablesAndFunctionsMatch) {
  RecordProperty("backend_api_version", GGML_BACKEND_API_VERSION);
  EXPECT_EQ(edgemoe::ggml::kBackendApiVersion, GGML_BACKEND_API_VERSION);
}
