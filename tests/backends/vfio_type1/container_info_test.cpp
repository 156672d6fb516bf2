// tests/backends/vfio_type1/container_info_test.cpp - the chain of capabilities, right and wrong.
#include "iopt/backends/vfio_type1/container_info.hpp"

#include <cstring>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using vfio_type1::container_info;
namespace abi = vfio::abi;

/// The bytes of an answer.
struct answer {
  std::vector<std::byte> bytes = std::vector<std::byte>(sizeof(abi::type1_info));
  abi::type1_info head{0, abi::info_page_sizes | abi::info_capabilities, 0x40201000, 0, 0};
  std::size_t last_link = 0;

  template <class T>
  std::size_t append(const T& what) {
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof what);
    std::memcpy(bytes.data() + at, &what, sizeof what);
    return at;
  }
  void link(std::size_t at) {
    if (last_link == 0) {
      head.cap_offset = static_cast<std::uint32_t>(at);
    } else {
      const auto next = static_cast<std::uint32_t>(at);
      std::memcpy(bytes.data() + last_link + 4, &next, 4);
    }
    last_link = at;
  }
  void migration() {
    link(append(abi::migration_capability{{abi::capability_migration, 1, 0}, 0, 0, 4096, 1 << 28}));
  }
  void left(std::uint32_t n) {
    link(append(abi::dma_avail_capability{{abi::capability_dma_avail, 1, 0}, n}));
    append(std::uint32_t{0});
  }
  void ranges(const std::vector<abi::iova_range_entry>& all) {
    link(append(abi::iova_ranges_capability{
        {abi::capability_iova_range, 1, 0}, static_cast<std::uint32_t>(all.size()), 0}));
    for (const abi::iova_range_entry& each : all) append(each);
  }
  std::vector<std::byte> done() {
    head.argsz = static_cast<std::uint32_t>(bytes.size());
    std::memcpy(bytes.data(), &head, sizeof head);
    return bytes;
  }
};

TEST_CASE("container_info: page sizes, what is left, and usable IOVAs with the gaps between") {
  answer a;
  a.migration();
  a.left(65535);
  a.ranges({{0, 0xfedfffff}, {0xfef00000, 0x7fffffffff}});
  const auto info = container_info::parse(a.done());
  REQUIRE(info.has_value());
  CHECK(info->page_sizes.bitmap() == 0x40201000);
  CHECK(info->entries_left == 65535);
  CHECK(info->aperture == iova_range{{0}, {0x7fffffffff}});
  REQUIRE(info->reserved.size() == 1);
  CHECK(info->reserved[0].range == iova_range{{0xfee00000}, {0xfeefffff}});
  CHECK(info->reserved[0].what == reserved_region::kind::reserved);
}

TEST_CASE("container_info: kernels that say less") {
  answer none;
  auto info = container_info::parse(none.done());
  REQUIRE(info.has_value());
  CHECK_FALSE(info->entries_left.has_value());
  CHECK(info->aperture == iova_range{{0}, {top - 4096}});
  none.head.flags = 0;
  info = container_info::parse(none.done());
  REQUIRE(info.has_value());
  CHECK(info->page_sizes == page_size_set{4096});
  answer compatible;
  compatible.left(~std::uint32_t{0});
  CHECK_FALSE(container_info::parse(compatible.done())->entries_left.has_value());
  answer all;
  all.ranges({{0, top}});
  CHECK(container_info::parse(all.done())->aperture == iova_range{{0}, {top - 4096}});
  answer touching;
  touching.ranges({{4096, 8191}, {8192, 65535}});
  CHECK(container_info::parse(touching.done())->aperture == iova_range{{4096}, {65535}});
  CHECK(container_info::parse(touching.done())->reserved.empty());
}

TEST_CASE("container_info: a chain that makes no sense is an error, and never read past its end") {
  const auto refused = [](answer& a) {
    const auto info = container_info::parse(a.done());
    REQUIRE_FALSE(info.has_value());
    CHECK(info.error() == errc::io_error);
  };
  answer outside;
  outside.head.cap_offset = 4000;
  refused(outside);
  answer inside_head;
  inside_head.head.cap_offset = 8;
  refused(inside_head);
  answer back;
  back.left(1);
  back.left(2);
  const std::uint32_t turn = 24;
  std::memcpy(back.bytes.data() + back.last_link + 4, &turn, 4);
  refused(back);
  answer long_list;
  long_list.ranges({{0, 4095}});
  const std::uint32_t count = 1000;
  std::memcpy(long_list.bytes.data() + long_list.last_link + 8, &count, 4);
  refused(long_list);
  // The next range would be there, if the answer went on.
  answer cut;
  cut.ranges({{0, 4095}, {8192, 12287}});
  const std::vector<std::byte> all = cut.done();
  CHECK(container_info::parse(all).has_value());
  CHECK_FALSE(container_info::parse(std::span(all).first(all.size() - 16)).has_value());
  answer reversed;
  reversed.ranges({{8192, 4095}});
  refused(reversed);
  answer overlap;
  overlap.ranges({{0, 8191}, {4096, 12287}});
  refused(overlap);
  CHECK_FALSE(container_info::parse({}).has_value());

  std::mt19937_64 random(5);
  answer a;
  a.migration();
  a.left(9);
  a.ranges({{0, 4095}, {65536, 131071}});
  const std::vector<std::byte> sound = a.done();
  for (int n = 0; n < 20000; ++n) {
    std::vector<std::byte> bytes = sound;
    for (int m = 0; m < 3; ++m) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    bytes.resize(random() % 4 == 0 ? random() % bytes.size() : bytes.size());
    bytes.shrink_to_fit();
    static_cast<void>(container_info::parse(bytes));
  }
}

}  // namespace
