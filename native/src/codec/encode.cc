#include "edgemoe/codec/encode.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "bit_planes.h"
#include "edgemoe/error.h"
#include "half.h"
#include "parallel.h"
#include "row_encoder.h"

namespace edgemoe::codec {

using kernels::Format;
using kernels::PlaneLayout;

namespace {

constexpr int64_t kRowsAtOnce = 16;
constexpr float kSmallestImportance = 1e-4f;  // of the mean: channels that calibration never saw still count a little
constexpr float kLargestWeight = kLargest * kLargestHalf;

int64_t blocks_of(int64_t columns) { return (columns + kBlock - 1) / kBlock; }
int64_t superblocks_of(int64_t columns) { return (columns + kSuperblock - 1) / kSuperblock; }

void check_sizes(const MatrixInput& input, const EncodeSettings& settings) {
  if (input.rows < 1) throw Error("a matrix has at least one row, not " + std::to_string(input.rows));
  if (input.columns < 32 || input.columns % 32 != 0) {
    throw Error("a row has " + std::to_string(input.columns) + " weights; T16 needs a multiple of 32");
  }
  if (settings.threads < 1) throw Error("encoding needs at least one thread, not " + std::to_string(settings.threads));
  if (settings.levels < 1 || settings.levels > kernels::kLevelCount) {
    throw Error("T16 has 1 to 4 levels, not " + std::to_string(settings.levels));
  }
}

void check_row(const float* weights, int64_t row, int64_t columns) {
  bool fit = true;
  for (int64_t c = 0; c < columns; ++c) fit &= std::abs(weights[c]) <= kLargestWeight;  // false for a NaN
  if (fit) return;
  for (int64_t c = 0; c < columns; ++c) {
    if (std::abs(weights[c]) <= kLargestWeight) continue;
    throw Error("the weight in row " + std::to_string(row) + ", column " + std::to_string(c) + " is " + std::to_string(weights[c]) +
                "; T16 holds finite values up to " + std::to_string(static_cast<int>(kLargestWeight)));
  }
}

std::vector<float> searched_importance(const float* importance, int64_t columns) {
  std::vector<float> result(columns, 1.0f);
  if (!importance) return result;
  double sum = 0;
  for (int64_t c = 0; c < columns; ++c) {
    if (!(importance[c] >= 0) || !std::isfinite(importance[c])) {
      throw Error("the importance of column " + std::to_string(c) + " is " + std::to_string(importance[c]) +
                  "; it has to be finite and 0 or more");
    }
    sum += importance[c];
  }
  const double mean = sum / static_cast<double>(columns);
  if (mean > 0) {
    for (int64_t c = 0; c < columns; ++c) result[c] = std::max(static_cast<float>(importance[c] / mean), kSmallestImportance);
  }
  return result;
}

void check_feedback(const MatrixInput& input) {
  for (int64_t c = 0; input.feedback && c < input.columns; ++c) {
    const float pivot = input.feedback[c * input.columns + c];
    if (pivot > 0 && std::isfinite(pivot)) continue;
    throw Error("the factor of the Hessian has " + std::to_string(pivot) + " for column " + std::to_string(c) +
                " on its diagonal, which has to be finite and more than 0");
  }
}

void check_means(const MatrixInput& input) {
  for (int64_t c = 0; input.mean_input && c < input.columns; ++c) {
    if (std::isfinite(input.mean_input[c])) continue;
    throw Error("the mean input of column " + std::to_string(c) + " is " + std::to_string(input.mean_input[c]) + "; it has to be finite");
  }
}

}  // namespace

RowChoice::RowChoice(int64_t columns)
    : scales(superblocks_of(columns)),
      selectors(superblocks_of(columns) * kGroups),
      codes(blocks_of(columns) * kBlock),
      last_codes(blocks_of(columns) * kBlock) {}

EncodeJob::EncodeJob(const MatrixInput& matrix, const Tables& rows, const EncodeSettings& how)
    : input(matrix),
      tables(rows),
      settings(how),
      search(codebooks(rows), how.weights),
      importance(searched_importance(matrix.importance, matrix.columns)),
      sums(matrix.rows) {
  planes.levels = how.levels;
  for (int level = 0; level < how.levels; ++level) {
    const size_t bytes = kernels::plane_layout(Format::kT16, level, input.rows, input.columns, how.biased_levels >> level & 1).bytes;
    planes.planes[level] = Bytes::of_size(bytes);
    std::fill_n(planes.planes[level].data.get(), bytes, uint8_t{0});
  }
}

float EncodeJob::value(const RowChoice& row, int64_t c, int level) const {
  const int selector = row.selectors[c / kGroup];
  const int code = row.codes[c];
  float entry = search.books().of[std::min(level, 2)][selector][code];
  if (level == 3) entry += tables.level6[selector][(code >> 2) * 4 + row.last_codes[c]] / 16.0f;
  return from_half(row.scales[c / kSuperblock]) * entry;
}

uint8_t last_code(const Tables& tables, int selector, int code, float target) {
  const float rest = (target - tables.level4[selector][code]) * 16.0f;
  const int8_t* entries = tables.level6[selector] + (code >> 2) * 4;
  int best = 0;
  for (int k = 1; k < 4; ++k) {
    if (std::abs(rest - entries[k]) < std::abs(rest - entries[best])) best = k;
  }
  return static_cast<uint8_t>(best);
}

void EncodeJob::finish_row(int64_t r, const RowChoice& row) {
  const int64_t columns = input.columns, blocks = blocks_of(columns), superblocks = superblocks_of(columns);
  for (int level = 0; level < settings.levels; ++level) {
    const bool biased = settings.biased_levels >> level & 1;
    const PlaneLayout at = kernels::plane_layout(Format::kT16, level, input.rows, columns, biased);
    uint8_t* plane = planes.planes[level].data.get();
    if (level == 0) {
      pack_two_bits(row.codes.data(), blocks, 2, plane + at.codes + r * kernels::code_bytes(blocks, true));
      std::copy(row.selectors.begin(), row.selectors.end(), plane + at.selectors + r * superblocks * kGroups);
      std::memcpy(plane + at.scales + r * superblocks * 2, row.scales.data(), superblocks * 2);
    } else if (level == 3) {
      pack_two_bits(row.last_codes.data(), blocks, 0, plane + at.codes + r * kernels::code_bytes(blocks, true));
    } else {
      pack_one_bit(row.codes.data(), blocks, 2 - level, plane + at.codes + r * kernels::code_bytes(blocks, false));
    }
    add_up(r, row, level);
  }
}

void EncodeJob::add_up(int64_t r, const RowChoice& row, int level) {
  const float* weights = input.weights + r * input.columns;
  Loss& loss = sums[r].losses[level];
  double mean = 0, lost_of_mean = 0;
  for (int64_t c = 0; c < input.columns; ++c) {
    const double w = weights[c], h = input.importance ? input.importance[c] : 1.0;
    const double lost = w - value(row, c, level);
    loss.total += w * w * h;
    loss.squares += lost * lost * h;
    loss.along += w * lost * h;
    if (input.mean_input) {
      mean += w * input.mean_input[c];
      lost_of_mean += lost * input.mean_input[c];
    }
  }
  sums[r].mean_product = mean;
  sums[r].lost_of_mean[level] = lost_of_mean;
}

void EncodeJob::finish() {
  float gains[kernels::kLevelCount] = {1, 1, 1, 1};
  for (int level = 0; level < settings.levels; ++level) {
    Loss loss, products;
    for (const RowSums& row : sums) {
      loss.add(row.losses[level]);
      products.add(row.products[level]);
    }
    gains[level] = gain_of(input.feedback ? products : loss);
    planes.errors[level] = error_of(loss, gains[level]);
    if (settings.biased_levels >> level & 1) write_biases(level, gains[level]);
  }
  const bool biased = settings.biased_levels & 1;
  const PlaneLayout base = kernels::plane_layout(Format::kT16, 0, input.rows, input.columns, biased);
  std::memcpy(planes.planes[0].data.get() + base.midpoints + kernels::kGainsAt, gains, sizeof(gains));
}

void EncodeJob::write_biases(int level, double gain) {
  const PlaneLayout at = kernels::plane_layout(Format::kT16, level, input.rows, input.columns, true);
  for (int64_t r = 0; r < input.rows; ++r) {
    const double bias = (1 - gain) * sums[r].mean_product + gain * sums[r].lost_of_mean[level];
    const uint16_t half = to_half(std::clamp(static_cast<float>(bias), -kLargestHalf, kLargestHalf));
    std::memcpy(planes.planes[level].data.get() + at.biases + r * 2, &half, 2);
  }
}

void encode_rows(EncodeJob& job, int64_t begin, int64_t end) {
  const int64_t columns = job.input.columns;
  RowChoice row(columns);
  for (int64_t r = begin; r < end; ++r) {
    const float* weights = job.input.weights + r * columns;
    for (int64_t c = 0, s = 0; c < columns; c += kSuperblock, ++s) {
      const int64_t count = std::min<int64_t>(columns - c, kSuperblock);
      Superblock chosen;
      search_kernels().encode_superblock(job.search, weights + c, job.importance.data() + c, static_cast<int>(count / kGroup), chosen);
      row.scales[s] = chosen.d;
      std::copy_n(chosen.selectors, kGroups, row.selectors.begin() + s * kGroups);
      std::copy_n(chosen.codes, count, row.codes.begin() + c);
      const float d = from_half(chosen.d);
      if (job.settings.levels <= 3 || d == 0) {
        std::fill_n(row.last_codes.begin() + c, count, uint8_t{0});
        continue;
      }
      for (int64_t i = c; i < c + count; ++i) {
        row.last_codes[i] = last_code(job.tables, row.selectors[i / kGroup], row.codes[i], weights[i] / d);
      }
    }
    job.finish_row(r, row);
  }
}

PlaneSet encode(const MatrixInput& input, const Tables& tables, const EncodeSettings& settings) {
  check_sizes(input, settings);
  check_tables(tables);
  check_means(input);
  check_feedback(input);
  EncodeJob job(input, tables, settings);
  const int64_t jobs = (input.rows + kRowsAtOnce - 1) / kRowsAtOnce;
  parallel_for(jobs, settings.threads, [&](int64_t i) {
    const int64_t begin = i * kRowsAtOnce, end = std::min(input.rows, begin + kRowsAtOnce);
    for (int64_t r = begin; r < end; ++r) check_row(input.weights + r * input.columns, r, input.columns);
    if (input.feedback) {
      encode_rows_with_feedback(job, begin, end);
    } else {
      encode_rows(job, begin, end);
    }
  });
  job.finish();
  return std::move(job.planes);
}

}  // namespace edgemoe::codec
