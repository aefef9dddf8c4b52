// Which variant runs, and what is common to all: arguments, gains, biases and the memory they work in.
#include <cstdlib>
#include <string>
#include <vector>

#include "bits.h"
#include "edgemoe/error.h"

namespace edgemoe::kernels {
namespace {

const Variant* find_variant() {
  const char* wanted = std::getenv("EDGEMOE_KERNEL");
  std::string names;
  for (const Variant* const* v = variants(); *v; ++v) {
    if (!(*v)->available()) continue;
    if (!wanted || !*wanted || (*v)->name == std::string(wanted)) return *v;
    names += std::string(names.empty() ? "" : ", ") + (*v)->name;
  }
  throw Error("EDGEMOE_KERNEL is " + std::string(wanted) + ", but this machine has " + names);
}

const Variant& chosen() {
  static const Variant* const variant = find_variant();
  return *variant;
}

Scratch scratch_for(int64_t superblocks) {
  thread_local std::vector<uint8_t> memory;
  const size_t weights = static_cast<size_t>(superblocks) * kSuperblock * kMaxBatchRows;
  const size_t scales = (static_cast<size_t>(superblocks) * 4 * kMaxBatchRows + 63) / 64 * 64;
  const size_t bytes = weights * kMaxParts + scales + static_cast<size_t>(superblocks) * 32 * kMaxBatchRows + 64;
  if (memory.size() < bytes) memory.resize(bytes);
  uint8_t* aligned = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  uint8_t* rest = aligned + weights * kMaxParts;
  return {aligned, reinterpret_cast<float*>(rest), reinterpret_cast<uint16_t*>(rest + scales)};
}

void check_rows(const Source& source, int64_t begin, int64_t end) {
  if (begin < 0 || begin > end || end > source.rows) {
    throw Error("rows " + std::to_string(begin) + " to " + std::to_string(end) + " are not of a matrix of " +
                std::to_string(source.rows) + " rows");
  }
}

void apply_gain(float gain, int64_t begin, int64_t end, int count, float* const* y) {
  if (gain == 1) return;
  for (int i = 0; i < count; ++i) {
    float* const rows = y[i];
    for (int64_t row = begin; row < end; ++row) rows[row] *= gain;
  }
}

}  // namespace

const Variant* const* variants() {
  static const Variant* const all[] = {
#if defined(EDGEMOE_KERNELS_X86)
      &kAvx512Variant, &kAvx2Variant,
#elif defined(EDGEMOE_KERNELS_ARM64)
      &kNeonI8mmVariant, &kNeonDotprodVariant, &kNeonVariant,
#endif
      &kScalarVariant, nullptr};
  return all;
}

const char* variant() { return chosen().name; }

void multiply_with(const Variant& variant, const Matrix& matrix, int level, int64_t begin, int64_t end, const uint8_t* const* x,
                   int count, float* const* y) {
  const Source source = resolve(matrix, level);
  check_rows(source, begin, end);
  if (begin == end || count <= 0) return;
  variant.multiply(source, begin, end, x, count, y, scratch_for(source.superblocks));
  apply_gain(source.gain, begin, end, count, y);
  if (!source.biases) return;
  for (int64_t row = begin; row < end; ++row) {
    const float bias = load_half(source.biases + 2 * row);
    for (int i = 0; i < count; ++i) y[i][row] += bias;
  }
}

void assemble_with(const Variant& variant, const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out) {
  if (matrix.format == Format::kT16) throw Error("T16 planes are no slices: nothing can be assembled from them");
  const Source source = resolve(matrix, kLevelCount - 1);
  check_rows(source, begin, end);
  variant.assemble(source, begin, end, out);
}

void multiply(const Matrix& matrix, int level, int64_t begin, int64_t end, const uint8_t* const* x, int count,
              float* const* y) {
  multiply_with(chosen(), matrix, level, begin, end, x, count, y);
}

void assemble(const Matrix& matrix, int64_t begin, int64_t end, uint8_t* out) {
  assemble_with(chosen(), matrix, begin, end, out);
}

}  // namespace edgemoe::kernels
