#include "iopt/core/mapped_area.hpp"

#include <cstddef>
#include <cstdint>
#include <map>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = 4096;
using compact = compact_area<mock::pinner, single_threaded>;

static_assert(sizeof(compact) == 56);
static_assert(sizeof(compact_area<mock::pinner, multi_threaded>) == 56);

/// The heap, and how many blocks of which size are out.
struct counted_blocks {
  std::map<std::size_t, std::size_t> live;
  std::size_t asked = 0;
};
class counting_memory {
 public:
  counting_memory() noexcept = default;
  explicit counting_memory(counted_blocks& counts) noexcept : counts_(&counts) {}
  void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    ++counts_->live[bytes], ++counts_->asked;
    return heap_memory{}.allocate(bytes, alignment);
  }
  void deallocate(void* p, std::size_t bytes, std::size_t alignment) noexcept {
    --counts_->live[bytes];
    heap_memory{}.deallocate(p, bytes, alignment);
  }

 private:
  counted_blocks* counts_ = nullptr;
};
struct counting_traits : single_threaded {
  using memory = counting_memory;
};
struct counting_threads : multi_threaded {
  using memory = counting_memory;
};

}  // namespace

TEST_CASE("a compact area counts pages that it begins or ends inside of", "[mapped_area]") {
  compact whole(16 * page, 3 * page, rw);
  whole.show(iova_range::sized({64 * page}, 3 * page));
  CHECK(whole.page_offset() == 0);
  CHECK(whole.length() == 3 * page);
  CHECK(whole.page_count() == 3);
  CHECK(whole.at_origin() == user_range::sized({16 * page}, 3 * page));

  compact inside(16 * page + 512, 1024, access_rights::read);
  CHECK(inside.page_offset() == 512);
  CHECK(inside.page_count() == 1);
  CHECK(inside.at_origin() == user_range::sized({16 * page}, page));
  inside.frame = {7 * page};
  CHECK(inside.frames() == run({7 * page}, page));
  CHECK(inside.shown() == run({7 * page + 512}, 1024));

  compact across(16 * page + page - 1, 2, rw);
  CHECK(across.page_count() == 2);
  CHECK(across.at_origin() == user_range::sized({16 * page}, 2 * page));
  across.frame = {7 * page};
  CHECK(across.frames() == run({7 * page}, 2 * page));
  CHECK(across.shown() == run({8 * page - 1}, 2));

  compact full_tail(16 * page + 1, 2 * page - 1, rw);
  CHECK(full_tail.page_count() == 2);
}

TEST_CASE("a compact area pins for writing what it may write", "[mapped_area]") {
  const auto pins_for = [](access_rights r) { return compact(page, page, r).pin_rights(); };
  CHECK(pins_for(access_rights::read) == access_rights::read);
  CHECK(pins_for(rw) == rw);
  CHECK(pins_for(access_rights::write) == rw);
  CHECK_FALSE(compact(page, page, access_rights::read).writable());
}

TEST_CASE("a part of a compact area shows what it showed there", "[mapped_area]") {
  const std::uint64_t first_byte = 16 * page + 512;
  const iova_range where = iova_range::sized({64 * page + 512}, 4 * page - 1024);
  const auto part = [&](iova_range of) {
    compact a(first_byte, where.length(), rw);
    a.show(where);
    a.frame = {7 * page};
    a.narrow(of);
    CHECK(a.where == of);
    CHECK(a.first_byte == first_byte + (of.first - where.first));
    CHECK(a.shown().first == physical{7 * page + 512 + (of.first - where.first)});
    CHECK(a.frame.is_aligned(page));
    return a;
  };
  CHECK(part(where).page_count() == 4);
  CHECK(part({where.first, {65 * page - 1}}).page_count() == 1);
  CHECK(part({{65 * page}, {66 * page - 1}}).frame == physical{8 * page});
  CHECK(part({{67 * page}, where.last}).page_count() == 1);
  CHECK(part({{67 * page}, where.last}).frame == physical{10 * page});
}

TEST_CASE("an area is in flight until it is published", "[mapped_area]") {
  compact a(page, page, rw);
  CHECK(a.is_in_flight());
  CHECK_FALSE(a.is_present());
  CHECK(a.filled == fill_state::not_yet);
  CHECK(a.is_compact);
  CHECK_FALSE((a.held || a.lost || a.suspended || a.in_family));
  a.state = area_state::present;
  CHECK(a.is_present());
}

TEMPLATE_TEST_CASE("a mapping of one run is one block of 56 bytes, beside the map's nodes",
                   "[mapped_area][cost]", counting_traits, counting_threads) {
  counted_blocks blocks;
  mock::pinner pinner;
  mock::domain domain;
  io_pagetable<mock::pinner, mock::domain, TestType> table(pinner, counting_memory(blocks));
  must(table.attach(domain));
  const auto map = [&](std::uint64_t n) {
    must(table.map({(1024 + n) * page}, page, rw, iova{2 * n * page}));
  };
  map(0);  // the first makes the record of the origin
  const std::size_t others = blocks.live[56];
  for (std::uint64_t n = 1; n <= 512; ++n) {
    const counted_blocks before = blocks;
    map(n);
    CHECK(blocks.live[56] == others + n);
    // What else is taken are nodes, and these seldom.
    std::size_t small = 0;
    for (const auto& [bytes, count] : blocks.live)
      if (bytes != 56 && bytes < 128 && before.live.contains(bytes))
        small += count - before.live.at(bytes);
    CHECK(small == 0);
  }
  std::size_t nodes = 0;
  for (const auto& [bytes, count] : blocks.live)
    if (bytes >= 128) nodes += count;
  CHECK(nodes <= 512 / 4);

  // Map and unmap in turn: in that block again, and nothing else.
  map(600);
  static_cast<void>(table.unmap({2 * 600 * page}, page, unmap_profile::iommufd));
  for (int n = 0; n < 100; ++n) {
    const counted_blocks before = blocks;
    map(600);
    CHECK(table.unmap({2 * 600 * page}, page, unmap_profile::iommufd).bytes == page);
    CHECK(blocks.asked == before.asked);
    CHECK(blocks.live == before.live);
  }
}

}  // namespace iopt::test
