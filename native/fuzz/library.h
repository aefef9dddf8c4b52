/// @file library.h
/// llama.cpp's library, as llama-cpp-python installs it.
#pragma once

namespace edgemoe::fuzz {

/// @brief Loads the library that EDGEMOE_FUZZ_LIBRARY names and binds its functions; ends the process where it cannot. What of
/// ggml is compiled into this program, with the fuzzer's instruments, is taken in place of the library's own.
void load_library();

}  // namespace edgemoe::fuzz
