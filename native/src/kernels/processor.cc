#include "edgemoe/kernels/processor.h"

#if defined(__aarch64__)
#include "arm_features.h"
#endif

namespace edgemoe::kernels {

std::vector<std::string> processor_features() {
  std::vector<std::string> features;
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define EDGEMOE_FEATURE(name) \
  if (__builtin_cpu_supports(name)) features.push_back(name);
  EDGEMOE_FEATURE("avx2")
  EDGEMOE_FEATURE("fma")
  EDGEMOE_FEATURE("avx512f")
  EDGEMOE_FEATURE("avx512bw")
  EDGEMOE_FEATURE("avx512vbmi")
  EDGEMOE_FEATURE("avx512vnni")
#undef EDGEMOE_FEATURE
#elif defined(__aarch64__)
  features.push_back("neon");
  if (has_dot_products()) features.push_back("dotprod");
  if (has_half_precision()) features.push_back("fp16");
  if (has_matrix_products()) features.push_back("i8mm");
#endif
  return features;
}

}  // namespace edgemoe::kernels
