#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "edgemoe/backend/device.h"
#include "edgemoe/backend/engine.h"
#include "edgemoe/backend/execution.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/error.h"
#include "edgemoe/platform/memory.h"

namespace edgemoe {
namespace {

// Tensors of the model only get addresses. Tensors that are not in the file (adapters, which llama.cpp puts into the
// buffer type of what they adapt) get memory.
struct BufferContext {
  Engine* engine = nullptr;
  uint8_t* base = nullptr;
  size_t size = 0;
};

BufferContext* context(ggml::Buffer* buffer) { return static_cast<BufferContext*>(buffer->context); }

constexpr size_t kAlignment = 64;

void free_buffer(ggml::Buffer* buffer) {
  std::unique_ptr<BufferContext> held(context(buffer));
  if (held->engine) {
    platform::unreserve(held->base, held->size);
  } else {
    platform::aligned_free(held->base);
  }
}

ggml::Status init_tensor(ggml::Buffer* buffer, ggml::Tensor* tensor) {
  Engine* engine = context(buffer)->engine;
  if (!engine || tensor->view_src) return ggml::kStatusSuccess;
  if (engine->adopt(tensor)) return ggml::kStatusSuccess;
  engine->set_error(std::make_exception_ptr(ModelError(std::string("tensor ") + tensor->name + " is not in the model file")));
  return ggml::kStatusFailed;
}

// A tensor that stays on disk has no bytes to give: NaNs and an error, never silent zeros.
void get_tensor(ggml::Buffer* buffer, const ggml::Tensor* tensor, void* data, size_t offset, size_t size) {
  if (!stored_tensor(tensor)) {
    std::memcpy(data, static_cast<const uint8_t*>(tensor->data) + offset, size);
    return;
  }
  std::memset(data, 0xff, size);
  context(buffer)->engine->set_error(std::make_exception_ptr(
      ModelError(std::string("tensor ") + tensor->name + " stays on disk, but this architecture uses it other than by expert")));
}

void set_tensor(ggml::Buffer*, ggml::Tensor* tensor, const void* data, size_t offset, size_t size) {
  if (!stored_tensor(tensor)) std::memcpy(static_cast<uint8_t*>(tensor->data) + offset, data, size);
}

void memset_tensor(ggml::Buffer*, ggml::Tensor* tensor, uint8_t value, size_t offset, size_t size) {
  if (!stored_tensor(tensor)) std::memset(static_cast<uint8_t*>(tensor->data) + offset, value, size);
}

void clear(ggml::Buffer* buffer, uint8_t value) {
  if (!context(buffer)->engine) std::memset(context(buffer)->base, value, context(buffer)->size);
}

ggml::BufferInterface buffer_interface() {
  ggml::BufferInterface iface{};
  iface.free_buffer = free_buffer;
  iface.get_base = [](ggml::Buffer* buffer) -> void* { return context(buffer)->base; };
  iface.init_tensor = init_tensor;
  iface.memset_tensor = memset_tensor;
  iface.set_tensor = set_tensor;
  iface.get_tensor = get_tensor;
  iface.clear = clear;
  return iface;
}

ggml::Buffer* alloc_buffer(ggml::BufferType* type, size_t size) {
  auto held = std::make_unique<BufferContext>();
  held->engine = Engine::loading();
  held->size = size == 0 ? kAlignment : size;
  if (held->engine) {
    held->base = static_cast<uint8_t*>(platform::reserve(held->size));
  } else {
    held->base = static_cast<uint8_t*>(platform::aligned_alloc(kAlignment, align_up(held->size, kAlignment)));
  }
  if (!held->base) return nullptr;
  return ggml::api().ggml_backend_buffer_init(type, buffer_interface(), held.release(), size);
}

}  // namespace

const StoredTensor* stored_tensor(const ggml::Tensor* operand) {
  const ggml::Buffer* buffer = operand->buffer;
  if (!buffer || buffer->buft != disk_buffer_type() || !static_cast<const BufferContext*>(buffer->context)->engine) return nullptr;
  return static_cast<const StoredTensor*>(operand->extra);
}

ggml::BufferType* disk_buffer_type() {
  static ggml::BufferType type = [] {
    ggml::BufferType t{};
    t.iface.get_name = [](ggml::BufferType*) { return "edgemoe"; };
    t.iface.alloc_buffer = alloc_buffer;
    t.iface.get_alignment = [](ggml::BufferType*) { return kAlignment; };
    t.device = registry()->iface.get_device(registry(), 0);
    return t;
  }();
  return &type;
}

}  // namespace edgemoe
