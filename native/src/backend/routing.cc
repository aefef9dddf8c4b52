#include "edgemoe/backend/routing.h"

#include <cstring>

#include "edgemoe/error.h"

namespace edgemoe {

std::string routing_group(const std::string& tensor) {
  const size_t layer_end = tensor.find('.', std::strlen("blk."));
  const size_t end = tensor.rfind('.');
  const size_t family = tensor.find_last_of("._", end - 1) + 1;
  return tensor.substr(0, layer_end) + "." + tensor.substr(family, end - family);
}

std::vector<RoutedExpert> group_rows(const ggml::Tensor& ids, uint32_t experts) {
  std::vector<int32_t> place(experts, -1);
  std::vector<RoutedExpert> found;
  const auto* base = static_cast<const char*>(ids.data);
  for (int32_t token = 0; token < ids.ne[1]; ++token) {
    for (int32_t slot = 0; slot < ids.ne[0]; ++slot) {
      const int32_t id = *reinterpret_cast<const int32_t*>(base + token * ids.nb[1] + slot * ids.nb[0]);
      if (id < 0 || static_cast<uint32_t>(id) >= experts) {
        throw ModelError("the router chose expert " + std::to_string(id) + " of " + std::to_string(experts));
      }
      if (place[id] < 0) {
        place[id] = static_cast<int32_t>(found.size());
        found.push_back({static_cast<uint32_t>(id), {}});
      }
      found[place[id]].rows.push_back({slot, token});
    }
  }
  return found;
}

}  // namespace edgemoe
