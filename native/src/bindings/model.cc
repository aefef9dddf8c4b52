#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <array>
#include <cstring>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/model_file.h"
#include "bindings.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

using ggml::api;

constexpr size_t kLongArray = 1024;  // tokenizer tables: only their length is of interest

template <typename T>
T element(const void* data, size_t index) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + index * sizeof(T), sizeof(T));
  return value;
}

nb::object scalar(ggml::GgufType type, const void* data, size_t index) {
  switch (type) {
    case ggml::kGgufUint8: return nb::int_(element<uint8_t>(data, index));
    case ggml::kGgufInt8: return nb::int_(element<int8_t>(data, index));
    case ggml::kGgufUint16: return nb::int_(element<uint16_t>(data, index));
    case ggml::kGgufInt16: return nb::int_(element<int16_t>(data, index));
    case ggml::kGgufUint32: return nb::int_(element<uint32_t>(data, index));
    case ggml::kGgufInt32: return nb::int_(element<int32_t>(data, index));
    case ggml::kGgufFloat32: return nb::float_(element<float>(data, index));
    case ggml::kGgufBool: return nb::bool_(element<int8_t>(data, index) != 0);
    case ggml::kGgufUint64: return nb::int_(element<uint64_t>(data, index));
    case ggml::kGgufInt64: return nb::int_(element<int64_t>(data, index));
    case ggml::kGgufFloat64: return nb::float_(element<double>(data, index));
    default: return nb::none();
  }
}

nb::object array(const ggml::Gguf* gguf, int64_t key) {
  const size_t n = api().gguf_get_arr_n(gguf, key);
  if (n > kLongArray) return nb::none();
  const ggml::GgufType type = api().gguf_get_arr_type(gguf, key);
  nb::list values;
  for (size_t i = 0; i < n; ++i) {
    values.append(type == ggml::kGgufString ? text(api().gguf_get_arr_str(gguf, key, i)) : scalar(type, api().gguf_get_arr_data(gguf, key), i));
  }
  return values;
}

nb::dict metadata(const ModelFile& model) {
  const ggml::Gguf* gguf = model.metadata();
  nb::dict values;
  for (int64_t k = 0; k < api().gguf_get_n_kv(gguf); ++k) {
    const ggml::GgufType type = api().gguf_get_kv_type(gguf, k);
    nb::object value = type == ggml::kGgufArray    ? array(gguf, k)
                       : type == ggml::kGgufString ? text(api().gguf_get_val_str(gguf, k))
                                                   : scalar(type, api().gguf_get_val_data(gguf, k), 0);
    values[text(api().gguf_get_key(gguf, k))] = value;
  }
  return values;
}

nb::list listed(nb::handle owner, const std::vector<TensorInfo>& tensors) {
  nb::list list;
  for (const TensorInfo& t : tensors) list.append(nb::cast(&t, nb::rv_policy::reference_internal, owner));
  return list;
}

nb::tuple shape(const TensorInfo& tensor) { return nb::make_tuple(tensor.ne[0], tensor.ne[1], tensor.ne[2], tensor.ne[3]); }

}  // namespace

void bind_model(nb::module_& m) {
  nb::class_<TensorInfo>(m, "TensorInfo", "One tensor of a model file; `shape` is as ggml orders it, row length first.")
      .def_prop_ro("name", [](const TensorInfo& t) { return text(t.name); })
      .def_prop_ro("type", [](const TensorInfo& t) { return std::string(api().ggml_type_name(t.type)); })
      .def_prop_ro("shape", shape)
      .def_ro("file", &TensorInfo::file)
      .def_ro("offset", &TensorInfo::offset)
      .def_ro("bytes", &TensorInfo::bytes)
      .def_ro("expert", &TensorInfo::expert)
      .def_prop_ro(
          "plane_bytes", [](const TensorInfo& t) {
            nb::list sizes;
            for (const PlanePlace& place : t.pack ? t.pack->planes : std::array<PlanePlace, kernels::kLevelCount>{}) sizes.append(place.bytes);
            return sizes;
          },
          "Of a pack's expert tensor: bytes of one expert's plane at each level, 0 where it has none.");
  nb::class_<ModelFile>(m, "ModelFile", "The headers of a GGUF model, of one file or several shards.")
      .def(nb::init<const std::string&>(), nb::arg("path"), nb::call_guard<nb::gil_scoped_release>())
      .def_prop_ro("bytes", &ModelFile::bytes)
      .def_prop_ro(
          "levels",
          [](const ModelFile& model) {
            nb::list levels;
            for (int i = 0; model.pack() && i < model.pack()->levels(); ++i) levels.append(kernels::kLevels[i]);
            return levels;
          },
          "Levels of a pack; empty for any other GGUF.")
      .def_prop_ro("paths",
                   [](const ModelFile& model) {
                     nb::list paths;
                     for (const File& file : model.files()) paths.append(text(file.path()));
                     return paths;
                   })
      .def_prop_ro(
          "tensors", [](nb::handle self) { return listed(self, nb::cast<const ModelFile&>(self).tensors()); },
          "The tensors of the model; experts of a pack as they were in its source.")
      .def_prop_ro(
          "stored", [](nb::handle self) { return listed(self, nb::cast<const ModelFile&>(self).stored()); },
          "The tensors that the files hold: of a pack, planes instead of experts.")
      .def("metadata", &metadata, "Key-value metadata; arrays of more than 1,024 elements are None.");
}

}  // namespace edgemoe
