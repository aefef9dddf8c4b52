#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bindings.h"
#include "edgemoe/codec/encode.h"
#include "edgemoe/codec/slice.h"
#include "edgemoe/codec/tables.h"
#include "edgemoe/error.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

using codec::PlaneSet;
using codec::Tables;

using Row = std::optional<Input<float, 1>>;
using Output = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const float* data_of(const Row& row, const char* name, int64_t columns) {
  if (!row) return nullptr;
  if (static_cast<int64_t>(row->shape(0)) == columns) return row->data();
  throw Error(std::string(name) + " has " + std::to_string(row->shape(0)) + " values for " + std::to_string(columns) + " columns");
}

nb::object numpy_bytes(codec::Bytes bytes) {
  uint8_t* const data = bytes.data.release();
  const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>>(data, {bytes.size}, owner));
}

// {level: (error, total)}
nb::dict as_dict(const codec::LevelErrors& errors, int levels) {
  nb::dict result;
  for (int i = 0; i < levels; ++i) result[nb::int_(kernels::kLevels[i])] = nb::make_tuple(errors[i].error, errors[i].total);
  return result;
}

// ({level: bytes}, {level: (error, total)})
nb::tuple as_tuple(PlaneSet set) {
  nb::dict planes;
  for (int i = 0; i < set.levels; ++i) planes[nb::int_(kernels::kLevels[i])] = numpy_bytes(std::move(set.planes[i]));
  return nb::make_tuple(planes, as_dict(set.errors, set.levels));
}

nb::bytes as_bytes(const Tables& tables) { return nb::bytes(reinterpret_cast<const char*>(&tables), sizeof tables); }

Tables from_bytes(const nb::bytes& bytes) {
  Tables tables;
  if (bytes.size() != sizeof tables) throw Error("tables are " + std::to_string(sizeof tables) + " bytes, not " + std::to_string(bytes.size()));
  std::memcpy(&tables, bytes.c_str(), sizeof tables);
  return tables;
}

void check_blocks(kernels::Format format, const Input<uint8_t, 1>& blocks, int64_t rows, int64_t columns) {
  const size_t bytes = codec::block_bytes(format) * static_cast<size_t>(rows * (columns / 256));
  if (rows < 1 || blocks.shape(0) == bytes) return;  // what is wrong with the rows is told later
  throw Error(std::to_string(rows) + " rows of " + std::to_string(columns) + " weights are " + std::to_string(bytes) + " bytes, not " +
              std::to_string(blocks.shape(0)));
}

void check_plane(int level, size_t bytes, size_t given) {
  if (given >= bytes) return;
  throw Error("the plane of level " + std::to_string(kernels::kLevels[level]) + " has " + std::to_string(bytes) + " bytes, not " +
              std::to_string(given));
}

nb::tuple slice(uint32_t format, const Input<uint8_t, 1>& blocks, int64_t rows, int64_t columns, const Row& importance, int threads) {
  const auto kind = static_cast<kernels::Format>(format);
  const float* h = data_of(importance, "importance", columns);
  check_blocks(kind, blocks, rows, columns);
  PlaneSet set;
  {
    const nb::gil_scoped_release release;
    set = codec::slice(kind, blocks.data(), rows, columns, h, threads);
  }
  return as_tuple(std::move(set));
}

nb::dict slice_into(uint32_t format, const Input<uint8_t, 1>& blocks, int64_t rows, int64_t columns, const Row& importance, int threads,
                    const std::vector<Output>& planes) {
  const auto kind = static_cast<kernels::Format>(format);
  const float* h = data_of(importance, "importance", columns);
  check_blocks(kind, blocks, rows, columns);
  const int levels = kernels::last_level(kind, true) + 1;
  if (planes.size() != static_cast<size_t>(levels)) {
    throw Error("the matrix has " + std::to_string(levels) + " planes, not " + std::to_string(planes.size()));
  }
  uint8_t* into[kernels::kLevelCount];
  for (int i = 0; i < levels; ++i) {
    check_plane(i, kernels::plane_layout(kind, i, rows, columns, false).bytes, planes[static_cast<size_t>(i)].shape(0));
    into[i] = planes[static_cast<size_t>(i)].data();
  }
  codec::LevelErrors errors;
  {
    const nb::gil_scoped_release release;
    errors = codec::slice(kind, blocks.data(), rows, columns, h, threads, into);
  }
  return as_dict(errors, levels);
}

nb::tuple encode(const Input<float, 2>& weights, const nb::bytes& tables, const Row& importance, const Row& mean_input,
                 const std::optional<Input<float, 2>>& feedback, int levels, uint8_t biased_levels, std::array<float, 3> level_weights,
                 int threads) {
  codec::MatrixInput input;
  input.weights = weights.data();
  input.rows = static_cast<int64_t>(weights.shape(0));
  input.columns = static_cast<int64_t>(weights.shape(1));
  input.importance = data_of(importance, "importance", input.columns);
  input.mean_input = data_of(mean_input, "mean_input", input.columns);
  if (feedback) {
    if (feedback->shape(0) != weights.shape(1) || feedback->shape(1) != weights.shape(1)) {
      throw Error("the factor of the Hessian is " + std::to_string(feedback->shape(0)) + " x " + std::to_string(feedback->shape(1)) + " for " +
                  std::to_string(input.columns) + " columns");
    }
    input.feedback = feedback->data();
  }
  codec::EncodeSettings settings;
  std::copy(level_weights.begin(), level_weights.end(), settings.weights.of);
  settings.levels = levels;
  settings.biased_levels = biased_levels;
  settings.threads = threads;
  const Tables rows = from_bytes(tables);
  PlaneSet set;
  {
    const nb::gil_scoped_release release;
    set = codec::encode(input, rows, settings);
  }
  return as_tuple(std::move(set));
}

nb::bytes learn(const Input<float, 2>& samples, const std::optional<Input<float, 2>>& importance, std::array<float, 3> level_weights,
                int iterations, uint64_t seed, int threads) {
  if (importance && (importance->shape(0) != samples.shape(0) || importance->shape(1) != samples.shape(1))) {
    throw Error("the importance of samples has their shape");
  }
  codec::LearnSettings settings;
  std::copy(level_weights.begin(), level_weights.end(), settings.weights.of);
  settings.iterations = iterations;
  settings.seed = seed;
  settings.threads = threads;
  Tables tables;
  {
    const nb::gil_scoped_release release;
    tables = codec::learn_tables(samples.data(), importance ? importance->data() : nullptr, static_cast<int64_t>(samples.shape(0)),
                                 static_cast<int64_t>(samples.shape(1)), settings);
  }
  return as_bytes(tables);
}

// A matrix over planes that Python holds, by level; those above the last one wanted may be missing.
kernels::Matrix matrix_of(uint32_t format, int64_t rows, int64_t columns, const std::vector<Input<uint8_t, 1>>& planes, int biased_levels) {
  kernels::Matrix matrix;
  matrix.format = static_cast<kernels::Format>(format);
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.biased_levels = static_cast<uint8_t>(biased_levels);
  if (planes.size() > static_cast<size_t>(kernels::kLevelCount)) throw Error("a matrix has at most 4 planes");
  for (int i = 0; i < static_cast<int>(planes.size()); ++i) {
    const size_t bytes = kernels::plane_layout(matrix.format, i, rows, columns, biased_levels >> i & 1).bytes;
    check_plane(i, bytes, planes[static_cast<size_t>(i)].shape(0));
    matrix.planes[i] = planes[static_cast<size_t>(i)].data();
  }
  return matrix;
}

std::unique_ptr<kernels::T16Tables> kernel_tables(const Tables& tables) {
  auto result = std::make_unique<kernels::T16Tables>();
  for (int row = 0; row < codec::kRows; ++row) {
    const auto set = [&](int level, const int8_t* entries, int count) {
      for (int i = 0; i < 16; ++i) result->rows[level][row][i] = static_cast<uint8_t>(64 + (i < count ? entries[i] : 0));
    };
    set(0, tables.level2[row], 4);
    set(1, tables.level3[row], 8);
    set(2, tables.level4[row], 16);
    set(3, tables.level6[row], 16);
  }
  result->arrange();
  return result;
}

template <class T>
nb::object numpy_matrix(std::unique_ptr<T[]> data, int64_t rows, int64_t columns) {
  T* const values = data.release();
  const nb::capsule owner(values, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<2>>(values, {static_cast<size_t>(rows), static_cast<size_t>(columns)}, owner));
}

nb::object dequantize(uint32_t format, int64_t rows, int64_t columns, const std::vector<Input<uint8_t, 1>>& planes,
                      const std::optional<nb::bytes>& tables, int biased_levels) {
  kernels::Matrix matrix = matrix_of(format, rows, columns, planes, biased_levels);
  const auto entries = tables ? kernel_tables(from_bytes(*tables)) : nullptr;
  matrix.tables = entries.get();
  std::unique_ptr<float[]> values(new float[static_cast<size_t>(rows * columns)]);
  {
    const nb::gil_scoped_release release;
    kernels::dequantize(matrix, static_cast<int>(planes.size()) - 1, 0, rows, values.get());
  }
  return numpy_matrix(std::move(values), rows, columns);
}

nb::object assemble(uint32_t format, int64_t rows, int64_t columns, const std::vector<Input<uint8_t, 1>>& planes) {
  const kernels::Matrix matrix = matrix_of(format, rows, columns, planes, 0);
  const int64_t bytes = columns / 256 * static_cast<int64_t>(codec::block_bytes(matrix.format));
  std::unique_ptr<uint8_t[]> blocks(new uint8_t[static_cast<size_t>(rows * bytes)]);
  {
    const nb::gil_scoped_release release;
    kernels::assemble(matrix, 0, rows, blocks.get());
  }
  return numpy_matrix(std::move(blocks), rows, bytes);
}

}  // namespace

void bind_codec(nb::module_& m) {
  m.def("slice_blocks", &slice, nb::arg("format"), nb::arg("blocks"), nb::arg("rows"), nb::arg("columns"), nb::arg("importance").none(),
        nb::arg("threads"), "Planes and errors, by level, of a matrix of k-quant blocks.");
  m.def("slice_blocks_into", &slice_into, nb::arg("format"), nb::arg("blocks"), nb::arg("rows"), nb::arg("columns"),
        nb::arg("importance").none(), nb::arg("threads"), nb::arg("planes"), "The same into the given planes; returns the errors by level.");
  m.def("encode_t16", &encode, nb::arg("weights"), nb::arg("tables"), nb::kw_only(), nb::arg("importance").none(),
        nb::arg("mean_input").none(), nb::arg("feedback").none(), nb::arg("levels"), nb::arg("biased_levels"), nb::arg("level_weights"),
        nb::arg("threads"), "Planes and errors, by level, of a matrix of floats.");
  m.def("learn_t16", &learn, nb::arg("samples"), nb::arg("importance").none(), nb::kw_only(), nb::arg("level_weights"),
        nb::arg("iterations"), nb::arg("seed"), nb::arg("threads"), "Tables, as the bytes of the four arrays one after another.");
  m.def(
      "plane_bytes",
      [](uint32_t format, int level, int64_t rows, int64_t columns, bool biased) {
        return kernels::plane_layout(static_cast<kernels::Format>(format), level, rows, columns, biased).bytes;
      },
      nb::arg("format"), nb::arg("level"), nb::arg("rows"), nb::arg("columns"), nb::arg("biased"), "Bytes of one matrix's plane of a level index.");
  m.def("dequantize_planes", &dequantize, nb::arg("format"), nb::arg("rows"), nb::arg("columns"), nb::arg("planes"), nb::kw_only(),
        nb::arg("tables").none(), nb::arg("biased_levels"), "The weights at the level of the last of the planes.");
  m.def("assemble_planes", &assemble, nb::arg("format"), nb::arg("rows"), nb::arg("columns"), nb::arg("planes"),
        "The k-quant blocks of slices with all planes.");
  m.attr("gain_range") = nb::make_tuple(kernels::kSmallestGain, kernels::kLargestGain);
  m.def("default_t16", [] { return as_bytes(codec::default_tables()); });
}

}  // namespace edgemoe
