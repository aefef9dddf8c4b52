// Bytes as planes of any shape, each ending at a page that may not be touched, and as the blocks that slices are made of: no
// kernel reads or writes beyond what is its own, all assemble the same blocks, and slices lose nothing.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "edgemoe/codec/slice.h"
#include "edgemoe/error.h"
#include "guarded_bytes.h"
#include "source.h"

namespace edgemoe::fuzz {
namespace {

using kernels::Format;
using kernels::Matrix;
using Memory = std::unique_ptr<GuardedBytes>;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// The input: choices from its front, then contents, over and over as often as they are needed.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : _data(data), _size(size) {}

  int64_t choose(int64_t least, int64_t most) { return least + next() % (most - least + 1); }

  void fill(uint8_t* to, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) to[i] = next();
  }

  Memory memory(size_t bytes) {
    Memory memory = std::make_unique<GuardedBytes>(bytes);
    fill(memory->data(), bytes);
    return memory;
  }

 private:
  uint8_t next() {
    if (_at == _size) _at = std::min<size_t>(_size, 8);
    if (_at == _size) return 0;
    return _data[_at++];
  }

  const uint8_t* _data;
  size_t _size;
  size_t _at = 0;
};

struct Choice {
  Format format;
  int64_t rows;
  int64_t columns;
  uint8_t biased_levels;
  int count;      // of activation rows
  int64_t begin;  // of the rows that are computed
  int64_t end;
};

Choice choose(Input& input) {
  Choice c{};
  c.format = static_cast<Format>(input.choose(0, 3));
  c.rows = input.choose(1, 9);  // variants take up to four at a time
  c.columns = c.format == Format::kT16 ? 32 * input.choose(1, 20) : 256 * input.choose(1, 3);
  c.biased_levels = static_cast<uint8_t>(input.choose(0, 15));
  c.count = static_cast<int>(input.choose(1, 5));
  c.begin = input.choose(0, c.rows);
  c.end = input.choose(c.begin, c.rows);
  return c;
}

template <typename Action>
void for_variants(Action action) {
  for (const kernels::Variant* const* v = kernels::variants(); *v; ++v) {
    if ((*v)->available()) action(**v);
  }
}

void multiply(Input& input, const Matrix& matrix, int level, const Choice& c) {
  std::vector<float> values(static_cast<size_t>(c.columns));
  input.fill(reinterpret_cast<uint8_t*>(values.data()), values.size() * sizeof(float));
  for (float& value : values) value = std::clamp(value, -1e6f, 1e6f) == value ? value : 1.0f;
  const GuardedBytes x(kernels::activation_bytes(c.columns));
  kernels::convert_activation(values.data(), c.columns, x.data());
  const std::vector<const uint8_t*> inputs(static_cast<size_t>(c.count), x.data());
  std::vector<Memory> results;
  std::vector<float*> y;
  for (int i = 0; i < c.count; ++i) {
    results.push_back(std::make_unique<GuardedBytes>(static_cast<size_t>(c.rows) * sizeof(float)));
    y.push_back(reinterpret_cast<float*>(results.back()->data()));
  }
  for_variants([&](const kernels::Variant& v) { multiply_with(v, matrix, level, c.begin, c.end, inputs.data(), c.count, y.data()); });
  const GuardedBytes weights(static_cast<size_t>((c.end - c.begin) * c.columns) * sizeof(float));
  kernels::dequantize(matrix, level, c.begin, c.end, reinterpret_cast<float*>(weights.data()));
}

// Rows [begin, end) as blocks, by every variant.
void assemble(const Matrix& matrix, const Choice& c, const uint8_t* expected) {
  const size_t bytes = static_cast<size_t>((c.end - c.begin) * c.columns / 256) * codec::block_bytes(c.format);
  Memory first;
  for_variants([&](const kernels::Variant& v) {
    Memory rows = std::make_unique<GuardedBytes>(bytes);
    assemble_with(v, matrix, c.begin, c.end, rows->data());
    expect(!first || std::memcmp(first->data(), rows->data(), bytes) == 0, "variants assemble different blocks");
    expect(!expected || std::memcmp(expected, rows->data(), bytes) == 0, "a slice has lost something");
    first = std::move(rows);
  });
}

// Such as a pack may have: others are refused, which leaves nothing to be tried.
void set_gains(Input& input, uint8_t* midpoints) {
  float gains[kernels::kLevelCount];
  for (float& gain : gains) gain = static_cast<float>(input.choose(64, 255)) / 128;
  std::memcpy(midpoints + kernels::kGainsAt, gains, sizeof(gains));
}

void run_planes(Input& input, const Choice& c) {
  const auto tables = std::make_unique<kernels::T16Tables>();
  input.fill(&tables->rows[0][0][0], sizeof(tables->rows));
  tables->arrange();
  std::vector<Memory> planes;
  Matrix matrix;
  matrix.format = c.format;
  matrix.rows = c.rows;
  matrix.columns = c.columns;
  matrix.biased_levels = c.biased_levels;
  matrix.tables = c.format == Format::kT16 ? tables.get() : nullptr;
  for (int level = 0; level <= kernels::last_level(c.format, true); ++level) {
    const bool biased = c.format == Format::kT16 && (c.biased_levels >> level & 1);
    planes.push_back(input.memory(kernels::plane_layout(c.format, level, c.rows, c.columns, biased).bytes));
    matrix.planes[level] = planes.back()->data();
    if (level == 0) set_gains(input, planes[0]->data() + kernels::plane_layout(c.format, 0, c.rows, c.columns, biased).midpoints);
    multiply(input, matrix, level, c);
  }
  if (c.format != Format::kT16) assemble(matrix, c, nullptr);
}

void run_slices(Input& input, Choice c) {
  if (c.format == Format::kT16) c.format = Format::kSlicedQ6K;
  c.columns = (c.columns + 255) / 256 * 256;
  const size_t row = static_cast<size_t>(c.columns / 256) * codec::block_bytes(c.format);
  const Memory blocks = input.memory(static_cast<size_t>(c.rows) * row);
  const codec::PlaneSet set = codec::slice(c.format, blocks->data(), c.rows, c.columns, nullptr, 1);
  Matrix matrix;
  matrix.format = c.format;
  matrix.rows = c.rows;
  matrix.columns = c.columns;
  for (int level = 0; level < set.levels; ++level) matrix.planes[level] = set.planes[level].data.get();
  assemble(matrix, c, blocks->data() + static_cast<size_t>(c.begin) * row);
}

}  // namespace
}  // namespace edgemoe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace edgemoe;
  fuzz::Input input(data, size);
  const bool slices = input.choose(0, 3) == 0;
  const fuzz::Choice choice = fuzz::choose(input);
  try {
    if (slices) fuzz::run_slices(input, choice);
    else fuzz::run_planes(input, choice);
  } catch (const ModelError&) {  // blocks with scales that are no numbers
  }
  return 0;
}
