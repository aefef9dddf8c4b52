#include "pooling.h"

#include <algorithm>
#include <cmath>

namespace edgemoe::routing {

void Pool::mean(const std::vector<Gram>& grams, const Head& head, int dim) {
  std::fill(means.begin(), means.end(), 0.f);
  std::fill(std::begin(totals), std::end(totals), 0.f);
  for (const Gram& gram : grams) {
    const float* const e = head.embeddings.data() + static_cast<size_t>(gram.bucket) * dim;
    float* const sum = means.data() + gram.field * dim;
    for (int d = 0; d < dim; ++d) sum[d] += gram.weight * e[d];
    totals[gram.field] += gram.weight;
  }
  for (int f = 0; f < kFields; ++f) {
    if (totals[f] <= 0) continue;
    for (int d = 0; d < dim; ++d) means[static_cast<size_t>(f * dim + d)] /= totals[f];
  }
}

void apply(const Head& head, const std::vector<float>& means, int classes, float* out) {
  for (int k = 0; k < classes; ++k) {
    const float* const w = head.weights.data() + static_cast<size_t>(k) * means.size();
    float sum = head.bias[static_cast<size_t>(k)];
    for (size_t d = 0; d < means.size(); ++d) sum += w[d] * means[d];
    out[k] = sum;
  }
}

void logits(const Corpus& corpus, const Head& head, const Settings& settings, float* out) {
  Pool pool(settings.dim);
  std::vector<Gram> grams;
  for (size_t row = 0; row < corpus.rows; ++row) {
    grams.clear();
    for (int f = 0; f < kFields; ++f) {
      for (int64_t i = corpus.bounds[kFields * row + f]; i < corpus.bounds[kFields * row + f + 1]; ++i) {
        grams.push_back({corpus.ids[i], f, std::exp(head.gates[static_cast<size_t>(corpus.ids[i])])});
      }
    }
    pool.mean(grams, head, settings.dim);
    if (settings.rectified) {
      for (float& value : pool.means) value = std::max(value, 0.f);
    }
    apply(head, pool.means, settings.classes, out + row * static_cast<size_t>(settings.classes));
  }
}

}  // namespace edgemoe::routing
