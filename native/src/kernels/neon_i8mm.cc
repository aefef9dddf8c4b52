// NEON with matrix products of bytes (ARMv8.6, Apple M2, Neoverse V1 and N2 and later) for several activations at a time.
#include "neon.h"

namespace edgemoe::kernels {
namespace {

struct NeonI8mm : Neon {
  static constexpr int kBatchTokens = 4;
  static constexpr bool kMatrix = true;

  // Adds the products of kCount rows of `values` and kTokens rows of q. A matrix product takes two of each, 8 bytes long.
  template <int kCount, int kTokens>
  static EDGEMOE_INLINE void dots(const uint8_t* values, int64_t stride, const int8_t* const* q, Ints (&total)[kCount][kTokens]) {
    Ints pairs[kCount / 2][kTokens / 2];
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; ++r) {
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; ++t) pairs[r / 2][t / 2] = no_ints();
    }
    for (int at = 0; at < kSuperblock; at += 16) {
      int8x16_t w[kCount];
      int8x16_t x[kTokens];
      EDGEMOE_UNROLL
      for (int r = 0; r < kCount; r += 2) pair(values + r * stride + at, values + (r + 1) * stride + at, w + r);
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; t += 2) {
        pair(reinterpret_cast<const uint8_t*>(q[t] + at), reinterpret_cast<const uint8_t*>(q[t + 1] + at), x + t);
      }
      EDGEMOE_UNROLL
      for (int r = 0; r < kCount; ++r) {
        EDGEMOE_UNROLL
        for (int t = 0; t < kTokens; t += 2) pairs[r / 2][t / 2] = vmmlaq_s32(pairs[r / 2][t / 2], w[r], x[t + r % 2]);
      }
    }
    EDGEMOE_UNROLL
    for (int r = 0; r < kCount; r += 2) {
      EDGEMOE_UNROLL
      for (int t = 0; t < kTokens; t += 2) {
        const Ints sums = pairs[r / 2][t / 2];
        total[r][t] = add(total[r][t], alone(vgetq_lane_s32(sums, 0)));
        total[r][t + 1] = add(total[r][t + 1], alone(vgetq_lane_s32(sums, 1)));
        total[r + 1][t] = add(total[r + 1][t], alone(vgetq_lane_s32(sums, 2)));
        total[r + 1][t + 1] = add(total[r + 1][t + 1], alone(vgetq_lane_s32(sums, 3)));
      }
    }
  }

 private:
  static EDGEMOE_INLINE void pair(const uint8_t* first, const uint8_t* second, int8x16_t* out) {
    const uint64x2_t a = vreinterpretq_u64_u8(vld1q_u8(first));
    const uint64x2_t b = vreinterpretq_u64_u8(vld1q_u8(second));
    out[0] = vreinterpretq_s8_u64(vzip1q_u64(a, b));
    out[1] = vreinterpretq_s8_u64(vzip2q_u64(a, b));
  }

  static EDGEMOE_INLINE Ints alone(int32_t sum) { return vsetq_lane_s32(sum, no_ints(), 0); }
};

}  // namespace

const Variant kNeonI8mmVariant = {"neon-i8mm", has_matrix_products, multiply_with_isa<NeonI8mm>, Assembler<NeonLane>::assemble};

}  // namespace edgemoe::kernels
