/// @file device.h
/// What ggml sees of us: a registry with one accelerator device, its backend and its buffer type.
#pragma once

#include "edgemoe/backend/ggml_abi.h"

namespace edgemoe {

/// @brief The buffer type that only reserves addresses, for tensors that stay on disk.
ggml::BufferType* disk_buffer_type();

/// @brief The registry with our one device.
ggml::Registry* registry();

/// @brief Whether our device computes `op`: an expert product over our buffer, a row lookup in it, or an element-wise
/// operation on the way from one expert product to the next or to the sum over a token's experts.
bool claims(const ggml::Tensor* op);

}  // namespace edgemoe
