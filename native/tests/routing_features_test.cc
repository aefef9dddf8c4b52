#include "edgemoe/routing/features.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "edgemoe/error.h"

namespace edgemoe::routing {
namespace {

Features features_of(const std::string& text, const Hashing& hashing = {}) {
  Features found;
  Extractor(hashing).extract(text, found);
  return found;
}

TEST(RoutingFeatures, NothingIsOneBucketPerField) {
  const Features found = features_of("");
  EXPECT_EQ(found.words, std::vector<int32_t>{0});
  EXPECT_EQ(found.grams, std::vector<int32_t>{0});
  EXPECT_EQ(found.dense, (Dense{0, 0, 0, 0}));
}

TEST(RoutingFeatures, WordsEndAtSpacesAndMarks) {
  EXPECT_EQ(features_of("tax law").words.size(), 3u);
  EXPECT_EQ(features_of("tax, law?").words, features_of("tax law").words);
  EXPECT_EQ(features_of("don't").words.size(), 2u);
  EXPECT_EQ(features_of("\xe6\x9d\xb1\xe4\xba\xac").words.size(), 3u);  // two ideographs
}

TEST(RoutingFeatures, DigitsAreAlike) {
  EXPECT_EQ(features_of("in 1984").words, features_of("in 2026").words);
  EXPECT_NE(features_of("in 1984").words, features_of("in 84").words);
}

TEST(RoutingFeatures, GramsAreThoseOfAMarkedWord) {
  // <tax>: <ta tax ax> and <tax tax>; the whole <tax> is the word
  EXPECT_EQ(features_of("tax").grams.size(), 1u + 5u);
  EXPECT_EQ(features_of("a").grams.size(), 1u);
  EXPECT_EQ(features_of("tax", {1u << 17, 1, 1}).grams.size(), 1u + 5u);
}

TEST(RoutingFeatures, BucketsAreInRange) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += "w" + std::to_string(i * 7919) + "x ";
  for (const uint32_t buckets : {2u, 257u, 1u << 17}) {
    const Features found = features_of(text, {buckets, 3, 5});
    const std::set<int32_t> used(found.grams.begin() + 1, found.grams.end());
    EXPECT_GE(*used.begin(), 1);
    EXPECT_LT(*used.rbegin(), static_cast<int32_t>(buckets));
  }
}

TEST(RoutingFeatures, SizesAreRoundedDownLogarithms) {
  for (uint32_t n = 0; n < 70000; ++n) {
    const double exact = 16 * std::log2(n + 1.0);
    ASSERT_NEAR(size_in_sixteenths(n), std::floor(exact + 1e-9), 0) << n;
  }
}

TEST(RoutingFeatures, DenseFeaturesAreShares) {
  const Features found = features_of("x = {12}");
  EXPECT_EQ(found.dense, (Dense{size_in_sixteenths(8), 2 * 255 / 8, 3 * 255 / 8, 0}));
}

TEST(RoutingFeatures, BytesThatAreCutShortAreRead) {
  for (const std::string text : {"\xe2", "\xf0\x9f", "abc\xc3", "\xff\xfe\xfd", "\x80\x80"}) {
    const std::string exact(text.data(), text.size());
    EXPECT_GE(features_of(exact).words.size(), 1u);
  }
}

// The number is that of every machine: a router's file holds what these buckets have learned.
TEST(RoutingFeatures, AreTheSameOnEveryMachine) {
  uint64_t digest = 14695981039346656037ull;  // FNV-1a
  const auto add = [&digest](int32_t value) {
    for (int shift = 0; shift < 32; shift += 8) digest = (digest ^ ((static_cast<uint32_t>(value) >> shift) & 0xffu)) * 1099511628211ull;
  };
  uint32_t random = 1;
  for (int text = 0; text < 200; ++text) {
    std::string bytes;
    for (int i = 0; i < 300; ++i) {
      random = random * 1664525u + 1013904223u;
      const uint32_t byte = random >> 24;
      bytes += text % 2 ? static_cast<char>(byte) : static_cast<char>(byte < 40 ? ' ' : 'a' + byte % 26);
    }
    const Features found = features_of(bytes);
    for (const int32_t id : found.words) add(id);
    for (const int32_t id : found.grams) add(id);
    for (const int32_t value : found.dense) add(value);
  }
  EXPECT_EQ(digest, 4738984373260175783ull);
}

TEST(RoutingFeatures, SettingsOutOfRangeAreRefused) {
  EXPECT_THROW(Extractor({1, 3, 5}), Error);
  EXPECT_THROW(Extractor({1u << 25, 3, 5}), Error);
  EXPECT_THROW(Extractor({1u << 17, 0, 5}), Error);
  EXPECT_THROW(Extractor({1u << 17, 5, 3}), Error);
  EXPECT_THROW(Extractor({1u << 17, 3, 9}), Error);
}

}  // namespace
}  // namespace edgemoe::routing
