/// @file library_guard.h
/// Turns what llama.cpp prints, and the assertions that would end the process, into text for exceptions.
#pragma once

#include <string>

namespace edgemoe {

/// @brief Installs the log and assertion hooks once; messages still reach whoever listened before.
void install_library_hooks();

/// @brief While one is alive on a thread, ggml assertions on that thread become C++ exceptions, which llama.cpp's
/// loader and context constructor catch and report as failures; and the lines that llama.cpp logs are collected.
class LibraryGuard {
 public:
  /// @param quiet nothing is passed on to whoever else listens.
  explicit LibraryGuard(bool quiet = false);
  ~LibraryGuard();
  LibraryGuard(const LibraryGuard&) = delete;
  LibraryGuard& operator=(const LibraryGuard&) = delete;

  /// @brief Ends the guard before its destruction; must be called on the thread that made it.
  void close();
  /// @brief What was logged as an error on this thread, joined into one line; empty when nothing was.
  std::string errors() const;
  /// @brief Everything that was logged on this thread, debugging apart, line by line.
  const std::string& log() const;

 private:
  bool _open = true;
};

}  // namespace edgemoe
