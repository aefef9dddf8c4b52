#include "gguf_fields.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace edgemoe::fuzz {
namespace {

constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;
constexpr size_t kElementsListed = 64;  // of one array: a tokenizer must not drown the rest

size_t scalar_bytes(uint64_t type) {
  static constexpr size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < std::size(sizes) ? sizes[type] : 0;
}

class Cursor {
 public:
  Cursor(const uint8_t* data, size_t size, GgufFields& fields) : _data(data), _size(size), _fields(fields) {}

  size_t at() const { return _at; }
  bool failed() const { return _failed; }

  uint64_t number(size_t bytes, bool listed = true) {
    const Span span = take(bytes);
    if (_failed) return 0;
    if (listed) _fields.numbers.push_back(span);
    return load_number(_data, span);
  }

  std::string text(bool listed = true) {
    const uint64_t length = number(8, listed);
    const Span span = take(length);
    if (_failed) return {};
    if (listed && length > 0) _fields.texts.push_back(span);
    return {reinterpret_cast<const char*>(_data) + span.at, span.length};
  }

  void value(uint64_t type) {
    if (type == kString) {
      text();
    } else if (type != kArray) {
      scalar(type, true);
    } else {
      const uint64_t element = number(4);
      const uint64_t count = number(8);
      for (uint64_t i = 0; i < count && !_failed; ++i) {
        const bool listed = i < kElementsListed;
        if (element == kString) text(listed);
        else scalar(element, listed);
      }
    }
  }

 private:
  void scalar(uint64_t type, bool listed) {
    const size_t bytes = scalar_bytes(type);
    _failed = _failed || bytes == 0;
    number(bytes, listed);
  }

  Span take(uint64_t bytes) {
    _failed = _failed || bytes > _size - _at;
    if (_failed) return {};
    _at += bytes;
    return {_at - static_cast<size_t>(bytes), static_cast<size_t>(bytes)};
  }

  const uint8_t* _data;
  size_t _size;
  GgufFields& _fields;
  size_t _at = 0;
  bool _failed = false;
};

}  // namespace

uint64_t load_number(const uint8_t* data, Span span) {
  uint64_t value = 0;
  std::memcpy(&value, data + span.at, std::min<size_t>(span.length, sizeof(value)));
  return value;
}

void store_number(uint8_t* data, Span span, uint64_t value) {
  std::memcpy(data + span.at, &value, std::min<size_t>(span.length, sizeof(value)));
}

GgufFields find_fields(const uint8_t* data, size_t size) {
  GgufFields fields;
  Cursor cursor(data, size, fields);
  cursor.number(4);
  cursor.number(4);
  const uint64_t tensors = cursor.number(8);
  const uint64_t keys = cursor.number(8);
  for (uint64_t k = 0; k < keys && !cursor.failed(); ++k) {
    const size_t start = cursor.at();
    const std::string name = cursor.text();
    cursor.value(cursor.number(4));
    if (cursor.failed()) break;
    fields.keys.push_back({start, cursor.at() - start});
    if (name == "general.alignment") fields.alignment = static_cast<uint32_t>(load_number(data, {cursor.at() - 4, 4}));
  }
  for (uint64_t t = 0; t < tensors && !cursor.failed(); ++t) {
    TensorFields tensor;
    tensor.all.at = cursor.at();
    cursor.text();
    const uint64_t dimensions = cursor.number(4);
    for (uint64_t d = 0; d < dimensions && !cursor.failed(); ++d) {
      tensor.dimensions.push_back(cursor.at());
      cursor.number(8);
    }
    tensor.type = cursor.at();
    cursor.number(4);
    tensor.offset = cursor.at();
    cursor.number(8);
    if (cursor.failed()) break;
    tensor.all.length = cursor.at() - tensor.all.at;
    fields.tensors.push_back(tensor);
  }
  fields.end = cursor.at();
  return fields;
}

}  // namespace edgemoe::fuzz
