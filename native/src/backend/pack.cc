#include "edgemoe/backend/pack.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/routing.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

using ggml::api;

constexpr uint32_t kVersion = 1;
constexpr uint64_t kExtentAlignment = 4096;
constexpr uint64_t kPartAlignment = 64;
constexpr int64_t kMostColumns = 1 << 24;
constexpr int64_t kMostRows = 1 << 24;
constexpr int64_t kMostExperts = 1 << 16;

// The types whose blocks are cut into slices, by format; T16 is made of any.
constexpr ggml::Type kSlicedTypes[] = {ggml::kTypeCount, ggml::kTypeQ4K, ggml::kTypeQ5K, ggml::kTypeQ6K};

std::string key_name(const char* key) { return std::string("edgemoe.mwq.") + key; }

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw ModelError(path + " is a damaged pack: " + what + "; make it again, or verify the download");
}

int64_t array(const ggml::Gguf* gguf, const std::string& path, const char* key, ggml::GgufType type) {
  const int64_t id = api().gguf_find_key(gguf, key_name(key).c_str());
  if (id < 0) fail(path, key_name(key) + " is missing");
  if (api().gguf_get_kv_type(gguf, id) != ggml::kGgufArray || api().gguf_get_arr_type(gguf, id) != type) {
    fail(path, key_name(key) + " has the wrong type");
  }
  return id;
}

template <typename T>
std::vector<T> numbers(const ggml::Gguf* gguf, const std::string& path, const char* key, ggml::GgufType type) {
  const int64_t id = array(gguf, path, key, type);
  std::vector<T> values(api().gguf_get_arr_n(gguf, id));
  if (!values.empty()) std::memcpy(values.data(), api().gguf_get_arr_data(gguf, id), values.size() * sizeof(T));
  return values;
}

int level_index(uint32_t level) {
  const auto* found = std::find(std::begin(kernels::kLevels), std::end(kernels::kLevels), static_cast<int>(level));
  return static_cast<int>(found - kernels::kLevels);
}

}  // namespace

kernels::Matrix PackTensor::matrix() const {
  kernels::Matrix matrix;
  matrix.format = format;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.tables = tables;
  matrix.biased_levels = biased_levels;
  return matrix;
}

bool Pack::own(const std::string& tensor) { return tensor.rfind("mwq.", 0) == 0 || tensor.find(".mwq.") != std::string::npos; }

std::unique_ptr<Pack> Pack::parse(const ggml::Gguf* gguf, const File& file,
                                  const std::unordered_map<std::string, ListedTensor>& listed) {
  const int64_t version = api().gguf_find_key(gguf, key_name("version").c_str());
  if (version < 0) return nullptr;
  if (api().gguf_get_kv_type(gguf, version) != ggml::kGgufUint32) fail(file.path(), key_name("version") + " has the wrong type");
  uint32_t number;
  std::memcpy(&number, api().gguf_get_val_data(gguf, version), sizeof(number));
  if (number != kVersion) {
    throw ModelError(file.path() + " is a pack of format version " + std::to_string(number) + ", and this edgemoe reads version " +
                     std::to_string(kVersion) + ": update edgemoe, or make the pack again");
  }
  std::unique_ptr<Pack> pack(new Pack);
  pack->read_levels(gguf, file.path());
  pack->read_tensors(gguf, file.path());
  pack->read_tables(file, listed);
  pack->place_planes(file, listed);
  pack->read_heads(gguf, file, listed);
  return pack;
}

void Pack::read_levels(const ggml::Gguf* gguf, const std::string& path) {
  const auto levels = numbers<uint32_t>(gguf, path, "levels", ggml::kGgufUint32);
  for (size_t i = 0; i < levels.size(); ++i) {
    if (i >= kernels::kLevelCount || levels[i] != static_cast<uint32_t>(kernels::kLevels[i])) {
      fail(path, "its levels are not 2, 3, 4, 6 or the first of them");
    }
  }
  if (levels.empty()) fail(path, "it has no levels");
  _levels = static_cast<int>(levels.size());
  for (const uint32_t level : numbers<uint32_t>(gguf, path, "bias_levels", ggml::kGgufUint32)) {
    const int index = level_index(level);
    if (index >= _levels) fail(path, "it has biases for level " + std::to_string(level) + ", which it does not have");
    _biased_levels = static_cast<uint8_t>(_biased_levels | 1 << index);
  }
}

void Pack::read_tensors(const ggml::Gguf* gguf, const std::string& path) {
  const int64_t names = array(gguf, path, "tensors", ggml::kGgufString);
  const size_t count = api().gguf_get_arr_n(gguf, names);
  const auto formats = numbers<uint32_t>(gguf, path, "formats", ggml::kGgufUint32);
  const auto types = numbers<uint32_t>(gguf, path, "types", ggml::kGgufUint32);
  const auto shapes = numbers<uint64_t>(gguf, path, "shapes", ggml::kGgufUint64);
  if (count == 0 || formats.size() != count || types.size() != count || shapes.size() != 3 * count) {
    fail(path, "it lists " + std::to_string(count) + " expert tensors, " + std::to_string(formats.size()) + " formats, " +
                   std::to_string(types.size()) + " types and " + std::to_string(shapes.size()) + " dimensions");
  }
  for (size_t i = 0; i < count; ++i) {
    PackTensor tensor;
    tensor.name = api().gguf_get_arr_str(gguf, names, i);
    if (tensor.name.size() >= ggml::kMaxName) fail(path, "an expert tensor has a name of " + std::to_string(tensor.name.size()) + " bytes");
    const int64_t dimensions[] = {kMostColumns, kMostRows, kMostExperts};
    for (size_t d = 0; d < 3; ++d) {
      if (shapes[3 * i + d] == 0 || shapes[3 * i + d] > static_cast<uint64_t>(dimensions[d])) {
        fail(path, tensor.name + " has a dimension of " + std::to_string(shapes[3 * i + d]));
      }
    }
    tensor.columns = static_cast<int64_t>(shapes[3 * i]);
    tensor.rows = static_cast<int64_t>(shapes[3 * i + 1]);
    tensor.experts = static_cast<int64_t>(shapes[3 * i + 2]);
    if (formats[i] > static_cast<uint32_t>(kernels::Format::kSlicedQ6K)) {
      fail(path, tensor.name + " has the format " + std::to_string(formats[i]));
    }
    tensor.format = static_cast<kernels::Format>(formats[i]);
    tensor.type = static_cast<ggml::Type>(types[i]);
    const bool sliced = tensor.format != kernels::Format::kT16;
    if (sliced && tensor.type != kSlicedTypes[formats[i]]) {
      fail(path, tensor.name + " has slices of " + api().ggml_type_name(kSlicedTypes[formats[i]]) + ", but its type is " +
                     std::to_string(types[i]));
    }
    if (tensor.columns % (sliced ? 256 : 32) != 0) fail(path, tensor.name + " has rows of " + std::to_string(tensor.columns));
    tensor.biased_levels = sliced ? 0 : _biased_levels;
    _tensors.push_back(std::move(tensor));
  }
}

void Pack::read_tables(const File& file, const std::unordered_map<std::string, ListedTensor>& listed) {
  if (std::all_of(_tensors.begin(), _tensors.end(), [](const PackTensor& t) { return t.format != kernels::Format::kT16; })) return;
  _tables = std::make_unique<kernels::T16Tables>();
  std::memset(_tables->rows, 64, sizeof(_tables->rows));
  const File plain(file.path(), false);
  for (int level = 0; level < _levels; ++level) {
    const std::string name = "mwq.t16." + std::to_string(kernels::kLevels[level]);
    const auto found = listed.find(name);
    const int64_t entries = level == 0 ? 4 : level == 1 ? 8 : 16;
    if (found == listed.end()) fail(file.path(), "the table " + name + " is missing");
    const ListedTensor& table = found->second;
    if (table.type != ggml::kTypeI8 || table.ne[0] != entries || table.ne[1] != 256 || table.bytes != static_cast<uint64_t>(entries) * 256) {
      fail(file.path(), "the table " + name + " has the wrong shape");
    }
    std::vector<uint8_t> bytes(table.bytes);
    if (plain.read_at(bytes.data(), table.offset, bytes.size()) < bytes.size()) fail(file.path(), "the table " + name + " is cut off");
    for (size_t i = 0; i < bytes.size(); ++i) {
      const int entry = static_cast<int8_t>(bytes[i]);
      if (entry < -63 || entry > 63) fail(file.path(), "the table " + name + " holds " + std::to_string(entry));
      _tables->rows[level][i / static_cast<size_t>(entries)][i % static_cast<size_t>(entries)] = static_cast<uint8_t>(entry + 64);
    }
  }
  _tables->arrange();
  for (PackTensor& tensor : _tensors) {
    if (tensor.format == kernels::Format::kT16) tensor.tables = _tables.get();
  }
}

void Pack::read_errors(const File& file, const std::string& group, int64_t experts,
                       const std::unordered_map<std::string, ListedTensor>& listed) {
  const std::string name = group + ".mwq.eps";
  const auto found = listed.find(name);
  if (found == listed.end()) fail(file.path(), name + " is missing");
  const ListedTensor& stored = found->second;
  std::vector<float>& errors = _errors[group];
  errors.resize(static_cast<size_t>(experts * _levels));
  if (stored.type != ggml::kTypeF32 || stored.ne[0] != _levels || stored.ne[1] != experts || stored.bytes != errors.size() * sizeof(float)) {
    fail(file.path(), name + " has the wrong shape");
  }
  if (File(file.path(), false).read_at(errors.data(), stored.offset, stored.bytes) < stored.bytes) fail(file.path(), name + " is cut off");
  for (size_t i = 0; i < errors.size(); ++i) {
    const size_t level = i % static_cast<size_t>(_levels);
    if (!std::isfinite(errors[i]) || errors[i] < 0) {
      fail(file.path(), "the error of expert " + std::to_string(i / static_cast<size_t>(_levels)) + " of " + group + " at level " +
                            std::to_string(kernels::kLevels[level]) + " is " + std::to_string(errors[i]));
    }
    if (level != 0) errors[i] = std::min(errors[i], errors[i - 1]);
  }
}

void Pack::place_planes(const File& file, const std::unordered_map<std::string, ListedTensor>& listed) {
  const std::string& path = file.path();
  std::map<std::string, std::vector<PackTensor*>> groups;
  for (PackTensor& tensor : _tensors) groups[routing_group(tensor.name)].push_back(&tensor);
  for (const auto& [name, members] : groups) {
    for (const PackTensor* tensor : members) {
      if (tensor->experts != members.front()->experts) fail(path, tensor->name + " has another number of experts than its group");
    }
    read_errors(file, name, members.front()->experts, listed);
    for (int level = 0; level < _levels; ++level) {
      uint64_t extent = 0;
      for (PackTensor* tensor : members) {
        if (level > kernels::last_level(tensor->format, _levels == kernels::kLevelCount)) continue;
        const bool biased = tensor->biased_levels >> level & 1;
        tensor->planes[level] = {extent, 0, kernels::plane_layout(tensor->format, level, tensor->rows, tensor->columns, biased).bytes};
        extent += align_up(tensor->planes[level].bytes, kPartAlignment);
      }
      if (extent == 0) continue;
      extent = align_up(extent, kExtentAlignment);
      const std::string planes = name + ".mwq." + std::to_string(kernels::kLevels[level]);
      const auto found = listed.find(planes);
      if (found == listed.end()) fail(path, planes + " is missing");
      const ListedTensor& stored = found->second;
      if (stored.type != ggml::kTypeI8 || static_cast<uint64_t>(stored.ne[0]) != extent || stored.ne[1] != members.front()->experts ||
          stored.ne[2] != 1 || stored.ne[3] != 1) {
        fail(path, planes + " has extents of " + std::to_string(stored.ne[0]) + " bytes for " + std::to_string(stored.ne[1]) +
                       " experts, and its shapes ask for " + std::to_string(extent) + " for " + std::to_string(members.front()->experts));
      }
      for (PackTensor* tensor : members) {
        if (tensor->planes[level].bytes == 0) continue;
        tensor->planes[level].offset += stored.offset;
        tensor->planes[level].stride = extent;
      }
    }
  }
}

}  // namespace edgemoe
