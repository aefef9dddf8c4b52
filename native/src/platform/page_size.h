#pragma once

#include <cstdint>

namespace edgemoe::platform {

// Of the system, whatever EDGEMOE_PAGE_SIZE says.
uint64_t system_page_size();

}  // namespace edgemoe::platform
