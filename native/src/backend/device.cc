#include "edgemoe/backend/device.h"

#include <cstring>
#include <memory>

#include "edgemoe/backend/execution.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/error.h"

#if defined(_WIN32)
#define EDGEMOE_EXPORT __declspec(dllexport)
#else
#define EDGEMOE_EXPORT __attribute__((visibility("default")))
#endif

namespace edgemoe {
namespace {

constexpr char kName[] = "edgemoe";

struct BackendState {
  int threads = 1;
  ExecutionScratch scratch;
};

BackendState* state(ggml::Backend* backend) { return static_cast<BackendState*>(backend->context); }

ggml::Status graph_compute(ggml::Backend* backend, ggml::Graph* graph) noexcept {
  Engine* engine = nullptr;
  try {
    Execution execution(graph, state(backend)->scratch);
    engine = execution.engine();
    return execution.run(state(backend)->threads, engine ? engine->thread_pool() : nullptr);
  } catch (...) {
    if (engine) engine->set_error(std::current_exception());
    return ggml::kStatusFailed;
  }
}

ggml::Backend* init_backend(ggml::Device* device, const char*) {
  static uint8_t guid[16] = {0xed, 0x6e, 0x30, 0xe0, 0x7b, 0x1c, 0x4f, 0x92, 0xa5, 0x64, 0x88, 0x03, 0x5d, 0x2a, 0xc1, 0x17};
  auto backend = std::make_unique<ggml::Backend>();
  backend->guid = guid;
  backend->iface = {};
  backend->iface.get_name = [](ggml::Backend*) { return kName; };
  backend->iface.free = [](ggml::Backend* b) {
    delete state(b);
    delete b;
  };
  backend->iface.graph_compute = graph_compute;
  backend->device = device;
  backend->context = new BackendState;
  return backend.release();
}

void get_props(ggml::Device* device, ggml::DeviceProps* props) {
  std::memset(props, 0, sizeof(*props));
  props->name = kName;
  props->description = device->iface.get_description(device);
  props->type = ggml::kDeviceTypeAccel;
}

ggml::Device* device() {
  static ggml::Device only = [] {
    ggml::Device d{};
    d.iface.get_name = [](ggml::Device*) { return kName; };
    d.iface.get_description = [](ggml::Device*) { return "experts from disk"; };
    d.iface.get_memory = [](ggml::Device*, size_t* free, size_t* total) { *free = *total = 0; };
    d.iface.get_type = [](ggml::Device*) { return ggml::kDeviceTypeAccel; };
    d.iface.get_props = get_props;
    d.iface.init_backend = init_backend;
    d.iface.get_buffer_type = [](ggml::Device*) { return ggml::api().ggml_backend_cpu_buffer_type(); };
    d.iface.supports_op = [](ggml::Device*, const ggml::Tensor* op) { return claims(op); };
    d.iface.supports_buft = [](ggml::Device*, ggml::BufferType* type) {
      return type == disk_buffer_type() || ggml::api().ggml_backend_buft_is_host(type);
    };
    d.reg = registry();
    return d;
  }();
  return &only;
}

void* get_proc_address(ggml::Registry*, const char* name) {
  if (std::strcmp(name, "ggml_backend_set_n_threads") == 0) {
    return reinterpret_cast<void*>(+[](ggml::Backend* backend, int threads) { state(backend)->threads = threads; });
  }
  return nullptr;
}

}  // namespace

ggml::Registry* registry() {
  static ggml::Registry reg = [] {
    ggml::Registry r{};
    r.api_version = ggml::kBackendApiVersion;
    r.iface.get_name = [](ggml::Registry*) { return kName; };
    r.iface.get_device_count = [](ggml::Registry*) -> size_t { return 1; };
    r.iface.get_device = [](ggml::Registry*, size_t) { return device(); };
    r.iface.get_proc_address = get_proc_address;
    return r;
  }();
  return &reg;
}

}  // namespace edgemoe

/// The entry point that ggml_backend_load looks for.
extern "C" EDGEMOE_EXPORT edgemoe::ggml::Registry* ggml_backend_init() { return edgemoe::registry(); }
