#include "edgemoe/backend/residency_view.h"

namespace edgemoe {
namespace {

uint64_t plane_bytes(const StoredTensor& tensor, uint32_t level) {
  return tensor.info->pack ? tensor.info->pack->planes[level].bytes : tensor.expert_bytes();
}

uint64_t resident_bytes(const PlaneCache& cache, const StoredTensor& tensor, uint32_t expert) {
  uint64_t bytes = 0;
  for (uint32_t level = 0; level < tensor.levels && cache.resident(tensor.plane(expert, level)); ++level) {
    bytes += plane_bytes(tensor, level);
  }
  return bytes;
}

}  // namespace

std::vector<std::vector<float>> resident_bits(Engine& engine) {
  const PlaneCache& cache = engine.cache();
  std::vector<std::vector<float>> groups;
  for (const ExpertGroup& group : engine.groups()) {
    std::vector<uint64_t> bytes;
    uint64_t weights = 0;  // of one expert
    for (const StoredTensor* member : group.members) {
      if (!member->live) continue;
      bytes.resize(member->experts());
      weights += static_cast<uint64_t>(member->info->ne[0] * member->info->ne[1]);
      for (uint32_t e = 0; e < member->experts(); ++e) bytes[e] += resident_bytes(cache, *member, e);
    }
    std::vector<float>& bits = groups.emplace_back();
    for (const uint64_t resident : bytes) bits.push_back(8.0F * static_cast<float>(resident) / static_cast<float>(weights));
  }
  return groups;
}

}  // namespace edgemoe
