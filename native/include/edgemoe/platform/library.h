/// @file library.h
#pragma once

namespace edgemoe::platform {

/// @brief A function of a library that is loaded. @returns null when it has none of that name.
void* find_symbol(void* library, const char* name);

}  // namespace edgemoe::platform
