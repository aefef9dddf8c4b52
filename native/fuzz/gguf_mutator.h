/// @file gguf_mutator.h
/// Changes a GGUF file where it matters: in its fields, most often so that the rest of the header still holds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgemoe::fuzz {

/// @brief Changes the file of `size` bytes in `data`, which has room for `most`. @returns the new size.
/// The library must be bound: where tensors lie depends on the sizes of its types.
size_t mutate_gguf(uint8_t* data, size_t size, size_t most, unsigned seed);

}  // namespace edgemoe::fuzz
