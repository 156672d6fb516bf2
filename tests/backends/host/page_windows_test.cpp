// tests/backends/host/page_windows_test.cpp - windows of frames, against a map.
#include "iopt/backends/host/page_windows.hpp"

#include <fcntl.h>

#include <map>
#include <random>
#include <vector>

#include "tests/catch.hpp"

using namespace iopt;
using host::memory_object;
using host::page_windows;

namespace {

constexpr auto nothing = [] { return -1; };

}  // namespace

TEST_CASE("the calling process's memory has frames that are its addresses") {
  page_windows w;
  CHECK(w.enter({}, 7, nothing)->value == 0);
  CHECK(w.find({})->value == 0);
  w.leave({0x7000}, 7);
  CHECK(w.object_at({0x7000}) == std::pair{memory_object{}, -1});
  CHECK(w.verify() == "");
}

TEST_CASE("an object has one window while it has pins, and then the number is free") {
  page_windows w;
  const memory_object a{1, 7, 0}, b{2, 7, 0}, c{0, 0, 7};
  const physical first = *w.enter(a, 1, nothing);
  const physical second = *w.enter(b, 2, nothing);
  const physical third = *w.enter(c, 1, nothing);
  CHECK(first != second);
  CHECK(second != third);
  CHECK(first.value % page_windows::window_bytes == 0);
  CHECK(*w.enter(b, 1, nothing) == second);
  CHECK(w.object_at(second + 12345).first == b);
  CHECK(page_windows::offset_of(second + 12345) == 12345);
  w.leave(second + 4096, 2);
  CHECK(*w.find(b) == second);
  w.leave(second, 1);
  CHECK(w.find(b).error() == errc::no_such_file_or_directory);
  CHECK(*w.enter({3, 7, 0}, 1, nothing) == second);
  CHECK(*w.find(a) == first);
  CHECK(w.verify() == "");
}

TEST_CASE("a descriptor is made with the window, and closed with the last pin") {
  page_windows w;
  int made = 0;
  const auto open = [&] { return made = ::open("/dev/null", O_RDONLY | O_CLOEXEC); };
  const memory_object a{1, 1, 0};
  const physical first = *w.enter(a, 1, open);
  CHECK(w.object_at(first).second == made);
  const int before = made;
  REQUIRE(w.enter(a, 1, open));
  CHECK(made == before);
  w.leave(first, 1);
  CHECK(::fcntl(made, F_GETFD) >= 0);
  w.leave(first, 1);
  CHECK(::fcntl(made, F_GETFD) == -1);
  CHECK(w.verify() == "");
  {
    page_windows dies;
    REQUIRE(dies.enter(a, 1, open));
  }
  CHECK(::fcntl(made, F_GETFD) == -1);
}

TEST_CASE("windows: random pins against a map", "[model]") {
  page_windows w;
  std::map<std::uint64_t, std::uint64_t> pins;
  std::mt19937_64 random(1);
  for (int n = 0; n < 20000; ++n) {
    const std::uint64_t number = random() % 40 + 1;
    const memory_object what{number % 3, number, 0};
    if (random() % 2 == 0) {
      REQUIRE(w.enter(what, number, nothing));
      pins[number] += number;
    } else if (pins[number] != 0) {
      const physical first = *w.find(what);
      CHECK(w.object_at(first).first == what);
      w.leave(first + 4096, number);
      pins[number] -= number;
    }
    REQUIRE(w.find(what).has_value() == (pins[number] != 0));
    if (n % 100 == 0) REQUIRE(w.verify() == "");
  }
}
