// Every variant that this machine has against plain arithmetic on dequantized weights, and against the scalar one.
#include "edgemoe/error.h"
#include "edgemoe/kernels/processor.h"
#include "kernels_fixture.h"

namespace edgemoe::kernels {
namespace {

struct Expected {
  double value = 0;
  double magnitude = 0;  ///< sum of the magnitudes of what is added
};

double half_value(const uint8_t* from) {
  uint16_t half;
  std::memcpy(&half, from, sizeof(half));
  const int exponent = half >> 10 & 31;
  const int mantissa = half & 0x3ff;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

Expected expected(const Matrix& matrix, int level, int64_t row, const std::vector<double>& x) {
  std::vector<float> weights(static_cast<size_t>(matrix.columns));
  dequantize(matrix, level, row, row + 1, weights.data());
  Expected result;
  for (size_t c = 0; c < weights.size(); ++c) {
    result.value += static_cast<double>(weights[c]) * x[c];
    result.magnitude += std::fabs(static_cast<double>(weights[c]) * x[c]);
  }
  if (matrix.format == Format::kT16 && (matrix.biased_levels >> level & 1)) {
    const PlaneLayout layout = plane_layout(matrix.format, level, matrix.rows, matrix.columns, true);
    const double bias = half_value(matrix.planes[level] + layout.biases + 2 * row);
    result.value += bias;
    result.magnitude += std::fabs(bias);
  }
  return result;
}

// Slices subtract minimums from scaled codes, which may be much larger than what is left of them.
double cancelled(const Matrix& matrix, Data data, double magnitude) {
  if (matrix.format == Format::kT16) return 0;
  return data == Data::kRandom ? magnitude * 1e-5 : static_cast<double>(matrix.columns) * 4 * 65504 * 64 * 64 * 1e-7;
}

void compare(const Matrix& matrix, int level, Data data, const RandomActivations& x) {
  const auto scalar = product(kScalarVariant, matrix, level, 0, matrix.rows, x.rows);
  for (const Variant* variant : available_variants()) {
    const auto y = product(*variant, matrix, level, 0, matrix.rows, x.rows);
    for (size_t i = 0; i < x.rows.size(); ++i) {
      for (int64_t r = 0; r < matrix.rows; ++r) {
        const size_t row = static_cast<size_t>(r);
        const Expected e = expected(matrix, level, r, x.values[i]);
        const double slack = e.magnitude * 2e-6 + cancelled(matrix, data, e.magnitude);
        ASSERT_NEAR(y[i][row], e.value, slack) << variant->name << " level " << level << " row " << r;
        ASSERT_NEAR(y[i][row], scalar[i][row], slack) << variant->name << " level " << level << " row " << r;
      }
    }
  }
}

TEST(KernelsMultiply, AgreesWithDequantizedWeights) {
  uint32_t seed = 1;
  for (const Format format : kFormats) {
    for (const int64_t columns : {32, 64, 96, 256, 288, 768, 1408, 2048, 2880}) {
      if (format != Format::kT16 && columns % 256 != 0) continue;
      for (const Data data : {Data::kRandom, Data::kExtreme}) {
        ++seed;
        const RandomMatrix m(format, 1 + columns % 7, columns, data, seed, seed % 2 ? 0x5 : 0xa);
        for (int level = 0; level <= last_level(format, true); ++level) {
          compare(m.matrix, level, data, RandomActivations(1 + static_cast<int>(seed % 3), columns, data, seed));
        }
      }
    }
  }
}

TEST(KernelsMultiply, GivesTheSameBitsHoweverItIsBatched) {
  for (const Format format : kFormats) {
    const int64_t columns = format == Format::kT16 ? 1408 : 768;
    const RandomMatrix m(format, 13, columns, Data::kRandom, 7, 0x4);
    const RandomActivations x(131, columns, Data::kRandom, 8);
    for (const Variant* variant : available_variants()) {
      for (int level = 0; level <= last_level(format, true); ++level) {
        const auto whole = product(*variant, m.matrix, level, 0, 13, x.rows);
        for (const size_t count : {1u, 2u, 3u, 7u, 64u}) {
          for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 13}, {1, 2}, {3, 10}, {12, 13}, {5, 5}}) {
            const size_t first = x.rows.size() - count;
            const std::vector<const uint8_t*> some(x.rows.begin() + static_cast<long>(first), x.rows.end());
            const auto part = product(*variant, m.matrix, level, begin, end, some);
            for (size_t i = 0; i < count; ++i) {
              for (int64_t r = 0; r < 13; ++r) {
                const size_t row = static_cast<size_t>(r);
                if (r < begin || r >= end) {
                  ASSERT_TRUE(std::isnan(part[i][row])) << variant->name << " wrote row " << r;
                } else {
                  ASSERT_EQ(part[i][row], whole[first + i][row]) << variant->name << " level " << level << " count " << count;
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST(KernelsMultiply, GivesTheSameBitsForManyActivations) {
  const RandomMatrix m(Format::kT16, 5, 288, Data::kRandom, 9);
  const RandomActivations x(300, 288, Data::kRandom, 10);
  for (const Variant* variant : available_variants()) {
    const auto whole = product(*variant, m.matrix, 2, 0, 5, x.rows);
    for (size_t i = 0; i < x.rows.size(); ++i) {
      ASSERT_EQ(product(*variant, m.matrix, 2, 0, 5, {x.rows[i]})[0], whole[i]) << variant->name;
    }
  }
}

TEST(KernelsMultiply, RefusesWhatIsNotThere) {
  const RandomMatrix m(Format::kT16, 5, 288, Data::kRandom, 9);
  const RandomActivations x(1, 288, Data::kRandom, 10);
  Matrix partial = m.matrix;
  partial.planes[1] = nullptr;
  EXPECT_NO_THROW(product(kScalarVariant, partial, 0, 0, 5, x.rows));
  EXPECT_THROW(product(kScalarVariant, partial, 2, 0, 5, x.rows), Error);
  EXPECT_THROW(product(kScalarVariant, m.matrix, 4, 0, 5, x.rows), Error);
  EXPECT_THROW(product(kScalarVariant, m.matrix, 0, 0, 6, x.rows), Error);
  partial = m.matrix;
  partial.tables = nullptr;
  EXPECT_THROW(product(kScalarVariant, partial, 0, 0, 5, x.rows), Error);
}

TEST(KernelsMultiply, RefusesGainsThatNoPackHas) {
  for (const Format format : kFormats) {
    RandomMatrix m(format, 5, 512, Data::kRandom, 9);
    const RandomActivations x(1, 512, Data::kRandom, 10);
    const size_t midpoints = plane_layout(format, 0, 5, 512, false).midpoints;
    std::vector<uint8_t> base(plane_layout(format, 0, 5, 512, false).bytes);
    std::memcpy(base.data(), m.matrix.planes[0], midpoints + kGainsAt + 12);
    m.matrix.planes[0] = base.data();
    for (const float gain : {0.49f, 2.1f, -1.0f, 0.0f, std::nanf(""), INFINITY}) {
      std::memcpy(base.data() + midpoints + kGainsAt + 4, &gain, sizeof(gain));
      EXPECT_NO_THROW(product(kScalarVariant, m.matrix, 0, 0, 5, x.rows));
      EXPECT_THROW(product(kScalarVariant, m.matrix, 1, 0, 5, x.rows), ModelError) << gain;
    }
    for (const float gain : {0.5f, 2.0f}) {
      std::memcpy(base.data() + midpoints + kGainsAt + 4, &gain, sizeof(gain));
      EXPECT_NO_THROW(product(kScalarVariant, m.matrix, 1, 0, 5, x.rows));
    }
  }
}

TEST(KernelsMultiply, HasAVariant) {
  bool found = false;
  for (const Variant* v : available_variants()) found = found || v->name == std::string(variant());
  EXPECT_TRUE(found);
}

TEST(KernelsMultiply, VariantsNeedFeaturesThatAreTold) {
  const std::vector<std::string> features = processor_features();
  const auto told = [&](const char* name) { return std::find(features.begin(), features.end(), name) != features.end(); };
  for (const Variant* v : available_variants()) {
    const std::string name = v->name;
    EXPECT_TRUE(name == "scalar" || told(name.substr(0, 4) == "neon" ? "neon" : "avx2")) << name;
    EXPECT_TRUE(name != "neon-dotprod" || told("dotprod"));
    EXPECT_TRUE(name != "neon-i8mm" || (told("dotprod") && told("i8mm")));
  }
}

}  // namespace
}  // namespace edgemoe::kernels
