// The variant for every machine, in plain code. Integers over a superblock, then one float step, as all variants do.
#include <cstring>

#include "codes.h"

namespace edgemoe::kernels {
namespace {

// Byte values of one superblock in the order of Activation; `fine` is what level 6 of T16 adds.
struct Values {
  uint8_t coarse[kSuperblock];
  uint8_t fine[kSuperblock];
};

void superblock_values(const Source& source, int64_t row, int64_t superblock, Values* out) {
  std::memset(out, 0, sizeof(*out));
  const int64_t left = source.columns - superblock * kSuperblock;
  const uint8_t* selectors = source.selectors ? source.selectors + 16 * (row * source.superblocks + superblock) : nullptr;
  for (int w = 0; w < kSuperblock && w < left; ++w) {
    const Code code = code_of(source, row, superblock * kSuperblock + w);
    const int at = 64 * (w / 16 % 4) + 16 * (w / 64) + w % 16;
    if (source.full) {
      out->coarse[at] = static_cast<uint8_t>(code.code);
    } else if (source.midpoints) {
      out->coarse[at] = source.midpoints[code.code];
    } else {
      const auto& tables = source.tables->rows;
      out->coarse[at] = tables[source.level == 3 ? 2 : source.level][selectors[w / 16]][code.coarse];
      if (source.level == 3) out->fine[at] = tables[3][selectors[w / 16]][4 * code.base + code.last];
    }
  }
}

int32_t dot(const uint8_t* values, const int8_t* q, int count) {
  int32_t sum = 0;
  for (int i = 0; i < count; ++i) sum += values[i] * q[i];
  return sum;
}

float t16_step(const Source& source, int64_t row, int64_t superblock, const Values& values, const Activation& x) {
  const int8_t* q = x.q + kSuperblock * superblock;
  const int32_t correction = load<int32_t>(x.correction + 4 * superblock);
  const float d = load_half(source.scales + 2 * (row * source.superblocks + superblock)) * load<float>(x.d + 4 * superblock);
  const int32_t coarse = dot(values.coarse, q, kSuperblock) + correction;
  if (source.level < 3) return static_cast<float>(coarse) * d;
  return static_cast<float>(16 * coarse + dot(values.fine, q, kSuperblock) + correction) * (d / 16);
}

float slice_step(const SliceScales& scales, int64_t superblock, const Values& values, const Activation& x) {
  const int8_t* q = x.q + kSuperblock * superblock;
  int32_t sum = 0;
  int32_t minimum = 0;
  for (int g = 0; g < 16; ++g) {
    const int at = 64 * (g % 4) + 16 * (g / 4);
    sum += scales.scale[g] * dot(values.coarse + at, q + at, 16);
    minimum += scales.minimum[g] * load<int16_t>(x.sums + 32 * superblock + 2 * g);
  }
  const float d = load<float>(x.d + 4 * superblock);
  return static_cast<float>(sum) * (scales.d * d) - static_cast<float>(minimum) * (scales.m * d);
}

void multiply(const Source& source, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y,
              const Scratch&) {
  for (int64_t row = begin; row < end; ++row) {
    for (int i = 0; i < count; ++i) y[i][row] = 0;
    for (int64_t s = 0; s < source.superblocks; ++s) {
      Values values;
      superblock_values(source, row, s, &values);
      SliceScales scales{};
      if (source.format != Format::kT16) scales = slice_scales(source, row * source.superblocks + s);
      for (int i = 0; i < count; ++i) {
        const Activation a = Activation::of(x[i], source.superblocks);
        y[i][row] += source.format == Format::kT16 ? t16_step(source, row, s, values, a) : slice_step(scales, s, values, a);
      }
    }
  }
}

// k-quant blocks keep the low bits of codes (four, of Q4_K to Q6_K) and the high ones (none, one, two) apart.
void assemble_q4_q5(const Source& source, int64_t row, int64_t superblock, uint8_t* out) {
  const bool q5 = source.format == Format::kSlicedQ5K;
  std::memcpy(out, source.scales + 16 * (row * source.superblocks + superblock), 16);
  uint8_t* high = out + 16;
  uint8_t* low = out + (q5 ? 48 : 16);
  std::memset(high, 0, q5 ? 160 : 128);
  for (int w = 0; w < kSuperblock; ++w) {
    const int code = code_of(source, row, superblock * kSuperblock + w).code;
    low[w / 64 * 32 + w % 32] |= static_cast<uint8_t>((code & 15) << (w / 32 % 2 * 4));
    if (q5) high[w % 32] |= static_cast<uint8_t>((code >> 4) << (w / 32));
  }
}

void assemble_q6(const Source& source, int64_t row, int64_t superblock, uint8_t* out) {
  std::memset(out, 0, 192);
  std::memcpy(out + 192, source.scales + 18 * (row * source.superblocks + superblock), 18);
  for (int w = 0; w < kSuperblock; ++w) {
    const int code = code_of(source, row, superblock * kSuperblock + w).code;
    const int half = w / 128;
    out[64 * half + w % 64] |= static_cast<uint8_t>((code & 15) << (w / 64 % 2 * 4));
    out[128 + 32 * half + w % 32] |= static_cast<uint8_t>((code >> 4) << (w / 32 % 4 * 2));
  }
}

void assemble(const Source& source, int64_t begin, int64_t end, uint8_t* out) {
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t s = 0; s < source.superblocks; ++s) {
      if (source.format == Format::kSlicedQ6K) {
        assemble_q6(source, row, s, out);
        out += 210;
      } else {
        assemble_q4_q5(source, row, s, out);
        out += source.format == Format::kSlicedQ5K ? 176 : 144;
      }
    }
  }
}

bool available() { return true; }

}  // namespace

const Variant kScalarVariant = {"scalar", available, multiply, assemble};

}  // namespace edgemoe::kernels
