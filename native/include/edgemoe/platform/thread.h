/// @file thread.h
/// What the scheduler is told of a thread.
#pragma once

namespace edgemoe::platform {

/// @brief The calling thread serves reads that computation waits for: on macOS, quality of service "user initiated", so that it is not
/// kept on the efficiency cores. Nothing elsewhere.
void serve_computation();

}  // namespace edgemoe::platform
