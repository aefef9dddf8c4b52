/// @file loops.h
/// The loops over rows, superblocks and activations that the vector variants share; an Isa says how one superblock is done.
///
/// One activation is multiplied as codes become bytes; of several, a few rows are made into bytes once and multiplied by
/// all. Both take the same integers in the same lanes and the same float steps, so how calls are batched changes no bit.
///
/// An Isa has: Bytes, Ints, Floats (registers); kRows (rows at a time with one activation), kBatchRows and kBatchTokens;
/// selectors<level>(bytes, superblocks, scratch) and choose<level, count>(tables, selectors, stride), whose row(r) goes to
/// t16<level>(tables, planes, place, chosen, blocks, visit(part, index, Bytes)); lookup<bits>(midpoints) and
/// slice<bits>(planes, place, lookup, visit(index, Bytes)); both visit the bytes that meet the activation's bytes from
/// sizeof(Bytes) * index on; hold() and dot() take a superblock of an activation;
/// and the arithmetic below.
#pragma once

#include "bits.h"

#if defined(__clang__)
#define EDGEMOE_UNROLL _Pragma("unroll")
#else
#define EDGEMOE_UNROLL _Pragma("GCC unroll 16")
#endif
#define EDGEMOE_INLINE __attribute__((always_inline)) inline
#define EDGEMOE_LAMBDA __attribute__((always_inline))
#define EDGEMOE_APART __attribute__((noinline))  // big loops, each with the registers to itself

namespace edgemoe::kernels {
namespace {

constexpr int kTokenTile = 128;  // activations whose bytes stay in the second-level cache while all rows pass
// Superblocks between what is asked for and what is in use: of a single stream, and of several into either cache.
constexpr int64_t kAhead = 32;
constexpr int64_t kFarAhead = 128;
constexpr int64_t kNearAhead = 12;

inline int64_t scale_stride(const Source& source) {
  return source.format == Format::kT16 ? 2 : source.format == Format::kSlicedQ6K ? 18 : 16;
}

/// @brief Where a superblock is in 2-bit planes and in 1-bit planes.
struct Place {
  int64_t two_bits;
  int64_t one_bit;

  static EDGEMOE_INLINE Place of(const Source& source, int64_t row, int64_t superblock) {
    return {16 * source.blocks * row + 64 * superblock, source.one_bit_row * row + 32 * superblock};
  }
};

/// @brief Selectors of rows of a matrix, as what they choose where tables are looked up in memory.
template <class Selectors>
struct SelectedRows {
  const Selectors* selectors;
  int64_t stride;

  EDGEMOE_INLINE const Selectors* row(int r) const { return selectors + r * stride; }
};

/// @brief The planes of all rows, which follow one another.
struct Planes {
  const uint8_t* codes[kLevelCount];

  static EDGEMOE_INLINE Planes of(const Source& source) {
    return {{source.codes[0], source.codes[1], source.codes[2], source.codes[3]}};
  }

  // Planes are read once and in order, but as several streams, of which the processor foresees less than of one: all but a single
  // one are asked for twice, early into the second-level cache and shortly before use into the first.
  template <int kBits>
  EDGEMOE_INLINE void foresee(int64_t superblock, bool odd) const {
    if constexpr (kBits == 2) {
      __builtin_prefetch(codes[0] + 64 * (superblock + kAhead));
    } else {
      foresee_at<kBits, 2>(superblock + kFarAhead, odd);
      foresee_at<kBits, 3>(superblock + kNearAhead, odd);
    }
  }

 private:
  // Half a line of a 1-bit plane is a superblock's, so every second call asks for it.
  template <int kBits, int kLocality>
  EDGEMOE_INLINE void foresee_at(int64_t superblock, bool odd) const {
    __builtin_prefetch(codes[0] + 64 * superblock, 0, kLocality);
    if (!odd) __builtin_prefetch(codes[1] + 32 * superblock, 0, kLocality);
    if (kBits >= 4 && !odd) __builtin_prefetch(codes[2] + 32 * superblock, 0, kLocality);
    if (kBits >= 6) __builtin_prefetch(codes[3] + 64 * superblock, 0, kLocality);
  }
};

template <class Isa, int kLevel>
struct T16Kernel {
  using Bytes = typename Isa::Bytes;
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  static constexpr int kBits = kLevels[kLevel];
  static constexpr int kParts = kLevel == 3 ? 2 : 1;

  // Level 6 counts in sixteenths, so its scale is that much smaller.
  static constexpr float kUnit = kLevel == 3 ? 1.0f / 16 : 1.0f;

  // Superblocks of a row in order, of which the last one may be short.
  template <class Step>
  static EDGEMOE_INLINE void walk(const Source& source, Step step) {
    const int64_t full = source.blocks / 4;
    for (int64_t s = 0; s < full; ++s) step(s, 4);
    const int left = static_cast<int>(source.blocks % 4);
    if (left != 0) step(full, left);
  }

  static EDGEMOE_INLINE auto selectors_of(const Source& source, int64_t row, int count, const Scratch& scratch) {
    return Isa::template selectors<kLevel>(source.selectors + 16 * row * source.superblocks, count * source.superblocks, scratch);
  }

  // kCount rows share the loads of the activation.
  template <int kCount>
  static EDGEMOE_APART void one(const Source& source, int64_t row, const Activation& x, float* y, const Scratch& scratch) {
    const T16Tables& tables = *source.tables;
    const Planes planes = Planes::of(source);
    const int64_t stride = source.superblocks;
    const Place rows = Place::of(source, 1, 0);
    const auto* const selectors = selectors_of(source, row, kCount, scratch);
    const uint8_t* const ahead = source.selectors + 16 * (row * stride + kAhead);
    float* const d = scratch.scales;
    Floats sum[kCount];
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) {
      Isa::products(source.scales + 2 * (row + r) * stride, x.d, stride, kUnit, d + r * stride);
      sum[r] = Isa::no_floats();
    }
    walk(source, [&](int64_t s, int blocks) EDGEMOE_LAMBDA {
      const typename Isa::Held q = Isa::hold(x.q + kSuperblock * s);
      const Ints start = Isa::start(x.correction + 4 * s);
      __builtin_prefetch(ahead + 16 * kCount * s);
      const auto chosen = Isa::template choose<kLevel, kCount>(tables, selectors + 16 * s, 16 * stride);
      Place at{rows.two_bits * row + 64 * s, rows.one_bit * row + 32 * s};
      EDGEMOE_UNROLL
      for (int r = 0; r < kCount; ++r, at.two_bits += rows.two_bits, at.one_bit += rows.one_bit) {
        planes.foresee<kBits>(row * stride + kCount * s + r, r % 2 != 0);
        // Two chains of additions for each part, since one is as long as the rest of the work.
        Ints part[2][2] = {{start, Isa::no_ints()}, {start, Isa::no_ints()}};
        Isa::template t16<kLevel>(tables, planes, at, chosen.row(r), blocks, [&](int p, int i, Bytes value) EDGEMOE_LAMBDA {
          part[p][i & 1] = Isa::dot(part[p][i & 1], value, q, i);
        });
        const Ints coarse = Isa::add(part[0][0], part[0][1]);
        const Ints all = kParts == 2 ? Isa::add(Isa::sixteenfold(coarse), Isa::add(part[1][0], part[1][1])) : coarse;
        sum[r] = Isa::step(sum[r], all, d[r * stride + s]);
      }
    });
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) y[row + r] = Isa::total(sum[r]);
  }

  static EDGEMOE_APART void unpack(const Source& source, int64_t row, uint8_t* out, const Scratch& scratch) {
    const Planes planes = Planes::of(source);
    const auto* const selectors = selectors_of(source, row, 1, scratch);
    walk(source, [&](int64_t s, int blocks) EDGEMOE_LAMBDA {
      uint8_t* to = out + s * kParts * kSuperblock;
      const auto chosen = Isa::template choose<kLevel, 1>(*source.tables, selectors + 16 * s, 0);
      Isa::template t16<kLevel>(*source.tables, planes, Place::of(source, row, s), chosen.row(0), blocks, [&](int p, int i, Bytes value) EDGEMOE_LAMBDA {
        Isa::store(to + p * kSuperblock + static_cast<int>(sizeof(Bytes)) * i, value);
      });
    });
  }

  // Adds the products of kCount rows of `values` and kTokens rows of q over one superblock.
  template <int kCount, int kTokens>
  static EDGEMOE_INLINE void dots(const uint8_t* values, int64_t stride, const int8_t* const* q, Ints (&total)[kCount][kTokens]) {
    EDGEMOE_UNROLL
    for (int at = 0; at < kSuperblock; at += static_cast<int>(sizeof(Bytes))) {
      Bytes w[kCount];
      EDGEMOE_UNROLL
      for (int r = 0; r < kCount; ++r) w[r] = Isa::load(values + r * stride + at);
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        EDGEMOE_UNROLL
        for (int r = 0; r < kCount; ++r) total[r][t] = Isa::dot(total[r][t], w[r], q[t] + at);
      }
    }
  }

  template <int kCount, int kTokens>
  static EDGEMOE_APART void block(const Source& source, int64_t row, const uint8_t* const* x, float* const* y,
                                  const Scratch& scratch) {
    const int64_t stride = source.superblocks * kSuperblock * kParts;
    Activation a[kTokens];
    Floats sum[kCount][kTokens];
    EDGEMOE_UNROLL
    for (int t = 0; t < kTokens; ++t) a[t] = Activation::of(x[t], source.superblocks);
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) {
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) sum[r][t] = Isa::no_floats();
    }
    for (int64_t s = 0; s < source.superblocks; ++s) {
      const uint8_t* values = scratch.values + s * kSuperblock * kParts;
      Ints total[kCount][kTokens];
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const Ints start = Isa::start(a[t].correction + 4 * s);
        EDGEMOE_UNROLL
        for (int r = 0; r < kCount; ++r) total[r][t] = start;
      }
      for (int part = 0; part < kParts; ++part) {
        if (part == 1) {
          EDGEMOE_UNROLL
          for (int t = 0; t < kTokens; ++t) {
            const Ints start = Isa::start(a[t].correction + 4 * s);
            EDGEMOE_UNROLL
            for (int r = 0; r < kCount; ++r) total[r][t] = Isa::add(Isa::sixteenfold(total[r][t]), start);
          }
        }
        const int8_t* q[kTokens];
        EDGEMOE_UNROLL
        for (int t = 0; t < kTokens; ++t) q[t] = a[t].q + kSuperblock * s;
        if constexpr (Isa::kMatrix && kCount % 2 == 0 && kTokens % 2 == 0) {
          Isa::dots(values + part * kSuperblock, stride, q, total);
        } else {
          dots(values + part * kSuperblock, stride, q, total);
        }
      }
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        const float dx = load<float>(a[t].d + 4 * s);
        EDGEMOE_UNROLL
        for (int r = 0; r < kCount; ++r) {
          sum[r][t] = Isa::step(sum[r][t], total[r][t], scratch.scales[r * source.superblocks + s] * dx);
        }
      }
    }
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) {
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) y[t][row + r] = Isa::total(sum[r][t]);
    }
  }

  static void prepare(const Source& source, int64_t row, int count, const Scratch& scratch) {
    for (int r = 0; r < count; ++r) {
      unpack(source, row + r, scratch.values + r * source.superblocks * kSuperblock * kParts, scratch);
    }
    Isa::halves(source.scales + 2 * row * source.superblocks, count * source.superblocks, kUnit, scratch.scales);
  }
};

/// @brief Slices of which each weight becomes a byte by `kBits` bits of code.
template <class Isa, int kBits>
struct SliceKernel {
  using Bytes = typename Isa::Bytes;
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  using Scales = typename Isa::Scales;

  static EDGEMOE_INLINE Scales scales(const Source& source, const uint8_t* from) {
    return source.format == Format::kSlicedQ6K ? Isa::scales_q6(from) : Isa::scales_q4(from);
  }

  static EDGEMOE_INLINE Floats finish(Floats sum, Ints total, const Scales& w, const Activation& x, int64_t s, float unit) {
    const float dx = load<float>(x.d + 4 * s);
    sum = Isa::step(sum, total, w.d * unit * dx);
    return Isa::step_back(sum, Isa::minimums(w, x.sums + 32 * s), w.m * dx);
  }

  template <int kCount>
  static EDGEMOE_APART void one(const Source& source, int64_t row, const Activation& x, float* y, const Scratch&) {
    const float unit = slice_unit(source);
    const auto lookup = Isa::template lookup<kBits>(source.midpoints);
    const Planes planes = Planes::of(source);
    const int64_t stride = scale_stride(source);
    Floats sum[kCount];
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) sum[r] = Isa::no_floats();
    for (int64_t s = 0; s < source.superblocks; ++s) {
      const int8_t* q = x.q + kSuperblock * s;
      EDGEMOE_UNROLL
      for (int r = 0; r < kCount; ++r) {
        const int64_t superblock = (row + r) * source.superblocks + s;
        const uint8_t* from = source.scales + superblock * stride;
        const int64_t linear = row * source.superblocks + kCount * s + r;
        planes.foresee<kBits>(linear, r % 2 != 0);
        if (r % 4 == 0) __builtin_prefetch(source.scales + (linear + kAhead) * stride);
        const Scales w = scales(source, from);
        Ints total = Isa::no_ints();
        Isa::template slice<kBits>(planes, {64 * superblock, 32 * superblock}, lookup, [&](int i, Bytes value) EDGEMOE_LAMBDA {
          const Ints partial = Isa::dot(Isa::no_ints(), value, q + static_cast<int>(sizeof(Bytes)) * i);
          total = Isa::weigh(total, partial, w, i);
        });
        sum[r] = finish(sum[r], total, w, x, s, unit);
      }
    }
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) y[row + r] = Isa::total(sum[r]);
  }

  template <int kCount, int kTokens>
  static EDGEMOE_APART void block(const Source& source, int64_t row, const uint8_t* const* x, float* const* y,
                                  const Scratch& scratch) {
    const float unit = slice_unit(source);
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) {
      const uint8_t* values = scratch.values + r * source.superblocks * kSuperblock;
      Activation a[kTokens];
      Floats sum[kTokens];
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) {
        a[t] = Activation::of(x[t], source.superblocks);
        sum[t] = Isa::no_floats();
      }
      for (int64_t s = 0; s < source.superblocks; ++s) {
        const Scales w = scales(source, source.scales + ((row + r) * source.superblocks + s) * scale_stride(source));
        Ints total[kTokens];
        EDGEMOE_UNROLL
        for (int t = 0; t < kTokens; ++t) total[t] = Isa::no_ints();
        EDGEMOE_UNROLL
        for (int i = 0; i < kSuperblock / static_cast<int>(sizeof(Bytes)); ++i) {
          const int at = static_cast<int>(sizeof(Bytes)) * i;
          const Bytes value = Isa::load(values + kSuperblock * s + at);
          EDGEMOE_UNROLL
          for (int t = 0; t < kTokens; ++t) {
            const Ints partial = Isa::dot(Isa::no_ints(), value, a[t].q + kSuperblock * s + at);
            total[t] = Isa::weigh(total[t], partial, w, i);
          }
        }
        EDGEMOE_UNROLL
        for (int t = 0; t < kTokens; ++t) sum[t] = finish(sum[t], total[t], w, a[t], s, unit);
      }
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) y[t][row + r] = Isa::total(sum[t]);
    }
  }

  static void prepare(const Source& source, int64_t row, int count, const Scratch& scratch) {
    const auto lookup = Isa::template lookup<kBits>(source.midpoints);
    uint8_t* out = scratch.values;
    const Planes planes = Planes::of(source);
    const int64_t first = row * source.superblocks;
    for (int64_t s = first; s < first + count * source.superblocks; ++s, out += kSuperblock) {
      Isa::template slice<kBits>(planes, {64 * s, 32 * s}, lookup, [&](int i, Bytes value) EDGEMOE_LAMBDA {
        Isa::store(out + static_cast<int>(sizeof(Bytes)) * i, value);
      });
    }
  }
};

template <class Isa, class Kernel, int kCount>
void multiply_rows(const Source& source, int64_t row, const uint8_t* const* x, int count, float* const* y,
                   const Scratch& scratch) {
  Kernel::prepare(source, row, kCount, scratch);
  int t = 0;
  for (; t + Isa::kBatchTokens <= count; t += Isa::kBatchTokens) {
    Kernel::template block<kCount, Isa::kBatchTokens>(source, row, x + t, y + t, scratch);
  }
  for (; t < count; ++t) Kernel::template block<kCount, 1>(source, row, x + t, y + t, scratch);
}

template <class Isa, class Kernel>
void multiply_one(const Source& source, int64_t begin, int64_t end, const uint8_t* x, float* y, const Scratch& scratch) {
  const Activation a = Activation::of(x, source.superblocks);
  int64_t row = begin;
  for (; row + Isa::kRows <= end; row += Isa::kRows) Kernel::template one<Isa::kRows>(source, row, a, y, scratch);
  for (; row < end; ++row) Kernel::template one<1>(source, row, a, y, scratch);
}

template <class Isa, class Kernel>
void multiply_by(const Source& source, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y,
                 const Scratch& scratch) {
  if (count == 1) return multiply_one<Isa, Kernel>(source, begin, end, x[0], y[0], scratch);
  for (int t = 0; t < count; t += kTokenTile) {
    const int tokens = count - t < kTokenTile ? count - t : kTokenTile;
    int64_t row = begin;
    for (; row + Isa::kBatchRows <= end; row += Isa::kBatchRows) {
      multiply_rows<Isa, Kernel, Isa::kBatchRows>(source, row, x + t, tokens, y + t, scratch);
    }
    for (; row < end; ++row) multiply_rows<Isa, Kernel, 1>(source, row, x + t, tokens, y + t, scratch);
  }
}

template <class Isa>
void multiply_with_isa(const Source& source, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y,
                       const Scratch& scratch) {
  using Multiply = decltype(&multiply_with_isa<Isa>);
  static constexpr Multiply kT16[] = {multiply_by<Isa, T16Kernel<Isa, 0>>, multiply_by<Isa, T16Kernel<Isa, 1>>,
                                      multiply_by<Isa, T16Kernel<Isa, 2>>, multiply_by<Isa, T16Kernel<Isa, 3>>};
  static constexpr Multiply kSlices[] = {multiply_by<Isa, SliceKernel<Isa, 2>>, multiply_by<Isa, SliceKernel<Isa, 3>>,
                                         multiply_by<Isa, SliceKernel<Isa, 4>>, multiply_by<Isa, SliceKernel<Isa, 6>>};
  Multiply chosen = source.format == Format::kT16 ? kT16[source.level] : kSlices[source.level];
  if (source.format == Format::kSlicedQ5K && source.level == 3) chosen = multiply_by<Isa, SliceKernel<Isa, 5>>;
  chosen(source, begin, end, x, count, y, scratch);
}

}  // namespace
}  // namespace edgemoe::kernels
