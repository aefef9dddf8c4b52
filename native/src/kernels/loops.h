/// @file loops.h
/// The loops over rows, superblocks and activations that the vector variants share; an Isa says how one superblock is done.
///
/// One activation is multiplied as codes become bytes; of several, a few rows are made into bytes once and multiplied by
/// all. Both take the same integers in the same lanes and the same float steps, so how calls are batched changes no bit.
///
/// An Isa has: Bytes, Ints, Floats (registers); kRows (rows at a time with one activation), kBatchRows and kBatchTokens;
/// t16<level>(row, superblock, blocks, visit(part, index, Bytes)) and slice<bits>(row, superblock, lookup, visit(index,
/// Bytes)), which give the bytes that meet the activation's bytes from sizeof(Bytes) * index on; and the arithmetic below.
#pragma once

#include "bits.h"

#if defined(__clang__)
#define EDGEMOE_UNROLL _Pragma("unroll")
#else
#define EDGEMOE_UNROLL _Pragma("GCC unroll 16")
#endif
#define EDGEMOE_INLINE __attribute__((always_inline)) inline
#ifndef EDGEMOE_AHEAD
#define EDGEMOE_AHEAD 32
#endif
#define EDGEMOE_LAMBDA __attribute__((always_inline))

namespace edgemoe::kernels {
namespace {

constexpr int kTokenTile = 128;  // activations whose bytes stay in the second-level cache while all rows pass

inline int64_t code_stride(const Source& source, int level) {
  return level == 0 || (level == 3 && source.format != Format::kSlicedQ5K) ? 16 : 8;
}

inline int64_t scale_stride(const Source& source) {
  return source.format == Format::kT16 ? 2 : source.format == Format::kSlicedQ6K ? 18 : 16;
}

/// @brief Where a superblock's planes are. Rows follow one another, so it goes on from row to row.
struct Cursor {
  const uint8_t* codes[kLevelCount];
  const uint8_t* selectors;
  const uint8_t* scales;

  static EDGEMOE_INLINE Cursor at(const Source& source, int64_t row) {
    Cursor result{};
    for (int i = 0; i <= source.level; ++i) result.codes[i] = source.codes[i] + row * source.blocks * code_stride(source, i);
    if (source.selectors) result.selectors = source.selectors + row * source.superblocks * 16;
    result.scales = source.scales + row * source.superblocks * scale_stride(source);
    return result;
  }

  // Planes are read once and in order, but as several streams, of which the processor foresees less than of one.
  template <int kLevel>
  EDGEMOE_INLINE void foresee() const {
    constexpr int kAhead = EDGEMOE_AHEAD;
    __builtin_prefetch(codes[0] + 64 * kAhead);
    if constexpr (kLevel >= 1) __builtin_prefetch(codes[1] + 32 * kAhead);
    if constexpr (kLevel >= 2) __builtin_prefetch(codes[2] + 32 * kAhead);
    if constexpr (kLevel >= 3) __builtin_prefetch(codes[3] + 64 * kAhead);
    __builtin_prefetch(selectors + 16 * kAhead);
  }

  template <int kLevel>
  EDGEMOE_INLINE void pass(int blocks) {
    codes[0] += 16 * blocks;
    if constexpr (kLevel >= 1) codes[1] += 8 * blocks;
    if constexpr (kLevel >= 2) codes[2] += 8 * blocks;
    if constexpr (kLevel >= 3) codes[3] += 16 * blocks;
    selectors += 16;
  }
};

inline int blocks_in(const Source& source, int64_t superblock) {
  const int64_t left = source.blocks - 4 * superblock;
  return left < 4 ? static_cast<int>(left) : 4;
}

template <class Isa, int kLevel>
struct T16Kernel {
  using Bytes = typename Isa::Bytes;
  using Ints = typename Isa::Ints;
  using Floats = typename Isa::Floats;
  static constexpr int kParts = kLevel == 3 ? 2 : 1;

  // Level 6 counts in sixteenths, so its scale is that much smaller.
  static constexpr float kUnit = kLevel == 3 ? 1.0f / 16 : 1.0f;

  // All superblocks of the row that the cursor is at; the last one may be short.
  template <class Step>
  static EDGEMOE_INLINE void walk(const Source& source, Cursor* cursor, Step step) {
    const int64_t full = source.blocks / 4;
    for (int64_t s = 0; s < full; ++s) {
      step(s, 4);
      cursor->template pass<kLevel>(4);
    }
    const int left = static_cast<int>(source.blocks % 4);
    if (left == 0) return;
    step(full, left);
    cursor->template pass<kLevel>(left);
  }

  static void one(const Source& source, int64_t begin, int64_t end, const Activation& x, float* y, float* d) {
    Cursor cursor = Cursor::at(source, begin);
    const T16Tables& tables = *source.tables;
    for (int64_t row = begin; row < end; ++row) {
      Isa::products(source.scales + 2 * row * source.superblocks, x.d, source.superblocks, kUnit, d);
      Floats sum = Isa::no_floats();
      walk(source, &cursor, [&](int64_t s, int blocks) EDGEMOE_LAMBDA {
        const int8_t* q = x.q + kSuperblock * s;
        cursor.template foresee<kLevel>();
        Ints part[2] = {Isa::start(x.correction + 4 * s), Isa::start(x.correction + 4 * s)};
        Isa::template t16<kLevel>(tables, cursor, blocks, [&](int p, int i, Bytes value) EDGEMOE_LAMBDA {
          part[p] = Isa::dot(part[p], value, q + static_cast<int>(sizeof(Bytes)) * i);
        });
        sum = Isa::step(sum, kParts == 2 ? Isa::add(Isa::sixteenfold(part[0]), part[1]) : part[0], d[s]);
      });
      y[row] = Isa::total(sum);
    }
  }

  static void unpack(const Source& source, int64_t row, uint8_t* out) {
    Cursor cursor = Cursor::at(source, row);
    walk(source, &cursor, [&](int64_t s, int blocks) EDGEMOE_LAMBDA {
      uint8_t* to = out + s * kParts * kSuperblock;
      Isa::template t16<kLevel>(*source.tables, cursor, blocks, [&](int p, int i, Bytes value) EDGEMOE_LAMBDA {
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
  static void block(const Source& source, int64_t row, const uint8_t* const* x, float* const* y, const Scratch& scratch) {
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
      unpack(source, row + r, scratch.values + r * source.superblocks * kSuperblock * kParts);
      Isa::halves(source.scales + 2 * (row + r) * source.superblocks, source.superblocks, kUnit, scratch.scales + r * source.superblocks);
    }
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

  static void one(const Source& source, int64_t begin, int64_t end, const Activation& x, float* y, float*) {
    const float unit = slice_unit(source);
    const Bytes lookup = Isa::lookup(source.midpoints);
    Cursor cursor = Cursor::at(source, begin);
    for (int64_t row = begin; row < end; ++row) {
      Floats sum = Isa::no_floats();
      for (int64_t s = 0; s < source.superblocks; ++s) {
        const int8_t* q = x.q + kSuperblock * s;
        foresee(cursor);
        const Scales w = scales(source, cursor.scales);
        Ints total = Isa::no_ints();
        Isa::template slice<kBits>(cursor, lookup, [&](int i, Bytes value) EDGEMOE_LAMBDA {
          const Ints partial = Isa::dot(Isa::no_ints(), value, q + static_cast<int>(sizeof(Bytes)) * i);
          total = Isa::weigh(total, partial, w, i);
        });
        sum = finish(sum, total, w, x, s, unit);
        pass(source, &cursor);
      }
      y[row] = Isa::total(sum);
    }
  }

  static EDGEMOE_INLINE void foresee(const Cursor& cursor) {
    constexpr int kAhead = EDGEMOE_AHEAD;
    __builtin_prefetch(cursor.codes[0] + 64 * kAhead);
    if constexpr (kBits >= 3) __builtin_prefetch(cursor.codes[1] + 32 * kAhead);
    if constexpr (kBits >= 4) __builtin_prefetch(cursor.codes[2] + 32 * kAhead);
    __builtin_prefetch(cursor.scales + 16 * kAhead);
  }

  static EDGEMOE_INLINE void pass(const Source& source, Cursor* cursor) {
    cursor->codes[0] += 64;
    if constexpr (kBits >= 3) cursor->codes[1] += 32;
    if constexpr (kBits >= 4) cursor->codes[2] += 32;
    if constexpr (kBits >= 5) cursor->codes[3] += kBits == 5 ? 32 : 64;
    cursor->scales += scale_stride(source);
  }

  template <int kCount, int kTokens>
  static void block(const Source& source, int64_t row, const uint8_t* const* x, float* const* y, const Scratch& scratch) {
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
    const Bytes lookup = Isa::lookup(source.midpoints);
    uint8_t* out = scratch.values;
    Cursor cursor = Cursor::at(source, row);
    for (int64_t s = 0; s < count * source.superblocks; ++s, out += kSuperblock, pass(source, &cursor)) {
      Isa::template slice<kBits>(cursor, lookup, [&](int i, Bytes value) EDGEMOE_LAMBDA {
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
void multiply_by(const Source& source, int64_t begin, int64_t end, const uint8_t* const* x, int count, float* const* y,
                 const Scratch& scratch) {
  if (count == 1) return Kernel::one(source, begin, end, Activation::of(x[0], source.superblocks), y[0], scratch.scales);
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
