#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "edgemoe/error.h"
#include "edgemoe/platform/memory.h"
#include "edgemoe/platform/process.h"
#include "edgemoe/platform/stream.h"

namespace edgemoe::platform {
namespace {

// Sets a variable while it lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : _name(name) {
    if (const char* before = std::getenv(name)) _before = before;
    ::setenv(name, value, 1);
  }
  ~Variable() { _before ? ::setenv(_name, _before->c_str(), 1) : ::unsetenv(_name); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* _name;
  std::optional<std::string> _before;
};

// Bytes that depend on their place; those of a stretch in the middle do not matter.
class Numbers final : public StreamSource {
 public:
  static constexpr uint64_t kSize = (5u << 20) + 77, kHoleBegin = 1234567, kHoleEnd = 4000001;

  explicit Numbers(uint64_t fails_at = kSize) : _fails_at(fails_at) {}
  static char at(uint64_t position) { return static_cast<char>(position * 2654435761u >> 13); }

  int64_t read(char* dst, size_t length) override {
    const uint64_t end = std::min<uint64_t>(_position + length, kSize);
    if (end > _fails_at) {
      errno = EIO;
      return -1;
    }
    const uint64_t begin = _position;
    for (; _position < end; ++_position) dst[_position - begin] = at(_position);
    return static_cast<int64_t>(end - begin);
  }
  int64_t seek(int64_t offset, int whence) override {
    const int64_t base = whence == SEEK_SET ? 0 : static_cast<int64_t>(whence == SEEK_CUR ? _position : kSize);
    if (base + offset < 0) return -1;
    _position = static_cast<uint64_t>(base + offset);
    return base + offset;
  }
  uint64_t size() const override { return kSize; }
  uint64_t next_content(uint64_t position) const override {
    return position >= kHoleBegin && position < kHoleEnd ? kHoleEnd : std::min(position, kSize);
  }

 private:
  uint64_t _position = 0;
  uint64_t _fails_at;
};

class StreamTest : public ::testing::TestWithParam<const char*> {
 protected:
  const Variable _kind{"EDGEMOE_STREAM", GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Kinds, StreamTest, ::testing::Values("memory", "file"), [](const auto& test) { return std::string(test.param); });

TEST_P(StreamTest, ReadsWhatTheSourceHolds) {
  Numbers source;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(open_stream(source), std::fclose);
  ASSERT_EQ(std::fseek(stream.get(), 0, SEEK_END), 0);
  EXPECT_EQ(std::ftell(stream.get()), static_cast<long>(Numbers::kSize));
  for (const uint64_t begin : {uint64_t{0}, uint64_t{1000}, Numbers::kHoleBegin - 500, Numbers::kHoleEnd, Numbers::kSize - 400}) {
    char bytes[500];
    ASSERT_EQ(std::fseek(stream.get(), static_cast<long>(begin), SEEK_SET), 0);
    const size_t got = std::fread(bytes, 1, sizeof(bytes), stream.get());
    ASSERT_EQ(got, std::min<uint64_t>(sizeof(bytes), Numbers::kSize - begin));
    for (size_t i = 0; i < got; ++i) ASSERT_EQ(bytes[i], Numbers::at(begin + i)) << begin + i;
  }
}

TEST(TemporaryStreamTest, HasHolesAndNoName) {
  const Variable kind("EDGEMOE_STREAM", "file");
  Numbers source;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(open_stream(source), std::fclose);
  struct stat status {};
  ASSERT_EQ(::fstat(::fileno(stream.get()), &status), 0);
  EXPECT_EQ(status.st_nlink, 0u);
  EXPECT_LT(static_cast<uint64_t>(status.st_blocks) * 512, Numbers::kSize);
}

TEST(TemporaryStreamTest, SaysWhatFailed) {
  const Variable kind("EDGEMOE_STREAM", "file");
  Numbers broken(4500000);
  EXPECT_THROW(open_stream(broken), IoError);
  Numbers source;
  const Variable folder("TMPDIR", "/proc/no-such-folder");
  try {
    open_stream(source);
    FAIL() << "a temporary file in a folder that does not exist";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("TMPDIR"), std::string::npos) << error.what();
  }
}

TEST(EnvironmentTest, RefusesOtherValues) {
  const Variable wrong("EDGEMOE_STREAM", "pipe");
  Numbers source;
  EXPECT_THROW(open_stream(source), Error);
  const Variable empty("EDGEMOE_STREAM", "");
  EXPECT_TRUE(streams_ask());
}

TEST(MemoryTest, TakesWholePagesOnly) {
  const size_t page = page_size();
  auto* range = static_cast<uint8_t*>(reserve(16 * page));
  ASSERT_NE(range, nullptr);
  // Reserved at a page of the system, which a larger one that is forced need not agree with.
  auto* base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(range) + page - 1) / page * page);
  ASSERT_TRUE(commit(base, 4 * page));
  std::memset(base, 7, 4 * page);
  EXPECT_FALSE(commit(base, page / 2));
  EXPECT_FALSE(decommit(base + page / 2, page));
  ASSERT_TRUE(decommit(base + 2 * page, 2 * page));
  EXPECT_EQ(base[2 * page - 1], 7);
  ASSERT_TRUE(commit(base, 4 * page));
  EXPECT_EQ(base[2 * page], 0);
  unreserve(range, 16 * page);
}

TEST(MemoryTest, DiscardedPagesLeaveTheProcess) {
  constexpr size_t kBytes = 64u << 20;
  auto* bytes = static_cast<uint8_t*>(map(kBytes + page_size()));
  ASSERT_NE(bytes, nullptr);
  auto* base = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(bytes) + page_size() - 1) / page_size() * page_size());
  std::memset(base, 1, kBytes);
  const uint64_t before = process_memory().held;
  discard(base, kBytes);
  EXPECT_LT(process_memory().held + kBytes / 2, before);
  unreserve(bytes, kBytes + page_size());
}

TEST(ProcessTest, CountsWhatIsTouched) {
  constexpr size_t kBytes = 64u << 20;
  const ProcessMemory before = process_memory();
  EXPECT_GT(before.resident, before.held / 2);
  void* bytes = map(kBytes);
  std::memset(bytes, 1, kBytes);
  const ProcessMemory after = process_memory();
  EXPECT_GT(after.held, before.held + kBytes / 2);
  EXPECT_GT(after.resident, before.resident + kBytes / 2);
  unreserve(bytes, kBytes);
}

}  // namespace
}  // namespace edgemoe::platform
