#include "page_size.h"

#include <string>

#include "edgemoe/error.h"
#include "edgemoe/platform/environment.h"
#include "edgemoe/platform/memory.h"

namespace edgemoe::platform {
namespace {

constexpr uint64_t kLargest = 2u << 20;

uint64_t forced_page_size() {
  const uint64_t system = system_page_size();
  const std::string value = variable("EDGEMOE_PAGE_SIZE", "");
  if (value.empty()) return system;
  const bool number = value.size() < 9 && value.find_first_not_of("0123456789") == std::string::npos;
  const uint64_t bytes = number ? std::stoull(value) : 0;
  if (bytes < system || bytes > kLargest || (bytes & (bytes - 1)) != 0) {
    throw Error("EDGEMOE_PAGE_SIZE is '" + value + "', and may be a power of two from " + std::to_string(system) + " to " +
                std::to_string(kLargest) + ": it makes pages and blocks look larger than they are, for tests");
  }
  return bytes;
}

}  // namespace

uint64_t page_size() {
  static const uint64_t size = forced_page_size();
  return size;
}

}  // namespace edgemoe::platform
