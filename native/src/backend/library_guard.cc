#include "edgemoe/backend/library_guard.h"

#include <cstdio>
#include <cstring>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

constexpr size_t kMaxLog = 1 << 20;
constexpr size_t kMaxErrors = 600;

struct ThreadLog {
  int depth = 0;
  bool quiet = false;
  std::string all;
  std::string errors;
  ggml::LogLevel last = ggml::kLogNone;
};
thread_local ThreadLog thread_log;

ggml::LogCallback previous_log = nullptr;
void* previous_data = nullptr;

void on_log(ggml::LogLevel level, const char* text, void*) {
  ThreadLog& log = thread_log;
  if (log.depth > 0) {
    if (level != ggml::kLogContinue) log.last = level;
    if (log.last != ggml::kLogDebug && log.all.size() < kMaxLog) log.all += text;
    if (log.last == ggml::kLogError) log.errors.append(text, ::strnlen(text, kMaxErrors - log.errors.size()));
  }
  if (previous_log && !(log.depth > 0 && log.quiet)) previous_log(level, text, previous_data);
}

void on_assert(const char* message) {
  if (thread_log.depth > 0) throw ModelError(message);
  std::fprintf(stderr, "%s\n", message);
}

}  // namespace

void install_library_hooks() {
  const auto& g = ggml::api();
  ggml::LogCallback current = nullptr;
  void* data = nullptr;
  g.llama_log_get(&current, &data);
  if (current != on_log) {
    previous_log = current;
    previous_data = data;
    g.llama_log_set(on_log, nullptr);
  }
  g.ggml_set_abort_callback(on_assert);
}

LibraryGuard::LibraryGuard(bool quiet) {
  if (thread_log.depth++ == 0) {
    thread_log.all.clear();
    thread_log.errors.clear();
    thread_log.last = ggml::kLogNone;
    thread_log.quiet = quiet;
  }
}

LibraryGuard::~LibraryGuard() { close(); }

void LibraryGuard::close() {
  if (_open) --thread_log.depth;
  _open = false;
}

std::string LibraryGuard::errors() const {
  std::string line;
  for (const char c : thread_log.errors) {
    if (c != '\n') {
      line += static_cast<unsigned char>(c) < ' ' ? '?' : c;  // as in names that a damaged file gives
    } else if (!line.empty() && line.back() != ' ') {
      line += "; ";
    }
  }
  while (!line.empty() && (line.back() == ' ' || line.back() == ';')) line.pop_back();
  return line;
}

const std::string& LibraryGuard::log() const { return thread_log.all; }

}  // namespace edgemoe
