#include "edgemoe/schedule/bits.h"

#include <algorithm>
#include <queue>

namespace edgemoe {
namespace {

struct Candidate {
  double value;  // a byte
  uint32_t index;

  bool operator<(const Candidate& other) const { return value != other.value ? value < other.value : index > other.index; }
};

// Of the next plane of an expert that uses `planes` of them.
Candidate next_plane(const ExpertBits& expert, uint32_t index, uint32_t planes) {
  const double gain = expert.hotness * (static_cast<double>(expert.errors[planes - 1]) - expert.errors[planes]);
  return {gain / static_cast<double>(std::max<uint64_t>(expert.bytes[planes], 1)), index};
}

}  // namespace

void choose_planes(const std::vector<ExpertBits>& experts, double target, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads) {
  planes->assign(experts.size(), 1);
  reads->clear();
  double error = 0;
  double sum = 0;
  for (uint32_t i = 0; i < experts.size(); ++i) {
    const ExpertBits& e = experts[i];
    (*planes)[i] = static_cast<uint8_t>(std::clamp(e.resident, 1u, e.planes));
    if (e.resident == 0) reads->push_back({i, 0});
    error += e.hotness * e.errors[(*planes)[i] - 1];
    sum += e.hotness;
  }
  std::stable_sort(reads->begin(), reads->end(),
                   [&](const PlaneRead& a, const PlaneRead& b) { return experts[a.index].hotness > experts[b.index].hotness; });
  std::priority_queue<Candidate> candidates;
  const auto offer = [&](uint32_t i) {
    if ((*planes)[i] < experts[i].planes) candidates.push(next_plane(experts[i], i, (*planes)[i]));
  };
  for (uint32_t i = 0; i < experts.size(); ++i) offer(i);
  while (error > target * sum && !candidates.empty()) {
    const uint32_t i = candidates.top().index;
    candidates.pop();
    uint8_t& used = (*planes)[i];
    error -= experts[i].hotness * (static_cast<double>(experts[i].errors[used - 1]) - experts[i].errors[used]);
    reads->push_back({i, used++});
    offer(i);
  }
}

}  // namespace edgemoe
