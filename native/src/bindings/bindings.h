#pragma once

#include <nanobind/nanobind.h>

namespace edgemoe {

void bind_model(nanobind::module_& m);
void bind_engine(nanobind::module_& m);
void bind_machine(nanobind::module_& m);

}  // namespace edgemoe
