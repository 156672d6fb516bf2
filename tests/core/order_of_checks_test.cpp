// tests/core/order_of_checks_test.cpp - where two rules are broken, which one is answered.
//
// The order is that of Linux 6.12 iommufd. Each test breaks two rules at once; map_test.cpp has
// those of a fixed IOVA. All run on one kind of world, so that this file is built in a moment: the
// planted bugs of tests/bugs build it once for each order.
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

constexpr std::uint64_t page = usual::page;

std::string text(const unmap_report& r) { return test::text(r.outcome); }
using test::text;

/// An access object that does something when it is told, once, and then lets go.
struct told : usual::access_type {
  explicit told(usual& of) : usual::access_type(&told::hear, this), w(of) {}
  static void hear(void* self, iova_range gone) {
    told& me = *static_cast<told*>(self);
    me.heard.push_back(gone);
    if (me.then) std::exchange(me.then, nullptr)(me);
    for (const iova_range& each : std::exchange(me.pins, {})) me.unpin(each);
  }
  void hold(iova_range r) {
    must(pin(r, access_rights::read, no_frames));
    pins.push_back(r);
  }
  usual& w;
  std::vector<iova_range> pins{};
  std::vector<iova_range> heard{};
  void (*then)(told&) = nullptr;
  std::vector<std::string> answers{};
};

}  // namespace

// --- A chosen IOVA ------------------------------------------------------------------------------

TEST_CASE("choose: half the space comes before the alignment", "[choose]") {
  usual w;
  w.attach_domain();
  CHECK(text(w.table().map(w.at(0) + 1, std::uint64_t{1} << 63, rw)) == "EOVERFLOW");
}

TEST_CASE("choose: the alignment comes before a full space", "[choose]") {
  usual w;
  w.attach_domain();
  must(w.table().reserve(iova_range::whole()));
  CHECK(text(w.table().map(w.at(0) + 1, page, rw)) == "EINVAL");
  CHECK(text(w.table().map(w.at(0), page, rw)) == "ENOSPC");
}

// --- Reserved and allowed ranges ----------------------------------------------------------------

TEST_CASE("reserve: an area or an allowed range in the way comes before memory", "[reserve]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  const iova_range allowed[] = {w.pages_at(8, 8)};
  must(t.allow(allowed));
  w.account.refuse_all();
  CHECK(text(t.reserve(w.pages_at(0, 2))) == "EADDRINUSE");
  CHECK(text(t.reserve(w.pages_at(9, 1))) == "EADDRINUSE");
  CHECK(text(t.reserve(w.pages_at(4, 1))) == "ENOMEM");
  w.account.refuse_all(false);
  CHECK(w.verify() == "");
}

TEST_CASE("reserve: reserved ranges may overlap one another", "[reserve]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(w.pages_at(4, 8)));
  CHECK(text(t.reserve(w.pages_at(1, 4))) == "ok");
  CHECK(text(t.reserve(w.pages_at(2, 30))) == "ok");
  CHECK(w.verify() == "");
}

TEST_CASE("allow: overlap comes before a reserved range, and so does memory", "[allow]") {
  usual w;
  auto& t = w.table();
  must(t.reserve(w.pages_at(1, 1)));
  const iova_range overlap[] = {w.pages_at(1, 2), w.pages_at(2, 2)};
  CHECK(text(t.allow(overlap)) == "EINVAL");
  const iova_range reserved[] = {w.pages_at(8, 2), w.pages_at(1, 1)};
  CHECK(text(t.allow(reserved)) == "EADDRINUSE");
  w.account.refuse_all();
  CHECK(text(t.allow(reserved)) == "ENOMEM");
  w.account.refuse_all(false);
  CHECK(w.verify() == "");
}

TEST_CASE("allow: what is refused leaves the list that was", "[allow]") {
  usual w;
  auto& t = w.table();
  const iova_range good[] = {w.pages_at(40, 2), w.pages_at(32, 2), w.pages_at(64, 1)};
  must(t.allow(good));
  CHECK(w.verify() == "");
  must(t.reserve(w.pages_at(1, 1)));
  const iova_range bad[] = {w.pages_at(1, 4)};
  CHECK(text(t.allow(bad)) == "EADDRINUSE");
  CHECK(text(t.map(w.at(0), page, rw)) == "0x20000");
  CHECK(w.verify() == "");
}

// --- Domains ------------------------------------------------------------------------------------

TEST_CASE("attach: a domain is attached once", "[attach]") {
  usual w;
  auto& d = w.attach_domain();
  CHECK(text(w.table().attach(d)) == "EEXIST");
  CHECK(w.table().domain_count() == 1);
}

TEST_CASE("attach: a page too large comes before an area off the alignment", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 1, rw, iova{1}));
  CHECK(text(t.attach(w.add_domain({.page_sizes = {2 * page}}))) == "EINVAL");
  CHECK(text(t.attach(w.add_domain())) == "EADDRINUSE");
}

TEST_CASE("attach: an area off the alignment, or the aperture, comes before memory", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), 1, rw, iova{1}));
  auto& coarse = w.add_domain();
  w.account.refuse_all();
  CHECK(text(t.attach(coarse)) == "EADDRINUSE");
  w.account.refuse_all(false);
  CHECK(text(t.unmap_all()) == "ok");
  must(t.map(w.at(0), page, rw, w.io(1)));
  auto& high = w.add_domain({.page_sizes = {page}, .aperture = {w.io(2), iova{top}}});
  auto& low = w.add_domain({.page_sizes = {page}, .aperture = {iova{0}, w.io(1) - 1}});
  w.account.refuse_all();
  CHECK(text(t.attach(high)) == "EADDRINUSE");
  CHECK(text(t.attach(low)) == "EADDRINUSE");
  w.account.refuse_all(false);
  CHECK(w.verify() == "");
}

TEST_CASE("attach: reserved ranges of the aperture come before filling", "[attach]") {
  usual w;
  auto& t = w.table();
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(0), page));
  must(t.map(w.at(0), page, rw, w.io(1)));
  CHECK(text(t.attach(w.add_domain())) == "EFAULT");
  auto& high = w.add_domain({.page_sizes = {page}, .aperture = {w.io(2), iova{top}}});
  CHECK(text(t.attach(high)) == "EADDRINUSE");
}

TEST_CASE("attach: what fails leaves the alignment and the reserved ranges", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), page, rw, w.io(3)));
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(1), page));
  auto& d = w.add_domain({.page_sizes = {page}, .aperture = {w.io(1), w.io(9) - 1}});
  const snapshot before = w.look();
  CHECK(text(t.attach(d)) == "EFAULT");
  CHECK(difference(before, w.look()) == "");
  CHECK(w.verify() == "");
  CHECK(w.close() == "");
}

TEST_CASE("large pages: a domain and an area come before an area off its page", "[attach]") {
  usual w;
  auto& t = w.table();
  must(t.attach(w.add_domain({.page_sizes = {page / 2}})));
  must(t.map(w.at(0), page / 2, rw, w.io(1)));
  CHECK(text(t.disable_large_pages()) == "EINVAL");
  CHECK(t.detach(*w.domains[0]));
  CHECK(text(t.disable_large_pages()) == "EADDRINUSE");
  CHECK(t.large_pages());
}

// --- Filling ------------------------------------------------------------------------------------

TEST_CASE("fill: what pinning and the domains answer comes before the account", "[fill]") {
  usual w;
  auto& t = w.table();
  w.attach_domain();
  w.pinner.set_limit(w.owner(), account_mode::user, 1);
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(9), page));
  CHECK(text(t.map(w.at(6), 4 * page, rw, w.io(1))) == "EFAULT");
  w.faults.arm(mock::fault_point::map, 0);
  CHECK(text(t.map(w.at(0), 4 * page, rw, w.io(1))) == "ENOENT");
  CHECK(text(t.map(w.at(0), 4 * page, rw, w.io(1))) == "ENOMEM");
  CHECK(w.pinner.pinned_pages() == 0);
  CHECK(w.close() == "");
}

// --- Access objects -----------------------------------------------------------------------------

TEST_CASE("access: attached or not comes before areas off the page", "[access]") {
  usual w;
  auto& t = w.table();
  auto& fine = w.table(1);
  must(fine.map(w.at(0), 1, rw, iova{1}));
  told object(w);
  CHECK(text(object.replace(fine)) == "ENOENT");
  CHECK(text(object.attach(fine)) == "EADDRINUSE");
  must(object.attach(t));
  CHECK(text(object.attach(fine)) == "EINVAL");
  CHECK(text(object.replace(fine)) == "EADDRINUSE");
  CHECK(object.heard.empty());
  object.detach();
}

TEST_CASE("pin: who cannot be told comes before who is not attached", "[pin]") {
  usual w;
  usual::access_type deaf;
  CHECK(text(deaf.pin(w.pages_at(1, 1), access_rights::read, no_frames)) == "EINVAL");
  told object(w);
  CHECK(text(object.pin(w.pages_at(1, 1), access_rights::read, no_frames)) == "ENOENT");
}

TEST_CASE("pin: notification and the alignment come before rights", "[pin]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, access_rights::read, w.io(1)));
  CHECK(text(object.pin({w.io(1) + 1, w.io(2)}, access_rights::write, no_frames)) == "EINVAL");
  CHECK(text(object.pin(w.pages_at(1, 1), access_rights::write, no_frames)) == "EPERM");
  object.hold(w.pages_at(1, 1));
  object.then = [](told& me) {
    const std::byte data[1]{};
    std::byte out[1];
    me.answers.push_back(text(me.pin(usual::pages_at(1, 1), access_rights::write, no_frames)));
    me.answers.push_back(text(me.write(usual::io(1), data)));
    me.answers.push_back(text(me.read(usual::io(1), out)));
  };
  CHECK(text(t.unmap_all()) == "ok");
  CHECK(object.answers == std::vector<std::string>{"EINVAL", "EINVAL", "EINVAL"});
  object.detach();
  CHECK(w.close() == "");
}

TEST_CASE("pin: rights come before pinning, and a gap after both", "[pin]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(1), page));
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), page, access_rights::read, w.io(2)));
  CHECK(text(object.pin(w.pages_at(1, 3), access_rights::write, no_frames)) == "EPERM");
  CHECK(text(object.pin(w.pages_at(1, 3), access_rights::read, no_frames)) == "EFAULT");
  CHECK(text(object.pin(w.pages_at(0, 2), access_rights::read, no_frames)) == "ENOENT");
  CHECK(w.pinner.pinned_pages() == 0);
  CHECK(w.pinner.charged() == 0);
  CHECK(w.verify() == "");
  object.detach();
  CHECK(w.close() == "");
}

TEST_CASE("pin: what fails lets go of the areas before", "[pin]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), page, rw, w.io(1)));
  const snapshot before = w.look();
  CHECK(text(object.pin(w.pages_at(1, 2), access_rights::read, no_frames)) == "ENOENT");
  CHECK(difference(before, w.look()) == "");
  CHECK(w.verify() == "");
  object.detach();
}

TEST_CASE("read: nothing to read and a wrap come before who is not attached", "[read]") {
  usual w;
  told object(w);
  std::byte two[2];
  CHECK(text(object.read(w.io(1), {})) == "EINVAL");
  CHECK(text(object.read({top}, two)) == "EOVERFLOW");
  CHECK(text(object.read(w.io(1), two)) == "ENOENT");
}

TEST_CASE("write: what comes before a gap is written", "[read]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), page, rw, w.io(1)));
  const std::byte data[] = {std::byte{1}, std::byte{2}, std::byte{3}};
  CHECK(text(object.write(w.io(2) - 2, data)) == "ENOENT");
  std::byte seen[2];
  must(object.read(w.io(2) - 2, seen));
  CHECK(seen[0] == std::byte{1});
  CHECK(seen[1] == std::byte{2});
  object.detach();
}

// --- Unmapping ----------------------------------------------------------------------------------

TEST_CASE("unmap: in flight comes before a range that cuts an area", "[unmap]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  must(t.map(w.at(2), page, rw, w.io(3)));
  object.hold(w.pages_at(3, 1));
  object.then = [](told& me) {  // the first area is on its way out
    me.answers.push_back(
        text(me.w.table().unmap(usual::io(1), page, unmap_profile::iommufd).outcome));
  };
  CHECK(text(t.unmap(w.io(1), 3 * page, unmap_profile::iommufd)) == "ok");
  CHECK(object.answers == std::vector<std::string>{"EBUSY"});
  object.detach();
  CHECK(w.close() == "");
}

TEST_CASE("unmap: a range that cuts an area comes before its pins", "[unmap]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  object.hold(w.pages_at(1, 1));
  CHECK(text(t.unmap(w.io(1), page, unmap_profile::iommufd)) == "ENOENT");
  CHECK(object.heard.empty());
  object.detach();
}

TEST_CASE("unmap: areas before the one that is cut are gone", "[unmap]") {
  usual w;
  auto& t = w.table();
  must(t.map(w.at(0), page, rw, w.io(1)));
  must(t.map(w.at(1), 2 * page, rw, w.io(2)));
  CHECK(text(t.unmap(w.io(1), 2 * page, unmap_profile::iommufd)) == "ENOENT");
  CHECK(t.area_count() == 1);
}

// --- Cutting ------------------------------------------------------------------------------------

TEST_CASE("cut: the end of an area comes before notification, that before the rest", "[cut]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  object.hold(w.pages_at(1, 1));
  object.then = [](told& me) {
    for (const iova last : {usual::io(3) - 1, usual::io(1), usual::io(1) + 5, usual::io(2) - 1})
      me.answers.push_back(text(me.w.table().cut(last, cut_rule::as_iommufd)));
  };
  CHECK(text(t.unmap_all()) == "ok");
  CHECK(object.answers == std::vector<std::string>{"ok", "ok", "EBUSY", "EBUSY"});
  object.detach();
}

TEST_CASE("cut: memory comes before pins and domains", "[cut]") {
  for (const bool filled : {false, true}) {
    usual w;
    auto& t = w.table();
    told object(w);
    must(object.attach(t));
    if (filled) w.attach_domain();
    must(t.map(w.at(0), 2 * page, rw, w.io(1)));
    if (!filled) object.hold(w.pages_at(1, 1));
    const snapshot before = w.look();
    w.account.refuse_all();
    CHECK(text(t.cut(w.io(2) - 1, cut_rule::as_iommufd)) == "ENOMEM");
    w.account.refuse_all(false);
    CHECK(text(t.cut(w.io(2) - 1, cut_rule::as_iommufd)) == "EINVAL");
    CHECK(difference(before, w.look()) == "");
    CHECK(w.verify() == "");
    object.detach();
    CHECK(w.close() == "");
  }
}

TEST_CASE("cut: the alignment comes before memory", "[cut]") {
  usual w;
  auto& t = w.table();
  told object(w);
  must(object.attach(t));
  must(t.map(w.at(0), 2 * page, rw, w.io(1)));
  w.account.refuse_all();
  CHECK(text(t.cut(w.io(1) + 5)) == "EINVAL");
  CHECK(text(t.cut(w.io(2) - 1)) == "ENOMEM");
  w.account.refuse_all(false);
  object.detach();
}

}  // namespace iopt::test
