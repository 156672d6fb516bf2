// tests/uapi/iommufd/accesses_test.cpp - access objects among the objects of a context.
#include "iopt/uapi/iommufd/accesses.hpp"

#include <vector>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using fixture = context_fixture<>;

namespace {

/// Lets go of what it pinned when it is told.
struct user {
  fixture& f;
  iommufd::object_id id = 0;
  std::vector<iova_range> pins{};

  explicit user(fixture& of) : f(of) {
    const auto made = f.context->create_access(&user::let_go, this, true);
    REQUIRE(made);
    id = *made;
  }
  std::string pin(std::uint64_t at, std::uint64_t bytes) {
    const iova_range r = iova_range::sized({at}, bytes);
    const auto done = f.context->access(id)->pin(r, access_rights::read, [](run) {});
    if (done) pins.push_back(r);
    return said(done);
  }
  static void let_go(void* context, iova_range gone) {
    user& u = *static_cast<user*>(context);
    std::erase_if(u.pins, [&](iova_range r) {
      if (!r.overlaps(gone)) return false;
      u.f.context->access(u.id)->unpin(r);
      return true;
    });
  }
};

}  // namespace

TEST_CASE("an access object uses its space, and its user uses it", "[access]") {
  fixture f;
  const auto s = f.space();
  user u(f);
  CHECK(u.id == 2);
  CHECK(f.destroy(u.id) == "EBUSY");
  CHECK(f.context->access(s) == nullptr);
  CHECK(said(f.context->attach_access(9, s)) == "ENOENT");
  CHECK(said(f.context->attach_access(u.id, 9)) == "ENOENT");
  CHECK(said(f.context->attach_access(u.id, u.id)) == "ENOENT");
  CHECK(said(f.context->attach_access(u.id, s)) == "ok");
  CHECK(said(f.context->attach_access(u.id, s)) == "EINVAL");
  CHECK(f.destroy(s) == "EBUSY");
  CHECK(f.map(s, 0x10000, 4) == "0");
  CHECK(u.pin(0x11000, 0x2000) == "ok");
  CHECK(f.pinner.pinned_pages() == 2);
  CHECK(f.unmap(s, 0x10000, 4) == "0");  // it lets go
  CHECK(f.pinner.pinned_pages() == 0);
  CHECK(said(f.context->detach_access(u.id)) == "ok");
  CHECK(said(f.context->detach_access(u.id)) == "ok");
  CHECK(f.destroy(s) == "0");
  CHECK(said(f.context->destroy_access(u.id)) == "ok");
  CHECK(said(f.context->destroy_access(u.id)) == "ENOENT");
  CHECK(f.context->size() == 0);
}

TEST_CASE("an access object goes over to another space without its pins", "[access]") {
  fixture f;
  const auto s = f.space();
  const auto t = f.space();
  user u(f);
  CHECK(said(f.context->replace_access(u.id, s)) == "ENOENT");  // nowhere yet
  REQUIRE(f.context->attach_access(u.id, s));
  CHECK(f.map(s, 0x10000, 4) == "0");
  CHECK(u.pin(0x11000, 0x2000) == "ok");
  CHECK(said(f.context->replace_access(u.id, s)) == "ok");
  CHECK(u.pins.size() == 1);
  CHECK(said(f.context->replace_access(u.id, 9)) == "ENOENT");
  iommufd::abi::ioas_map odd{0, 7, t, 0, 0x10000, 0x10, 0x10};
  CHECK(f.call(fixture::request::ioas_map, odd) == "0");
  CHECK(said(f.context->replace_access(u.id, t)) == "EADDRINUSE");  // not on page boundaries
  CHECK(f.destroy(t) == "0");
  CHECK(u.pins.size() == 1);
  CHECK(f.space() == t);
  CHECK(said(f.context->replace_access(u.id, t)) == "ok");
  CHECK(u.pins.empty());
  CHECK(f.destroy(t) == "EBUSY");
  CHECK(f.destroy(s) == "0");
  CHECK(said(f.context->destroy_access(u.id)) == "ok");
  CHECK(f.destroy(t) == "0");
}
