#include "edgemoe/backend/model_file.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <regex>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/library_guard.h"
#include "edgemoe/error.h"

namespace edgemoe {
namespace {

using ggml::api;

// MUL_MAT_ID operands are three-dimensional and their names end alike in every architecture: ffn_gate_exps,
// ffn_gate_up_exps, ffn_down_chexps...
bool is_expert_stack(const std::string& name, const int64_t* ne) {
  static const std::regex pattern(R"(^blk\.[0-9]{1,6}\.[A-Za-z0-9_]*exps\.weight$)");
  return ne[2] > 1 && std::regex_match(name, pattern);
}

void check_magic(const File& file) {
  alignas(8) uint8_t head[8];
  File plain(file.path(), false);
  if (plain.read_at(head, 0, 8) < 8) throw ModelError(file.path() + " is not a GGUF file: it has only " + std::to_string(file.size()) + " bytes");
  if (std::memcmp(head, "GGUF", 4) != 0) {
    throw ModelError(file.path() + " is not a GGUF file: it does not start with the letters GGUF");
  }
}

std::string shard_path(const std::string& first, int index, int count) {
  char suffix[64];
  std::snprintf(suffix, sizeof(suffix), "-%05d-of-%05d.gguf", 1, count);
  const size_t length = std::strlen(suffix);
  if (first.size() <= length || first.compare(first.size() - length, length, suffix) != 0) {
    throw ModelError(first + " is one of " + std::to_string(count) + " shards: give the path of the first, which ends in " + suffix);
  }
  std::snprintf(suffix, sizeof(suffix), "-%05d-of-%05d.gguf", index + 1, count);
  return first.substr(0, first.size() - length) + suffix;
}

}  // namespace

ModelFile::ModelFile(const std::string& path) {
  try {
    open_shard(path);
    const int count = shard_count();
    for (int i = 1; i < count; ++i) open_shard(shard_path(path, i, count));
    for (uint32_t s = 0; s < _shards.size(); ++s) collect(s);
    unfold_pack();
  } catch (...) {
    close();
    throw;
  }
}

ModelFile::~ModelFile() { close(); }

void ModelFile::close() {
  for (Shard& shard : _shards) {
    if (shard.gguf) api().gguf_free(shard.gguf);
    if (shard.ctx) api().ggml_free(shard.ctx);
  }
  _shards.clear();
}

uint16_t ModelFile::shard_count() const {
  const ggml::Gguf* gguf = metadata();
  const int64_t key = api().gguf_find_key(gguf, "split.count");
  if (key < 0) return 1;
  if (api().gguf_get_kv_type(gguf, key) != ggml::kGgufUint16) throw ModelError(_files[0].path() + ": split.count is not a 16-bit number");
  uint16_t count;
  std::memcpy(&count, api().gguf_get_val_data(gguf, key), sizeof(count));
  return std::max<uint16_t>(count, 1);
}

void ModelFile::open_shard(const std::string& path) {
  _files.emplace_back(path);
  check_magic(_files.back());
  LibraryGuard guard(true);
  Shard shard;
  try {
    shard.gguf = api().gguf_init_from_file(path.c_str(), {true, &shard.ctx});
  } catch (const std::exception& failure) {
    if (shard.ctx) api().ggml_free(shard.ctx);
    throw ModelError(path + " has a damaged GGUF header: " + failure.what());
  }
  if (!shard.gguf) {
    const std::string reason = guard.errors();
    throw ModelError(path + " has a damaged or truncated GGUF header" + (reason.empty() ? "" : ": " + reason));
  }
  _shards.push_back(shard);
}

void ModelFile::collect(uint32_t shard) {
  const auto& g = api();
  const File& file = _files[shard];
  const uint64_t data = g.gguf_get_data_offset(_shards[shard].gguf);
  ggml::Tensor* tensor = g.ggml_get_first_tensor(_shards[shard].ctx);
  for (int64_t i = 0; tensor; ++i, tensor = g.ggml_get_next_tensor(_shards[shard].ctx, tensor)) {
    TensorInfo info;
    info.name = tensor->name;
    info.type = tensor->type;
    std::copy(tensor->ne, tensor->ne + 4, info.ne);
    info.file = shard;
    info.offset = data + g.gguf_get_tensor_offset(_shards[shard].gguf, i);
    info.bytes = g.ggml_nbytes(tensor);
    info.expert = is_expert_stack(info.name, info.ne);
    if (info.offset < data || info.bytes > file.size() || info.offset > file.size() - info.bytes) {
      throw ModelError(file.path() + " is truncated: tensor " + info.name + " needs bytes " + std::to_string(info.offset) + " to " +
                       std::to_string(info.offset + info.bytes) + ", but the file ends at " + std::to_string(file.size()) +
                       "; download it again");
    }
    if (!_index.emplace(info.name, _tensors.size()).second) {
      throw ModelError(file.path() + ": tensor " + info.name + " appears twice");
    }
    _tensors.push_back(std::move(info));
  }
}

void ModelFile::unfold_pack() {
  std::unordered_map<std::string, ListedTensor> listed;
  for (const TensorInfo& t : _tensors) listed[t.name] = {t.type, {t.ne[0], t.ne[1], t.ne[2], t.ne[3]}, t.offset, t.bytes};
  _pack = Pack::parse(metadata(), _files.front(), listed);
  if (!_pack) return;
  if (_files.size() > 1) throw ModelError(_files.front().path() + " is a pack in several shards: packs are single files");
  _stored = _tensors;
  _tensors.erase(std::remove_if(_tensors.begin(), _tensors.end(), [](const TensorInfo& t) { return Pack::own(t.name); }), _tensors.end());
  for (const PackTensor& stored : _pack->tensors()) {
    TensorInfo info;
    info.name = stored.name;
    info.type = stored.type;
    info.ne[0] = stored.columns;
    info.ne[1] = stored.rows;
    info.ne[2] = stored.experts;
    if (!is_expert_stack(info.name, info.ne) || info.name.size() >= ggml::kMaxName) throw ModelError(_files.front().path() + " is a damaged pack: " + info.name + " is no expert tensor");
    const int64_t block = info.type >= 0 && info.type < ggml::kTypeCount ? api().ggml_blck_size(info.type) : 0;
    if (block <= 0 || stored.columns % block != 0) {
      throw ModelError(_files.front().path() + " is a damaged pack: " + info.name + " was of the type " + std::to_string(info.type) + " with rows of " +
                       std::to_string(stored.columns));
    }
    info.bytes = api().ggml_row_size(info.type, stored.columns) * static_cast<uint64_t>(stored.rows * stored.experts);
    info.expert = true;
    info.pack = &stored;
    _tensors.push_back(std::move(info));
  }
  _index.clear();
  for (size_t i = 0; i < _tensors.size(); ++i) {
    if (!_index.emplace(_tensors[i].name, i).second) throw ModelError(_files.front().path() + ": tensor " + _tensors[i].name + " appears twice");
  }
}

const TensorInfo* ModelFile::find(const std::string& name) const {
  const auto it = _index.find(name);
  return it == _index.end() ? nullptr : &_tensors[it->second];
}

uint64_t ModelFile::bytes() const {
  uint64_t sum = 0;
  for (const File& file : _files) sum += file.size();
  return sum;
}

VirtualLayout ModelFile::layout(bool with_vocabulary) const {
  const auto& g = api();
  LibraryGuard guard;
  std::unique_ptr<ggml::Gguf, void (*)(ggml::Gguf*)> merged(g.gguf_init_empty(), g.gguf_free);
  g.gguf_set_kv(merged.get(), metadata());
  // The merged header has the default alignment, whatever the files' own is.
  for (const char* key : {"split.no", "split.count", "split.tensors.count", "general.alignment"}) g.gguf_remove_key(merged.get(), key);
  if (!with_vocabulary) remove_vocabulary(merged.get());
  std::vector<uint8_t> memory((_tensors.size() + 1) * g.ggml_tensor_overhead());
  std::unique_ptr<ggml::Context, void (*)(ggml::Context*)> ctx(g.ggml_init({memory.size(), memory.data(), true}), g.ggml_free);
  for (const TensorInfo& info : _tensors) {
    ggml::Tensor* t = g.ggml_new_tensor_4d(ctx.get(), info.type, info.ne[0], info.ne[1], info.ne[2], info.ne[3]);
    info.name.copy(t->name, sizeof(t->name) - 1);
    g.gguf_add_tensor(merged.get(), t);
  }
  VirtualLayout layout;
  layout.header.resize(g.gguf_get_meta_size(merged.get()));
  g.gguf_get_meta_data(merged.get(), layout.header.data());
  layout.size = layout.header.size();
  for (size_t i = 0; i < _tensors.size(); ++i) {
    layout.offsets.push_back(layout.header.size() + g.gguf_get_tensor_offset(merged.get(), static_cast<int64_t>(i)));
    layout.size = align_up(layout.offsets.back() + _tensors[i].bytes, g.gguf_get_alignment(merged.get()));
  }
  return layout;
}

void ModelFile::remove_vocabulary(ggml::Gguf* header) const {
  const auto& g = api();
  for (int64_t k = g.gguf_get_n_kv(metadata()); k-- > 0;) {
    const char* key = g.gguf_get_key(metadata(), k);
    if (std::strncmp(key, "tokenizer.", 10) == 0) g.gguf_remove_key(header, key);
  }
  g.gguf_set_val_str(header, "tokenizer.ggml.model", "no_vocab");
  const TensorInfo* embedding = find("token_embd.weight");
  const int64_t architecture = g.gguf_find_key(metadata(), "general.architecture");
  if (!embedding || architecture < 0) return;
  const std::string key = std::string(g.gguf_get_val_str(metadata(), architecture)) + ".vocab_size";
  g.gguf_set_val_u32(header, key.c_str(), static_cast<uint32_t>(embedding->ne[1]));
}

}  // namespace edgemoe
