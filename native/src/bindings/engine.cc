#include "edgemoe/backend/engine.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "edgemoe/backend/device.h"
#include "edgemoe/backend/library_guard.h"
#include "edgemoe/backend/residency_view.h"
#include "bindings.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

std::shared_ptr<Engine> make_engine(std::shared_ptr<ModelFile> model, int io_threads, bool embedding_on_disk, int top_level, double target, bool read_ahead, bool try_ahead, size_t piece,
                                    const std::string& policy, double half_life) {
  EngineSettings settings;
  settings.io_threads = io_threads;
  settings.embedding_on_disk = embedding_on_disk;
  settings.top_level = top_level;
  settings.target = target;
  settings.read_ahead = read_ahead;
  settings.try_ahead = try_ahead;
  settings.cache = {piece, ranking_from_name(policy), half_life};
  return std::make_shared<Engine>(std::move(model), settings);
}

nb::dict stats(const Engine& engine) {
  const EngineStats s = engine.stats();
  nb::dict values;
  values["hits"] = s.hits;
  values["misses"] = s.misses;
  values["bytes_read"] = s.bytes_read;
  values["used_bits"] = s.used_bits;
  values["used_weights"] = s.used_weights;
  values["io_wait"] = s.io_wait;
  values["expert_time"] = s.expert_time;
  values["cache_bytes"] = s.cache_bytes;
  values["resident_bytes"] = s.resident_bytes;
  values["expert_bytes"] = s.expert_bytes;
  return values;
}

nb::list take_trace(Engine& engine) {
  nb::list events;
  for (const RoutingEvent& e : engine.take_trace()) {
    events.append(nb::make_tuple(e.group, e.tokens, nb::cast(e.experts), nb::cast(e.rows), nb::cast(e.hotness)));
  }
  return events;
}

nb::list take_inputs(Engine& engine) {
  nb::list list;
  for (ObservedInput& input : engine.take_inputs()) {
    nb::list names;
    for (const StoredTensor* tensor : input.tensors) names.append(text(tensor->info->name));
    const auto columns = static_cast<size_t>(input.columns);
    const size_t count = input.rows.size() / columns;
    auto* rows = new std::vector<float>(std::move(input.rows));
    nb::capsule owner(rows, [](void* p) noexcept { delete static_cast<std::vector<float>*>(p); });
    list.append(nb::make_tuple(names, input.expert, nb::ndarray<nb::numpy, float>(rows->data(), {count, columns}, owner)));
  }
  return list;
}

nb::list take_weights(Engine& engine) {
  nb::list list;
  for (const ObservedWeights& seen : engine.take_weights()) list.append(nb::make_tuple(seen.group, seen.expert, nb::cast(seen.squares)));
  return list;
}

nb::list groups(Engine& engine) {
  nb::list list;
  for (const ExpertGroup& group : engine.groups()) {
    uint64_t bytes = 0;
    uint32_t experts = 0;
    for (const StoredTensor* tensor : group.members) {
      if (!tensor->live) continue;
      bytes += tensor->expert_bytes();
      experts = tensor->experts();
    }
    list.append(nb::make_tuple(group.name, experts, bytes));
  }
  return list;
}

}  // namespace

void bind_engine(nb::module_& m) {
  using release = nb::call_guard<nb::gil_scoped_release>;
  nb::class_<LibraryGuard>(m, "LibraryGuard", "Collects what llama.cpp logs on this thread and turns its assertions into failures.")
      .def(nb::init<bool>(), nb::arg("quiet") = false)
      .def("close", &LibraryGuard::close)
      .def("errors", [](const LibraryGuard& guard) { return text(guard.errors()); })
      .def("log", [](const LibraryGuard& guard) { return nb::bytes(guard.log().data(), guard.log().size()); });
  nb::class_<Engine>(m, "Engine", "One model's experts on disk and their cache.")
      .def(nb::new_(&make_engine), nb::arg("model"), nb::kw_only(), nb::arg("io_threads"), nb::arg("embedding_on_disk"),
           nb::arg("top_level"), nb::arg("target"), nb::arg("read_ahead"), nb::arg("try_ahead"), nb::arg("piece"), nb::arg("policy"), nb::arg("half_life"))
      .def(
          "begin_load", [](Engine& e, bool planning) { return reinterpret_cast<uintptr_t>(e.begin_load(planning)); },
          nb::arg("planning"), "A FILE* over the model for llama_model_load_from_file_ptr; buffers this thread allocates are the engine's.")
      .def("end_load", &Engine::end_load, nb::arg("loaded"))
      .def("skip", &Engine::skip, nb::arg("tensor"), "Planning: the architecture does not use `tensor`.")
      .def("load_error", [](const Engine& e) { return text(e.load_error()); })
      .def("pattern", &Engine::pattern, "A regular expression for the names of the tensors that stay on disk.")
      .def_static("buffer_type", [] { return reinterpret_cast<uintptr_t>(disk_buffer_type()); })
      .def("minimum_cache", &Engine::minimum_cache, nb::arg("experts_used"))
      .def("full_cache", &Engine::full_cache)
      .def("set_cache", &Engine::set_cache, nb::arg("bytes"), release())
      .def("adapt_reads", [](Engine& engine, int threads, size_t together) { engine.pool().adapt(threads, together); }, nb::arg("threads"), nb::arg("together"))
      .def(
          "attach", [](Engine& e, uintptr_t context, int threads) { e.attach(reinterpret_cast<void*>(context), threads); },
          nb::arg("context"), nb::arg("threads"))
      .def("detach", [](Engine& e, uintptr_t context) { e.detach(reinterpret_cast<void*>(context)); }, nb::arg("context"))
      .def("release_compute", &Engine::release_compute, "Give the memory of the compute buffers back until the next batch.")
      .def("forget_compute_buffer", &Engine::forget_compute_buffer, "Before a batch, and after one that failed.")
      .def("cancel", &Engine::cancel)
      .def("clear_cancel", &Engine::clear_cancel)
      .def_prop_ro("cancelled", &Engine::cancelled)
      .def(
          "raise_error",
          [](Engine& e) {
            if (const std::exception_ptr error = e.take_error()) std::rethrow_exception(error);
          },
          "Raise the error that the last operation kept, if there is one.")
      .def("stats", &stats)
      .def("resident_bits", &resident_bits, "For each of groups(): bits per weight of each expert that are in memory.")
      .def("groups", &groups, "(name, experts, bytes of one expert) of each group that is routed together.")
      .def(
          "observe", [](Engine& e, const std::vector<uint32_t>& groups) { e.observe({groups.begin(), groups.end()}); }, nb::arg("groups"),
          "Keep the inputs of the experts of these groups, by their place in groups(); none ends it.")
      .def("set_levels", &Engine::set_levels, nb::arg("group"), nb::arg("planes"),
           "How many planes of each expert of a group (by its place in groups()) are used from now on; none: all. Between batches.")
      .def("set_target", &Engine::set_target, nb::arg("error"),
           "Wait for planes until a layer's expected relative squared error is at most `error`; 0: for all. Between batches.")
      .def("check_bits", &Engine::check_bits, nb::arg("bits"), "Raises what set_bits() would.")
      .def("head_bits", &Engine::head_bits, "(fewest, most) bits per weight for set_bits(), or None without heads.")
      .def("set_bits", &Engine::set_bits, nb::arg("bits"),
           "Let the pack's heads choose planes, for a mean of `bits` per weight; 0: use all. Between batches.")
      .def("set_token_targets", &Engine::set_token_targets, nb::arg("errors"),
           "set_target() for each token of the next batches of that many tokens; empty: for all alike. Between batches.")
      .def("take_inputs", &take_inputs, "(names of the tensors, expert, float32 [rows, columns]) seen since the last call.")
      .def("take_weights", &take_weights, "(group, expert, squared router weight of each of these rows), inputs being kept.")
      .def("record_trace", &Engine::record_trace, nb::arg("on"))
      .def("take_trace", &take_trace, "(group, tokens, experts, rows, hotness) of each batch and group since the last call.");
}

}  // namespace edgemoe
