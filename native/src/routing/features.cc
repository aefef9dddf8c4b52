#include "edgemoe/routing/features.h"

#include <algorithm>

#include "characters.h"
#include "edgemoe/error.h"

namespace edgemoe::routing {
namespace {

// FNV-1a over code points (Fowler, Noll, Vo), finished with MurmurHash3's mixer (Appleby, public domain).
constexpr uint32_t kWordSeed = 2166136261u;
constexpr uint32_t kGramSeed = 0x9e3779b9u;
constexpr uint32_t kPrime = 16777619u;

uint32_t mix(uint32_t h) {
  h = (h ^ (h >> 16)) * 0x85ebca6bu;
  h = (h ^ (h >> 13)) * 0xc2b2ae35u;
  return h ^ (h >> 16);
}

// 2^(i/16) in 32 bits after the point, i = 1..15.
constexpr std::array<uint64_t, 15> kSixteenths = {
    4485121744, 4683695048, 4891059944, 5107605668, 5333738690, 5569883476, 5816483285, 6074001000,
    6342919999, 6623745059, 6917003307, 7223245206, 7543045593, 7877004752, 8225749547};

}  // namespace

int32_t size_in_sixteenths(uint32_t n) {
  const uint64_t value = uint64_t{n} + 1;
  int bits = 0;
  while ((value >> bits) > 1) ++bits;
  const uint64_t mantissa = (value << 32) >> bits;  // in [1, 2)
  const auto above = std::upper_bound(kSixteenths.begin(), kSixteenths.end(), mantissa);
  return static_cast<int32_t>(16 * bits + (above - kSixteenths.begin()));
}

void Features::clear() {
  words.assign(1, 0);
  grams.assign(1, 0);
  dense.fill(0);
}

Extractor::Extractor(const Hashing& hashing) : _hashing(hashing) {
  if (hashing.buckets < 2 || hashing.buckets > (1u << 24)) throw Error("buckets: " + std::to_string(hashing.buckets) + " is not between 2 and 2^24");
  if (hashing.shortest < 1 || hashing.longest < hashing.shortest || hashing.longest > 8) {
    throw Error("character n-grams of " + std::to_string(hashing.shortest) + " to " + std::to_string(hashing.longest) +
                ": use lengths from 1 to 8");
  }
}

void Extractor::extract(std::string_view text, Features& out) {
  out.clear();
  decode(text, out);
  split();
  hash_words(out);
  hash_grams(out);
}

void Extractor::decode(std::string_view text, Features& out) {
  _characters.clear();
  uint32_t digits = 0, marks = 0, foreign = 0;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    uint32_t c = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t j = 1; j < length && i + j < text.size(); ++j) c = (c << 6) | (static_cast<uint8_t>(text[i + j]) & 0x3fu);
    i += length;
    if (between(c, '0', '9')) {
      ++digits;
      c = '0';
    }
    marks += is_code_mark(c);
    foreign += c >= 0x80 && kind_of(c) != Kind::kSpace && kind_of(c) != Kind::kMark;
    _characters.push_back(c);
  }
  const auto n = static_cast<uint32_t>(_characters.size());
  const auto share = [n](uint32_t count) { return n ? static_cast<int32_t>(uint64_t{count} * 255 / n) : 0; };
  out.dense = {size_in_sixteenths(n), share(digits), share(marks), share(foreign)};
}

void Extractor::split() {
  _words.clear();
  const auto n = static_cast<uint32_t>(_characters.size());
  for (uint32_t begin = 0; begin < n;) {
    const Kind kind = kind_of(_characters[begin]);
    uint32_t end = begin + 1;
    if (kind == Kind::kLetter) {
      while (end < n && kind_of(_characters[end]) == Kind::kLetter) ++end;
    }
    if (kind == Kind::kLetter || kind == Kind::kAlone) _words.push_back({begin, end});
    begin = end;
  }
}

void Extractor::hash_words(Features& out) const {
  out.words.reserve(_words.size() + 1);
  for (const Word word : _words) {
    uint32_t hash = kWordSeed;
    for (uint32_t i = word.begin; i < word.end; ++i) hash = (hash ^ _characters[i]) * kPrime;
    out.words.push_back(bucket(hash));
  }
}

// N-grams of <word>, but not the whole of it: that is the word's own bucket.
void Extractor::hash_grams(Features& out) const {
  const int shortest = _hashing.shortest, longest = _hashing.longest;
  for (const Word word : _words) {
    const int size = static_cast<int>(word.end - word.begin) + 2;
    const uint32_t* const characters = _characters.data() + word.begin;
    const auto at = [&](int i) { return i == 0 ? uint32_t{'<'} : i == size - 1 ? uint32_t{'>'} : characters[i - 1]; };
    for (int begin = 0; begin + shortest <= size; ++begin) {
      uint32_t hash = kGramSeed;
      const int most = std::min(longest, size - begin);
      for (int n = 1; n <= most; ++n) {
        hash = (hash ^ at(begin + n - 1)) * kPrime;
        if (n >= shortest && n < size) out.grams.push_back(bucket(hash + static_cast<uint32_t>(n)));
      }
    }
  }
}

int32_t Extractor::bucket(uint32_t hash) const {
  return static_cast<int32_t>(1 + ((uint64_t{mix(hash)} * (_hashing.buckets - 1)) >> 32));
}

}  // namespace edgemoe::routing
