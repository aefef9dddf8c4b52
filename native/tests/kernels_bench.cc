// How fast the kernels are, beside ggml's own dot products in the same run. Not a test: nothing is checked.
//
//   kernels_bench [--ggml libggml-cpu.so] [--shape ROWSxCOLUMNS] [--count N] [--threads N] [--memory dram|l2] [--rounds N]
//                 [--only SUBSTRING]
//
// Without options, all shapes, counts, numbers of threads and memories. Each round runs every subject for a moment, one after
// the other; times are of the processor, figures medians over rounds, and so are the ratios to ggml's type of a subject's level.
// EDGEMOE_KERNEL chooses the variant.
#include <dlfcn.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "edgemoe/backend/ggml_abi.h"
#include "edgemoe/error.h"
#include "edgemoe/kernels/planes.h"

namespace edgemoe::kernels {
namespace {

struct Case {
  int64_t rows;
  int64_t columns;
  int count;
  int threads;
  bool dram;
  std::string only;  // a part of the names of the subjects that run
};

// A contiguous array of experts, all alike, whose rows a subject multiplies by activations.
struct Subject {
  std::string name;
  std::string rival;  // the type of ggml beside whose kernels it stands
  size_t bytes = 0;   // of one expert
  std::vector<uint8_t> experts;
  std::function<void(const uint8_t* expert, int64_t begin, int64_t end)> run;
  size_t next = 0;             // expert, where the last round stopped
  std::vector<double> speeds;  // multiplications per second, one for each round
};

uint8_t* aligned(std::vector<uint8_t>& memory) {
  return memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
}

void fill(Subject& subject, const Case& c, const std::vector<uint8_t>& expert) {
  subject.bytes = (expert.size() + 4095) / 4096 * 4096;
  const size_t wanted = c.dram ? size_t{288} << 20 : 1;
  const size_t copies = (wanted + subject.bytes - 1) / subject.bytes;
  subject.experts.reserve(copies * subject.bytes + 64);
  // The cache's slots ask for huge pages, and so does everything here.
  ::madvise(reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(subject.experts.data()) + 4095) / 4096 * 4096), copies * subject.bytes, MADV_HUGEPAGE);
  subject.experts.resize(copies * subject.bytes + 64);
  for (size_t i = 0; i < copies; ++i) std::memcpy(aligned(subject.experts) + i * subject.bytes, expert.data(), expert.size());
}

// Of the calling thread, so that what else the machine does is not counted (except for the memory it keeps busy).
double processor_seconds() {
  timespec now;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Each thread has a share of the rows and goes through the experts in order. The slowest counts.
double run_round(Subject& subject, const Case& c, double macs) {
  const size_t copies = (subject.experts.size() - 64) / subject.bytes;
  const double each = static_cast<double>(c.rows * c.columns) * c.count;
  const int repeats = std::max(1, static_cast<int>(macs / each));
  const size_t first = subject.next;
  subject.next += static_cast<size_t>(repeats);
  std::vector<double> taken(static_cast<size_t>(c.threads));
  const auto share = [&](int thread) {
    const double start = processor_seconds();
    for (int i = 0; i < repeats; ++i) {
      const uint8_t* expert = aligned(subject.experts) + (first + static_cast<size_t>(i)) % copies * subject.bytes;
      subject.run(expert, c.rows * thread / c.threads, c.rows * (thread + 1) / c.threads);
    }
    taken[static_cast<size_t>(thread)] = processor_seconds() - start;
  };
  std::vector<std::thread> others;
  for (int t = 1; t < c.threads; ++t) others.emplace_back(share, t);
  share(0);
  for (std::thread& other : others) other.join();
  return each * repeats / *std::max_element(taken.begin(), taken.end());
}

std::vector<float> random_floats(size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Vectors {
  std::vector<uint8_t> memory;
  std::vector<const uint8_t*> x;
  std::vector<std::vector<float>> results;
  std::vector<float*> y;

  Vectors(const Case& c, size_t bytes) : memory(bytes * static_cast<size_t>(c.count) + 64) {
    for (int i = 0; i < c.count; ++i) {
      x.push_back(aligned(memory) + bytes * static_cast<size_t>(i));
      results.emplace_back(static_cast<size_t>(c.rows));
    }
    for (auto& row : results) y.push_back(row.data());
  }
};

// 2^-8 in place of all scales and minimums keeps sums small.
void set_scales(std::vector<uint8_t>& plane, const PlaneLayout& layout, Format format) {
  const size_t step = format == Format::kT16 ? 2 : format == Format::kSlicedQ6K ? 18 : 16;
  for (size_t at = layout.scales; at + step <= layout.midpoints; at += step) {
    const uint16_t half = 0x1c00;
    if (format == Format::kSlicedQ6K) std::memcpy(plane.data() + at + 16, &half, 2);
    if (format != Format::kSlicedQ6K) std::memcpy(plane.data() + at, &half, 2);
    if (format == Format::kSlicedQ4K || format == Format::kSlicedQ5K) std::memcpy(plane.data() + at + 2, &half, 2);
  }
}

const T16Tables& some_tables() {
  static const auto tables = [] {
    auto made = std::make_unique<T16Tables>();
    std::mt19937 random(2);
    for (auto& level : made->rows) {
      for (auto& row : level) {
        for (uint8_t& entry : row) entry = static_cast<uint8_t>(1 + random() % 127);
      }
    }
    made->arrange();
    return made;
  }();
  return *tables;
}

// One expert at a level: its planes one after another.
std::vector<uint8_t> make_planes(const Case& c, Format format, int level, std::vector<size_t>* offsets) {
  std::mt19937 random(3);
  std::vector<uint8_t> expert;
  for (int i = 0; i <= level; ++i) {
    const PlaneLayout layout = plane_layout(format, i, c.rows, c.columns, false);
    std::vector<uint8_t> plane(layout.bytes);
    for (uint8_t& byte : plane) byte = static_cast<uint8_t>(random());
    if (i == 0) set_scales(plane, layout, format);
    if (i == 0) {
      for (size_t m = layout.midpoints; m < layout.biases; ++m) plane[m] &= 127;
      const float gains[] = {1.1f, 1.02f, 1.01f, 1.0f};
      std::memcpy(plane.data() + layout.midpoints + kGainsAt, gains, sizeof(gains));
    }
    offsets->push_back(expert.size());
    expert.insert(expert.end(), plane.begin(), plane.end());
    expert.resize((expert.size() + 4095) / 4096 * 4096);
  }
  return expert;
}

std::shared_ptr<Vectors> make_activations(const Case& c) {
  auto vectors = std::make_shared<Vectors>(c, activation_bytes(c.columns));
  const std::vector<float> floats = random_floats(static_cast<size_t>(c.columns));
  for (const uint8_t* x : vectors->x) convert_activation(floats.data(), c.columns, const_cast<uint8_t*>(x));
  return vectors;
}

void add_ours(std::vector<std::unique_ptr<Subject>>& subjects, const Case& c, Format format, int level,
              const std::string& name, const std::string& rival) {
  subjects.push_back(std::make_unique<Subject>());
  Subject& subject = *subjects.back();
  subject.name = name;
  subject.rival = rival;
  std::vector<size_t> offsets;
  fill(subject, c, make_planes(c, format, level, &offsets));
  subject.run = [=, vectors = make_activations(c)](const uint8_t* expert, int64_t begin, int64_t end) {
    Matrix matrix;
    matrix.format = format;
    matrix.rows = c.rows;
    matrix.columns = c.columns;
    matrix.tables = &some_tables();
    for (size_t i = 0; i < offsets.size(); ++i) matrix.planes[i] = expert + offsets[i];
    multiply(matrix, level, begin, end, vectors->x.data(), c.count, vectors->y.data());
  };
}

void add_assembly(std::vector<std::unique_ptr<Subject>>& subjects, const Case& c, Format format, const std::string& name,
                  size_t block) {
  subjects.push_back(std::make_unique<Subject>());
  Subject& subject = *subjects.back();
  subject.name = name;
  std::vector<size_t> offsets;
  fill(subject, c, make_planes(c, format, last_level(format, true), &offsets));
  const size_t row = static_cast<size_t>(c.columns) / 256 * block;
  auto out = std::make_shared<std::vector<uint8_t>>(row * static_cast<size_t>(c.rows));
  subject.run = [=](const uint8_t* expert, int64_t begin, int64_t end) {
    Matrix matrix;
    matrix.format = format;
    matrix.rows = c.rows;
    matrix.columns = c.columns;
    for (size_t i = 0; i < offsets.size(); ++i) matrix.planes[i] = expert + offsets[i];
    assemble(matrix, begin, end, out->data() + row * static_cast<size_t>(begin));
  };
}

// ggml's layout for its fastest kernels: eight rows, or four activations, block by block. Their contents do not matter for the speed.
struct Repacked {
  using Multiply = void (*)(int n, float* y, size_t stride, const void* rows, const void* x, int count, int row_count);
  Multiply one = nullptr;
  Multiply four = nullptr;  // or a multiple of it
  size_t block = 0;         // bytes of 256 weights of one row
};

// ggml's library, as far as its kernels go.
struct Ggml {
  const ggml::CpuTypeTraits* (*traits)(ggml::Type) = nullptr;
  size_t (*row_size)(ggml::Type, int64_t) = nullptr;
  void* library = nullptr;

  explicit Ggml(const std::string& path) {
    const std::string base = path.substr(0, path.rfind('/') + 1) + "libggml-base.so";
    void* const first = ::dlopen(base.c_str(), RTLD_NOW | RTLD_GLOBAL);
    library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!first || !library) throw Error(::dlerror());
    reinterpret_cast<void (*)()>(::dlsym(library, "ggml_cpu_init"))();
    traits = reinterpret_cast<decltype(traits)>(::dlsym(library, "ggml_get_type_traits_cpu"));
    row_size = reinterpret_cast<decltype(row_size)>(::dlsym(first, "ggml_row_size"));
  }

  Repacked repacked(const std::string& type, size_t block) const {
    const auto find = [&](const char* kind) {
      return reinterpret_cast<Repacked::Multiply>(::dlsym(library, ("ggml_" + (kind + type) + "_8x8_q8_K").c_str()));
    };
    return {find("gemv_"), find("gemm_"), block};
  }
};

void add_ggml(std::vector<std::unique_ptr<Subject>>& subjects, const Case& c, const Ggml& ggml, const std::string& name,
              ggml::Type type) {
  subjects.push_back(std::make_unique<Subject>());
  Subject& subject = *subjects.back();
  subject.name = name;
  const ggml::CpuTypeTraits& traits = *ggml.traits(type);
  const size_t row = ggml.row_size(type, c.columns);
  std::vector<uint8_t> expert(row * static_cast<size_t>(c.rows));
  const std::vector<float> floats = random_floats(static_cast<size_t>(c.columns));
  traits.from_float(floats.data(), expert.data(), c.columns);
  for (size_t r = 1; r < static_cast<size_t>(c.rows); ++r) std::memcpy(expert.data() + r * row, expert.data(), row);
  fill(subject, c, expert);
  auto vectors = std::make_shared<Vectors>(c, (ggml.row_size(traits.vec_dot_type, c.columns) + 63) / 64 * 64);
  const auto convert = ggml.traits(traits.vec_dot_type)->from_float;
  for (const uint8_t* x : vectors->x) convert(floats.data(), const_cast<uint8_t*>(x), c.columns);
  const int n = static_cast<int>(c.columns);
  subject.run = [=, dot = traits.vec_dot](const uint8_t* weights, int64_t begin, int64_t end) {
    constexpr int64_t kTile = 16;  // rows and activations at a time, as in ggml's own loop
    for (int64_t tile = begin; tile < end; tile += kTile) {
      for (int t0 = 0; t0 < c.count; t0 += kTile) {
        for (int64_t t = t0; t < std::min<int64_t>(t0 + kTile, c.count); ++t) {
          for (int64_t r = tile; r < std::min(tile + kTile, end); ++r) {
            dot(n, vectors->y[static_cast<size_t>(t)] + r, 0, weights + row * static_cast<size_t>(r), 0,
                vectors->x[static_cast<size_t>(t)], 0, 1);
          }
        }
      }
    }
  };
}

constexpr size_t kInputBlock = 292;  // of 256 activations

std::vector<uint8_t> with_scales(size_t blocks, size_t bytes, size_t scales, uint16_t half) {
  std::mt19937 random(4);
  std::vector<uint8_t> made(blocks * bytes);
  for (uint8_t& byte : made) byte = static_cast<uint8_t>(random());
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t i = 0; i < scales; ++i) std::memcpy(made.data() + b * bytes + 2 * i, &half, 2);
  }
  return made;
}

void add_repacked(std::vector<std::unique_ptr<Subject>>& subjects, const Case& c, const std::string& name, const Repacked& repacked) {
  if (!repacked.one || !repacked.four) return;
  subjects.push_back(std::make_unique<Subject>());
  Subject& subject = *subjects.back();
  subject.name = name;
  const size_t blocks = static_cast<size_t>(c.columns) / 256;
  fill(subject, c, with_scales(blocks * static_cast<size_t>(c.rows) / 8, 8 * repacked.block, 16, 0x1c00));
  // Floats of 0x3c003c00 in place of the four, or one, scales of a block of activations.
  auto inputs = std::make_shared<std::vector<uint8_t>>(
      with_scales(blocks * static_cast<size_t>(c.count == 1 ? 1 : c.count / 4), c.count == 1 ? kInputBlock : 4 * kInputBlock, c.count == 1 ? 2 : 8, 0x3c00));
  auto results = std::make_shared<std::vector<float>>(static_cast<size_t>(c.rows) * static_cast<size_t>(c.count));
  subject.run = [=](const uint8_t* rows, int64_t begin, int64_t end) {
    begin = begin / 8 * 8;
    end = end / 8 * 8;
    (c.count == 1 ? repacked.one : repacked.four)(static_cast<int>(c.columns), results->data() + begin, static_cast<size_t>(c.rows),
                                                  rows + static_cast<size_t>(begin) * blocks * repacked.block, inputs->data(), c.count,
                                                  static_cast<int>(end - begin));
  };
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

std::string ratios_to(const Subject& subject, const std::vector<std::unique_ptr<Subject>>& all) {
  std::string found;
  for (const auto& rival : all) {
    if (subject.rival.empty() || (rival->name != "ggml " + subject.rival && rival->name != "repacked " + subject.rival)) continue;
    std::vector<double> ratios;
    for (size_t i = 0; i < subject.speeds.size(); ++i) ratios.push_back(subject.speeds[i] / rival->speeds[i]);
    char text[64];
    std::snprintf(text, sizeof(text), "  %.2f x %s", median(ratios), rival->name.c_str());
    found += text;
  }
  return found;
}

void measure(const Case& c, const Ggml* ggml, int rounds) {
  std::vector<std::unique_ptr<Subject>> subjects;
  add_ours(subjects, c, Format::kT16, 0, "T16 level 2", "Q2_K");
  add_ours(subjects, c, Format::kT16, 1, "T16 level 3", "Q3_K");
  add_ours(subjects, c, Format::kT16, 2, "T16 level 4", "Q4_K");
  add_ours(subjects, c, Format::kT16, 3, "T16 level 6", "Q4_K");
  add_ours(subjects, c, Format::kSlicedQ4K, 0, "Q4_K slices, level 2", "Q2_K");
  add_ours(subjects, c, Format::kSlicedQ4K, 1, "Q4_K slices, level 3", "Q3_K");
  add_ours(subjects, c, Format::kSlicedQ4K, 2, "Q4_K slices, all", "Q4_K");
  add_ours(subjects, c, Format::kSlicedQ6K, 2, "Q6_K slices, level 4", "Q4_K");
  if (c.count == 1) {
    add_assembly(subjects, c, Format::kSlicedQ4K, "assemble Q4_K", 144);
    add_assembly(subjects, c, Format::kSlicedQ5K, "assemble Q5_K", 176);
    add_assembly(subjects, c, Format::kSlicedQ6K, "assemble Q6_K", 210);
  }
  if (ggml) {
    add_ggml(subjects, c, *ggml, "ggml Q2_K", 10);
    add_ggml(subjects, c, *ggml, "ggml Q3_K", 11);
    add_ggml(subjects, c, *ggml, "ggml Q4_K", 12);
    add_ggml(subjects, c, *ggml, "ggml Q4_0", 2);
    add_ggml(subjects, c, *ggml, "ggml IQ4_XS", 23);
    add_repacked(subjects, c, "repacked Q2_K", ggml->repacked("q2_K", 84));
    add_repacked(subjects, c, "repacked Q4_K", ggml->repacked("q4_K", 144));
  }
  const auto unwanted = [&](const auto& subject) { return subject->name.find(c.only) == std::string::npos; };
  subjects.erase(std::remove_if(subjects.begin(), subjects.end(), unwanted), subjects.end());
  const double macs = c.count == 1 ? 4e8 : 1e9;
  for (int round = 0; round < rounds; ++round) {
    for (const auto& subject : subjects) subject->speeds.push_back(run_round(*subject, c, macs));
  }
  std::printf("\n%lld rows of %lld, %d at a time, %d thread%s, %s\n", static_cast<long long>(c.rows),
              static_cast<long long>(c.columns), c.count, c.threads, c.threads == 1 ? "" : "s",
              c.dram ? "from DRAM" : "in cache");
  for (const auto& subject : subjects) {
    const double speed = median(subject->speeds);
    const double bytes = static_cast<double>(subject->bytes) / (static_cast<double>(c.rows * c.columns) * c.count);
    std::printf("  %-22s %7.1f GMAC/s %7.1f GB/s%s\n", subject->name.c_str(), speed * 1e-9, speed * bytes * 1e-9,
                ratios_to(*subject, subjects).c_str());
  }
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  std::unique_ptr<Ggml> ggml;
  std::vector<std::pair<int64_t, int64_t>> shapes = {{2048, 768}, {768, 2048}, {2048, 1024}, {1024, 2048}};
  std::vector<int> counts = {1, 64, 512};
  std::vector<int> threads = {1, 2};
  std::vector<bool> memories = {true, false};
  int rounds = 9;
  std::string only;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--ggml") ggml = std::make_unique<Ggml>(value);
    if (name == "--shape") shapes = {{std::stoll(value), std::stoll(value.substr(value.find('x') + 1))}};
    if (name == "--count") counts = {std::stoi(value)};
    if (name == "--threads") threads = {std::stoi(value)};
    if (name == "--memory") memories = {value == "dram"};
    if (name == "--only") only = value;
    if (name == "--rounds") rounds = std::stoi(value);
  }
  std::printf("variant %s\n", variant());
  for (const auto& [rows, columns] : shapes) {
    for (const bool dram : memories) {
      for (const int count : counts) {
        if (dram && count > 64) continue;
        // A quarter of the rows stays in the second-level cache.
        for (const int n : threads) measure({dram ? rows : rows / 4, columns, count, n, dram, only}, ggml.get(), rounds);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace edgemoe::kernels

int main(int argc, char** argv) { return edgemoe::kernels::run(argc, argv); }
