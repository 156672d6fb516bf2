// tests/backends/iommufd/file_frames_test.cpp - frames that are offsets of files.
#include "iopt/backends/iommufd/file_frames.hpp"

#include <sys/mman.h>

#include <array>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "tests/catch.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

namespace {

using namespace iopt;
using dev_iommu::file_frames;
using iopt::access_rights;  // not that of unistd.h

struct memory_file {
  int descriptor = ::memfd_create("pages", MFD_CLOEXEC);
  explicit memory_file(std::uint64_t bytes) {
    REQUIRE(::ftruncate(descriptor, static_cast<off_t>(bytes)) == 0);
  }
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;
  ~memory_file() { ::close(descriptor); }
};

struct hooks {
  std::byte* data = static_cast<std::byte*>(
      ::mmap(nullptr, 70 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::uint64_t page_bytes() const { return 4096; }
  user_range memory(dev_iommu::pinner&, std::uint64_t count) const {
    return user_range::sized({reinterpret_cast<std::uintptr_t>(data)}, count * 4096);
  }
  dev_iommu::pinner::file file(dev_iommu::pinner& p, std::uint64_t bytes) const {
    const memory_file f(bytes);  // the pinner has its own descriptor
    return p.add_file(f.descriptor).value();
  }
};

TEST_CASE("the pinner of files and addresses keeps the contract", "[conformance]") {
  iopt_conformance::check_pinner<dev_iommu::pinner>([] { return dev_iommu::pinner(); }, hooks{});
}

TEST_CASE("file_frames: a frame is a file and an offset, or an address") {
  file_frames frames;
  const memory_file f(8192);
  CHECK(frames.add(-1).error() == errc::bad_file_descriptor);
  const std::uint32_t first = frames.add(f.descriptor).value();
  const std::uint32_t second = frames.add(f.descriptor).value();
  CHECK(first != second);
  CHECK_FALSE(frames.find({0x7fff12345000}).has_value());
  CHECK_FALSE(frames.find({file_frames::first_frame - 1}).has_value());
  const auto at = frames.find(file_frames::frame(second, 4096) + 5);
  REQUIRE(at.has_value());
  CHECK(at->offset == 4101);
  CHECK(at->descriptor != frames.find(file_frames::frame(first, 0))->descriptor);
  CHECK(frames.size_bytes(second) == 8192);
  CHECK(frames.find(file_frames::frame(7, 0))->descriptor == -1);
}

TEST_CASE("file_frames: a table maps a file as one run") {
  dev_iommu::pinner p;
  const memory_file f(8 * mebibyte);
  const auto file = p.add_file(f.descriptor).value();
  mock::domain d;
  io_pagetable<dev_iommu::pinner, mock::domain> table(p);
  REQUIRE(table.attach(d).has_value());
  REQUIRE(
      table.map(table.file_memory(file, 4096), mebibyte, access_rights::read, iova{0}).has_value());
  CHECK(d.translate({5}) == file_frames::frame(file.number, 4101));
  CHECK(table.map(table.file_memory(file, 8 * mebibyte), 4096, access_rights::read).error() ==
        errc::invalid_argument);
}

}  // namespace
