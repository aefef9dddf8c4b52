#include "edgemoe/backend/virtual_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "edgemoe/error.h"

namespace edgemoe {
namespace {

constexpr size_t kLoadPiece = 1 << 20;

#if defined(__APPLE__)
std::FILE* open_stream(VirtualFile* file) {
  return ::funopen(
      file, [](void* cookie, char* dst, int n) { return static_cast<int>(static_cast<VirtualFile*>(cookie)->read(dst, n)); },
      nullptr,
      [](void* cookie, fpos_t offset, int whence) -> fpos_t { return static_cast<VirtualFile*>(cookie)->seek(offset, whence); },
      nullptr);
}
#else
std::FILE* open_stream(VirtualFile* file) {
  cookie_io_functions_t functions{};
  functions.read = [](void* cookie, char* dst, size_t n) -> ssize_t { return static_cast<VirtualFile*>(cookie)->read(dst, n); };
  functions.seek = [](void* cookie, off64_t* offset, int whence) -> int {
    *offset = static_cast<VirtualFile*>(cookie)->seek(*offset, whence);
    return *offset < 0 ? -1 : 0;
  };
  return ::fopencookie(file, "rb", functions);
}
#endif

}  // namespace

VirtualFile::VirtualFile(const ModelFile& model, bool with_vocabulary, const std::function<bool(const TensorInfo&)>& stays_on_disk,
                         ReadPool* pool)
    : _model(model), _layout(model.layout(with_vocabulary)) {
  for (size_t i = 0; i < model.tensors().size(); ++i) {
    const TensorInfo& tensor = model.tensors()[i];
    const bool hole = pool == nullptr || stays_on_disk(tensor);
    _segments.push_back({_layout.offsets[i], tensor.bytes, hole ? nullptr : &tensor});
  }
  if (pool) _reader = std::make_unique<CopyReader>(*pool, kLoadPiece);
  _stream = open_stream(this);
  if (!_stream) throw IoError(std::string("cannot open a stream: ") + std::strerror(errno));
}

VirtualFile::~VirtualFile() { std::fclose(_stream); }

int64_t VirtualFile::seek(int64_t offset, int whence) {
  const int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? static_cast<int64_t>(_position) : static_cast<int64_t>(_layout.size);
  const int64_t target = base + offset;
  if (target < 0) return -1;
  _position = static_cast<uint64_t>(target);
  return target;
}

int64_t VirtualFile::read(char* dst, size_t length) try {
  const uint64_t end = std::min<uint64_t>(_position + length, _layout.size);
  const uint64_t begin = _position;
  std::vector<CopyRange> ranges;
  while (_position < end) {
    auto* to = reinterpret_cast<uint8_t*>(dst) + (_position - begin);
    const auto next = std::upper_bound(_segments.begin(), _segments.end(), _position,
                                       [](uint64_t position, const Segment& s) { return position < s.start; });
    if (_position < _layout.header.size()) {
      const uint64_t n = std::min<uint64_t>(end, _layout.header.size()) - _position;
      std::memcpy(to, _layout.header.data() + _position, n);
      _position += n;
      continue;
    }
    const Segment* segment = next == _segments.begin() ? nullptr : &*(next - 1);
    if (segment && _position < segment->start + segment->length) {
      const uint64_t n = std::min(end, segment->start + segment->length) - _position;
      if (const TensorInfo* tensor = segment->tensor) {
        ranges.push_back({&_model.files()[tensor->file], tensor->offset + (_position - segment->start), n, to});
      }
      _position += n;
    } else {  // padding between tensors
      const uint64_t n = std::min(end, next == _segments.end() ? _layout.size : next->start) - _position;
      std::memset(to, 0, n);
      _position += n;
    }
  }
  if (!ranges.empty()) _reader->read(ranges);
  return static_cast<int64_t>(_position - begin);
} catch (const std::exception& failure) {
  if (_error.empty()) _error = failure.what();
  errno = EIO;
  return -1;
}

}  // namespace edgemoe
