#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "edgemoe/backend/ggml_api.h"
#include "edgemoe/backend/library_guard.h"
#include "edgemoe/error.h"
#include "edgemoe/schedule/replay.h"
#include "edgemoe/store/file.h"
#include "bindings.h"

namespace nb = nanobind;

namespace edgemoe {
namespace {

// One line, whatever names a damaged file gave to what it is about.
std::string printable(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') c = '?';
  }
  return message;
}

void translate(const std::exception_ptr& thrown, void*) {
  const auto raise = [](const char* name, const std::exception& e) {
    const nb::object type = nb::module_::import_("edgemoe.errors").attr(name);
    PyErr_SetObject(type.ptr(), text(printable(e.what())).ptr());
  };
  try {
    std::rethrow_exception(thrown);
  } catch (const IoError& e) {
    raise("ReadError", e);
  } catch (const ModelError& e) {
    raise("ModelError", e);
  } catch (const BudgetError& e) {
    raise("BudgetError", e);
  } catch (const Error& e) {
    raise("EdgeMoEError", e);
  }
}

using Events = std::vector<std::tuple<uint32_t, uint32_t, std::vector<uint32_t>, std::vector<uint32_t>, std::vector<double>>>;

std::vector<RoutingEvent> routing_events(const Events& events) {
  std::vector<RoutingEvent> list;
  for (const auto& [group, tokens, experts, rows, hotness] : events) list.push_back({group, tokens, experts, rows, hotness});
  return list;
}

nb::tuple replay_routing(const Events& events, const std::vector<uint32_t>& experts_per_group, size_t capacity, const std::string& policy,
                         double half_life, size_t warmup) {
  const ReplayResult result = replay(routing_events(events), experts_per_group, capacity, ranking_from_name(policy), half_life, warmup);
  return nb::make_tuple(result.hits, result.misses);
}

nb::tuple replay_of_planes(const Events& events, const std::vector<std::pair<std::vector<uint64_t>, std::vector<float>>>& groups,
                           uint64_t capacity, double target, double half_life, size_t warmup) {
  std::vector<PlaneGroup> list;
  for (const auto& [bytes, errors] : groups) list.push_back({bytes, errors});
  const PlaneReplayResult r = replay_planes(routing_events(events), list, capacity, target, half_life, warmup);
  return nb::make_tuple(r.bytes_read, r.bytes_used, r.bytes_whole, r.error / static_cast<double>(std::max<uint64_t>(r.events, 1)));
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "edgemoe's native core: the ggml backend, the plane cache and the readers.";
  nb::register_exception_translator(translate);

  m.def(
      "bind_library",
      [](uintptr_t handle) {
        ggml::bind_api(reinterpret_cast<void*>(handle));
        ggml::check_api();
        install_library_hooks();
      },
      nb::arg("handle"), "Take the functions of the loaded llama library and check that they behave as expected.");
  m.def(
      "load_backend",
      [](const std::string& path) {
        if (!ggml::api().ggml_backend_load(path.c_str())) throw Error("ggml refuses to load the backend " + path);
      },
      nb::arg("path"), "Register the backend in the shared object `path` with ggml.");
  m.def("library_version", [] { return std::string(ggml::api().ggml_version()); });
  m.def(
      "set_read_fault",
      [](uint64_t bytes_per_second, uint64_t fail_after_bytes, uint64_t truncate_at) {
        set_read_fault({bytes_per_second, fail_after_bytes, truncate_at});
      },
      nb::kw_only(), nb::arg("bytes_per_second") = 0, nb::arg("fail_after_bytes") = 0, nb::arg("truncate_at") = 0,
      "Throttle or break every later read of this process; without arguments, stop doing so.");
  m.def("replay", &replay_routing, nb::arg("events"), nb::arg("experts_per_group"), nb::arg("capacity"), nb::arg("policy"),
        nb::arg("half_life"), nb::arg("warmup"));
  m.def("replay_planes", &replay_of_planes, nb::arg("events"), nb::arg("groups"), nb::arg("capacity"), nb::arg("target"),
        nb::arg("half_life"), nb::arg("warmup"),
        "(bytes read, used, and used if all planes were; mean error) of groups that are (bytes of each plane, errors by expert and plane).");
  bind_model(m);
  bind_engine(m);
  bind_machine(m);
  bind_codec(m);
  bind_routing(m);
}

}  // namespace edgemoe
