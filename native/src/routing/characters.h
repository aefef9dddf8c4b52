/// @file characters.h
/// What a character is to the word splitter. Ranges of blocks, not of single characters: they stay when Unicode grows.
#pragma once

#include <cstdint>

namespace edgemoe::routing {

enum class Kind : uint8_t { kSpace, kLetter, kAlone, kMark };

inline bool between(uint32_t c, uint32_t first, uint32_t last) { return c - first <= last - first; }

/// @brief Letters form words, what stands alone is a word by itself (ideographs, kana, symbols, emoji), marks end words.
inline Kind kind_of(uint32_t c) {
  if (c < 0x80) {
    if (between(c, 'a', 'z') || between(c, '0', '9') || between(c, 'A', 'Z') || c == '_' || c == '\'') return Kind::kLetter;
    return c <= ' ' ? Kind::kSpace : Kind::kMark;
  }
  if (c < 0xc0 || c == 0xd7 || c == 0xf7) return c == 0x85 || c == 0xa0 ? Kind::kSpace : Kind::kMark;
  if (c < 0x2000) return Kind::kLetter;
  if (between(c, 0x2000, 0x206f)) return between(c, 0x2000, 0x200b) || between(c, 0x2028, 0x2029) ? Kind::kSpace : Kind::kMark;
  if (between(c, 0x2070, 0x2bff)) return Kind::kAlone;
  if (between(c, 0x3000, 0x303f) || between(c, 0xfe00, 0xfe0f)) return Kind::kMark;
  const bool ideograph = between(c, 0x3040, 0x30ff) || between(c, 0x3400, 0x9fff) || between(c, 0xf900, 0xfaff) || between(c, 0x20000, 0x3ffff);
  return ideograph || between(c, 0x1f000, 0x1faff) ? Kind::kAlone : Kind::kLetter;
}

/// @brief Marks that code and formulas have more often than prose.
inline bool is_code_mark(uint32_t c) {
  switch (c) {
    case '{': case '}': case '[': case ']': case '(': case ')': case '<': case '>': case '=': case '+': case '*':
    case '/': case '\\': case '^': case '_': case '|': case '&': case '%': case '$': case '#': case ';':
      return true;
    default:
      return false;
  }
}

}  // namespace edgemoe::routing
