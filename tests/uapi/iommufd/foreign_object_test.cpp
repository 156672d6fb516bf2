// tests/uapi/iommufd/foreign_object_test.cpp - objects of a front end among those of the context.
#include "iopt/uapi/iommufd/objects.hpp"

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
