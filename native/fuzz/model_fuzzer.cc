// Bytes as a model file. It is refused with a clear error; or every tensor of it can be read, and every plane of a pack
// multiplied, whatever the bytes are.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "edgemoe/backend/engine.h"
#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/error.h"
#include "gguf_mutator.h"
#include "library.h"
#include "memory_file.h"
#include "source.h"

namespace edgemoe::fuzz {
namespace {

constexpr size_t kLongestMessage = 2000;
constexpr uint64_t kMostRead = 4 << 20;      // of a stream
constexpr int64_t kMostWeights = 1 << 13;    // that are multiplied of one matrix: its first rows and its last ones
constexpr int kActivations = 5;              // one more than kernels take at a time

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

// What llama.cpp's loader does with the stream, if it wants all of it.
void load(Engine& engine, bool planning) {
  std::FILE* stream = engine.begin_load(planning);
  std::vector<char> bytes(64 << 10);
  uint64_t done = 0;
  while (const size_t n = done < kMostRead ? std::fread(bytes.data(), 1, bytes.size(), stream) : 0) done += n;
  engine.end_load(false);
  expect(engine.load_error().empty(), "an accepted file cannot be read: " + engine.load_error());
}

void read_embedding(Engine& engine, const ModelFile& model) {
  const TensorInfo* embedding = model.find("token_embd.weight");
  if (!embedding || embedding->bytes == 0) return;
  StoredTensor stored;
  stored.info = embedding;
  std::vector<uint8_t> rows(2 * embedding->bytes / static_cast<uint64_t>(embedding->ne[1]));
  engine.read_rows(stored, {0, static_cast<int32_t>(std::min<int64_t>(embedding->ne[1], INT32_MAX) - 1)}, rows.data());
}

using Bytes = std::unique_ptr<uint8_t[]>;  // of exactly the size that is asked for, so that a sanitizer sees where it ends

// The planes of one expert's matrix as the cache brings them, the base first.
std::vector<Bytes> planes_of(Engine& engine, const StoredTensor& tensor, uint32_t expert) {
  std::vector<PlaneUse> uses;
  for (uint32_t level = 0; level < tensor.levels; ++level) uses.push_back({tensor.plane(expert, level), 1});
  PlaneCache::Lease lease(engine.cache(), uses, 0, [] { return false; });
  std::vector<Bytes> planes;
  for (uint32_t level = 0; level < tensor.levels; ++level) {
    const uint64_t bytes = tensor.info->pack ? tensor.info->pack->planes[level].bytes : tensor.expert_bytes();
    planes.emplace_back(new uint8_t[bytes]);
    std::memcpy(planes.back().get(), lease.wait(level), bytes);
    lease.release(level);
  }
  return planes;
}

void multiply(const kernels::Matrix& matrix, int level, int64_t begin, int64_t end) {
  const std::vector<float> x(static_cast<size_t>(matrix.columns), 1.5f);
  std::vector<uint8_t> converted(kernels::activation_bytes(matrix.columns));
  kernels::convert_activation(x.data(), matrix.columns, converted.data());
  std::vector<std::vector<float>> results(kActivations, std::vector<float>(static_cast<size_t>(matrix.rows)));
  std::vector<float*> y;
  for (auto& result : results) y.push_back(result.data());
  const std::vector<const uint8_t*> inputs(kActivations, converted.data());
  for (const kernels::Variant* const* v = kernels::variants(); *v; ++v) {
    if ((*v)->available()) kernels::multiply_with(**v, matrix, level, begin, end, inputs.data(), kActivations, y.data());
  }
  std::vector<float> weights(static_cast<size_t>((end - begin) * matrix.columns));
  kernels::dequantize(matrix, level, begin, end, weights.data());
}

// As the backend does where a slice has all its planes: into rows of the type that the source had.
void assemble(const kernels::Matrix& matrix, const TensorInfo& info, int64_t begin, int64_t end) {
  const size_t row_bytes = ggml::api().ggml_row_size(info.type, matrix.columns);
  for (const kernels::Variant* const* v = kernels::variants(); *v; ++v) {
    if (!(*v)->available()) continue;
    const Bytes rows(new uint8_t[row_bytes * static_cast<size_t>(end - begin)]);
    kernels::assemble_with(**v, matrix, begin, end, rows.get());
  }
}

void compute(Engine& engine, const StoredTensor& tensor, uint32_t expert) {
  const std::vector<Bytes> planes = planes_of(engine, tensor, expert);
  if (!tensor.info->pack) return;
  kernels::Matrix matrix = tensor.info->pack->matrix();
  for (size_t level = 0; level < planes.size(); ++level) matrix.planes[level] = planes[level].get();
  const int levels = static_cast<int>(planes.size());
  const bool whole = matrix.format != kernels::Format::kT16 && levels > kernels::last_level(matrix.format, true);
  const int64_t some = std::clamp<int64_t>(kMostWeights / matrix.columns, 1, matrix.rows);
  for (const int64_t begin : {int64_t{0}, matrix.rows - some}) {
    for (int level = 0; level < levels; ++level) multiply(matrix, level, begin, begin + some);
    if (whole) assemble(matrix, *tensor.info, begin, begin + some);
    if (some == matrix.rows) break;
  }
}

void use(const std::shared_ptr<const ModelFile>& model) {
  EngineSettings settings;
  settings.io_threads = 1;
  Engine engine(model, settings);
  engine.pattern();
  load(engine, false);
  load(engine, true);
  read_embedding(engine, *model);
  engine.minimum_cache(2);
  engine.set_cache(engine.full_cache());
  for (const ExpertGroup& group : engine.groups()) {
    for (const StoredTensor* tensor : group.members) {
      compute(engine, *tensor, 0);
      compute(engine, *tensor, tensor->experts() - 1);
    }
  }
}

}  // namespace
}  // namespace edgemoe::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  edgemoe::fuzz::load_library();
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  return edgemoe::fuzz::mutate_gguf(data, size, most, seed);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace edgemoe;
  static fuzz::MemoryFile file;
  file.write(data, size);
  try {
    const auto model = std::make_shared<const ModelFile>(file.path());
    try {
      fuzz::use(model);
    } catch (const IoError& error) {
      fuzz::expect(false, "an accepted file cannot be read: " + std::string(error.what()));
    }
  } catch (const Error& error) {
    const size_t length = std::strlen(error.what());
    fuzz::expect(length > 0 && length < fuzz::kLongestMessage, "an error that nobody can read: " + std::string(error.what()));
  }
  return 0;
}
