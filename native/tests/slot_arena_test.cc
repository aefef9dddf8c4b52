#include "edgemoe/cache/slot_arena.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <set>

#include "edgemoe/error.h"
#include "resident_memory.h"
#include "temporary_file.h"

namespace edgemoe {
namespace {

std::vector<uint64_t> random_sizes(uint32_t seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<uint64_t> sizes;
  for (size_t i = 0; i < count; ++i) sizes.push_back((1 + random() % (i % 3 ? 100 : 8)) * kBlock);
  return sizes;
}

TEST(SlotArena, PutsPlanesWhereTheyFitWithAtMostATenthLost) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const std::vector<uint64_t> sizes = random_sizes(seed, 200);
    const SlotArena arena(sizes);
    std::vector<uint32_t> planes(arena.classes().size());
    for (uint32_t p = 0; p < sizes.size(); ++p) {
      const auto& c = arena.classes()[arena.class_of(p)];
      EXPECT_LE(sizes[p], c.bytes);
      EXPECT_GE(sizes[p] * 10, c.bytes * 9);
      ++planes[arena.class_of(p)];
    }
    for (size_t c = 0; c < planes.size(); ++c) EXPECT_EQ(planes[c], arena.classes()[c].planes);
  }
}

TEST(SlotArena, OfNoPlanesHasNoBytes) {
  const SlotArena arena({});
  EXPECT_EQ(arena.minimum_bytes(), 0u);
  EXPECT_EQ(arena.total_bytes(), 0u);
  EXPECT_TRUE(arena.divide(100).empty());
}

TEST(SlotArena, DividesWithoutExceedingTheBytesOrThePlanes) {
  for (uint32_t seed = 0; seed < 10; ++seed) {
    SlotArena arena(random_sizes(seed, 150));
    for (auto& c : arena.classes()) c.minimum = 1 + seed;
    std::vector<uint32_t> last(arena.classes().size(), 0);
    const size_t minimum = arena.minimum_bytes();
    const size_t total = arena.total_bytes();
    for (size_t step = 0; step <= 100; ++step) {
      const size_t bytes = minimum + (total - minimum) / 100 * step;
      const std::vector<uint32_t> slots = arena.divide(bytes);
      size_t used = 0;
      for (size_t c = 0; c < slots.size(); ++c) {
        const auto& size_class = arena.classes()[c];
        EXPECT_GE(slots[c], std::min(size_class.minimum, size_class.planes));
        EXPECT_LE(slots[c], size_class.planes);
        EXPECT_GE(slots[c], last[c]) << "more bytes gave fewer slots";
        used += slots[c] * size_class.bytes;
      }
      EXPECT_LE(used, bytes);
      last = slots;
    }
    const std::vector<uint32_t> all = arena.divide(total);
    for (size_t c = 0; c < all.size(); ++c) EXPECT_EQ(all[c], arena.classes()[c].planes);
    EXPECT_EQ(arena.divide(SIZE_MAX), all);
  }
}

TEST(SlotArena, SlotsAreAlignedApartAndWritable) {
  SlotArena arena({kBlock, kBlock, 5 * kBlock, 5 * kBlock, 5 * kBlock, 100 * kBlock});
  std::set<uint8_t*> addresses;
  for (uint32_t c = 0; c < arena.classes().size(); ++c) {
    const auto& size_class = arena.classes()[c];
    arena.grow(c, size_class.planes);
    EXPECT_EQ(size_class.slots, size_class.planes);
    EXPECT_EQ(size_class.free.size(), size_class.planes);
    for (uint32_t s = 0; s < size_class.planes; ++s) {
      uint8_t* slot = arena.slot(c, s);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(slot) % kBlock, 0u);
      std::memset(slot, static_cast<int>(addresses.size() + 1), size_class.bytes);
      addresses.insert(slot);
    }
  }
  EXPECT_EQ(addresses.size(), 6u);
  EXPECT_EQ(arena.capacity_bytes(), arena.total_bytes());
  std::set<uint8_t> values;
  for (uint32_t c = 0; c < arena.classes().size(); ++c) {
    for (uint32_t s = 0; s < arena.classes()[c].planes; ++s) {
      const uint8_t* slot = arena.slot(c, s);
      const uint64_t bytes = arena.classes()[c].bytes;
      EXPECT_TRUE(std::all_of(slot, slot + bytes, [slot](uint8_t b) { return b == *slot; }));
      values.insert(*slot);
    }
  }
  EXPECT_EQ(values.size(), 6u) << "slots overlap";
}

TEST(SlotArena, GrowingKeepsContentsAndHandsOutTheLowestSlotsFirst) {
  SlotArena arena(std::vector<uint64_t>(10, 3 * kBlock));
  arena.grow(0, 4);
  auto& free = arena.classes()[0].free;
  EXPECT_EQ(free.back(), 0u);
  free.pop_back();
  std::memset(arena.slot(0, 0), 7, 3 * kBlock);
  arena.grow(0, 2);  // no more than there are: nothing happens
  EXPECT_EQ(arena.classes()[0].slots, 4u);
  arena.grow(0, 10);
  EXPECT_EQ(arena.classes()[0].slots, 10u);
  EXPECT_EQ(std::set<uint32_t>(free.begin(), free.end()), (std::set<uint32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(arena.slot(0, 0)[3 * kBlock - 1], 7);
}

TEST(SlotArena, ShrinkingForgetsTheUpperSlotsAndKeepsTheLower) {
  SlotArena arena(std::vector<uint64_t>(10, 3 * kBlock));
  arena.grow(0, 10);
  for (uint32_t s = 0; s < 10; ++s) std::memset(arena.slot(0, s), static_cast<int>(s + 1), 3 * kBlock);
  arena.shrink(0, 12);
  EXPECT_EQ(arena.classes()[0].slots, 10u);
  arena.shrink(0, 4);
  const auto& free = arena.classes()[0].free;
  EXPECT_EQ(std::set<uint32_t>(free.begin(), free.end()), (std::set<uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(arena.capacity_bytes(), 4 * 3 * kBlock);
  for (uint32_t s = 0; s < 4; ++s) EXPECT_EQ(arena.slot(0, s)[3 * kBlock - 1], s + 1);
  arena.grow(0, 10);
  for (uint32_t s = 0; s < 4; ++s) EXPECT_EQ(arena.slot(0, s)[0], s + 1);
  EXPECT_EQ(arena.slot(0, 9)[0], 0) << "memory that was given back comes back as zeros";
}

TEST(SlotArena, ShrinkingGivesMemoryBack) {
  if (testing::resident_bytes() == 0) GTEST_SKIP() << "only Linux tells what is resident, in /proc/self/statm";
  constexpr size_t kSlot = 1u << 20;
  SlotArena arena(std::vector<uint64_t>(64, kSlot));
  arena.grow(0, 64);
  for (uint32_t s = 0; s < 64; ++s) std::memset(arena.slot(0, s), 1, kSlot);
  const size_t full = testing::resident_bytes();
  arena.shrink(0, 8);
  EXPECT_GE(full - testing::resident_bytes(), 54 * kSlot);
}

TEST(SlotArena, ReservingAddressesCostsNoMemory) {
  if (testing::resident_bytes() == 0) GTEST_SKIP() << "only Linux tells what is resident, in /proc/self/statm";
  const size_t before = testing::resident_bytes();
  SlotArena arena(std::vector<uint64_t>(4096, 16u << 20));  // 64 GiB of addresses
  arena.grow(0, 2);
  EXPECT_LT(testing::resident_bytes(), before + (8u << 20));
}

}  // namespace
}  // namespace edgemoe
