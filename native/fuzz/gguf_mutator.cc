#include "gguf_mutator.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "edgemoe/backend/ggml_api.h"
#include "gguf_fields.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace edgemoe::fuzz {
namespace {

using Random = std::minstd_rand;

size_t pick(Random& random, size_t count) { return count == 0 ? 0 : random() % count; }

uint64_t other_number(Random& random, const uint8_t* data, const GgufFields& fields, uint64_t old) {
  switch (pick(random, 8)) {
    case 0: return old + 1 + pick(random, 4);
    case 1: return old - 1 - pick(random, 4);
    case 2: return old * 2;
    case 3: return old / 2;
    case 4: return pick(random, 16);
    case 5: return (uint64_t{1} << pick(random, 64)) - pick(random, 2);
    case 6: return uint64_t{0} - pick(random, 5000);
    default: return load_number(data, fields.numbers[pick(random, fields.numbers.size())]);
  }
}

// One number, or all that are equal to it: a header says most things more than once.
void change_number(Random& random, uint8_t* data, const GgufFields& fields) {
  if (fields.numbers.empty()) return;
  const Span span = fields.numbers[pick(random, fields.numbers.size())];
  const uint64_t old = load_number(data, span);
  const uint64_t wanted = other_number(random, data, fields, old);
  const bool alike = pick(random, 3) == 0;
  store_number(data, span, wanted);
  for (const Span& other : fields.numbers) {
    if (alike && other.length == span.length && load_number(data, other) == old) store_number(data, other, wanted);
  }
}

void change_text(Random& random, uint8_t* data, const GgufFields& fields) {
  if (fields.texts.empty()) return;
  const Span span = fields.texts[pick(random, fields.texts.size())];
  const Span other = fields.texts[pick(random, fields.texts.size())];
  if (span.length == other.length) std::memmove(data + span.at, data + other.at, span.length);
  else data[span.at + pick(random, span.length)] = static_cast<uint8_t>(random());
}

void change_contents(Random& random, uint8_t* data, size_t size, size_t begin) {
  if (begin >= size) return;
  const size_t at = begin + pick(random, size - begin);
  const size_t length = std::min<size_t>(size - at, size_t{1} << pick(random, 12));
  const uint8_t extremes[] = {0x00, 0xff, 0x80, 0x7f, 0x7c, static_cast<uint8_t>(random())};
  std::memset(data + at, extremes[pick(random, std::size(extremes))], length);
}

// Leaves an entry out, or puts it there twice; the count follows.
size_t change_entries(Random& random, uint8_t* data, size_t size, size_t most, const GgufFields& fields) {
  const bool of_keys = random() % 2;
  const size_t count = of_keys ? fields.keys.size() : fields.tensors.size();
  if (count == 0) return size;
  const size_t chosen = pick(random, count);
  const Span entry = of_keys ? fields.keys[chosen] : fields.tensors[chosen].all;
  const Span counter{of_keys ? kKeyCountAt : kTensorCountAt, 8};
  if (random() % 2) {
    std::memmove(data + entry.at, data + entry.at + entry.length, size - entry.at - entry.length);
    store_number(data, counter, load_number(data, counter) - 1);
    return size - entry.length;
  }
  if (size + entry.length > most) return size;
  std::memmove(data + entry.at + entry.length, data + entry.at, size - entry.at);
  store_number(data, counter, load_number(data, counter) + 1);
  return size + entry.length;
}

// Makes a text longer or shorter, its length included.
size_t resize_text(Random& random, uint8_t* data, size_t size, size_t most, const GgufFields& fields) {
  if (fields.texts.empty()) return size;
  const Span span = fields.texts[pick(random, fields.texts.size())];
  const size_t end = span.at + span.length;
  const size_t wanted = pick(random, 2) == 0 ? pick(random, span.length) : span.length + (size_t{1} << pick(random, 13));
  if (size - span.length + wanted > most) return size;
  std::memmove(data + span.at + wanted, data + end, size - end);
  if (wanted > span.length) std::memset(data + end, 'x', wanted - span.length);
  store_number(data, {span.at - 8, 8}, wanted);
  return size - span.length + wanted;
}

uint64_t tensor_bytes(const uint8_t* data, const TensorFields& tensor) {
  const auto& g = ggml::api();
  const uint64_t type = load_number(data, {tensor.type, 4});
  const int64_t block = type < static_cast<uint64_t>(ggml::kTypeCount) ? g.ggml_blck_size(static_cast<ggml::Type>(type)) : 0;
  uint64_t bytes = block > 0 ? g.ggml_type_size(static_cast<ggml::Type>(type)) : 0;
  for (size_t d = 0; d < tensor.dimensions.size(); ++d) {
    const uint64_t n = load_number(data, {tensor.dimensions[d], 8});
    bytes *= d == 0 && block > 0 ? n / static_cast<uint64_t>(block) : n;
  }
  return bytes;
}

// Gives all tensors the offsets that their shapes ask for, without which no header is accepted. Returns the bytes of all.
uint64_t repair_offsets(uint8_t* data, const GgufFields& fields) {
  const uint64_t alignment = fields.alignment == 0 ? 1 : fields.alignment;
  uint64_t offset = 0;
  for (const TensorFields& tensor : fields.tensors) {
    store_number(data, {tensor.offset, 8}, offset);
    offset += (tensor_bytes(data, tensor) + alignment - 1) / alignment * alignment;
  }
  return offset;
}

size_t repair(Random& random, uint8_t* data, size_t size, size_t most) {
  const GgufFields fields = find_fields(data, size);
  const uint64_t tensors = repair_offsets(data, fields);
  const uint64_t wanted = fields.end + fields.alignment + tensors;
  if (random() % 2 || tensors > most || wanted > most || wanted <= size) return size;
  std::memset(data + size, static_cast<int>(pick(random, 256)), wanted - size);
  return wanted;
}

}  // namespace

size_t mutate_gguf(uint8_t* data, size_t size, size_t most, unsigned seed) {
  Random random(seed);
  const GgufFields fields = find_fields(data, size);
  for (size_t changes = 1 + pick(random, 3); changes-- > 0;) {
    const size_t kind = pick(random, 20);
    if (kind < 11) change_number(random, data, fields);
    else if (kind < 13) change_text(random, data, fields);
    else if (kind < 15) change_contents(random, data, size, fields.end);
  }
  const size_t kind = pick(random, 20);
  if (kind < 3) size = change_entries(random, data, size, most, fields);
  else if (kind == 3) size = resize_text(random, data, size, most, fields);
  else if (kind == 4) return LLVMFuzzerMutate(data, size, most);
  else if (kind == 5) return 1 + pick(random, size);
  return random() % 4 ? repair(random, data, size, most) : size;
}

}  // namespace edgemoe::fuzz
