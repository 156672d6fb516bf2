// tests/core/access_object_test.cpp - software that uses a table as a device would: each rule of pins
// and of reading and writing, in the order of the checks; and how an unmap asks for its pages back.
#include "iopt/core/access_object.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

namespace iopt::test {
namespace {

/// A user that records what it is told, and then does something.
template <class W>
struct user {
  std::vector<iova_range> told;
  std::function<void(iova_range)> then;
  typename W::access_type object{[](void* context, iova_range gone) {
                                   user& u = *static_cast<user*>(context);
                                   u.told.push_back(gone);
                                   if (u.then) u.then(gone);
                                 },
                                 this};
};

}  // namespace

TEMPLATE_TEST_CASE("a pin is checked in this order", "", (kind<full_domain>),
                   (kind<plain_domain, pages_16k>)) {
  using W = world<TestType>;
  W w;
  constexpr std::uint64_t page = W::page;
  auto& t = w.table();
  typename W::access_type deaf;
  user<W> u;
  const auto pin = [&](iova_range r, access_rights want) {
    return text(u.object.pin(r, want, no_frames));
  };
  REQUIRE(t.map(w.at(0), 4 * page, access_rights::read, w.io(4)));
  CHECK(text(deaf.pin(w.pages_at(4, 1), access_rights::read, no_frames)) == "EINVAL");
  CHECK(pin(w.pages_at(4, 1), access_rights::read) == "ENOENT");  // attached to nothing
  REQUIRE(u.object.attach(t));
  REQUIRE(t.map(w.at(8), 4 * page, rw, w.io(8)));
  const auto device = w.pinner.create_exporter(4 * page);
  REQUIRE(t.map(t.device_memory(device, 0), 4 * page, rw, w.io(12)));

  // Inside a page, before rights; rights, before whether the memory can be had.
  CHECK(pin({w.io(4) + 1, w.io(5)}, access_rights::write) == "EINVAL");
  CHECK(pin(w.pages_at(4, 1), access_rights::write) == "EPERM");
  CHECK(pin(w.pages_at(12, 1), access_rights::read) == "EOPNOTSUPP");
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(9), page));
  CHECK(pin(w.pages_at(8, 4), access_rights::read) == "EFAULT");
  // A gap behind is met last, and what was pinned before it is given back.
  CHECK(pin(w.pages_at(4, 20), access_rights::read) == "EFAULT");
  w.pinner.set_hole(w.owner(), user_range::sized(w.at(9), page), false);
  CHECK(pin(w.pages_at(0, 8), access_rights::read) == "ENOENT");
  CHECK(pin(w.pages_at(4, 20), access_rights::read) == "EOPNOTSUPP");
  REQUIRE(t.unmap(w.io(12), 4 * page, unmap_profile::exact));
  CHECK(pin(w.pages_at(4, 20), access_rights::read) == "ENOENT");
  CHECK(w.pinner.is_idle());
  // Suspended comes before rights.
  REQUIRE(t.suspend_access(w.pages_at(4, 4)));
  CHECK(pin(w.pages_at(4, 1), access_rights::write) == "EBUSY");
  // The end need not be at a page's.
  CHECK(pin({w.io(8), w.io(9)}, access_rights::write) == "ok");
  CHECK(w.pinner.pinned_pages() == 2);
  CHECK(t.verify() == "");
  u.object.unpin({w.io(8), w.io(9)});
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("a pin over areas that end inside a page is refused") {
  usual w;
  auto& t = w.table();
  user<usual> u;
  // Joining asks for whole pages, so that such areas never meet a user that pins.
  REQUIRE(t.map(w.at(0), 100, rw, w.io(1)));
  CHECK(text(u.object.attach(t)) == "EADDRINUSE");
  usual::deaf_access reader(false);
  REQUIRE(reader.attach(t));
  CHECK(text(reader.pin(w.pages_at(1, 1), access_rights::read, no_frames)) == "EINVAL");
  std::byte data[100];
  CHECK(text(reader.read(w.io(1), data)) == "ok");
  reader.detach();
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE("pins and domains come and go in every order", "", IOPT_TEST_KINDS) {
  using W = world<TestType>;
  constexpr std::uint64_t page = W::page;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    for (unsigned order = 0; order < 24; ++order) {
      CAPTURE(pieces, order);
      W w(pieces);
      auto& t = w.table();
      user<W> u;
      REQUIRE(t.map(w.at(0), 8 * page, rw, w.io(16)));
      REQUIRE(u.object.attach(t));
      auto& d = w.add_domain();
      const iova_range part = w.pages_at(18, 3);
      const iova_range other = w.pages_at(20, 4);
      unsigned steps[] = {0, 1, 2, 3};
      for (unsigned n = order; n != 0; --n)
        std::next_permutation(std::begin(steps), std::end(steps));
      bool attached = false, first = false, second = false;
      const auto pinned = [&] {
        return attached ? 8u : first && second ? 6u : first ? 3u : second ? 4u : 0u;
      };
      // Twice: on the way in, and, with memory refused, on the way out in the same order.
      for (const bool out : {false, true}) {
        w.account.refuse_all(out);
        for (const unsigned step : steps) {
          if (step == 0) {
            out ? void(t.detach(d)) : must(t.attach(d));
            attached = !out;
          } else if (step == 1) {
            out ? u.object.unpin(part) : must(u.object.pin(part, rw, no_frames));
            first = !out;
          } else if (step == 2) {
            out ? u.object.unpin(other) : must(u.object.pin(other, rw, no_frames));
            second = !out;
          } else {  // once more the same, and back
            if (!out) must(u.object.pin(part, rw, no_frames));
            if (!out) u.object.unpin(part);
          }
          if (w.pinner.pinned_pages() != pinned() || w.pinner.charged() != pinned())
            FAIL("step " << step << (out ? " out: " : " in: ") << w.pinner.pinned_pages()
                         << " pages pinned, not " << pinned());
          if (w.verify() != "") FAIL(w.verify());
        }
      }
      CHECK(w.pinner.calls().pages_pinned == w.pinner.calls().pages_unpinned);
      u.object.detach();
      REQUIRE(w.close() == "");
    }
  }
}

TEST_CASE("a pin tells the frames in order, and again where it is shared") {
  usual w(mock::contiguity::scattered);
  auto& t = w.table();
  user<usual> u, v;
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(t.map(w.at(9), 4 * w.page, rw, w.io(20)));
  REQUIRE(u.object.attach(t));
  REQUIRE(v.object.attach(t));
  const auto frames = [&](user<usual>& by) {
    std::vector<std::uint64_t> all;
    must(by.object.pin(w.pages_at(18, 4), rw, [&](run r) {
      for (std::uint64_t n = 0; n < r.length_bytes; n += w.page) all.push_back(r.first.value + n);
    }));
    return all;
  };
  const std::vector<std::uint64_t> right = {
      w.pinner.frame_of(w.owner(), w.at(2)).value, w.pinner.frame_of(w.owner(), w.at(3)).value,
      w.pinner.frame_of(w.owner(), w.at(9)).value, w.pinner.frame_of(w.owner(), w.at(10)).value};
  CHECK(frames(u) == right);
  const auto calls = w.pinner.calls();
  CHECK(frames(v) == right);
  CHECK(w.pinner.calls() == calls);  // nothing more was pinned or charged
  u.object.unpin(w.pages_at(18, 4));
  CHECK(w.pinner.pinned_pages() == 4);
  v.object.unpin(w.pages_at(18, 4));
  CHECK(w.pinner.pinned_pages() == 0);
  u.object.detach(), v.object.detach();
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE("a range that is held is pinned again, counted and checked each time", "",
                   IOPT_TEST_KINDS) {
  using W = world<TestType>;
  constexpr std::uint64_t page = W::page;
  for (const std::uint64_t pieces : {mock::contiguity::scattered, mock::contiguity::contiguous}) {
    W w(pieces);
    auto& t = w.table();
    user<W> u, v;
    w.attach_domain();
    REQUIRE(t.map(w.at(0), 4 * page, rw, w.io(16)));
    REQUIRE(t.map(w.at(9), 4 * page, rw, w.io(20)));
    REQUIRE(u.object.attach(t));
    REQUIRE(v.object.attach(t));
    const iova_range one = w.pages_at(17, 2), both = w.pages_at(18, 4), part = w.pages_at(20, 2);
    const auto frames = [&](user<W>& by, iova_range r) {
      std::vector<std::uint64_t> all;
      must(by.object.pin(r, rw, [&](run found) {
        for (std::uint64_t n = 0; n < found.length_bytes; n += page)
          all.push_back(found.first.value + n);
      }));
      return all;
    };
    const auto calls_at = [&](std::uint64_t n) { return t.find(w.io(n))->pin_calls; };
    const auto first = frames(u, one), second = frames(u, both);
    CHECK(first.size() == 2);
    CHECK(second.size() == 4);
    CHECK(calls_at(16) == 2);
    const auto calls = w.pinner.calls();
    w.account.refuse_all(true);
    for (std::uint64_t n = 1; n < 4; ++n) {
      CHECK(frames(u, one) == first);
      CHECK(frames(u, both) == second);
      CHECK(calls_at(16) == 2 + 2 * n);
      CHECK(calls_at(20) == 1 + n);
    }
    // The part that one area shows of a range is held as that.
    CHECK(frames(u, part) == std::vector<std::uint64_t>(second.begin() + 2, second.end()));
    u.object.unpin(part);
    w.account.refuse_all(false);
    CHECK(w.pinner.calls() == calls);
    CHECK(frames(v, one) == first);
    CHECK(calls_at(16) == 9);
    CHECK(w.pinner.calls() == calls);

    REQUIRE(t.suspend_access(w.pages_at(16, 4)));
    CHECK(text(u.object.pin(one, rw, no_frames)) == "EBUSY");
    CHECK(text(u.object.pin(both, rw, no_frames)) == "EBUSY");
    REQUIRE(t.resume_access(w.pages_at(16, 4), t.user_memory(w.at(0))));
    if (t.protect(w.pages_at(20, 4), access_rights::read)) {
      CHECK(text(u.object.pin(part, rw, no_frames)) == "EPERM");
      CHECK(text(u.object.pin(both, rw, no_frames)) == "EPERM");  // and the first area's is undone
      CHECK(text(u.object.pin(part, access_rights::read, no_frames)) == "ok");
      u.object.unpin(part);
    }
    CHECK(calls_at(16) == 9);
    CHECK(calls_at(20) == 4);
    u.then = [&](iova_range gone) {
      if (gone == iova_range::whole()) return;
      if (u.told.size() == 1) {
        CHECK(text(u.object.pin(one, rw, no_frames)) == "EINVAL");
        v.object.unpin(one);
        for (unsigned n = 0; n < 3; ++n) u.object.unpin(one);
        CHECK(calls_at(16) == 5);
      } else {
        for (unsigned n = 0; n < 4; ++n) u.object.unpin(both);
        CHECK(calls_at(16) == 1);
        u.object.unpin(one);
        CHECK(calls_at(16) == 0);
      }
    };
    REQUIRE(t.unmap(w.io(16), 4 * page, unmap_profile::iommufd));
    CHECK(u.told.size() == 2);
    CHECK(calls_at(20) == 0);
    CHECK(w.verify() == "");
    u.object.detach(), v.object.detach();
    REQUIRE(w.close() == "");
  }
}

TEST_CASE("pins that have been counted are no longer when they are undone") {
  usual w;
  auto& t = w.table();
  user<usual> u;
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(u.object.attach(t));
  const auto pin_calls = [&] { return t.find(w.io(16))->pin_calls; };
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned n = 0; n < 3; ++n) must(u.object.pin(w.pages_at(17, 1), rw, no_frames));
    must(u.object.pin(w.pages_at(18, 1), rw, no_frames));
    if (round != 1) CHECK(pin_calls() == 4);
    u.object.unpin(w.pages_at(18, 1));
    u.object.unpin(w.pages_at(17, 1));
    if (round != 2) CHECK(pin_calls() == 2);
    u.object.unpin(w.pages_at(17, 1));
    u.object.unpin(w.pages_at(17, 1));
    CHECK(pin_calls() == 0);
  }
  REQUIRE(t.unmap_all());
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("what another object pinned is not this one's to undo") {
  usual w;
  auto& t = w.table();
  user<usual> u, v;
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(u.object.attach(t));
  REQUIRE(v.object.attach(t));
  REQUIRE(u.object.pin(w.pages_at(17, 1), rw, no_frames));
  CHECK(u.object.is_pinned(w.pages_at(17, 1)));
  CHECK_FALSE(v.object.is_pinned(w.pages_at(17, 1)));
  REQUIRE(v.object.pin(w.pages_at(17, 1), rw, no_frames));
  u.object.unpin(w.pages_at(17, 1));
  CHECK_FALSE(u.object.is_pinned(w.pages_at(17, 1)));
  CHECK(v.object.is_pinned(w.pages_at(17, 1)));
  CHECK(w.pinner.pinned_pages() == 1);
  v.object.unpin(w.pages_at(17, 1));
  CHECK(w.pinner.is_idle());
  u.object.detach(), v.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("a pin of one page that a domain shows leaves nothing behind") {
  using W = world<kind<plain_domain>>;
  W w(mock::contiguity::scattered);
  auto& t = w.table();
  user<W> u;
  w.attach_domain();
  REQUIRE(t.map(w.at(0), 8 * w.page, rw, w.io(16)));
  REQUIRE(u.object.attach(t));
  const auto asked = [&](std::uint64_t n) {
    const auto before = w.account.asked();
    must(u.object.pin(w.pages_at(n, 1), rw, no_frames));
    u.object.unpin(w.pages_at(n, 1));
    return w.account.asked() - before;
  };
  asked(17);
  for (std::uint64_t n = 16; n < 24; ++n) CHECK(asked(n) == 1);  // the record of the pin
  CHECK(w.verify() == "");
  u.object.detach();
  REQUIRE(w.close() == "");
}

// ---- Notification ----------------------------------------------------------------------------------

TEST_CASE("an unmap tells every user which area goes, and waits for the pins") {
  usual w;
  auto& t = w.table();
  user<usual> u, bystander;
  w.attach_domain();
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(t.map(w.at(4), 4 * w.page, rw, w.io(20)));
  REQUIRE(u.object.attach(t));
  REQUIRE(bystander.object.attach(t));
  REQUIRE(u.object.pin(w.pages_at(17, 1), rw, no_frames));
  u.then = [&](iova_range gone) {
    CHECK(gone == w.pages_at(16, 4));
    // Meanwhile nobody else may begin to use it, and it cannot be cut.
    CHECK(t.find(w.io(16))->state == area_state::under_notification);
    CHECK(text(bystander.object.pin(w.pages_at(16, 1), rw, no_frames)) == "EINVAL");
    std::byte data[1];
    CHECK(text(bystander.object.read(w.io(16), data)) == "EINVAL");
    CHECK(text(t.cut(w.io(17) - 1)) == "EBUSY");
    if (u.told.size() == 3) u.object.unpin(w.pages_at(17, 1));  // in its own time
  };
  REQUIRE(t.unmap(w.io(16), 8 * w.page, unmap_profile::iommufd));
  CHECK(u.told.size() == 3);
  CHECK(bystander.told.size() == 3);
  CHECK(t.area_count() == 0);
  u.then = nullptr;
  u.object.detach(), bystander.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("who does not let go in a hundred rounds keeps the area, which is usable again") {
  usual w;
  auto& t = w.table();
  user<usual> u;
  w.attach_domain();
  for (std::uint64_t n = 0; n < 3; ++n)
    REQUIRE(t.map(w.at(4 * n), 4 * w.page, rw, w.io(16 + 4 * n)));
  REQUIRE(u.object.attach(t));
  REQUIRE(u.object.pin(w.pages_at(20, 4), rw, no_frames));
  const unmap_report report = t.unmap(w.io(16), 12 * w.page, unmap_profile::iommufd);
  CHECK(report.outcome.error() == errc::resource_deadlock_would_occur);
  CHECK(report.outcome.error().place == error_place::area);
  CHECK(report.outcome.error().at == w.io(20).value);
  CHECK(u.told.size() == 100);
  // What came before is gone; the area and those behind it are as they were.
  CHECK(report.areas == 1);
  CHECK(t.area_count() == 2);
  CHECK(t.find(w.io(20))->state == area_state::present);
  REQUIRE(u.object.pin(w.pages_at(21, 1), rw, no_frames));
  u.object.unpin(w.pages_at(21, 1));
  // All or nothing leaves all.
  const iova_range both[] = {w.pages_at(24, 4), w.pages_at(20, 4)};
  const unmap_report none = t.unmap_all(both, unmap_profile::exact);
  CHECK(none.outcome.error() == errc::resource_deadlock_would_occur);
  CHECK(none.outcome.error().at == 1);
  CHECK(t.area_count() == 2);
  CHECK(t.find(w.io(24))->state == area_state::present);
  CHECK(w.mock_of(0).bytes_mapped() == 8 * w.page);
  u.object.unpin(w.pages_at(20, 4));
  REQUIRE(t.unmap_all(both, unmap_profile::exact));
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("detaching and moving have the user let go of everything") {
  usual w;
  auto& t = w.table(0);
  auto& next = w.table(1);
  user<usual> u;
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(next.map(w.at(0), 4 * w.page, rw, w.io(16)));
  CHECK(text(u.object.replace(t)) == "ENOENT");
  REQUIRE(u.object.attach(t));
  CHECK(text(u.object.attach(next)) == "EINVAL");
  CHECK(t.alignment() == w.page);
  REQUIRE(u.object.replace(t));
  CHECK(u.told.empty());
  REQUIRE(u.object.pin(w.pages_at(16, 2), rw, no_frames));
  u.then = [&](iova_range gone) {
    CHECK(gone == iova_range::whole());
    CHECK(text(u.object.pin(w.pages_at(16, 1), rw, no_frames)) == "ENOENT");
    u.object.unpin(w.pages_at(16, 2));
  };
  REQUIRE(u.object.replace(next));
  CHECK(u.told.size() == 1);
  CHECK(t.alignment() == 1);
  CHECK(next.alignment() == w.page);
  CHECK(w.pinner.is_idle());
  REQUIRE(u.object.pin(w.pages_at(16, 2), rw, no_frames));
  u.object.detach();
  CHECK(u.told.size() == 2);
  CHECK(w.pinner.is_idle());
  CHECK(next.alignment() == 1);
  // Where it cannot join it stays, and is told nothing.
  REQUIRE(t.map(w.at(20), 10, rw, w.io(40)));
  u.then = nullptr;
  REQUIRE(u.object.attach(next));
  CHECK(text(u.object.replace(t)) == "EADDRINUSE");
  CHECK(u.told.size() == 2);
  REQUIRE(u.object.pin(w.pages_at(16, 2), rw, no_frames));
  u.object.unpin(w.pages_at(16, 2));
  u.object.detach();
  REQUIRE(w.close() == "");
}

// ---- Sharing with other tables ---------------------------------------------------------------------

TEST_CASE("nothing is mapped in an access object's next table that would keep it out") {
  usual w;
  auto& next = w.table(1);
  user<usual> u;
  REQUIRE(u.object.attach(w.table(0)));
  std::string answer;
  u.then = [&](iova_range) { answer = text(next.map(w.at(0), 1, rw, iova{1})); };
  REQUIRE(u.object.replace(next));
  CHECK(answer == "EINVAL");
  CHECK(next.alignment() == w.page);
  CHECK(w.table(0).alignment() == 1);
  u.then = nullptr;
  u.object.detach();
  CHECK(next.alignment() == 1);
  REQUIRE(w.close() == "");
}

TEST_CASE("pages that a user holds in one table are shown by another without a pin") {
  // As the kernel's own test: pin where no domain is, copy to where one is.
  usual w(mock::contiguity::scattered);
  auto& t = w.table(0);
  auto& shown = w.table(1);
  user<usual> u;
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  REQUIRE(u.object.attach(t));
  REQUIRE(u.object.pin(w.pages_at(16, 4), rw, no_frames));
  w.attach_domain(1);
  REQUIRE(shown.copy(t, w.pages_at(16, 4), rw, w.io(32)));
  CHECK(w.pinner.calls().pages_pinned == 4);
  u.then = [&](iova_range) { u.object.unpin(w.pages_at(16, 4)); };
  REQUIRE(t.unmap(w.io(16), 4 * w.page, unmap_profile::iommufd));
  CHECK(w.pinner.pinned_pages() == 4);  // the other table's domain holds them
  CHECK(w.verify() == "");
  u.then = nullptr;
  u.object.detach();
  REQUIRE(shown.unmap_all());
  CHECK(w.pinner.pinned_pages() == 0);
  REQUIRE(w.close() == "");
}

// ---- Reading and writing ---------------------------------------------------------------------------

TEST_CASE("reading and writing is checked in this order, and copies what comes before a gap") {
  usual w(mock::contiguity::scattered);
  auto& t = w.table();
  user<usual> u;
  std::byte data[3 * 4096] = {};
  CHECK(text(u.object.read(w.io(16), {data, 0})) == "EINVAL");
  CHECK(text(u.object.read(iova{top}, {data, 2})) == "EOVERFLOW");
  CHECK(text(u.object.read(w.io(16), {data, 2})) == "ENOENT");
  REQUIRE(u.object.attach(t));
  REQUIRE(t.map(w.at(0), 2 * w.page, rw, w.io(16)));
  std::memset(data, 0x5a, sizeof data);
  CHECK(text(u.object.write(w.io(17) + 96, std::span<const std::byte>(data, 2 * w.page))) ==
        "ENOENT");
  std::byte got[4000];
  REQUIRE(w.pinner.read(w.owner(), w.at(1) + 96, got));
  CHECK(std::memcmp(got, data, sizeof got) == 0);
  CHECK(w.pinner.is_idle());  // no pin is left
  REQUIRE(t.protect(w.pages_at(16, 1), access_rights::read));
  CHECK(text(u.object.write(w.io(16), std::span<const std::byte>(data, 1))) == "EPERM");
  CHECK(text(u.object.read(w.io(16) + 5, {data, 1})) == "ok");
  REQUIRE(t.protect(w.pages_at(16, 1), access_rights::write));
  CHECK(text(u.object.read(w.io(16), {data, 1})) == "EPERM");
  REQUIRE(t.suspend_access(w.pages_at(17, 1)));
  CHECK(text(u.object.read(w.io(17), {data, 1})) == "EBUSY");
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEMPLATE_TEST_CASE("when the owner is gone, pages that are held can still be read", "",
                   (kind<full_domain>), (kind<plain_domain>), (kind<unreadable_domain>)) {
  using W = world<TestType>;
  W w(mock::contiguity::scattered);
  auto& t = w.table();
  user<W> u;
  REQUIRE(u.object.attach(t));
  REQUIRE(t.map(w.at(0), 4 * w.page, rw, w.io(16)));
  std::byte data[64];
  std::memset(data, 7, sizeof data);
  REQUIRE(u.object.write(w.io(18) - 32, std::span<const std::byte>(data)));
  SECTION("by a pin") { REQUIRE(u.object.pin(w.pages_at(17, 2), rw, no_frames)); }
  SECTION("by a domain") { w.attach_domain(); }
  const bool pinned = w.domains.empty();
  w.pinner.kill(w.owner());
  std::byte got[64] = {};
  REQUIRE(u.object.read(w.io(18) - 32, got));
  CHECK(std::memcmp(got, data, sizeof got) == 0);
  REQUIRE(u.object.write(w.io(18) - 32, std::span<const std::byte>(data)));
  if (pinned) {
    CHECK(text(u.object.read(w.io(16), got)) == "EFAULT");
    CHECK(text(u.object.pin(w.pages_at(16, 1), rw, no_frames)) == "EFAULT");
    u.object.unpin(w.pages_at(17, 2));
    CHECK(w.pinner.is_idle());
    CHECK(text(u.object.read(w.io(18) - 32, got)) == "EFAULT");
  }
  u.object.detach();
  REQUIRE(w.close() == "");
}

TEST_CASE("a file is read and written through its pages") {
  usual w(mock::contiguity::scattered);
  auto& t = w.table();
  const auto f = w.add_file(8);
  user<usual> u;
  REQUIRE(u.object.attach(t));
  REQUIRE(t.map(t.file_memory(f, 2 * w.page), 4 * w.page, rw, w.io(16)));
  std::byte data[64], got[64];
  std::memset(data, 9, sizeof data);
  REQUIRE(u.object.write(w.io(17) - 32, std::span<const std::byte>(data)));
  REQUIRE(u.object.read(w.io(17) - 32, got));
  CHECK(std::memcmp(got, data, sizeof got) == 0);
  CHECK(w.pinner.is_idle());
  u.object.detach();
  REQUIRE(w.close() == "");
}

}  // namespace iopt::test
