#include "library.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/library_guard.h"

namespace edgemoe::fuzz {

void load_library() {
  const char* path = std::getenv("EDGEMOE_FUZZ_LIBRARY");
  if (!path || !::dlopen(path, RTLD_NOW | RTLD_GLOBAL)) {
    std::fprintf(stderr, "EDGEMOE_FUZZ_LIBRARY is no library: %s\n", path ? ::dlerror() : "it is not set");
    std::exit(2);
  }
  try {
    ggml::bind_api(::dlopen(nullptr, RTLD_NOW));
    ggml::check_api();
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    std::exit(2);
  }
  ggml::api().llama_log_set([](ggml::LogLevel, const char*, void*) {}, nullptr);
  install_library_hooks();
}

}  // namespace edgemoe::fuzz

// What an assertion of ggml's leaves behind when it becomes an exception, nobody can free.
extern "C" const char* __lsan_default_suppressions() { return "leak:gguf_init_from_reader\n"; }
