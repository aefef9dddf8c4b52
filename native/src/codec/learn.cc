#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "edgemoe/codec/tables.h"
#include "edgemoe/error.h"
#include "half.h"
#include "parallel.h"
#include "search.h"

namespace edgemoe::codec {
namespace {

constexpr int kFinest = 16;                // codes of level 4
constexpr int kWholeNumberIterations = 3;  // the last ones, with entries rounded as they will be stored
constexpr double kIdle = 0.5;              // of the mean cost of a row: one that takes on less is put to better use

// Sums over the weights that chose a row and code: importance, and importance times value, in units of the table.
struct Cell {
  double weight = 0;
  double value = 0;
};

struct RowUse {
  std::array<Cell, kFinest> cells;
  double cost = 0;
};

int sixteenths(float rest) { return static_cast<int>(std::lround(std::clamp(rest * 16.0f, -63.0f, 63.0f))); }

// Rows that differ in scale, offset and shape: entry of code k is scale * shape(u) + offset with u evenly spaced in (-1, 1).
Codebooks parametric_rows() {
  constexpr int kScales = 16, kOffsets = 4, kShapes = 4;
  constexpr float kOffset[kOffsets] = {-0.12f, -0.04f, 0.04f, 0.12f};
  constexpr float kShape[kShapes] = {1.0f, 1.15f, 1.35f, 1.6f};
  static_assert(kScales * kOffsets * kShapes == kRows);
  Codebooks books;
  for (int row = 0; row < kRows; ++row) {
    const float scale = 60.0f * std::pow(0.2f, static_cast<float>(row / (kOffsets * kShapes)) / (kScales - 1));
    const float offset = scale * kOffset[row / kShapes % kOffsets];
    const float shape = kShape[row % kShapes];
    float entries[kFinest];
    for (int k = 0; k < kFinest; ++k) {
      const float u = (k + 0.5f) / 8 - 1;
      entries[k] = std::clamp(offset + scale * std::copysign(std::pow(std::abs(u), shape), u), -63.0f, 63.0f);
    }
    for (int level = 0; level < kLevelsSearched; ++level) {
      const int span = kFinest >> (level + 2);
      for (int k = 0; k < kFinest; ++k) {
        float sum = 0;
        for (int i = k / span * span; i < k / span * span + span; ++i) sum += entries[i];
        books.of[level][row][k] = sum / span;
      }
    }
  }
  return books;
}

class Learner {
 public:
  Learner(const float* samples, const float* importance, int64_t rows, int64_t columns, const LearnSettings& settings)
      : _samples(samples),
        _importance(importance),
        _rows(rows),
        _columns(columns),
        _superblocks((columns + kSuperblock - 1) / kSuperblock),
        _settings(settings),
        _random(settings.seed),
        _ones(columns, 1.0f),
        _choices(rows * _superblocks),
        _books(parametric_rows()) {}

  Tables run() {
    for (int i = 0; i < _settings.iterations; ++i) {
      choose();
      update(4 * i < 3 * _settings.iterations);
      if (i + kWholeNumberIterations + 1 >= _settings.iterations) round_entries();
    }
    round_entries();
    choose();
    Tables tables{};
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < kFinest; ++k) {
        tables.level2[row][k >> 2] = static_cast<int8_t>(_books.of[0][row][k]);
        tables.level3[row][k >> 1] = static_cast<int8_t>(_books.of[1][row][k]);
        tables.level4[row][k] = static_cast<int8_t>(_books.of[2][row][k]);
      }
    }
    learn_level6(tables);
    return tables;
  }

 private:
  const float* importance_of(int64_t row) const { return _importance ? _importance + row * _columns : _ones.data(); }

  void choose() {
    const Search search(_books, _settings.weights);
    parallel_for(_rows, _settings.threads, [&](int64_t r) {
      for (int64_t s = 0; s < _superblocks; ++s) {
        const int64_t c = s * kSuperblock;
        const int groups = static_cast<int>(std::min<int64_t>(_columns - c, kSuperblock) / kGroup);
        search_kernels().encode_superblock(search, _samples + r * _columns + c, importance_of(r) + c, groups,
                                           _choices[r * _superblocks + s]);
      }
    });
  }

  // Calls visit(row of the codebooks, code, value in units of the table, importance in those units).
  template <typename Visit>
  void each_weight(const Visit& visit) const {
    for (int64_t r = 0; r < _rows; ++r) {
      for (int64_t c = 0; c < _columns; ++c) {
        const Superblock& choice = _choices[r * _superblocks + c / kSuperblock];
        const float d = from_half(choice.d);
        if (d == 0) continue;
        const int i = static_cast<int>(c % kSuperblock);
        visit(choice.selectors[i / kGroup], choice.codes[i], _samples[r * _columns + c] / d, importance_of(r)[c] * d * d);
      }
    }
  }

  // Each entry becomes the mean of the weights that it stands for.
  void update(bool replace_idle) {
    std::vector<RowUse> uses(kRows);
    each_weight([&](int row, int code, float x, float weight) {
      RowUse& use = uses[row];
      use.cells[code].weight += weight;
      use.cells[code].value += weight * x;
      for (int l = 0; l < kLevelsSearched; ++l) {
        const float lost = x - _books.of[l][row][code];
        use.cost += _settings.weights.of[l] * weight * lost * lost;
      }
    });
    for (int row = 0; row < kRows; ++row) {
      for (int level = 0; level < kLevelsSearched; ++level) set_means(uses[row], level, _books.of[level][row]);
    }
    if (replace_idle) replace_idle_rows(uses);
  }

  static void set_means(const RowUse& use, int level, float* entries) {
    const int span = kFinest >> (level + 2);
    for (int first = 0; first < kFinest; first += span) {
      Cell sum;
      for (int k = first; k < first + span; ++k) {
        sum.weight += use.cells[k].weight;
        sum.value += use.cells[k].value;
      }
      if (sum.weight <= 0) continue;
      std::fill_n(entries + first, span, std::clamp(static_cast<float>(sum.value / sum.weight), -63.0f, 63.0f));
    }
  }

  // In the best tables all rows lose about as much (Gersho, IEEE Trans. Inf. Theory 25(4), 1979), so one that loses little becomes
  // a variation of the one that loses most.
  void replace_idle_rows(std::vector<RowUse>& uses) {
    double cost = 0;
    for (const RowUse& use : uses) cost += use.cost;
    std::uniform_int_distribution<int> thousandths(-100, 100);
    for (int row = 0; row < kRows; ++row) {
      if (uses[row].cost >= kIdle * cost / kRows) continue;
      const auto costly = std::max_element(uses.begin(), uses.end(), [](const RowUse& a, const RowUse& b) { return a.cost < b.cost; });
      const int from = static_cast<int>(costly - uses.begin());
      const float stretch = 1 + thousandths(_random) / 1000.0f, shift = thousandths(_random) / 50.0f;
      for (auto& level : _books.of) {
        for (int k = 0; k < kFinest; ++k) level[row][k] = std::clamp(level[from][k] * stretch + shift, -63.0f, 63.0f);
      }
      costly->cost /= 2;
      uses[row].cost = costly->cost;
    }
  }

  void round_entries() {
    for (auto& level : _books.of) {
      for (auto& row : level) {
        for (float& entry : row) entry = std::round(entry);
      }
    }
  }

  // Four corrections for each row and code of level 2: Lloyd over what level 4 leaves, counted in sixteenths.
  void learn_level6(Tables& tables) const {
    constexpr int kBins = 2 * kLargest + 1;
    std::vector<std::array<double, kBins>> rests(kRows * 4);
    each_weight([&](int row, int code, float x, float weight) {
      rests[row * 4 + code / 4][sixteenths(x - _books.of[2][row][code]) + kLargest] += weight;
    });
    for (int cell = 0; cell < kRows * 4; ++cell) refine(rests[cell].data(), kBins, tables.level6[cell / 4] + cell % 4 * 4);
  }

  static void refine(const double* bins, int count, int8_t* entries) {
    double total = 0, square = 0;
    for (int b = 0; b < count; ++b) {
      total += bins[b];
      square += bins[b] * (b - kLargest) * (b - kLargest);
    }
    const double spread = total > 0 ? std::sqrt(square / total) : 16.0;
    double centres[4] = {-1.4 * spread, -0.45 * spread, 0.45 * spread, 1.4 * spread};
    for (int round = 0; round < 30; ++round) {
      Cell sums[4];
      for (int b = 0; b < count; ++b) {
        int best = 0;
        for (int k = 1; k < 4; ++k) {
          if (std::abs(b - kLargest - centres[k]) < std::abs(b - kLargest - centres[best])) best = k;
        }
        sums[best].weight += bins[b];
        sums[best].value += bins[b] * (b - kLargest);
      }
      for (int k = 0; k < 4; ++k) {
        if (sums[k].weight > 0) centres[k] = sums[k].value / sums[k].weight;
      }
    }
    for (int k = 0; k < 4; ++k) entries[k] = static_cast<int8_t>(std::lround(std::clamp(centres[k], -63.0, 63.0)));
  }

  const float* _samples;
  const float* _importance;
  int64_t _rows, _columns, _superblocks;
  LearnSettings _settings;
  std::mt19937_64 _random;
  std::vector<float> _ones;
  std::vector<Superblock> _choices;
  Codebooks _books;
};

}  // namespace

Tables learn_tables(const float* samples, const float* importance, int64_t rows, int64_t columns, const LearnSettings& settings) {
  if (rows < 1) throw Error("tables are learned from at least one row of weights, not " + std::to_string(rows));
  if (columns < 32 || columns % 32 != 0) {
    throw Error("a sample row has " + std::to_string(columns) + " weights; T16 needs a multiple of 32");
  }
  if (settings.iterations < 1) throw Error("learning takes at least one iteration, not " + std::to_string(settings.iterations));
  if (settings.threads < 1) throw Error("learning needs at least one thread, not " + std::to_string(settings.threads));
  for (int64_t i = 0; i < rows * columns; ++i) {
    const bool usable = std::isfinite(samples[i]) && (!importance || (importance[i] >= 0 && std::isfinite(importance[i])));
    if (usable) continue;
    throw Error("the sample in row " + std::to_string(i / columns) + ", column " + std::to_string(i % columns) +
                " or its importance is not finite or below 0");
  }
  return Learner(samples, importance, rows, columns, settings).run();
}

void check_tables(const Tables& tables) {
  const auto* entries = reinterpret_cast<const int8_t*>(&tables);
  for (size_t i = 0; i < sizeof tables; ++i) {
    if (std::abs(entries[i]) <= kLargest) continue;
    throw Error("a table has the entry " + std::to_string(entries[i]) + "; entries are between -63 and 63");
  }
}

}  // namespace edgemoe::codec
