#include "edgemoe/store/copy_reader.h"

#include <random>

#include "edgemoe/error.h"
#include "temporary_file.h"

namespace edgemoe {
namespace {

using testing::FaultGuard;
using testing::RandomFile;

class CopyReaderTest : public ::testing::Test {
 protected:
  const RandomFile _content{74 * kBlock + 7, 21};
  const RandomFile _other{5'000, 22};
  const File _file{_content.path()};
  const File _other_file{_other.path(), false};
};

TEST_F(CopyReaderTest, RandomRangesEqualTheFile) {
  std::mt19937 random(23);
  for (const int threads : {1, 4}) {
    for (const size_t piece : {kBlock, 4 * kBlock, 64 * kBlock}) {
      ReadPool pool(threads);
      CopyReader reader(pool, piece);
      for (int round = 0; round < 12; ++round) {
        std::vector<CopyRange> ranges;
        std::vector<std::vector<uint8_t>> buffers;
        for (uint32_t i = 0; i < 1 + random() % 20; ++i) {
          const bool other = random() % 4 == 0;
          const size_t size = other ? _other.size() : _content.size();
          const uint64_t offset = random() % size;
          const size_t length = random() % (1 + std::min<size_t>(size - offset, random() % 3 ? 9000 : size));
          buffers.emplace_back(length + 2, 0xEE);
          ranges.push_back({other ? &_other_file : &_file, offset, length, buffers.back().data() + 1});
        }
        reader.read(ranges);
        for (size_t i = 0; i < ranges.size(); ++i) {
          const RandomFile& content = ranges[i].file == &_file ? _content : _other;
          ASSERT_TRUE(content.equal(ranges[i].offset, buffers[i].data() + 1, ranges[i].length));
          ASSERT_EQ(buffers[i].front(), 0xEE) << "wrote before the range";
          ASSERT_EQ(buffers[i].back(), 0xEE) << "wrote behind the range";
        }
      }
    }
  }
}

TEST_F(CopyReaderTest, EveryOffsetAroundABlockAndAPiece) {
  ReadPool pool(2);
  CopyReader reader(pool, 2 * kBlock);
  std::vector<uint8_t> bytes(3 * kBlock);
  for (const uint64_t around : {kBlock, 2 * kBlock, 4 * kBlock}) {
    for (uint64_t offset = around - 3; offset <= around + 3; ++offset) {
      for (const size_t length : {size_t{1}, size_t{3}, size_t{kBlock - 1}, size_t{kBlock}, size_t{2 * kBlock + 1}}) {
        reader.read({{&_file, offset, length, bytes.data()}});
        ASSERT_TRUE(_content.equal(offset, bytes.data(), length)) << offset << " " << length;
      }
    }
  }
}

TEST_F(CopyReaderTest, TheTailOfTheFileAndNothingAtAll) {
  ReadPool pool(2);
  CopyReader reader(pool, 4 * kBlock);
  std::vector<uint8_t> bytes(_content.size());
  reader.read({});
  reader.read({{&_file, 17, 0, bytes.data()}});
  reader.read({{&_file, _content.size(), 0, bytes.data()}});
  reader.read({{&_file, _content.size() - 1, 1, bytes.data()}});
  EXPECT_EQ(bytes[0], _content.data()[_content.size() - 1]);
  reader.read({{&_file, 0, _content.size(), bytes.data()}});
  EXPECT_TRUE(_content.equal(0, bytes.data(), bytes.size()));
}

TEST_F(CopyReaderTest, ARangeBehindTheEndIsAnErrorAndTheNextReadWorks) {
  ReadPool pool(2);
  CopyReader reader(pool, kBlock);
  std::vector<uint8_t> bytes(_content.size() + 1);
  EXPECT_THROW(reader.read({{&_file, 0, _content.size() + 1, bytes.data()}}), IoError);
  EXPECT_THROW(reader.read({{&_file, _content.size() + 3 * kBlock, 1, bytes.data()}}), IoError);
  reader.read({{&_file, 100, 50'000, bytes.data()}});
  EXPECT_TRUE(_content.equal(100, bytes.data(), 50'000));
}

TEST_F(CopyReaderTest, AFailureInTheMiddleIsReportedAfterAllReadsHaveEnded) {
  ReadPool pool(4);
  CopyReader reader(pool, kBlock);
  for (uint64_t limit = 1; limit < 40 * kBlock; limit += 7 * kBlock) {
    std::vector<uint8_t> bytes(48 * kBlock);
    {
      const FaultGuard guard(testing::failing_after(limit));
      EXPECT_THROW(reader.read({{&_file, 1, bytes.size(), bytes.data()}}), IoError);
    }
    bytes = std::vector<uint8_t>(1000);  // late writes into the old memory would be use after free
    reader.read({{&_file, 5, bytes.size(), bytes.data()}});
    EXPECT_TRUE(_content.equal(5, bytes.data(), bytes.size()));
  }
}

TEST_F(CopyReaderTest, MayBeDestroyedAsSoonAsARead) {
  ReadPool pool(4);
  std::vector<uint8_t> bytes(20'000);
  for (int i = 0; i < 100; ++i) {
    CopyReader reader(pool, kBlock);
    reader.read({{&_file, static_cast<uint64_t>(i), bytes.size(), bytes.data()}});
  }
  EXPECT_TRUE(_content.equal(99, bytes.data(), bytes.size()));
}

}  // namespace
}  // namespace edgemoe
