/// Vectors of N floats, for functions that are compiled once for each instruction set.
#pragma once

#include <cstdint>

#define EDGEMOE_INLINE __attribute__((always_inline)) inline

namespace edgemoe::codec {

template <int N>
struct Vectors {
  typedef float Floats __attribute__((vector_size(N * 4)));
  typedef int32_t Ints __attribute__((vector_size(N * 4)));

  static EDGEMOE_INLINE Floats load(const float* from) {
    Floats vector;
    __builtin_memcpy(&vector, from, sizeof vector);
    return vector;
  }
  static EDGEMOE_INLINE void store(float* to, Floats vector) { __builtin_memcpy(to, &vector, sizeof vector); }
};

}  // namespace edgemoe::codec
