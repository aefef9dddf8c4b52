/// @file environment.h
/// Variables that choose among the ways of a platform, so that one system can try another's.
#pragma once

#include <string>

namespace edgemoe::platform {

/// @brief The value of a variable, or `otherwise` where it is not set or empty.
std::string variable(const char* name, const char* otherwise);

/// @brief Whether a variable chooses the second of two ways; the first is the default. @throws Error naming both when it says something else.
bool chooses(const char* name, const char* first, const char* second);

}  // namespace edgemoe::platform
