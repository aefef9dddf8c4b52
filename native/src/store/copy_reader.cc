#include "edgemoe/store/copy_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "edgemoe/error.h"

namespace edgemoe {

CopyReader::CopyReader(ReadPool& pool, size_t piece) : _pool(pool), _piece(piece), _slots(2 * pool.threads()) {
  _memory = std::unique_ptr<uint8_t[]>(new uint8_t[_slots.size() * piece + kBlock]);
  uint8_t* aligned = _memory.get();
  aligned += (kBlock - reinterpret_cast<uintptr_t>(aligned) % kBlock) % kBlock;
  for (uint32_t i = 0; i < _slots.size(); ++i) {
    _slots[i].buffer = aligned + i * piece;
    _free.push_back(i);
  }
}

void CopyReader::read(const std::vector<CopyRange>& ranges) {
  for (const CopyRange& range : ranges) {
    for (size_t done = 0; done < range.length;) {
      const uint64_t offset = range.offset + done;
      const size_t room = _piece - offset % kBlock;
      const size_t length = std::min(range.length - done, room);
      start({range.file, offset, length, range.dst + done});
      done += length;
    }
  }
  std::unique_lock lock(_mutex);
  _changed.wait(lock, [this] { return _free.size() == _slots.size(); });
  if (!_error.empty()) throw IoError(std::exchange(_error, {}));
}

void CopyReader::start(const CopyRange& part) {
  uint32_t index;
  {
    std::unique_lock lock(_mutex);
    _changed.wait(lock, [this] { return !_free.empty(); });
    if (!_error.empty()) return;
    index = _free.back();
    _free.pop_back();
  }
  Slot& slot = _slots[index];
  slot.part = part;
  slot.start = align_down(part.offset, kBlock);
  const uint64_t end = part.offset + part.length;
  _pool.submit({{part.file, slot.start, align_up(end, kBlock) - slot.start, end - slot.start, slot.buffer, this, index}}, true);
}

void CopyReader::on_read(const Read& read, const std::string& error) {
  const Slot& slot = _slots[read.tag];
  if (error.empty()) std::memcpy(slot.part.dst, slot.buffer + (slot.part.offset - slot.start), slot.part.length);
  std::lock_guard lock(_mutex);
  if (!error.empty() && _error.empty()) _error = error;
  _free.push_back(read.tag);
  // Under the lock: the reader may be destroyed as soon as the caller sees the last slot free.
  _changed.notify_all();
}

}  // namespace edgemoe
