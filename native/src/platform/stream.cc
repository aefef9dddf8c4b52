#include "edgemoe/platform/stream.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "edgemoe/error.h"
#include "edgemoe/platform/environment.h"
#include "temporary_file.h"

namespace edgemoe::platform {
namespace {

constexpr size_t kPiece = 1 << 20;

#if defined(__APPLE__)
std::FILE* asking_stream(StreamSource& source) {
  return ::funopen(
      &source, [](void* cookie, char* dst, int n) { return static_cast<int>(static_cast<StreamSource*>(cookie)->read(dst, static_cast<size_t>(n))); },
      nullptr,
      [](void* cookie, fpos_t offset, int whence) -> fpos_t { return static_cast<StreamSource*>(cookie)->seek(offset, whence); },
      nullptr);
}
#elif defined(__linux__)
std::FILE* asking_stream(StreamSource& source) {
  cookie_io_functions_t functions{};
  functions.read = [](void* cookie, char* dst, size_t n) -> ssize_t { return static_cast<StreamSource*>(cookie)->read(dst, n); };
  functions.seek = [](void* cookie, off64_t* offset, int whence) -> int {
    *offset = static_cast<StreamSource*>(cookie)->seek(*offset, whence);
    return *offset < 0 ? -1 : 0;
  };
  return ::fopencookie(&source, "rb", functions);
}
#else
std::FILE* asking_stream(StreamSource&) { return nullptr; }
#endif

[[noreturn]] void fail(const std::string& what) {
  throw IoError("cannot make a temporary file to load the model with: " + what + "; set TMPDIR to a folder on a disk with room for the model's dense part");
}

// Copies what matters to the same places of a file; the rest stays holes.
std::FILE* copied_stream(StreamSource& source) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(temporary_file(), std::fclose);
  if (!file) fail(std::strerror(errno));
  if (!set_file_size(file.get(), source.size())) fail(std::strerror(errno));
  std::vector<char> piece(kPiece);
  for (uint64_t at = source.next_content(0); at < source.size();) {
    const auto length = static_cast<size_t>(std::min<uint64_t>(kPiece - at % kPiece, source.size() - at));
    if (source.seek(static_cast<int64_t>(at), SEEK_SET) < 0) fail("position " + std::to_string(at) + " lies outside");
    const int64_t got = source.read(piece.data(), length);
    if (got != static_cast<int64_t>(length)) fail("the model cannot be read at byte " + std::to_string(at));
    if (!write_at(file.get(), piece.data(), length, at)) fail(std::strerror(errno));
    at = source.next_content(at + length);
  }
  if (!rewind_file(file.get())) fail(std::strerror(errno));
  return file.release();
}

}  // namespace

bool streams_ask() {
#if defined(__APPLE__) || defined(__linux__)
  return !chooses("EDGEMOE_STREAM", "memory", "file");
#else
  return false;
#endif
}

std::FILE* open_stream(StreamSource& source) {
  if (!streams_ask()) return copied_stream(source);
  std::FILE* stream = asking_stream(source);
  if (!stream) throw IoError(std::string("cannot open a stream: ") + std::strerror(errno));
  return stream;
}

}  // namespace edgemoe::platform
