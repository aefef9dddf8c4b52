/// @file gguf_fields.h
/// Where the fields of a GGUF header lie, as far as the bytes make sense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgemoe::fuzz {

struct Span {
  size_t at = 0;
  size_t length = 0;
};

struct TensorFields {
  Span all;
  std::vector<size_t> dimensions;  ///< where each 64-bit number lies
  size_t type = 0;
  size_t offset = 0;
};

struct GgufFields {
  std::vector<Span> numbers;  ///< of 1 to 8 bytes: counts, lengths, types, values, dimensions, offsets
  std::vector<Span> texts;    ///< without their lengths
  std::vector<Span> keys;     ///< names with values
  std::vector<TensorFields> tensors;
  uint32_t alignment = 32;
  size_t end = 0;  ///< of the header, or of what made sense
};

/// @brief Offsets of the two counts that every header begins with.
inline constexpr size_t kTensorCountAt = 8;
inline constexpr size_t kKeyCountAt = 16;

/// @brief Finds the fields of `size` bytes; what follows the first contradiction is left out.
GgufFields find_fields(const uint8_t* data, size_t size);

/// @brief The little-endian number of a span.
uint64_t load_number(const uint8_t* data, Span span);
void store_number(uint8_t* data, Span span, uint64_t value);

}  // namespace edgemoe::fuzz
