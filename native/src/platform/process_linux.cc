#include <fstream>
#include <sstream>
#include <string>

#include "edgemoe/platform/process.h"
#include "edgemoe/platform/thread.h"

namespace edgemoe::platform {

void serve_computation() {}

// Lines of /proc/self/status such as "VmRSS:     1234 kB".
ProcessMemory process_memory() {
  ProcessMemory memory;
  bool told = false;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kilobytes = 0;
    if (!(words >> name >> kilobytes)) continue;
    if (name == "VmRSS:") memory.resident = kilobytes * 1024;
    if (name != "RssAnon:" && name != "RssShmem:" && name != "VmSwap:") continue;
    memory.held += kilobytes * 1024;
    told = true;
  }
  if (!told) memory.held = memory.resident;  // gVisor's /proc has none of them
  return memory;
}

}  // namespace edgemoe::platform
