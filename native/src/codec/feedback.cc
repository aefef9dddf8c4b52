// Nested GPTQ (Frantar et al., "GPTQ", ICLR 2023): columns are quantized in order, and what a column loses is made good by
// the columns after it. Each level is a chain of its own, with targets of its own; one code serves all of them, chosen for the
// weighted sum of their errors.
//
// With e a chain's errors and U the factor, W - Wq = e U, and so (W - Wq) H (W - Wq)^T = e e^T, as U^T U is the inverse of H. One
// chain more has zeros for all codes: W = z U for its errors z, so that z z^T and z e^T give W H W^T and W H (W - Wq)^T, of which
// gains are made.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "half.h"
#include "row_encoder.h"

namespace edgemoe::codec {
namespace {

constexpr float kLastLevelWeight = 3.0f;  // of level 6 in the choice of codes; those of levels 2 to 4 add up to 1

// Columns of the factor that stay in the first-level cache while all rows use them, and the distance of their copied rows there: no
// power of two, lest they compete for the same places.
constexpr int64_t kTile = 384;
constexpr int64_t kTileStride = kTile + 16;

class FeedbackRows {
 public:
  FeedbackRows(EncodeJob& job, int64_t begin, int64_t end)
      : _job(job),
        _columns(job.input.columns),
        _begin(begin),
        _rows(end - begin),
        _chains(std::max(job.settings.levels, kLevelsSearched)),
        _zeros(_chains),
        _targets(_rows * (_chains + 1) * _columns),
        _errors(_rows * (_chains + 1) * kGroup),
        _importance(_columns),
        _choices(_rows, RowChoice(_columns)) {
    for (int64_t r = 0; r < _rows; ++r) {
      for (int l = 0; l <= _zeros; ++l) std::copy_n(job.input.weights + (begin + r) * _columns, _columns, target(r, l));
    }
    double sum = 0;
    for (int64_t c = 0; c < _columns; ++c) sum += 1.0 / (factor(c)[c] * static_cast<double>(factor(c)[c]));
    for (int64_t c = 0; c < _columns; ++c) {
      _importance[c] = static_cast<float>(_columns / sum / (factor(c)[c] * static_cast<double>(factor(c)[c])));
    }
  }

  void run() {
    for (int64_t c = 0; c < _columns; c += kGroup) {
      for (int64_t r = 0; r < _rows; ++r) {
        if (c % kSuperblock == 0) choose_scale(r, c);
        choose_group(r, c);
        add_up(r);
      }
      for (int64_t tile = c + kGroup; tile < _columns; tile += kTile) propagate(c, tile, std::min(kTile, _columns - tile));
    }
    for (int64_t r = 0; r < _rows; ++r) _job.finish_row(_begin + r, _choices[r]);
  }

 private:
  float* target(int64_t row, int level) { return _targets.data() + (row * (_chains + 1) + level) * _columns; }
  float* errors(int64_t row, int level) { return _errors.data() + (row * (_chains + 1) + level) * kGroup; }
  const float* factor(int64_t column) const { return _job.input.feedback + column * _columns; }

  // Columns [tile, tile + count) take over what the group at column c has lost.
  void propagate(int64_t c, int64_t tile, int64_t count) {
    alignas(64) float rows[kGroup * kTileStride];
    for (int i = 0; i < kGroup; ++i) std::copy_n(factor(c + i) + tile, count, rows + i * kTileStride);
    for (int64_t r = 0; r < _rows; ++r) {
      for (int l = 0; l <= _zeros; ++l) search_kernels().propagate(errors(r, l), rows, kTileStride, count, target(r, l) + tile);
    }
  }

  // The targets of all levels as one: what the best code for each comes closest to together.
  void mix_targets(int64_t r, int64_t c, int64_t count, float scale, float* mixed) {
    std::fill_n(mixed, count, 0.0f);
    for (int l = 0; l < kLevelsSearched; ++l) {
      const float weight = _job.search.weight(l) * scale;
      const float* from = target(r, l) + c;
      for (int64_t i = 0; i < count; ++i) mixed[i] += weight * from[i];
    }
  }

  void choose_scale(int64_t r, int64_t c) {
    const int64_t count = std::min<int64_t>(kSuperblock, _columns - c);
    float mixed[kSuperblock];
    mix_targets(r, c, count, 1.0f, mixed);
    Superblock chosen;
    search_kernels().encode_superblock(_job.search, mixed, _importance.data() + c, static_cast<int>(count / kGroup), chosen);
    _choices[r].scales[c / kSuperblock] = chosen.d;
  }

  void choose_group(int64_t r, int64_t c) {
    RowChoice& choice = _choices[r];
    const float d = from_half(choice.scales[c / kSuperblock]);
    if (d == 0) {
      for (int i = 0; i < kGroup; ++i) pass_on(r, c, i);
      return;
    }
    const float inverse = 1.0f / d;
    float mixed[kGroup];
    mix_targets(r, c, kGroup, inverse, mixed);
    const int selector = search_kernels().choose_row(_job.search, mixed, _importance.data() + c);
    choice.selectors[c / kGroup] = static_cast<uint8_t>(selector);
    for (int i = 0; i < kGroup; ++i) {
      const int code = choose_code(r, c + i, selector, inverse);
      choice.codes[c + i] = static_cast<uint8_t>(code);
      if (_chains > kLevelsSearched) {
        choice.last_codes[c + i] = last_code(_job.tables, selector, code, target(r, kLevelsSearched)[c + i] * inverse);
      }
      pass_on(r, c, i);
    }
  }

  int choose_code(int64_t r, int64_t c, int selector, float inverse) {
    const Codebooks& books = _job.search.books();
    float costs[16];
    std::copy_n(_job.search.lines(selector).offset, 16, costs);
    for (int l = 0; l < kLevelsSearched; ++l) {
      const float pull = 2 * _job.search.weight(l) * target(r, l)[c] * inverse;
      for (int k = 0; k < 16; ++k) costs[k] -= pull * books.of[l][selector][k];
    }
    if (_chains > kLevelsSearched) add_last_level(selector, target(r, kLevelsSearched)[c] * inverse, costs);
    return static_cast<int>(std::min_element(costs, costs + 16) - costs);
  }

  // Level 6 reaches only so far from level 4: without its say, level 4 would move to where it cannot follow.
  void add_last_level(int selector, float value, float* costs) {
    const float* entries = _job.search.books().of[kLevelsSearched - 1][selector];
    const int8_t* corrections = _job.tables.level6[selector];
    for (int k = 0; k < 16; ++k) {
      const float rest = value - entries[k];
      float least = std::abs(rest - corrections[k / 4 * 4] / 16.0f);
      for (int i = 1; i < 4; ++i) least = std::min(least, std::abs(rest - corrections[k / 4 * 4 + i] / 16.0f));
      costs[k] += kLastLevelWeight * least * least;
    }
  }

  // Weight i of the group is settled: the rest of the group takes its errors over.
  void pass_on(int64_t r, int64_t c, int i) {
    const float* row = factor(c + i) + c;
    for (int l = 0; l <= _zeros; ++l) {
      float* targets = target(r, l) + c;
      const float value = l == _zeros ? 0.0f : _job.value(_choices[r], c + i, l);
      const float error = (targets[i] - value) / row[i];
      errors(r, l)[i] = error;
      for (int k = i + 1; k < kGroup; ++k) targets[k] -= error * row[k];
    }
  }

  // What the products of the row lose by its last group.
  void add_up(int64_t r) {
    const float* whole = errors(r, _zeros);
    for (int l = 0; l < _job.settings.levels; ++l) {
      const float* lost = errors(r, l);
      Loss& loss = _job.sums[_begin + r].products[l];
      for (int i = 0; i < kGroup; ++i) {
        loss.total += static_cast<double>(whole[i]) * whole[i];
        loss.squares += static_cast<double>(lost[i]) * lost[i];
        loss.along += static_cast<double>(whole[i]) * lost[i];
      }
    }
  }

  EncodeJob& _job;
  int64_t _columns, _begin, _rows;
  int _chains;  // of levels
  int _zeros;   // the chain after them
  std::vector<float> _targets;
  std::vector<float> _errors;
  std::vector<float> _importance;
  std::vector<RowChoice> _choices;
};

}  // namespace

void encode_rows_with_feedback(EncodeJob& job, int64_t begin, int64_t end) { FeedbackRows(job, begin, end).run(); }

}  // namespace edgemoe::codec
