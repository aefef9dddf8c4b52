/// @file trial.h
/// Whether something that may help or harm pays on this machine, found by trying both: pure policy, without a clock of its own.
#pragma once

#include <cstdint>
#include <vector>

namespace edgemoe {

/// @brief Alternates between on and off for a while, keeps what gave the shorter median step, and tries again later.
class Trial {
 public:
  struct Settings {
    int block = 8;       ///< steps in a row with one choice
    int skipped = 2;     ///< of them at the beginning, which still feel the other choice
    int blocks = 8;      ///< of a trial, half of them on
    int64_t hold = 2048;  ///< steps between trials
    double margin = 0.02;  ///< on stays on unless off is faster by this share
  };

  Trial() : Trial(Settings()) {}
  explicit Trial(const Settings& settings) : _settings(settings) {}

  /// @brief Whether the next step should use it.
  bool on() const { return _trying ? _step / _settings.block % 2 == 0 : _kept; }
  /// @brief Whether both are being tried just now.
  bool trying() const { return _trying; }
  /// @brief The step that on() decided took so long.
  void record(double seconds);

 private:
  void decide();

  Settings _settings;
  bool _trying = true;
  bool _kept = true;
  int64_t _step = 0;  // of this trial, or since the last one
  std::vector<double> _times[2];  // off, on
};

}  // namespace edgemoe
