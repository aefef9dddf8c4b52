#include "edgemoe/routing/train.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "edgemoe/error.h"

namespace edgemoe::routing {
namespace {

struct Data {
  std::vector<int32_t> ids;
  std::vector<int64_t> bounds{0};
  std::vector<float> targets;
  std::vector<double> frequencies;

  void add(const std::string& text, int label, int classes, const Hashing& hashing) {
    Features found;
    Extractor(hashing).extract(text, found);
    for (const auto* field : {&found.words, &found.grams}) {
      ids.insert(ids.end(), field->begin(), field->end());
      bounds.push_back(static_cast<int64_t>(ids.size()));
    }
    for (int k = 0; k < classes; ++k) targets.push_back(k == label ? 1.f : 0.f);
    frequencies.push_back(1);
  }
  Corpus corpus() const { return {ids.data(), bounds.data(), frequencies.size()}; }
};

const char* const kFruit[] = {"the apple is ripe", "the pear and the plum", "an apple tree", "plum jam", "a ripe pear"};
const char* const kTools[] = {"the hammer is heavy", "the saw and the drill", "a hammer box", "drill bits", "a heavy saw"};

class RoutingTrain : public ::testing::Test {
 protected:
  void SetUp() override {
    settings.buckets = 4096;
    settings.dim = 4;
    settings.passes = 60;
    const Hashing hashing{settings.buckets, 3, 5};
    for (const char* text : kFruit) data.add(text, 0, 2, hashing);
    for (const char* text : kTools) data.add(text, 1, 2, hashing);
  }

  Head trained() const { return train(data.corpus(), data.targets.data(), data.frequencies.data(), settings); }

  int right(const Head& head) const {
    std::vector<float> out(data.frequencies.size() * 2);
    logits(data.corpus(), head, settings, out.data());
    int count = 0;
    for (size_t r = 0; r < data.frequencies.size(); ++r) count += (out[2 * r + 1] > out[2 * r]) == (data.targets[2 * r + 1] > .5f);
    return count;
  }

  Settings settings;
  Data data;
};

TEST_F(RoutingTrain, LearnsWhatWordsTell) {
  EXPECT_EQ(right(trained()), 10);
  settings.rectified = false;
  settings.dropped_units = 0;
  EXPECT_EQ(right(trained()), 10);
}

TEST_F(RoutingTrain, TheSameSeedGivesTheSameHead) {
  const Head one = trained(), other = trained();
  EXPECT_EQ(one.embeddings, other.embeddings);
  EXPECT_EQ(one.gates, other.gates);
  EXPECT_EQ(one.weights, other.weights);
  settings.seed = 2;
  EXPECT_NE(one.embeddings, trained().embeddings);
}

TEST_F(RoutingTrain, WordsThatTellGetLargerGatesThanWordsThatDoNot) {
  const std::vector<std::string> idle = {"the", "is", "and", "my", "was"}, telling = {"apple", "plum", "pear", "hammer", "drill", "saw"};
  Data many;
  for (size_t i = 0; i < 300; ++i) {
    const size_t word = i % telling.size();
    std::string text = telling[word];
    for (size_t k = 0; k < 6; ++k) text += " " + idle[(i / 7 + k * (i % 4 + 1)) % idle.size()];
    many.add(text, word < 3 ? 0 : 1, 2, {settings.buckets, 3, 5});
  }
  settings.passes = 6;
  const Head head = train(many.corpus(), many.targets.data(), many.frequencies.data(), settings);
  const auto mean_gate = [&](const std::vector<std::string>& words) {
    float sum = 0;
    for (const std::string& word : words) {
      Features found;
      Extractor({settings.buckets, 3, 5}).extract(word, found);
      sum += head.gates[static_cast<size_t>(found.words[1])];
    }
    return sum / static_cast<float>(words.size());
  };
  EXPECT_GT(mean_gate(telling), mean_gate(idle) + 0.5f);
}

TEST_F(RoutingTrain, UnseenBucketsAreZero) {
  const Head head = trained();
  std::vector<bool> seen(settings.buckets);
  for (const int32_t id : data.ids) seen[static_cast<size_t>(id)] = true;
  for (size_t bucket = 0; bucket < settings.buckets; ++bucket) {
    if (!seen[bucket]) {
      EXPECT_EQ(head.embeddings[bucket * 4], 0) << bucket;
    }
  }
}

TEST_F(RoutingTrain, RowsOfFrequencyZeroAreNeverDrawn) {
  std::fill(data.frequencies.begin() + 5, data.frequencies.end(), 0.0);
  std::vector<float> out(20);
  logits(data.corpus(), trained(), settings, out.data());
  for (size_t r = 0; r < 10; ++r) EXPECT_GT(out[2 * r], out[2 * r + 1]);
}

TEST_F(RoutingTrain, NothingToTrainOnIsRefused) {
  std::fill(data.frequencies.begin(), data.frequencies.end(), 0.0);
  EXPECT_THROW(trained(), Error);
  data.frequencies[0] = std::numeric_limits<double>::infinity();
  EXPECT_THROW(trained(), Error);
  settings.classes = 1;
  EXPECT_THROW(trained(), Error);
}

}  // namespace
}  // namespace edgemoe::routing
