#include "edgemoe/schedule/bits.h"

#include <algorithm>
#include <queue>

namespace edgemoe {
namespace {

// A use of a plane that the target asks for counts 1 for keeping it; of another one, this share of what it mends.
constexpr double kUnwanted = 0.1;

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

// Uses what is in memory, then planes by falling value while `wanted(error, value)`; `error` is the sum of h_e eps_e so far.
template <typename Wanted>
void choose(const std::vector<ExpertBits>& experts, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads, Wanted wanted) {
  planes->assign(experts.size(), 1);
  reads->clear();
  double error = 0;
  for (uint32_t i = 0; i < experts.size(); ++i) {
    const ExpertBits& e = experts[i];
    (*planes)[i] = static_cast<uint8_t>(std::clamp(e.resident, 1u, e.planes));
    if (e.resident == 0) reads->push_back({i, 0});
    error += e.hotness * e.errors[(*planes)[i] - 1];
  }
  std::stable_sort(reads->begin(), reads->end(),
                   [&](const PlaneRead& a, const PlaneRead& b) { return experts[a.index].hotness > experts[b.index].hotness; });
  std::priority_queue<Candidate> candidates;
  const auto offer = [&](uint32_t i) {
    if ((*planes)[i] < experts[i].planes) candidates.push(next_plane(experts[i], i, (*planes)[i]));
  };
  for (uint32_t i = 0; i < experts.size(); ++i) offer(i);
  while (!candidates.empty() && wanted(error, candidates.top().value)) {
    const uint32_t i = candidates.top().index;
    candidates.pop();
    uint8_t& used = (*planes)[i];
    error -= experts[i].hotness * (static_cast<double>(experts[i].errors[used - 1]) - experts[i].errors[used]);
    reads->push_back({i, used++});
    offer(i);
  }
}

}  // namespace

void choose_planes(const std::vector<ExpertBits>& experts, double target, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads) {
  double sum = 0;
  for (const ExpertBits& e : experts) sum += e.hotness;
  choose(experts, planes, reads, [&](double error, double) { return error > target * sum; });
}

void choose_worth(const std::vector<ExpertBits>& experts, double price, std::vector<uint8_t>* planes, std::vector<PlaneRead>* reads) {
  choose(experts, planes, reads, [&](double, double value) { return value >= price; });
}

double keeping_weight(const ExpertBits& expert, uint32_t plane, uint32_t wanted, double rows, double enough) {
  if (plane < wanted) return rows;
  const double gain = expert.hotness * (static_cast<double>(expert.errors[plane - 1]) - expert.errors[plane]);
  return rows * (kUnwanted * std::min(1.0, gain / enough) + 1e-6);
}

}  // namespace edgemoe
