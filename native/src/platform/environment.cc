#include "edgemoe/platform/environment.h"

#include <cstdlib>

#include "edgemoe/error.h"

namespace edgemoe::platform {

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

bool chooses(const char* name, const char* first, const char* second) {
  const std::string value = variable(name, first);
  if (value == second) return true;
  if (value == first) return false;
  throw Error(std::string(name) + " is '" + value + "', and may be '" + first + "' (the default) or '" + second + "'");
}

}  // namespace edgemoe::platform
