/// @file memory.h
/// Addresses and pages: what differs from one system to the next.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgemoe::platform {

/// @brief Bytes of a page, or what EDGEMOE_PAGE_SIZE says instead (a power of two from the system's page to 2 MiB), to try here what
/// other machines have. @throws Error when the variable has another value.
uint64_t page_size();

/// @brief Addresses without memory behind them; whole pages. @returns null, and errno, when there are none.
void* reserve(size_t bytes);
/// @brief Makes the first `bytes` of a reserved range readable and writable; pages come when they are touched.
/// @returns whether the system agrees; otherwise errno says why.
bool commit(void* address, size_t bytes);
/// @brief Gives the memory of whole pages of a reserved range back at once; the addresses stay reserved.
bool decommit(void* address, size_t bytes);
/// @brief Ends a reservation of `bytes`.
void unreserve(void* address, size_t bytes);

/// @brief Zeroed memory that goes back to the system at once when it is unreserved. @returns null, and errno, when there is none.
void* map(size_t bytes);

/// @brief Asks for huge pages where the system has them; a hint.
void want_huge_pages(void* address, size_t bytes);
/// @brief Gives back memory of whole pages whose content is not needed any more, from whatever allocator: it stays usable, and its
/// content is lost where the system takes it. A hint.
void discard(void* address, size_t bytes);

/// @brief As std::aligned_alloc, which Windows lacks; for aligned_free. @returns null when there is no memory.
void* aligned_alloc(size_t alignment, size_t bytes);
void aligned_free(void* memory);

}  // namespace edgemoe::platform
