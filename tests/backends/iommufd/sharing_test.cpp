// tests/backends/iommufd/sharing_test.cpp - who may copy what from whom.
#include "iopt/backends/iommufd/sharing.hpp"

#include <optional>
#include <thread>
#include <vector>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using dev_iommu::sharing;

constexpr iova_range at(std::uint64_t first, std::uint64_t pages) {
  return iova_range::sized({first * 4096}, pages * 4096);
}
std::vector<std::uint32_t> offered(sharing::member& to, iova_range r, std::uint64_t memory) {
  std::vector<std::uint32_t> from;
  CHECK_FALSE(to.copied(r, memory, [&](std::uint32_t ioas) {
    from.push_back(ioas);
    return false;
  }));
  return from;
}
void keep(sharing::member& m, iova_range r, std::uint64_t memory) {
  REQUIRE(m.reserve().has_value());
  m.keep(r, memory);
}

TEST_CASE("sharing: only the same memory at the same place, of another, and all of it") {
  sharing all;
  sharing::member a(all, 1), b(all, 2);
  CHECK(offered(b, at(16, 4), 0x10000).empty());
  keep(a, at(16, 4), 0x10000);
  CHECK(offered(b, at(16, 4), 0x10000) == std::vector<std::uint32_t>{1});
  CHECK(offered(b, at(17, 2), 0x11000) == std::vector<std::uint32_t>{1});
  CHECK(offered(b, at(17, 2), 0x10000).empty());
  CHECK(offered(b, at(18, 4), 0x12000).empty());
  CHECK(offered(b, at(14, 4), 0xe000).empty());
  CHECK(offered(a, at(16, 4), 0x10000).empty());
  {
    sharing::member c(all, 3);
    keep(c, at(0, 64), 0);
    CHECK(offered(b, at(16, 4), 0x10000) == std::vector<std::uint32_t>{3, 1});
    int asked = 0;
    CHECK(b.copied(at(16, 4), 0x10000, [&](std::uint32_t) { return ++asked == 1; }));
    CHECK(asked == 1);
  }
  a.forget(at(16, 4));
  CHECK(offered(b, at(16, 4), 0x10000).empty());
}

TEST_CASE("sharing: members come, map and go side by side") {
  sharing all;
  std::vector<std::thread> threads;
  for (std::uint32_t n = 0; n < 4; ++n) {
    threads.emplace_back([&all, n] {
      for (int round = 0; round < 200; ++round) {
        sharing::member m(all, n);
        for (std::uint64_t p = 0; p < 8; ++p) {
          if (!m.reserve()) return;
          m.keep(at(p * 4, 2), p);
          static_cast<void>(m.copied(at(p * 4, 1), p, [](std::uint32_t) { return false; }));
        }
        m.forget(at(4, 8));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  sharing::member last(all, 9);
  CHECK(offered(last, at(0, 1), 0).empty());
}

}  // namespace
