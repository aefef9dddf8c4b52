#include "edgemoe/store/read_pool.h"

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "recording_sink.h"
#include "temporary_file.h"

namespace edgemoe {
namespace {

using testing::AlignedBuffer;
using testing::FaultGuard;
using testing::RandomFile;
using testing::RecordingSink;

constexpr size_t kBlocks = 64;

class ReadPoolTest : public ::testing::Test {
 protected:
  Read block(uint32_t index, ReadSink* sink) {
    return {&_file, index * kBlock, kBlock, kBlock, _buffer.data() + index * kBlock, sink, index};
  }
  std::vector<Read> blocks(uint32_t first, uint32_t last, ReadSink* sink) {
    std::vector<Read> reads;
    for (uint32_t i = first; i < last; ++i) reads.push_back(block(i, sink));
    return reads;
  }
  bool arrived(uint32_t index) const { return _content.equal(index * kBlock, _buffer.data() + index * kBlock, kBlock); }

  const RandomFile _content{kBlocks * kBlock, 11};
  const File _file{_content.path()};
  const AlignedBuffer _buffer{kBlocks * kBlock};
};

TEST_F(ReadPoolTest, EveryReadArrivesOnce) {
  RecordingSink sink;
  ReadPool pool(4);
  EXPECT_EQ(pool.threads(), 4);
  pool.submit({}, true);
  pool.submit(blocks(0, 40, &sink), false);
  for (uint32_t i = 40; i < kBlocks; ++i) pool.submit({block(i, &sink)}, i % 2 == 0);
  ASSERT_TRUE(sink.wait_for(kBlocks));
  for (uint32_t i = 0; i < kBlocks; ++i) {
    EXPECT_EQ(sink.errors(i), std::vector<std::string>{""}) << i;
    EXPECT_TRUE(arrived(i)) << i;
  }
  EXPECT_EQ(pool.bytes_read(), kBlocks * kBlock);
}

TEST_F(ReadPoolTest, RandomExtentsOfManyThreadsHoldTheFilesBytes) {
  RecordingSink sink;
  ReadPool pool(8);
  std::mt19937 random(12);
  std::vector<std::unique_ptr<AlignedBuffer>> buffers;
  std::vector<Read> reads;
  for (uint32_t i = 0; i < 300; ++i) {
    const uint64_t first = random() % kBlocks;
    const size_t length = (1 + random() % (kBlocks - first)) * kBlock;
    buffers.push_back(std::make_unique<AlignedBuffer>(length));
    reads.push_back({&_file, first * kBlock, length, length, buffers.back()->data(), &sink, i});
  }
  for (size_t i = 0; i < reads.size(); i += 3) pool.submit({reads[i], reads[i + 1], reads[i + 2]}, random() % 2 == 0);
  ASSERT_TRUE(sink.wait_for(reads.size()));
  for (const Read& read : reads) {
    EXPECT_EQ(sink.errors(read.tag), std::vector<std::string>{""});
    EXPECT_TRUE(_content.equal(read.offset, read.dst, read.length));
  }
}

TEST_F(ReadPoolTest, UrgentReadsOvertakeLaterOnesAndEachKeepsItsOrder) {
  RecordingSink sink;
  ReadPool pool(1);
  sink.hold();
  pool.submit({block(0, &sink)}, false);
  ASSERT_TRUE(sink.wait_for(1));  // the only thread is now inside the sink
  pool.submit(blocks(10, 15, &sink), false);
  pool.submit(blocks(20, 25, &sink), true);
  pool.submit({block(15, &sink)}, false);
  pool.submit({block(25, &sink)}, true);
  sink.let_go();
  ASSERT_TRUE(sink.wait_for(13));
  EXPECT_EQ(sink.order(), (std::vector<uint32_t>{0, 20, 21, 22, 23, 24, 25, 10, 11, 12, 13, 14, 15}));
}

TEST_F(ReadPoolTest, DropsOnlyTheQueuedReadsOfOneSink) {
  RecordingSink blocker, dropped, kept;
  ReadPool pool(1);
  blocker.hold();
  pool.submit({block(0, &blocker)}, true);
  ASSERT_TRUE(blocker.wait_for(1));
  for (uint32_t i = 1; i <= 20; ++i) pool.submit({block(i, i % 2 ? &dropped : &kept)}, i % 3 == 0);
  std::set<uint32_t> tags;
  for (const bool urgent : {true, false}) {
    for (const Read& read : pool.drop_queued(&dropped, urgent)) {
      EXPECT_EQ(read.sink, &dropped);
      EXPECT_EQ(read.tag % 3 == 0, urgent);
      tags.insert(read.tag);
    }
  }
  EXPECT_EQ(tags.size(), 10u);
  EXPECT_TRUE(pool.drop_queued(&dropped, true).empty());
  EXPECT_TRUE(pool.drop_queued(&dropped, false).empty());
  blocker.let_go();
  ASSERT_TRUE(kept.wait_for(10));
  EXPECT_EQ(kept.order(), (std::vector<uint32_t>{6, 12, 18, 2, 4, 8, 10, 14, 16, 20}));
  EXPECT_TRUE(dropped.order().empty());
}

TEST_F(ReadPoolTest, DestructionDropsWhatIsQueuedAndWaitsForWhatHasStarted) {
  RecordingSink sink;
  sink.hold();
  auto pool = std::make_unique<ReadPool>(2, kBlock);
  pool->submit(blocks(0, kBlocks, &sink), false);
  ASSERT_TRUE(sink.wait_for(2));  // both threads are inside the sink
  std::thread later([&sink] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    sink.let_go();
  });
  pool.reset();
  later.join();
  const std::vector<uint32_t> ended = sink.order();
  EXPECT_GE(ended.size(), 2u);
  EXPECT_LT(ended.size(), kBlocks);
  for (const uint32_t tag : ended) EXPECT_EQ(sink.errors(tag).size(), 1u);
}

TEST_F(ReadPoolTest, AnIdlePoolIsDestroyedAtOnce) {
  for (int i = 0; i < 20; ++i) ReadPool(1 + i % 4);
}

TEST_F(ReadPoolTest, EveryFailedReadIsReportedOnce) {
  RecordingSink sink;
  ReadPool pool(4);
  {
    const FaultGuard guard(testing::failing_after(1));
    pool.submit(blocks(0, kBlocks, &sink), true);
    ASSERT_TRUE(sink.wait_for(kBlocks));
  }
  for (uint32_t i = 0; i < kBlocks; ++i) {
    const std::vector<std::string> errors = sink.errors(i);
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find(_content.path()), std::string::npos) << errors[0];
  }
  EXPECT_EQ(pool.bytes_read(), 0u);
  pool.submit({block(3, &sink)}, true);
  ASSERT_TRUE(sink.wait_for(kBlocks + 1));
  EXPECT_TRUE(arrived(3));
}

TEST_F(ReadPoolTest, AFileThatShrankIsAnError) {
  RecordingSink sink;
  ReadPool pool(2);
  const FaultGuard guard(testing::truncated_at(10 * kBlock));
  pool.submit(blocks(8, 12, &sink), true);
  ASSERT_TRUE(sink.wait_for(4));
  EXPECT_EQ(sink.errors(9)[0], "");
  const std::string error = sink.errors(10)[0];
  EXPECT_NE(error.find("ends at byte " + std::to_string(10 * kBlock)), std::string::npos) << error;
  EXPECT_NE(sink.errors(11)[0], "");
}

TEST_F(ReadPoolTest, TheEndOfTheFileIsNoErrorWhenEnoughBytesArrived) {
  const RandomFile tail(kBlock + 100, 13);
  const File file(tail.path());
  RecordingSink sink;
  ReadPool pool(1);
  const Read enough = {&file, kBlock, kBlock, 100, _buffer.data(), &sink, 0};
  const Read too_much = {&file, kBlock, kBlock, 101, _buffer.data(), &sink, 1};
  pool.submit({enough, too_much}, true);
  ASSERT_TRUE(sink.wait_for(2));
  EXPECT_EQ(sink.errors(0)[0], "");
  EXPECT_NE(sink.errors(1)[0], "");
  EXPECT_TRUE(tail.equal(kBlock, _buffer.data(), 100));
}

TEST_F(ReadPoolTest, ReadsSideBySideAreOneCallAndKeepTheirBytes) {
  RecordingSink sink;
  ReadPool pool(1, 8 * kBlock);
  sink.hold();
  pool.submit({block(0, &sink)}, true);
  ASSERT_TRUE(sink.wait_for(1));  // the only thread is now inside the sink
  const AlignedBuffer places(40 * kBlock);
  // Parts of one extent that meet within a block, with other reads between them; then one that would make it too long.
  const std::vector<Read> reads = {
      {&_file, 10 * kBlock, 3 * kBlock, 3 * kBlock, places.data(), &sink, 1},
      {&_file, 40 * kBlock, 2 * kBlock, 2 * kBlock, places.data() + 4 * kBlock, &sink, 2},
      {&_file, 12 * kBlock, 2 * kBlock, 2 * kBlock, places.data() + 8 * kBlock, &sink, 3},
      {&_file, 14 * kBlock, 4 * kBlock, 4 * kBlock - 7, places.data() + 12 * kBlock, &sink, 4},
      {&_file, 18 * kBlock, kBlock, kBlock, places.data() + 20 * kBlock, &sink, 5},
  };
  pool.submit(reads, true);
  sink.let_go();
  ASSERT_TRUE(sink.wait_for(1 + reads.size()));
  EXPECT_EQ(sink.order(), (std::vector<uint32_t>{0, 1, 3, 4, 2, 5}));
  EXPECT_EQ(pool.calls(), 4u);
  for (const Read& read : reads) {
    EXPECT_EQ(sink.errors(read.tag), std::vector<std::string>{""});
    EXPECT_TRUE(_content.equal(read.offset, read.dst, read.length)) << read.tag;
  }
}

TEST_F(ReadPoolTest, FewThreadsReadMuchAtOnceAfterAdapting) {
  RecordingSink sink;
  ReadPool pool(4, kBlock);
  pool.adapt(1, 8 * kBlock);
  sink.hold();
  pool.submit({block(0, &sink)}, true);
  ASSERT_TRUE(sink.wait_for(1));  // the only thread that may read is now inside the sink
  pool.submit(blocks(10, 26, &sink), true);
  sink.let_go();
  ASSERT_TRUE(sink.wait_for(17));
  EXPECT_EQ(pool.calls(), 3u);
  for (uint32_t i = 10; i < 26; ++i) EXPECT_TRUE(arrived(i)) << i;
  pool.adapt(9, kBlock);  // no more than there are
  pool.submit(blocks(30, 40, &sink), true);
  ASSERT_TRUE(sink.wait_for(27));
  EXPECT_EQ(pool.calls(), 13u);
}

TEST_F(ReadPoolTest, OfReadsSideBySideOnlyThoseBeyondTheEndFail) {
  RecordingSink sink;
  ReadPool pool(1);
  sink.hold();
  pool.submit({block(0, &sink)}, true);
  ASSERT_TRUE(sink.wait_for(1));
  const FaultGuard guard(testing::truncated_at(12 * kBlock));
  pool.submit(blocks(10, 14, &sink), true);
  sink.let_go();
  ASSERT_TRUE(sink.wait_for(5));
  EXPECT_EQ(pool.calls(), 2u);
  for (uint32_t i = 10; i < 14; ++i) EXPECT_EQ(sink.errors(i).at(0).empty(), i < 12) << i;
}

}  // namespace
}  // namespace edgemoe
