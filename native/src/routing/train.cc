#include "edgemoe/routing/train.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "edgemoe/error.h"
#include "pooling.h"

namespace edgemoe::routing {
namespace {

constexpr float kFirst = 1e-6f;   // of AdaGrad's sums
constexpr float kBiasRate = 0.1f;  // of the rate

// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : _state(seed) {}

  double uniform() {
    uint64_t z = _state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

 private:
  uint64_t _state;
};

class Trainer {
 public:
  Trainer(const Corpus& corpus, const float* targets, const double* frequencies, const Settings& settings)
      : _corpus(corpus),
        _targets(targets),
        _settings(settings),
        _dim(static_cast<size_t>(settings.dim)),
        _units(kFields * _dim),
        _classes(static_cast<size_t>(settings.classes)),
        _random(settings.seed),
        _pool(settings.dim),
        _kept(_units),
        _active(_units),
        _unit_slopes(_units),
        _slopes(_classes) {
    double total = 0;
    for (size_t row = 0; row < corpus.rows; ++row) _cumulated.push_back(total += frequencies[row]);
    if (!(total > 0) || !std::isfinite(total)) throw Error("no row has a weight above 0: there is nothing to train on");
    initialize();
  }

  Head run() {
    const auto steps = static_cast<size_t>(std::max(1.0, _settings.passes * static_cast<double>(_corpus.rows)));
    for (size_t step = 0; step < steps; ++step) {
      _fraction = static_cast<float>(1 - static_cast<double>(step) / static_cast<double>(steps));
      _rate = static_cast<float>(_settings.rate) * _fraction;
      const size_t row = draw();
      gather(row);
      forward();
      if (!slopes(_targets + row * _classes)) throw Error("training diverged: use a lower rate");
      backward();
    }
    forget_unseen();
    return std::move(_head);
  }

 private:
  void initialize() {
    const auto fill = [this](std::vector<float>& values, size_t size, double range) {
      values.resize(size);
      for (float& value : values) value = static_cast<float>((2 * _random.uniform() - 1) * range);
    };
    fill(_head.embeddings, _settings.buckets * _dim, 1.0 / static_cast<double>(_dim));
    fill(_head.weights, _classes * _units, 1.0 / std::sqrt(static_cast<double>(_units)));
    _head.gates.assign(_settings.buckets, 0);
    _head.bias.assign(_classes, 0);
    _embedding_sums.assign(_settings.buckets, 0);
    _gate_sums.assign(_settings.buckets, kFirst);
    _weight_sums.assign(_head.weights.size(), kFirst);
    _bias_sums.assign(_classes, kFirst);
  }

  // A bucket that no row has used says nothing.
  void forget_unseen() {
    for (size_t bucket = 0; bucket < _embedding_sums.size(); ++bucket) {
      if (_embedding_sums[bucket] > 0) continue;
      std::fill_n(_head.embeddings.begin() + static_cast<std::ptrdiff_t>(bucket * _dim), _dim, 0.f);
    }
  }

  size_t draw() {
    const auto found = std::lower_bound(_cumulated.begin(), _cumulated.end(), _random.uniform() * _cumulated.back());
    return std::min(static_cast<size_t>(found - _cumulated.begin()), _corpus.rows - 1);
  }

  // The row's n-grams without those that are dropped; bucket 0, the first of each field, always stays.
  void gather(size_t row) {
    const double dropped = _settings.dropped * _random.uniform();
    _grams.clear();
    for (int f = 0; f < kFields; ++f) {
      const int64_t begin = _corpus.bounds[kFields * row + f], end = _corpus.bounds[kFields * row + f + 1];
      for (int64_t i = begin; i < end; ++i) {
        if (i > begin && _random.uniform() < dropped) continue;
        _grams.push_back({_corpus.ids[i], f, std::exp(_head.gates[static_cast<size_t>(_corpus.ids[i])])});
      }
    }
  }

  void forward() {
    _pool.mean(_grams, _head, _settings.dim);
    const double dropped = _settings.dropped_units;
    const auto scale = static_cast<float>(1 / (1 - dropped));
    for (size_t d = 0; d < _units; ++d) {
      const bool off = (dropped > 0 && _random.uniform() < dropped) || (_settings.rectified && _pool.means[d] <= 0);
      _kept[d] = off ? 0 : scale;
      _active[d] = _pool.means[d] * _kept[d];
    }
    apply(_head, _active, _settings.classes, _slopes.data());
  }

  // The slope of the cross entropy over a softmax: probability - target. @returns whether it is finite
  bool slopes(const float* target) {
    const float most = *std::max_element(_slopes.begin(), _slopes.end());
    float sum = 0;
    for (float& z : _slopes) sum += z = std::exp(z - most);
    for (size_t k = 0; k < _classes; ++k) _slopes[k] = _slopes[k] / sum - target[k];
    return std::isfinite(sum);
  }

  void backward() {
    std::fill(_unit_slopes.begin(), _unit_slopes.end(), 0.f);
    for (size_t k = 0; k < _classes; ++k) {
      _bias_sums[k] += _slopes[k] * _slopes[k];
      _head.bias[k] -= kBiasRate * _rate * _slopes[k] / std::sqrt(_bias_sums[k]);
      for (size_t d = 0; d < _units; ++d) {
        if (_kept[d] == 0) continue;
        const size_t i = k * _units + d;
        _unit_slopes[d] += _slopes[k] * _head.weights[i] * _kept[d];
        const float slope = _slopes[k] * _active[d];
        _weight_sums[i] += slope * slope;
        _head.weights[i] -= _rate * slope / std::sqrt(_weight_sums[i]);
      }
    }
    for (int f = 0; f < kFields; ++f) {
      _squares[f] = _means[f] = 0;
      for (size_t d = f * _dim; d < (f + 1) * _dim; ++d) {
        _squares[f] += _unit_slopes[d] * _unit_slopes[d];
        _means[f] += _unit_slopes[d] * _pool.means[d];
      }
    }
    for (const Gram& gram : _grams) update(gram);
  }

  // d mean / d gate = share (embedding - mean), d mean / d embedding = share.
  void update(const Gram& gram) {
    if (_squares[gram.field] == 0) return;
    const float share = gram.weight / _pool.totals[gram.field];
    const auto bucket = static_cast<size_t>(gram.bucket);
    float* const e = _head.embeddings.data() + bucket * _dim;
    const float* const slope = _unit_slopes.data() + static_cast<size_t>(gram.field) * _dim;
    float along = 0;
    for (size_t d = 0; d < _dim; ++d) along += e[d] * slope[d];
    const float gate_slope = share * (along - _means[gram.field]);
    _gate_sums[bucket] += gate_slope * gate_slope;
    const auto limit = static_cast<float>(_settings.gate_limit);
    const float moved = _head.gates[bucket] - static_cast<float>(_settings.gate_rate) * _fraction * gate_slope / std::sqrt(_gate_sums[bucket] + 1e-4f);
    _head.gates[bucket] = std::clamp(moved, -limit, limit);
    _embedding_sums[bucket] += share * share * _squares[gram.field];
    const float step = _rate * share / std::sqrt(_embedding_sums[bucket] + 1e-8f);
    for (size_t d = 0; d < _dim; ++d) e[d] -= step * slope[d];
  }

  const Corpus& _corpus;
  const float* _targets;
  const Settings _settings;
  const size_t _dim, _units, _classes;
  Random _random;
  Head _head;
  std::vector<double> _cumulated;
  std::vector<float> _embedding_sums, _gate_sums, _weight_sums, _bias_sums;  // AdaGrad's (Duchi, Hazan, Singer 2011)

  // of the present step
  float _rate = 0, _fraction = 1;
  std::vector<Gram> _grams;
  Pool _pool;
  std::vector<float> _kept, _active, _unit_slopes, _slopes;
  float _squares[kFields] = {}, _means[kFields] = {};
};

}  // namespace

Head train(const Corpus& corpus, const float* targets, const double* frequencies, const Settings& settings) {
  if (settings.dim < 1 || settings.classes < 2 || corpus.rows == 0) {
    throw Error("a head needs rows, at least two classes and at least one dimension; there are " + std::to_string(corpus.rows) + " rows, " +
                std::to_string(settings.classes) + " classes and " + std::to_string(settings.dim) + " dimensions");
  }
  return Trainer(corpus, targets, frequencies, settings).run();
}

}  // namespace edgemoe::routing
