#include "edgemoe/store/file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "edgemoe/error.h"
#include "temporary_file.h"

namespace edgemoe {
namespace {

using testing::AlignedBuffer;
using testing::FaultGuard;
using testing::RandomFile;
using testing::TemporaryPath;

std::string message_of_opening(const std::string& path, bool unbuffered) {
  try {
    const File file(path, unbuffered);
  } catch (const IoError& error) {
    return error.what();
  }
  return "";
}

bool mentions(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Root may read everything: while this lives, the process is no root.
class Unprivileged {
 public:
  Unprivileged() { EXPECT_EQ(::seteuid(_user == 0 ? kNobody : _user), 0); }
  ~Unprivileged() { EXPECT_EQ(::seteuid(_user), 0); }

 private:
  static constexpr uid_t kNobody = 65534;
  const uid_t _user = ::geteuid();
};

class FileTest : public ::testing::TestWithParam<bool> {
 protected:
  bool unbuffered() const { return GetParam(); }
};

INSTANTIATE_TEST_SUITE_P(Modes, FileTest, ::testing::Values(false, true),
                         [](const auto& test) { return test.param ? "Unbuffered" : "Buffered"; });

TEST_P(FileTest, ReadsWhatTheFileHoldsAtEveryBlockAndLength) {
  const RandomFile content(9 * kBlock + 1234, 1);
  const File file(content.path(), unbuffered());
  ASSERT_EQ(file.size(), content.size());
  const AlignedBuffer buffer(12 * kBlock);
  for (uint64_t offset = 0; offset <= 10 * kBlock; offset += kBlock) {
    for (size_t length = 0; length <= 12 * kBlock; length += kBlock) {
      const size_t got = file.read_at(buffer.data(), offset, length);
      const size_t left = offset < content.size() ? content.size() - offset : 0;
      ASSERT_EQ(got, std::min<size_t>(length, left)) << "offset " << offset << " length " << length;
      ASSERT_TRUE(content.equal(offset, buffer.data(), got)) << "offset " << offset << " length " << length;
    }
  }
}

TEST_P(FileTest, StopsAtTheEndWhateverItsAlignment) {
  for (const uint32_t size : {1u, 511u, 512u, 4095u, 4096u, 4097u, 8191u}) {
    const RandomFile content(size, size);
    const File file(content.path(), unbuffered());
    const AlignedBuffer buffer(4 * kBlock);
    EXPECT_EQ(file.read_at(buffer.data(), 0, 4 * kBlock), size);
    EXPECT_TRUE(content.equal(0, buffer.data(), size)) << size;
    EXPECT_EQ(file.read_at(buffer.data(), align_up(size, kBlock), kBlock), 0u) << size;
    EXPECT_EQ(file.read_at(buffer.data(), 1u << 30, kBlock), 0u) << size;
  }
}

TEST_P(FileTest, ReadsAnEmptyFile) {
  const TemporaryPath empty;
  const File file(empty.path(), unbuffered());
  const AlignedBuffer buffer(kBlock);
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(file.read_at(buffer.data(), 0, kBlock), 0u);
  EXPECT_EQ(file.read_at(buffer.data(), 0, 0), 0u);
}

TEST(BufferedFile, ReadsAtAnyOffsetAndLength) {
  const RandomFile content(100'003, 2);
  const File file(content.path(), false);
  EXPECT_FALSE(file.unbuffered());
  std::mt19937 random(3);
  std::vector<uint8_t> buffer(content.size() + 10);
  for (int i = 0; i < 500; ++i) {
    const uint64_t offset = random() % (content.size() + 5);
    const size_t length = random() % (i % 2 ? 100 : buffer.size());
    const size_t left = offset < content.size() ? content.size() - offset : 0;
    const size_t got = file.read_at(buffer.data(), offset, length);
    ASSERT_EQ(got, std::min<size_t>(length, left));
    ASSERT_TRUE(content.equal(offset, buffer.data(), got));
  }
}

TEST_P(FileTest, ServesSeveralThreads) {
  const RandomFile content(64 * kBlock + 77, 4);
  const File file(content.path(), unbuffered());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      const AlignedBuffer buffer(8 * kBlock);
      for (int i = 0; i < 50; ++i) {
        const uint64_t offset = random() % 64 * kBlock;
        const size_t got = file.read_at(buffer.data(), offset, (1 + random() % 8) * kBlock);
        if (got == 0 || !content.equal(offset, buffer.data(), got)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(FileTest, CanBeMoved) {
  const RandomFile content(kBlock, 5);
  File first(content.path(), unbuffered());
  const File second(std::move(first));
  const AlignedBuffer buffer(kBlock);
  EXPECT_EQ(second.path(), content.path());
  EXPECT_EQ(second.read_at(buffer.data(), 0, kBlock), kBlock);
  EXPECT_TRUE(content.equal(0, buffer.data(), kBlock));
}

TEST_P(FileTest, NamesWhatItCannotOpen) {
  const std::string missing = ::testing::TempDir() + "edgemoe_no_such_file.gguf";
  EXPECT_TRUE(mentions(message_of_opening(missing, unbuffered()), missing));
  EXPECT_TRUE(mentions(message_of_opening(missing, unbuffered()), "No such file"));
  EXPECT_TRUE(mentions(message_of_opening(::testing::TempDir(), unbuffered()), "not a regular file"));
  EXPECT_TRUE(mentions(message_of_opening("/dev/null", unbuffered()), "not a regular file"));
}

TEST_P(FileTest, RefusesAPipeWithoutWaitingForItsWriter) {
  const std::string pipe = ::testing::TempDir() + "edgemoe_pipe_" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_TRUE(mentions(message_of_opening(pipe, unbuffered()), "not a regular file"));
  ::unlink(pipe.c_str());
}

TEST_P(FileTest, NamesWhatItMayNotRead) {
  const RandomFile content(10, 6);
  ASSERT_EQ(::chmod(content.path().c_str(), 0), 0);
  std::string message;
  {
    const Unprivileged user;
    message = message_of_opening(content.path(), unbuffered());
  }
  EXPECT_TRUE(mentions(message, content.path()));
  EXPECT_TRUE(mentions(message, "Permission denied"));
}

TEST_P(FileTest, FailsOnceTheFaultsBytesAreRead) {
  const RandomFile content(16 * kBlock, 7);
  const File file(content.path(), unbuffered());
  const AlignedBuffer buffer(16 * kBlock);
  {
    const FaultGuard guard(testing::failing_after(4 * kBlock));
    EXPECT_EQ(file.read_at(buffer.data(), 0, 4 * kBlock), 4 * kBlock);
    try {
      file.read_at(buffer.data(), 5 * kBlock, kBlock);
      FAIL() << "the read should have failed";
    } catch (const IoError& error) {
      EXPECT_TRUE(mentions(error.what(), content.path()));
      EXPECT_TRUE(mentions(error.what(), std::to_string(5 * kBlock)));
    }
    EXPECT_THROW(file.read_at(buffer.data(), 0, kBlock), IoError);
  }
  EXPECT_EQ(file.read_at(buffer.data(), 0, 16 * kBlock), 16 * kBlock);
}

TEST_P(FileTest, AppearsToEndWhereTheFaultTruncatesIt) {
  const RandomFile content(8 * kBlock, 8);
  const File file(content.path(), unbuffered());
  const AlignedBuffer buffer(8 * kBlock);
  for (const uint64_t end : {2 * kBlock, 2 * kBlock + 5, 3 * kBlock - 1, 8 * kBlock}) {
    const FaultGuard guard(testing::truncated_at(end));
    EXPECT_EQ(file.read_at(buffer.data(), 0, 8 * kBlock), end);
    EXPECT_TRUE(content.equal(0, buffer.data(), end));
    EXPECT_EQ(file.read_at(buffer.data(), kBlock, kBlock), kBlock);
    EXPECT_EQ(file.read_at(buffer.data(), 8 * kBlock, kBlock), 0u);
  }
}

TEST_P(FileTest, ReadsNoFasterThanTheFaultAllows) {
  const RandomFile content(32 * kBlock, 9);
  const File file(content.path(), unbuffered());
  const FaultGuard guard(testing::throttled_to(32 * kBlock * 10));  // the whole file in 100 ms
  const auto started = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&file, t] {
      const AlignedBuffer buffer(8 * kBlock);
      file.read_at(buffer.data(), t * 8 * kBlock, 8 * kBlock);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(std::chrono::steady_clock::now() - started, std::chrono::milliseconds(95));
}

}  // namespace
}  // namespace edgemoe
