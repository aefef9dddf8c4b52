/// @file engine.h
/// One loaded model: its expert tensors on disk, their cache, and what happens to both.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/backend/lookahead.h"
#include "edgemoe/backend/model_file.h"
#include "edgemoe/backend/observer.h"
#include "edgemoe/backend/virtual_file.h"
#include "edgemoe/cache/plane_cache.h"
#include "edgemoe/schedule/bits.h"
#include "edgemoe/schedule/trial.h"
#include "edgemoe/store/copy_reader.h"
#include "edgemoe/store/read_pool.h"

namespace edgemoe {

class Engine;

/// @brief A tensor of the model that lives in our buffer: what ggml's `extra` pointer leads to.
struct StoredTensor {
  Engine* engine = nullptr;
  const TensorInfo* info = nullptr;
  bool rows = false;         ///< an embedding whose rows are read on demand; otherwise a stack of experts
  bool live = false;         ///< llama.cpp has created it; tensors that an architecture skips never are
  uint32_t first_plane = 0;  ///< of expert 0; the others follow
  uint32_t levels = 1;       ///< planes of an expert, the base first; more than one only in packs
  uint32_t group = 0;        ///< layer and family (exps, chexps...) that route together
  const std::vector<uint8_t>* chosen = nullptr;  ///< of its group: planes used of each expert; empty: all

  /// @brief How many planes of an expert are used.
  uint32_t levels_of(uint32_t expert) const { return chosen->empty() ? levels : std::min<uint32_t>(levels, (*chosen)[expert]); }
  uint32_t plane(uint32_t expert, uint32_t level = 0) const { return first_plane + expert * levels + level; }
  uint32_t experts() const { return static_cast<uint32_t>(info->ne[2]); }
  /// @brief Bytes on disk of one expert, in the planes that are used.
  uint64_t expert_bytes() const;
};

/// @brief Experts that are routed by the same ids: a layer, or one of its families.
struct ExpertGroup {
  std::string name;  ///< as routing_group() gives it
  std::vector<StoredTensor*> members;
  std::vector<const StoredTensor*> executed;  ///< since the last batch began
  uint32_t levels = 1;                        ///< the most planes of any member
  std::vector<uint8_t> planes;                ///< used of each expert; empty: all
  const std::vector<float>* errors = nullptr;  ///< of a pack: [experts][levels of the pack]
  const LevelHead* head = nullptr;             ///< of a pack that has heads
  std::vector<uint64_t> plane_bytes;           ///< of one expert, by level
  uint64_t weights = 0;                        ///< of one expert

  uint32_t experts() const { return members.front()->experts(); }
};

struct EngineSettings {
  int io_threads = 8;
  bool embedding_on_disk = false;
  int top_level = kernels::kLevelCount - 1;  ///< of packs: planes above it are not used
  bool read_ahead = true;  ///< experts that the next layer's router will probably choose
  bool try_ahead = true;   ///< only where trials say that it pays, and upgrades, too; else always
  double target = 0;       ///< see set_target()
  CacheSettings cache;
};

/// @brief Counters since the engine was created. Times are in seconds.
struct EngineStats {
  uint64_t hits = 0;    ///< distinct routed experts per group and batch that were wholly in memory
  uint64_t misses = 0;  ///< and those that were not
  uint64_t bytes_read = 0;
  double io_wait = 0;
  double expert_time = 0;  ///< inside expert operations, waiting included
  uint64_t cache_bytes = 0;
  uint64_t resident_bytes = 0;
  uint64_t expert_bytes = 0;  ///< slots for every expert of the model
  uint64_t used_bits = 0;     ///< of the weights that routed rows were multiplied by
  uint64_t used_weights = 0;  ///< and how many these were
};

class Engine {
 public:
  Engine(std::shared_ptr<const ModelFile> model, const EngineSettings& settings);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelFile& model() const { return *_model; }
  ReadPool& pool() { return _pool; }

  // Loading. Between begin_load and end_load, buffers that this thread allocates belong to this engine.
  /// @param planning a pass that allocates nothing: every tensor counts as live except those that skip() names.
  std::FILE* begin_load(bool planning);
  void skip(const std::string& tensor);
  /// @param loaded whether llama.cpp holds a model now: if it does not, the tensors it had created are gone.
  void end_load(bool loaded);
  static Engine* loading();
  std::string load_error() const;

  /// @brief A regular expression for the names of the tensors that stay on disk.
  std::string pattern() const;
  /// @brief Links `tensor` to its place on disk, and takes its name away until end_load(), for llama.cpp's loader leaves
  /// a tensor alone that it does not find in the file by its name. @returns false when the model file has no such tensor.
  bool adopt(ggml::Tensor* tensor);

  /// @brief Creates the cache (first call) or resizes it. @returns the bytes of its slots.
  uint64_t set_cache(uint64_t bytes);
  /// @brief The smallest cache: the working set of the largest layer for `experts_used` experts a token.
  uint64_t minimum_cache(uint32_t experts_used);
  uint64_t full_cache();

  /// @brief Shares one persistent thread pool between a llama_context and the expert operations.
  void attach(void* llama_context, int threads);
  void detach(void* llama_context);

  /// @brief Gives the memory of the compute buffers back to the system, and that of ggml's work: between batches they hold nothing of
  /// value.
  /// Not while the context computes.
  void release_compute();

  void cancel() { _cancelled = true; }
  void clear_cancel() { _cancelled = false; }
  bool cancelled() const { return _cancelled.load(std::memory_order_relaxed); }
  std::function<bool()> abort_function() {
    return [this] { return cancelled(); };
  }

  /// @brief Keeps the first error of an operation for the thread that asked for it.
  void set_error(std::exception_ptr error);
  /// @brief The kept error, or null; forgets it.
  std::exception_ptr take_error();

  EngineStats stats() const;
  void record_trace(bool on);
  /// @brief The routing seen since the last call.
  std::vector<RoutingEvent> take_trace();
  std::vector<ExpertGroup>& groups() { return _groups; }
  /// @brief Planes of packs are waited for until the expected relative squared error of a layer is at most `error`, from the next
  /// batch on; 0: all planes, always.
  void set_target(double error);
  /// @brief The same for each token of the batches that have as many tokens as this has entries, in the order in which the backend
  /// sees them; empty: set_target() holds for all. A token's expert is used at the most planes that any token of its batch asks for, so
  /// that a plane is read and unpacked once.
  void set_token_targets(const std::vector<double>& errors);
  /// @brief Planes are chosen by the heads of the pack, for a mean of `bits` per weight on text like that of the
  /// calibration (planes that are in memory come on top), from the next batch on. set_target() ends it.
  /// @throws Error the pack has no heads, or cannot be used at a mean of so many bits.
  void set_bits(double bits);
  void check_bits(double bits) const { price_of(bits); }
  /// @brief The fewest and the most bits per weight that set_bits() takes; nothing without heads.
  std::optional<std::pair<double, double>> head_bits() const;
  /// @brief Whether planes are chosen for each batch.
  bool chooses() const { return (_settings.target > 0 || _priced || !_token_targets.empty()) && _model->pack(); }
  /// @brief From now on, of expert e of a group only the first `planes[e]` planes are used; empty: all. Between batches.
  void set_levels(uint32_t group, const std::vector<uint8_t>& planes);
  /// @brief Keeps the inputs of the experts of these groups (indices into groups()) from now on; none: no more.
  void observe(const std::set<uint32_t>& groups);
  /// @brief The inputs seen since the last call.
  std::vector<ObservedInput> take_inputs();
  /// @brief The squared router weights of these rows.
  std::vector<ObservedWeights> take_weights();

  // For the executor.
  PlaneCache& cache();
  Observer* observer() const { return _observer.get(); }
  /// @brief Whether all planes of an expert's matrix that are used are in memory.
  bool resident(const StoredTensor& tensor, uint32_t expert) const;
  ggml::ThreadPool* thread_pool() const { return _thread_pool; }
  /// @brief A pool for a worker thread of the shared pool to run a graph by itself.
  ggml::ThreadPool* single_thread_pool(int worker) { return _single_pools.at(static_cast<size_t>(worker)); }
  double tokens() const { return _tokens; }
  /// @brief Once per batch and group, whichever of its tensors is executed first: chooses planes and counts the routing.
  /// @param input what the tensor is multiplied by. @returns whether this was the first.
  bool enter(const StoredTensor& tensor, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed);
  /// @brief Reads what this group's other tensors will use, and the group after it probably, for the tokens of `ids`. A lease may be
  /// open.
  void read_ahead(uint32_t group, const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed);
  void add_expert_time(double seconds) { _expert_time = _expert_time + seconds; }
  /// @brief Remembers a buffer that graphs compute in, for release_compute().
  void note_compute_buffer(const ggml::Buffer* buffer);
  /// @brief Remembers what ggml works in besides, which only ever grows: for as many rows of attention as a prompt's batch has. While the
  /// thread pool computes.
  void note_work_buffer();
  /// @brief Forgets it: the next batch may free it.
  void forget_compute_buffer() { _compute_base = nullptr; }
  /// @brief Reads rows of an embedding to `dst`, one after the other.
  void read_rows(const StoredTensor& tensor, const std::vector<int32_t>& rows, uint8_t* dst);

 private:
  void list_tensors();
  void create_cache();
  void list_planes(ExpertGroup& group) const;
  Lookahead& lookahead();
  uint32_t resident_planes(const ExpertGroup& group, uint32_t expert) const;
  ExpertBits bits(const ExpertGroup& group, uint32_t expert, double hotness, uint32_t resident) const;
  void choose(ExpertGroup& group, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed);
  void touch(const ExpertGroup& group, const std::vector<RoutedExpert>& routed);
  void plan_rest(const ExpertGroup& group, const std::vector<RoutedExpert>& routed);
  void choose_for_batch();
  double price_of(double bits) const;
  // Hotness of routed experts as _price counts it: squared router weights times what the head says, on average over an expert's rows.
  const std::vector<double>& losses(const LevelHead& head, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed);
  void choose_by_token(const ggml::Tensor* ids, const std::vector<RoutedExpert>& routed);
  double strictest_target() const;
  void choose_upgrade(const ExpertGroup& group);
  void observe_weights(uint32_t group, const ggml::Tensor* ids, const ggml::Tensor* input, const std::vector<RoutedExpert>& routed);
  void time_step(int64_t tokens);
  void plan_next(uint32_t next, const std::vector<PredictedExpert>& predicted);

  std::shared_ptr<const ModelFile> _model;
  EngineSettings _settings;
  ReadPool _pool;
  std::unique_ptr<VirtualFile> _load_file;
  std::string _load_error;
  std::vector<std::pair<ggml::Tensor*, const StoredTensor*>> _nameless;
  std::unordered_map<std::string, std::unique_ptr<StoredTensor>> _stored;
  std::vector<ExpertGroup> _groups;
  std::unique_ptr<PlaneCache> _cache;
  std::unique_ptr<Lookahead> _lookahead;
  // Of one batch and group; kept for their memory.
  std::vector<uint32_t> _planes_ahead;
  std::vector<ExpertBits> _bits;
  std::vector<double> _token_targets;
  bool _priced = false;  // planes are worth a price, as set_bits() wants it
  double _price = 0;
  std::vector<double> _losses;
  std::vector<PlaneRead> _reads;
  std::vector<uint8_t> _chosen;  // planes used of each routed expert
  std::vector<uint8_t> _wanted;  // planes that would be read if none were in memory
  PlaneRead _upgrade{};          // expert and plane of a group that mend most for their bytes; plane 0: none
  uint32_t _upgrade_group = 0;   // the group entered last
  Trial _ahead_pays;             // reading ahead of what the next layer will use
  Trial _upgrades_pay;           // idle reads of planes that no target asks for; tried when the other trial is over
  std::chrono::steady_clock::time_point _step_began;
  bool _step_timed = false;  // the batch before this one was small enough to read ahead
  std::unique_ptr<Observer> _observer;
  std::unique_ptr<CopyReader> _row_reader;
  uint8_t* _compute_base = nullptr;
  size_t _compute_size = 0;
  uint8_t* _work_base = nullptr;
  size_t _work_size = 0;
  ggml::ThreadPool* _thread_pool = nullptr;
  std::vector<ggml::ThreadPool*> _single_pools;
  std::atomic<bool> _cancelled{false};
  std::mutex _error_mutex;
  std::exception_ptr _error;
  mutable std::mutex _stats_mutex;
  uint64_t _hits = 0;
  uint64_t _misses = 0;
  uint64_t _used_bits = 0;
  uint64_t _used_weights = 0;
  double _tokens = 0;
  std::atomic<double> _expert_time{0};
  bool _tracing = false;
  std::vector<RoutingEvent> _trace;
};

}  // namespace edgemoe
