// The heads of a pack that predict how much each expert's error matters.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/pack.h"
#include "edgemoe/backend/routing.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

using ggml::api;

constexpr char kRankKey[] = "edgemoe.mwq.head_rank";
constexpr uint32_t kMostRank = 1024;
constexpr int64_t kMostPrices = 65536;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw ModelError(path + " is a damaged pack: " + what + "; make it again, or verify the download");
}

std::vector<float> read_floats(const File& file, const std::string& name, int64_t ne0, int64_t ne1,
                               const std::unordered_map<std::string, ListedTensor>& listed) {
  const auto found = listed.find(name);
  if (found == listed.end()) fail(file.path(), name + " is missing");
  const ListedTensor& stored = found->second;
  std::vector<float> values(static_cast<size_t>(ne0 * ne1));
  if (stored.type != ggml::kTypeF32 || stored.ne[0] != ne0 || stored.ne[1] != ne1 || stored.bytes != values.size() * sizeof(float)) {
    fail(file.path(), name + " has the wrong shape");
  }
  if (File(file.path(), false).read_at(values.data(), stored.offset, stored.bytes) < stored.bytes) fail(file.path(), name + " is cut off");
  const auto bad = std::find_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); });
  if (bad != values.end()) fail(file.path(), name + " holds " + std::to_string(*bad));
  return values;
}

}  // namespace

const LevelHead* Pack::head(const std::string& group) const {
  const auto found = _heads.find(group);
  return found == _heads.end() ? nullptr : &found->second;
}

void Pack::read_heads(const ggml::Gguf* gguf, const File& file, const std::unordered_map<std::string, ListedTensor>& listed) {
  const int64_t key = api().gguf_find_key(gguf, kRankKey);
  if (key < 0) return;
  uint32_t rank = 0;
  if (api().gguf_get_kv_type(gguf, key) != ggml::kGgufUint32) fail(file.path(), std::string(kRankKey) + " has the wrong type");
  std::memcpy(&rank, api().gguf_get_val_data(gguf, key), sizeof(rank));
  if (rank == 0 || rank > kMostRank) fail(file.path(), std::string(kRankKey) + " is " + std::to_string(rank));
  for (const PackTensor& tensor : _tensors) {  // the first of a group sees the layer's input
    const std::string group = routing_group(tensor.name);
    if (_heads.count(group)) continue;
    LevelHead& head = _heads[group];
    head.columns = tensor.columns;
    head.rank = rank;
    head.in = read_floats(file, group + ".mwq.head.in", tensor.columns, rank, listed);
    head.out = read_floats(file, group + ".mwq.head.out", rank + 1, tensor.experts, listed);
  }
  const auto found = listed.find("mwq.prices");
  const int64_t count = found == listed.end() ? 2 : found->second.ne[0];
  if (count < 2 || count > kMostPrices) fail(file.path(), "mwq.prices has " + std::to_string(count) + " entries");
  _prices = read_floats(file, "mwq.prices", count, 1, listed);
  if (_prices.back() < 0 || !std::is_sorted(_prices.rbegin(), _prices.rend())) fail(file.path(), "mwq.prices rise or are below 0");
}

}  // namespace edgemoe
