/// @file arm_features.h
/// What the system tells of an ARM processor. In an unnamed namespace, since each variant's file is compiled for its own instructions.
#pragma once

#if defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#else
#include <sys/auxv.h>
#endif

namespace edgemoe::kernels {
namespace {

#if defined(__APPLE__)
inline bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return ::sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
[[maybe_unused]] inline bool has_dot_products() { return has_feature("hw.optional.arm.FEAT_DotProd"); }
[[maybe_unused]] inline bool has_half_precision() { return has_feature("hw.optional.arm.FEAT_FP16"); }
[[maybe_unused]] inline bool has_matrix_products() { return has_feature("hw.optional.arm.FEAT_I8MM"); }
#else
// HWCAP_ASIMDDP, HWCAP_ASIMDHP and HWCAP2_I8MM, which older headers lack.
[[maybe_unused]] inline bool has_dot_products() { return (::getauxval(AT_HWCAP) >> 20 & 1) != 0; }
[[maybe_unused]] inline bool has_half_precision() { return (::getauxval(AT_HWCAP) >> 10 & 1) != 0; }
[[maybe_unused]] inline bool has_matrix_products() { return has_dot_products() && (::getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
#endif

}  // namespace
}  // namespace edgemoe::kernels
