#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "edgemoe/error.h"
#include "edgemoe/routing/features.h"
#include "edgemoe/routing/train.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

using routing::kDenseNames;
using routing::kFields;

template <typename T, size_t dimensions>
nb::object as_numpy(std::vector<T>&& values, const size_t (&shape)[dimensions]) {
  auto kept = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = kept->data();
  const nb::capsule owner(kept.release(), [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<dimensions>>(data, dimensions, shape, owner));
}

template <typename T>
nb::object copied(const T* data, size_t size) {
  return as_numpy(std::vector<T>(data, data + size), {size});
}

// Python hands out its own UTF-8, without a copy where the text is ASCII. A lone surrogate has none.
std::string_view utf8(const nb::str& text) {
  Py_ssize_t size = 0;
  const char* const data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (data) return {data, static_cast<size_t>(size)};
  PyErr_Clear();
  throw Error("the text holds half of a surrogate pair: it is no valid Unicode");
}

class Extraction {
 public:
  Extraction(uint32_t buckets, int shortest, int longest) : _extractor(routing::Hashing{buckets, shortest, longest}) {}

  nb::tuple extract(const nb::str& text) {
    _extractor.extract(utf8(text), _features);
    return nb::make_tuple(copied(_features.words.data(), _features.words.size()), copied(_features.grams.data(), _features.grams.size()),
                          copied(_features.dense.data(), _features.dense.size()));
  }

  nb::tuple extract_all(const nb::list& texts) {
    std::vector<int32_t> ids, dense;
    std::vector<int64_t> bounds{0};
    for (const nb::handle text : texts) {
      _extractor.extract(utf8(nb::cast<nb::str>(text)), _features);
      for (const auto* field : {&_features.words, &_features.grams}) {
        ids.insert(ids.end(), field->begin(), field->end());
        bounds.push_back(static_cast<int64_t>(ids.size()));
      }
      dense.insert(dense.end(), _features.dense.begin(), _features.dense.end());
    }
    const size_t many = ids.size(), ends = bounds.size();
    return nb::make_tuple(as_numpy(std::move(ids), {many}), as_numpy(std::move(bounds), {ends}),
                          as_numpy(std::move(dense), {nb::len(texts), kDenseNames.size()}));
  }

 private:
  routing::Extractor _extractor;
  routing::Features _features;
};

using Ids = Input<int32_t, 1>;
using Bounds = Input<int64_t, 1>;

routing::Corpus corpus_of(const Ids& ids, const Bounds& bounds, uint32_t buckets) {
  const size_t ends = bounds.shape(0);
  if (ends % kFields != 1) throw Error("bounds: " + std::to_string(ends) + " are not two for each text and one more");
  const int64_t* const b = bounds.data();
  for (size_t i = 0; i < ends; ++i) {
    if (b[i] < (i ? b[i - 1] : 0) || b[i] > static_cast<int64_t>(ids.shape(0))) throw Error("bounds do not ascend inside the ids");
  }
  for (size_t i = 0; i < ids.shape(0); ++i) {
    if (static_cast<uint32_t>(ids.data()[i]) >= buckets) throw Error("an id is no bucket: " + std::to_string(ids.data()[i]));
  }
  return {ids.data(), b, ends / kFields};
}

routing::Settings settings_of(uint32_t buckets, int dim, int classes, bool rectified) {
  routing::Settings settings;
  settings.buckets = buckets;
  settings.dim = dim;
  settings.classes = classes;
  settings.rectified = rectified;
  return settings;
}

nb::dict train(const Ids& ids, const Bounds& bounds, const Input<float, 2>& targets, const Input<double, 1>& frequencies, uint32_t buckets,
               int dim, bool rectified, double passes, double rate, double dropped, double dropped_units, double gate_rate, double gate_limit,
               uint64_t seed) {
  const routing::Corpus corpus = corpus_of(ids, bounds, buckets);
  if (targets.shape(0) != corpus.rows || frequencies.shape(0) != corpus.rows) throw Error("targets and frequencies must have one row for each text");
  routing::Settings s = settings_of(buckets, dim, static_cast<int>(targets.shape(1)), rectified);
  s.passes = passes;
  s.rate = rate;
  s.dropped = dropped;
  s.dropped_units = dropped_units;
  s.gate_rate = gate_rate;
  s.gate_limit = gate_limit;
  s.seed = seed;
  routing::Head head;
  {
    const nb::gil_scoped_release release;
    head = routing::train(corpus, targets.data(), frequencies.data(), s);
  }
  const auto rows = static_cast<size_t>(buckets), columns = static_cast<size_t>(dim), classes = targets.shape(1);
  nb::dict result;
  result["embeddings"] = as_numpy(std::move(head.embeddings), {rows, columns});
  result["gates"] = as_numpy(std::move(head.gates), {rows});
  result["weights"] = as_numpy(std::move(head.weights), {classes, kFields * columns});
  result["bias"] = as_numpy(std::move(head.bias), {classes});
  return result;
}

nb::object logits(const Ids& ids, const Bounds& bounds, const Input<float, 2>& embeddings, const Input<float, 1>& gates,
                  const Input<float, 2>& weights, const Input<float, 1>& bias, bool rectified) {
  const auto buckets = static_cast<uint32_t>(embeddings.shape(0));
  const size_t classes = weights.shape(0);
  if (gates.shape(0) != buckets || weights.shape(1) != kFields * embeddings.shape(1) || bias.shape(0) != classes) {
    throw Error("the arrays of the head do not fit together");
  }
  const routing::Corpus corpus = corpus_of(ids, bounds, buckets);
  const auto copy = [](const float* data, size_t size) { return std::vector<float>(data, data + size); };
  std::vector<float> out(corpus.rows * classes);
  const routing::Head head{copy(embeddings.data(), embeddings.size()), copy(gates.data(), buckets), copy(weights.data(), weights.size()),
                           copy(bias.data(), classes)};
  {
    const nb::gil_scoped_release release;
    routing::logits(corpus, head, settings_of(buckets, static_cast<int>(embeddings.shape(1)), static_cast<int>(classes), rectified), out.data());
  }
  return as_numpy(std::move(out), {corpus.rows, classes});
}

}  // namespace

void bind_routing(nb::module_& m) {
  nb::class_<Extraction>(m, "Extractor", "Hashed n-grams of normalised texts.")
      .def(nb::init<uint32_t, int, int>(), nb::arg("buckets"), nb::arg("shortest"), nb::arg("longest"))
      .def("extract", &Extraction::extract, nb::arg("text"), "(words, n-grams, dense), int32 arrays.")
      .def("extract_all", &Extraction::extract_all, nb::arg("texts"), "(ids, bounds, dense) of many texts.");
  m.def("train_head", &train, nb::arg("ids"), nb::arg("bounds"), nb::arg("targets"), nb::arg("frequencies"), nb::kw_only(), nb::arg("buckets"),
        nb::arg("dim"), nb::arg("rectified"), nb::arg("passes"), nb::arg("rate"), nb::arg("dropped"), nb::arg("dropped_units"),
        nb::arg("gate_rate"), nb::arg("gate_limit"), nb::arg("seed"));
  m.def("head_logits", &logits, nb::arg("ids"), nb::arg("bounds"), nb::arg("embeddings"), nb::arg("gates"), nb::arg("weights"), nb::arg("bias"),
        nb::arg("rectified"));
}

}  // namespace edgemoe
