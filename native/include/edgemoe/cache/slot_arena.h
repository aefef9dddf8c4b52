/// @file slot_arena.h
/// Memory for planes: fixed slots in one reserved range of addresses per size class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgemoe {

/// @brief Slots for planes of similar size. Addresses for every plane are reserved once; only slots below the current
/// count may be touched, and shrinking gives their memory back to the system.
class SlotArena {
 public:
  /// @param slot_bytes what each plane needs, a multiple of kBlock. Sizes within a tenth of each other share a class.
  explicit SlotArena(const std::vector<uint64_t>& slot_bytes);
  ~SlotArena();
  SlotArena(const SlotArena&) = delete;
  SlotArena& operator=(const SlotArena&) = delete;

  struct SizeClass {
    uint64_t bytes = 0;    ///< of one slot
    uint32_t planes = 0;   ///< that belong here
    uint32_t minimum = 1;  ///< slots that must exist
    uint32_t slots = 0;    ///< that exist now
    uint8_t* base = nullptr;
    uint8_t* mapping = nullptr;  ///< start of the reserved addresses, of which `base` is the first aligned one
    std::vector<uint32_t> free;
  };

  uint32_t class_of(uint32_t plane) const { return _class_of[plane]; }
  std::vector<SizeClass>& classes() { return _classes; }
  const std::vector<SizeClass>& classes() const { return _classes; }
  uint8_t* slot(uint32_t size_class, uint32_t index) const {
    return _classes[size_class].base + _classes[size_class].bytes * index;
  }

  size_t minimum_bytes() const;
  size_t total_bytes() const;
  size_t capacity_bytes() const;

  /// @brief Slots of each class for `bytes` in all: every class gets its minimum. The rest is divided as it is now, if there are more
  /// slots than the minimums, and what a class cannot use (or everything, at first) by the planes that are without a slot.
  std::vector<uint32_t> divide(size_t bytes) const;
  /// @brief Makes slots [slots, count) usable. @throws BudgetError when the system refuses.
  void grow(uint32_t size_class, uint32_t count);
  /// @brief Gives back the memory of the slots from `count` on; the caller has emptied them.
  void shrink(uint32_t size_class, uint32_t count);

 private:
  std::vector<uint32_t> _class_of;
  std::vector<SizeClass> _classes;
};

}  // namespace edgemoe
