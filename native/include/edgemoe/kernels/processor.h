/// @file processor.h
/// What the processor that runs this has, as far as computing profits from it.
#pragma once

#include <string>
#include <vector>

namespace edgemoe::kernels {

/// @returns names such as "avx2" and "fma", or "neon", "dotprod", "fp16" (arithmetic in half precision) and "i8mm".
std::vector<std::string> processor_features();

}  // namespace edgemoe::kernels
