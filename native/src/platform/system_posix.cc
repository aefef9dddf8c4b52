#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "edgemoe/platform/environment.h"
#include "edgemoe/platform/library.h"
#include "temporary_file.h"

namespace edgemoe::platform {

void* find_symbol(void* library, const char* name) { return ::dlsym(library, name); }

std::FILE* temporary_file() {
  std::string path = variable("TMPDIR", "/tmp") + "/edgemoe-XXXXXX";
  const int fd = ::mkstemp(path.data());
  if (fd < 0) return nullptr;
  ::unlink(path.c_str());
  std::FILE* file = ::fdopen(fd, "w+b");
  if (!file) ::close(fd);
  return file;
}

bool set_file_size(std::FILE* file, uint64_t size) { return ::ftruncate(::fileno(file), static_cast<off_t>(size)) == 0; }

bool write_at(std::FILE* file, const char* bytes, size_t length, uint64_t offset) {
  for (size_t done = 0; done < length;) {
    const ssize_t n = ::pwrite(::fileno(file), bytes + done, length - done, static_cast<off_t>(offset + done));
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

bool rewind_file(std::FILE* file) { return ::fseeko(file, 0, SEEK_SET) == 0; }

}  // namespace edgemoe::platform
