#include "edgemoe/cache/slot_arena.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "edgemoe/error.h"
#include "edgemoe/platform/memory.h"
#include "edgemoe/store/file.h"

namespace edgemoe {
namespace {

constexpr size_t kHugePage = 2u << 20;

// Whole pages behind the last slot, and room to begin at a huge page.
size_t reserved_bytes(const SlotArena::SizeClass& c) { return align_up(c.bytes * c.planes, kHugePage) + kHugePage; }

[[noreturn]] void fail_to_reserve() {
  throw BudgetError(std::string("cannot reserve addresses for the plane cache: ") + std::strerror(errno));
}

}  // namespace

SlotArena::SlotArena(const std::vector<uint64_t>& slot_bytes) : _class_of(slot_bytes.size()) {
  std::vector<uint64_t> sizes(slot_bytes);
  std::sort(sizes.rbegin(), sizes.rend());
  for (const uint64_t size : sizes) {
    if (_classes.empty() || size * 10 < _classes.back().bytes * 9) {
      _classes.emplace_back();
      _classes.back().bytes = size;
    }
    ++_classes.back().planes;
  }
  for (size_t p = 0; p < slot_bytes.size(); ++p) {
    uint32_t c = 0;
    while (slot_bytes[p] * 10 < _classes[c].bytes * 9) ++c;
    _class_of[p] = c;
  }
  for (SizeClass& c : _classes) {
    c.mapping = static_cast<uint8_t*>(platform::reserve(reserved_bytes(c)));
    if (!c.mapping) fail_to_reserve();
    c.base = reinterpret_cast<uint8_t*>(align_up(reinterpret_cast<uintptr_t>(c.mapping), kHugePage));
  }
}

SlotArena::~SlotArena() {
  for (SizeClass& c : _classes) platform::unreserve(c.mapping, reserved_bytes(c));
}

size_t SlotArena::minimum_bytes() const {
  size_t sum = 0;
  for (const SizeClass& c : _classes) sum += c.bytes * std::min(c.minimum, c.planes);
  return sum;
}

size_t SlotArena::total_bytes() const {
  size_t sum = 0;
  for (const SizeClass& c : _classes) sum += c.bytes * c.planes;
  return sum;
}

size_t SlotArena::capacity_bytes() const {
  size_t sum = 0;
  for (const SizeClass& c : _classes) sum += c.bytes * c.slots;
  return sum;
}

std::vector<uint32_t> SlotArena::divide(size_t bytes) const {
  std::vector<uint32_t> slots;
  for (const SizeClass& c : _classes) slots.push_back(std::min(c.minimum, c.planes));
  if (bytes < minimum_bytes()) return slots;
  size_t left = bytes - minimum_bytes();
  // Hands out `left` in proportion to what `upto` says a class may have.
  const auto share_out = [&](const auto& upto) {
    size_t wanted = 0;
    for (size_t c = 0; c < _classes.size(); ++c) wanted += _classes[c].bytes * (upto(c) - slots[c]);
    if (wanted == 0) return;
    const double share = std::min(1.0, static_cast<double>(left) / static_cast<double>(wanted));
    for (size_t c = 0; c < _classes.size(); ++c) {
      const auto more = static_cast<uint32_t>(share * (upto(c) - slots[c]));
      slots[c] += more;
      left -= more * _classes[c].bytes;
    }
  };
  share_out([&](size_t c) { return std::max(slots[c], _classes[c].slots); });
  share_out([&](size_t c) { return _classes[c].planes; });
  return slots;
}

void SlotArena::grow(uint32_t size_class, uint32_t count) {
  SizeClass& c = _classes[size_class];
  if (count <= c.slots) return;
  if (!platform::commit(c.base, align_up(c.bytes * count, platform::page_size()))) {
    throw BudgetError("the system refuses " + std::to_string(c.bytes * count) + " bytes for the plane cache: " + std::strerror(errno));
  }
  platform::want_huge_pages(c.base, align_down(c.bytes * count, kHugePage));
  for (uint32_t s = count; s-- > c.slots;) c.free.push_back(s);
  c.slots = count;
}

void SlotArena::shrink(uint32_t size_class, uint32_t count) {
  SizeClass& c = _classes[size_class];
  if (count >= c.slots) return;
  c.free.erase(std::remove_if(c.free.begin(), c.free.end(), [count](uint32_t s) { return s >= count; }), c.free.end());
  const uint64_t kept = align_up(c.bytes * count, platform::page_size());
  const uint64_t end = align_up(c.bytes * c.slots, platform::page_size());
  if (kept < end && !platform::decommit(c.base + kept, end - kept)) fail_to_reserve();
  c.slots = count;
}

}  // namespace edgemoe
