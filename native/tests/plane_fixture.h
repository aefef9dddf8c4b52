/// @file plane_fixture.h
/// Planes in real files, and a consumer that takes a lease through them with several threads and compares every byte.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "edgemoe/cache/plane_cache.h"
#include "edgemoe/error.h"
#include "temporary_file.h"

namespace edgemoe::testing {

inline bool never() { return false; }

/// @brief Planes of the given lengths, laid one after the other at offsets that are multiples of `alignment` and dealt
/// over two files; the last plane of each file ends where the file ends.
class PlaneFiles {
 public:
  PlaneFiles(const std::vector<uint64_t>& lengths, uint64_t alignment, bool unbuffered = true) {
    uint64_t ends[2] = {alignment % kBlock, 0};
    for (size_t p = 0; p < lengths.size(); ++p) {
      const uint32_t file = p % 3 == 2 ? 1 : 0;
      const uint64_t offset = align_up(ends[file], alignment);
      _planes.push_back({file, offset, lengths[p]});
      ends[file] = offset + lengths[p];
    }
    for (uint32_t f = 0; f < 2; ++f) {
      _contents.push_back(std::make_unique<RandomFile>(ends[f], 40 + f));
      _files.emplace_back(_contents.back()->path(), unbuffered);
    }
  }

  const std::vector<File>& files() const { return _files; }
  const std::vector<Plane>& planes() const { return _planes; }
  uint32_t count() const { return static_cast<uint32_t>(_planes.size()); }
  bool equal(uint32_t plane, const uint8_t* bytes) const {
    const Plane& p = _planes[plane];
    return _contents[p.file]->equal(p.offset, bytes, p.length);
  }

 private:
  std::vector<std::unique_ptr<RandomFile>> _contents;
  std::vector<File> _files;
  std::vector<Plane> _planes;
};

struct Consumed {
  uint32_t right = 0;
  uint32_t wrong = 0;
  uint32_t io_errors = 0;  ///< threads whose wait threw IoError
  uint32_t aborts = 0;     ///< threads whose wait threw Aborted
};

inline std::vector<PlaneUse> uses_of(const std::vector<uint32_t>& planes) {
  std::vector<PlaneUse> uses;
  for (const uint32_t plane : planes) uses.push_back({plane, 1});
  return uses;
}

inline std::vector<uint32_t> range(uint32_t first, uint32_t last) {
  std::vector<uint32_t> planes;
  for (uint32_t p = first; p < last; ++p) planes.push_back(p);
  return planes;
}

/// @brief Opens a lease on `planes`; `threads` threads take its uses in order, compare the bytes and release.
inline Consumed consume(PlaneCache& cache, const PlaneFiles& files, const std::vector<uint32_t>& planes, double now,
                        int threads = 1, const std::function<bool()>& abort = never) {
  PlaneCache::Lease lease(cache, uses_of(planes), now, abort);
  std::atomic<size_t> next{0};
  Consumed consumed;
  std::mutex mutex;
  const auto work = [&] {
    Consumed mine;
    try {
      for (size_t i = next++; i < planes.size(); i = next++) {
        const uint8_t* bytes = lease.wait(i);
        ++(files.equal(planes[i], bytes) ? mine.right : mine.wrong);
        lease.release(i);
      }
    } catch (const IoError&) {
      ++mine.io_errors;
    } catch (const Aborted&) {
      ++mine.aborts;
    }
    std::lock_guard lock(mutex);
    consumed.right += mine.right;
    consumed.wrong += mine.wrong;
    consumed.io_errors += mine.io_errors;
    consumed.aborts += mine.aborts;
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work);
  work();
  for (std::thread& thread : others) thread.join();
  return consumed;
}

/// @brief `count` different planes in random order.
inline std::vector<uint32_t> sample(std::mt19937& random, uint32_t planes, uint32_t count) {
  std::vector<uint32_t> all = range(0, planes);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  return all;
}

}  // namespace edgemoe::testing
