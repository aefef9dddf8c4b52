#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>

namespace edgemoe {

/// @brief A Python string of bytes that come from a file; what is no UTF-8 is replaced.
inline nanobind::object text(const std::string& bytes) {
  return nanobind::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "replace"));
}

/// @brief An array that is only read: contiguous, in the processor's memory.
template <typename T, size_t dimensions>
using Input = nanobind::ndarray<const T, nanobind::ndim<dimensions>, nanobind::c_contig, nanobind::device::cpu>;

void bind_model(nanobind::module_& m);
void bind_engine(nanobind::module_& m);
void bind_machine(nanobind::module_& m);
void bind_codec(nanobind::module_& m);
void bind_routing(nanobind::module_& m);

}  // namespace edgemoe
