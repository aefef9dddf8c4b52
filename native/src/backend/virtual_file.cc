#include "edgemoe/backend/virtual_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "edgemoe/error.h"
#include "edgemoe/platform/memory.h"
#include "edgemoe/platform/thread.h"

namespace edgemoe {
namespace {

constexpr size_t kLoadPiece = 1 << 20;
constexpr uint64_t kWindow = 8 * kLoadPiece;
constexpr size_t kAhead = 3;
constexpr size_t kWindows = 2 * (kAhead + 1);  // more than are in use, being read and waiting together
constexpr size_t kStreamBuffer = 64 << 10;

}  // namespace

VirtualFile::VirtualFile(const ModelFile& model, bool with_vocabulary, const std::function<bool(const TensorInfo&)>& stays_on_disk,
                         ReadPool* pool)
    : _model(model), _layout(model.layout(with_vocabulary)), _stream_buffer(kStreamBuffer) {
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const TensorInfo& tensor = model.tensors()[i];
    const bool hole = pool == nullptr || stays_on_disk(tensor);
    _segments.push_back({_layout.offsets[i], tensor.bytes, hole ? nullptr : &tensor});
  }
  if (pool) {
    _reader = std::make_unique<CopyReader>(*pool, kLoadPiece);
    _windows.resize(std::min<size_t>(kWindows, _layout.size / kWindow + 1));
    const size_t bytes = _windows.size() * kWindow;
    void* memory = platform::map(bytes);
    if (!memory) throw IoError(std::string("cannot get memory to load with: ") + std::strerror(errno));
    _memory = {memory, [bytes](void* p) { platform::unreserve(p, bytes); }};
    for (size_t i = 0; i < _windows.size(); ++i) _windows[i].bytes = static_cast<uint8_t*>(memory) + i * kWindow;
  }
  if (pool) _filler = std::thread([this] { fill_requested(); });
  try {
    _stream = platform::open_stream(*this);
  } catch (const IoError&) {
    stop_filling();
    if (!_error.empty()) throw IoError(_error);
    throw;
  } catch (...) {
    stop_filling();
    throw;
  }
  std::setvbuf(_stream, _stream_buffer.data(), _IOFBF, _stream_buffer.size());
}

VirtualFile::~VirtualFile() {
  stop_filling();
  std::fclose(_stream);
}

void VirtualFile::stop_filling() {
  if (!_filler.joinable()) return;
  {
    std::lock_guard lock(_mutex);
    _closing = true;
  }
  _changed.notify_all();
  _filler.join();
}

uint64_t VirtualFile::next_content(uint64_t position) const {
  if (position < _layout.header.size()) return position;
  auto segment = segment_behind(position);
  while (segment != _segments.end() && !segment->tensor) ++segment;
  return segment == _segments.end() ? _layout.size : std::max(position, segment->start);
}

int64_t VirtualFile::seek(int64_t offset, int whence) {
  const int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? static_cast<int64_t>(_position) : static_cast<int64_t>(_layout.size);
  const int64_t target = base + offset;
  if (target < 0) return -1;
  _position = static_cast<uint64_t>(target);
  return target;
}

std::vector<VirtualFile::Segment>::const_iterator VirtualFile::segment_behind(uint64_t position) const {
  return std::upper_bound(_segments.begin(), _segments.end(), position,
                          [](uint64_t at, const Segment& s) { return at < s.start + s.length; });
}

bool VirtualFile::has_dense_bytes(uint64_t window) const {
  auto segment = segment_behind(window * kWindow);
  while (segment != _segments.end() && !segment->tensor) ++segment;
  return segment != _segments.end() && segment->start < (window + 1) * kWindow;
}

void VirtualFile::fill(Window* window) {
  const uint64_t start = window->index * kWindow;
  const uint64_t end = std::min(start + kWindow, _layout.size);
  std::vector<CopyRange> ranges;
  for (auto segment = segment_behind(start); segment != _segments.end() && segment->start < end; ++segment) {
    if (!segment->tensor) continue;
    const uint64_t from = std::max(start, segment->start);
    const uint64_t to = std::min(end, segment->start + segment->length);
    const File& file = _model.files()[segment->tensor->file];
    ranges.push_back({&file, segment->tensor->offset + (from - segment->start), to - from, window->bytes + (from - start)});
  }
  _reader->read(ranges);
}

void VirtualFile::fill_requested() {
  platform::serve_computation();
  std::unique_lock lock(_mutex);
  while (true) {
    _changed.wait(lock, [this] { return _closing || !_requested.empty(); });
    if (_closing) return;
    Window* window = _requested.front();
    _requested.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      fill(window);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    window->error = error;
    window->ready = true;
    _changed.notify_all();
  }
}

VirtualFile::Window* VirtualFile::request(uint64_t index, bool now) {
  Window* oldest = nullptr;
  for (Window& window : _windows) {
    if (window.index == index) return &window;
    const bool pending = window.index != UINT64_MAX && !window.ready;
    if (!pending && (!oldest || window.last_use < oldest->last_use)) oldest = &window;
  }
  oldest->index = index;
  oldest->ready = false;
  oldest->last_use = ++_uses;
  _requested.insert(now ? _requested.begin() : _requested.end(), oldest);
  _changed.notify_all();
  return oldest;
}

const VirtualFile::Window& VirtualFile::window(uint64_t index) {
  std::unique_lock lock(_mutex);
  Window* wanted = request(index, true);
  wanted->last_use = ++_uses;
  // Few enough that a window is always free, or that each has its own.
  for (uint64_t next = index + 1, ahead = 0; next * kWindow < _layout.size && ahead < kAhead && _requested.size() < kAhead; ++next) {
    if (!has_dense_bytes(next)) continue;
    request(next, false);
    ++ahead;
  }
  _changed.wait(lock, [wanted] { return wanted->ready; });
  if (wanted->error) std::rethrow_exception(wanted->error);
  return *wanted;
}

int64_t VirtualFile::read(char* dst, size_t length) try {
  const uint64_t end = std::min<uint64_t>(_position + length, _layout.size);
  const uint64_t begin = _position;
  const uint64_t header = _layout.header.size();
  while (_position < end) {
    const uint64_t in_window = _position % kWindow;
    const bool in_header = _position < header;
    const uint8_t* from = in_header ? _layout.header.data() + _position
                          : _windows.empty() ? nullptr : window(_position / kWindow).bytes + in_window;
    const uint64_t n = std::min(end, in_header ? header : _position - in_window + kWindow) - _position;
    if (from) std::memcpy(dst + (_position - begin), from, n);
    _position += n;
  }
  return static_cast<int64_t>(_position - begin);
} catch (const std::exception& failure) {
  if (_error.empty()) _error = failure.what();
  errno = EIO;
  return -1;
}

}  // namespace edgemoe
