#include "iopt/base/address.hpp"

#include <concepts>

#include "tests/catch.hpp"

using namespace iopt;

namespace {

template <class A, class B>
concept comparable = requires(A a, B b) { a == b; };
template <class A, class B>
concept subtractable = requires(A a, B b) { a - b; };

// Kinds do not mix, and a number is no address.
static_assert(comparable<iova, iova> && !comparable<iova, physical> && !comparable<iova, int>);
static_assert(subtractable<iova, iova> && !subtractable<iova, physical>);
static_assert(!std::convertible_to<std::uint64_t, iova> && !std::convertible_to<iova, physical>);
static_assert(sizeof(iova) == 8);

}  // namespace

TEST_CASE("addresses move by numbers, and differ by numbers") {
  iova a{4096};
  a += 10;
  CHECK(a == iova{4106});
  a -= 4106;
  CHECK(a == iova{0});
  CHECK(iova{top} - iova{0} == top);
  CHECK(iova{top - 1} + 1 == iova{top});
  CHECK(iova{top} - top == iova{0});
  CHECK(iova{1} < iova{top});
  CHECK(iova{} == iova{0});
}

TEST_CASE("alignment is that of the number") {
  CHECK(iova{0}.is_aligned(std::uint64_t{1} << 63));
  CHECK(iova{12288}.is_aligned(4096));
  CHECK_FALSE(iova{12288}.is_aligned(8192));
  CHECK(iova{top}.is_aligned(1));
}
