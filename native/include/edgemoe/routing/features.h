/// @file features.h
/// A prompt as hashed words and character n-grams: integers only, so that every machine gets the same.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace edgemoe::routing {

/// @brief How text becomes bucket numbers. Bucket 0 belongs to no n-gram: it opens every list.
struct Hashing {
  uint32_t buckets = 1u << 17;
  int shortest = 3;  ///< characters of an n-gram, with the marks at a word's ends
  int longest = 5;
};

/// Bits of a text's size, in steps of 1/16; then 255ths of its characters that are digits, marks of code, and letters outside ASCII.
inline constexpr std::array<const char*, 4> kDenseNames = {"length", "digits", "marks", "script"};
using Dense = std::array<int32_t, kDenseNames.size()>;

/// @brief What a prompt looks like to the classifier.
struct Features {
  std::vector<int32_t> words;
  std::vector<int32_t> grams;
  Dense dense{};

  void clear();
};

/// @brief Extracts features; keeps its buffers between texts.
class Extractor {
 public:
  explicit Extractor(const Hashing& hashing);

  /// @brief Replaces `out` by the features of a text that is normalised (NFKC, case folded), in UTF-8 that Python wrote.
  void extract(std::string_view text, Features& out);

 private:
  struct Word {
    uint32_t begin, end;  // of _characters
  };

  void decode(std::string_view text, Features& out);
  void split();
  void hash_words(Features& out) const;
  void hash_grams(Features& out) const;
  int32_t bucket(uint32_t hash) const;

  Hashing _hashing;
  std::vector<uint32_t> _characters;  // digits are all 0
  std::vector<Word> _words;
};

/// @brief 16 log2(n + 1), rounded down, without floating point.
int32_t size_in_sixteenths(uint32_t n);

}  // namespace edgemoe::routing
