// tests/uapi/iommufd/foreign_object_test.cpp - objects of a front end among those of the context.
#include "iopt/uapi/iommufd/objects.hpp"

#include "examples/interpose/test_ioctl.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using fixture = context_fixture<>;

namespace {

struct thing final : iommufd::foreign_object {
  int ended = 0;
  void destroyed() noexcept override { ++ended; }
};

}  // namespace

TEST_CASE("a front end's object has a number among the others, and is told of its end",
          "[foreign]") {
  thing first, second, third;
  {
    fixture f;
    REQUIRE(f.context->reserve(first));
    CHECK(first.id() == 1);
    CHECK(f.space() == 2);
    CHECK(f.destroy(1) == "ENOENT");  // not published yet
    f.context->publish(first);
    const auto asks = [&](iommufd::foreign_object& o) -> result<iommufd::object_id> {
      CHECK(f.destroy(o.id()) == "EBUSY");
      return o.id();
    };
    CHECK(said(f.context->with_foreign(1, asks)) == "1");
    CHECK(said(f.context->with_foreign(2, asks)) == "ENOENT");
    CHECK(said(f.context->with_space(1, [](auto&) { return result<int>(0); })) == "ENOENT");
    CHECK(f.map(1, 0) == "ENOENT");
    REQUIRE(f.context->reserve(second));
    CHECK(second.id() == 3);
    f.context->abandon(second);
    CHECK(f.destroy(1) == "0");
    CHECK(first.ended == 1);
    REQUIRE(f.context->reserve(third));
    f.context->publish(third);
    CHECK(third.id() == 1);
  }
  CHECK(first.ended == 1);
  CHECK(second.ended == 0);
  CHECK(third.ended == 1);  // with the context
}

TEST_CASE("the ioctl of the kernel's tests is added from outside", "[foreign]") {
  fixture f;
  auto made = [&](mock::domain& d) { f.pinner.watch(d); };
  // It outlives the context, whose groups it has.
  test_ioctl<fixture::context_type, mock::domain> more(*f.context, made);
  const auto call = [&](test_command& c) {
    c.size = sizeof c;
    return status(f.context->ioctl(0x3ba0, fixture::address(&c), more));
  };
  test_command c{};
  c.op = 2;
  c.id = 9;
  CHECK(call(c) == "ENOENT");
  CHECK(f.context->size() == 0);
  c.id = f.space();
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(call(c) == "EFAULT");
  CHECK(f.context->size() == 1);
  f.memory.unwritable.reset();
  CHECK(call(c) == "0");
  CHECK(c.words[0] == 2);
  CHECK(c.words[1] == 4);
  CHECK(c.words[2] == 3);
  CHECK(f.destroy(4) == "EBUSY");
  CHECK(f.destroy(3) == "EBUSY");
  test_command r{};
  r.op = 10;
  r.id = 2;
  r.words[0] = f.space();  // 5
  CHECK(call(r) == "0");
  CHECK(r.words[0] == 6);
  CHECK(f.destroy(1) == "0");
  CHECK(f.destroy(5) == "EBUSY");
  CHECK(f.destroy(2) == "0");  // with its device, and the hardware page table
  CHECK(f.context->size() == 1);
  f.close();
}
