// tests/policy/page_pinner_conformance.hpp - what every page_pinner must do. For yours too.
//
//   struct my_hooks {
//     std::uint64_t page_bytes() const { return 4096; }
//     iopt::user_range memory(my_pinner& p, std::uint64_t pages) { ... }
//   };
//   TEST_CASE("my pinner keeps the contract") {
//     iopt_conformance::check_pinner<my_pinner>([] { return my_pinner(...); }, my_hooks{});
//   }
//
// `make` returns a fresh pinner; it need not be movable. The hooks say where there is memory of
// p.current(): `pages` whole pages, present and writable until the pinner dies, no two of one frame
// and none reserved, at most 64 of them. p.current() may be asked for before or after.
// What the hooks have beside makes more clauses checkable:
//
//   user_range hole(P&)                        a page of p.current() that cannot be had
//   user_range read_only(P&)                   a page that can be read and not written
//   std::uint64_t pins(P&, physical)           pins(f)
//   bool was_dirtied(P&, physical)             whether it was unpinned as dirty
//   void limit(P&, account_mode, pages)        the account may hold that many pages
//   P::owner vanished(P&)                      an owner whose memory is gone, and its account mm
//   P::file file(P&, std::uint64_t bytes)      a file of that size
//   P::exporter exporter(P&, bytes)            device memory
//   void revoke(P&, P::exporter, bool)         takes it away, or gives it back
//
// Uses the library's base and policy headers and Catch2, and nothing else.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "iopt/policy/page_pinner.hpp"
#include "tests/catch.hpp"

namespace iopt_conformance {

template <iopt::page_pinner P, class Make, class Hooks>
class pinner_suite {
 public:
  pinner_suite(Make& make, Hooks& hooks) : make_(make), hooks_(hooks) {}

  void run_all() {
    owners();
    pin_and_unpin();
    pages_keep_their_frames();
    short_lists();
    other_pieces();
    random_pins();
    what_cannot_be_had();
    accounts();
    if constexpr (iopt::file_pinner<P>) files();
    if constexpr (iopt::device_memory_pinner<P>) device_memory();
    if constexpr (iopt::copying_pinner<P>) copying();
    if constexpr (iopt::frame_copying_pinner<P>) frame_copying();
    if constexpr (iopt::run_unpinning_pinner<P>) many_runs();
  }

 private:
  using owner = typename P::owner;
  using physical = iopt::physical;
  using user_range = iopt::user_range;
  using run = iopt::run;
  static constexpr iopt::access_rights rw = iopt::access_rights::read_write;

  void owners() {
    INFO("current() and reachable()");
    P p = make_();
    static_cast<void>(hooks_.memory(p, 1));
    const owner w = p.current();
    const owner copy = w;
    CHECK(copy == w);
    CHECK(p.reachable(w));
    if constexpr (requires { hooks_.vanished(p); }) {
      const owner gone = hooks_.vanished(p);
      CHECK_FALSE(p.reachable(gone));
      CHECK_FALSE(gone == p.current());
    }
  }

  void pin_and_unpin() {
    INFO("pin() and unpin() of some pages");
    P p = make_();
    const std::uint64_t count = 17;
    const user_range r = hooks_.memory(p, count);
    REQUIRE(r.length() == count * page());
    const std::vector<physical> frames = pin_all(p, p.current(), r, rw);
    REQUIRE(frames.size() == count);
    CHECK(std::set(frames.begin(), frames.end()).size() == count);
    for (const physical f : frames) {
      CHECK(f.is_aligned(page()));
      has_pins(p, f, 1);
    }
    for (const physical f : frames) p.unpin(run(f, page()), false);
    for (const physical f : frames) has_pins(p, f, 0);
  }

  // A frame that is pinned stays where it is, and is the same for whoever pins the page again.
  void pages_keep_their_frames() {
    INFO("a page pinned twice");
    P p = make_();
    const user_range r = hooks_.memory(p, 8);
    const std::vector<physical> first = pin_all(p, p.current(), r, rw);
    const user_range part = user_range::sized(r.first + 2 * page(), 3 * page());
    const std::vector<physical> second = pin_all(p, p.current(), part, iopt::access_rights::read);
    for (std::size_t n = 0; n < 3; ++n) {
      CHECK(second[n] == first[n + 2]);
      has_pins(p, second[n], 2);
    }
    for (const physical f : first) p.unpin(run(f, page()), true);
    for (const physical f : second) has_pins(p, f, 1);
    for (const physical f : second) p.unpin(run(f, page()), false);
    for (const physical f : first) has_pins(p, f, 0);
    if constexpr (requires { hooks_.was_dirtied(p, first[0]); }) {
      for (const physical f : first) CHECK(hooks_.was_dirtied(p, f));
    }
  }

  // The list may hold runs already, and may be full soon: then pin() stops early, after one page.
  void short_lists() {
    INFO("a list with room for one run");
    P p = make_();
    const user_range r = hooks_.memory(p, 16);
    std::array<run, 2> storage;
    std::uint64_t done = 0;
    std::vector<run> taken;
    while (done < r.length()) {
      iopt::run_list out{storage};
      const run before(physical{page()}, page(), iopt::memory_type::reserved);
      REQUIRE(out.append(before));
      REQUIRE(p.pin(p.current(), {r.first + done, r.last}, rw, out).has_value());
      REQUIRE(out.size() == 2);
      CHECK(out[0] == before);
      REQUIRE(out[1].length_bytes >= page());
      CHECK(out[1].length_bytes % page() == 0);
      CHECK(out[1].type() == iopt::memory_type::cached);
      done += out[1].length_bytes;
      taken.push_back(out[1]);
    }
    CHECK(done == r.length());
    for (const run piece : taken) p.unpin(piece, false);
    for (const run piece : taken) has_pins(p, piece.first, 0);
  }

  // Runs may be given back in other pieces than they came in.
  void other_pieces() {
    INFO("runs given back in pieces and together");
    P p = make_();
    const user_range r = hooks_.memory(p, 16);
    const std::vector<physical> frames = pin_all(p, p.current(), r, rw);
    std::vector<std::uint64_t> sorted;
    for (const physical f : frames) sorted.push_back(f.value);
    std::sort(sorted.begin(), sorted.end());
    // All that is contiguous as one run, but for every fifth page by itself.
    for (std::size_t from = 0; from < sorted.size();) {
      std::size_t to = from + 1;
      while (to < sorted.size() && to % 5 != 0 && sorted[to] == sorted[to - 1] + page()) ++to;
      p.unpin(run({sorted[from]}, (to - from) * page()), to % 2 == 0);
      from = to;
    }
    for (const physical f : frames) has_pins(p, f, 0);
  }

  void random_pins() {
    INFO("random pins and unpins");
    const std::uint64_t seed = 7;
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    P p = make_();
    constexpr std::uint64_t width = 32;
    const user_range all = hooks_.memory(p, width);
    std::array<std::vector<physical>, width> held;
    for (int step = 0; step < 300; ++step) {
      const std::uint64_t first = random() % width;
      const std::uint64_t count = 1 + random() % (width - first);
      if (random() % 2 == 0) {
        const std::vector<physical> frames =
            pin_all(p, p.current(), user_range::sized(all.first + first * page(), count * page()),
                    random() % 2 == 0 ? rw : iopt::access_rights::read);
        for (std::uint64_t n = 0; n < count; ++n) {
          std::vector<physical>& page_pins = held[first + n];
          if (!page_pins.empty() && page_pins.front() != frames[n])
            FAIL("a pinned page has another frame");
          page_pins.push_back(frames[n]);
        }
      } else {
        for (std::uint64_t n = first; n < first + count; ++n) {
          if (held[n].empty()) continue;
          p.unpin(run(held[n].back(), page()), random() % 2 == 0);
          held[n].pop_back();
        }
      }
      for (const auto& page_pins : held) {
        if (!page_pins.empty()) has_pins(p, page_pins.front(), page_pins.size());
      }
    }
    for (auto& page_pins : held) {
      for (const physical f : page_pins) p.unpin(run(f, page()), false);
    }
  }

  // On error nothing is pinned, and the list is unchanged.
  void what_cannot_be_had() {
    INFO("memory that cannot be pinned");
    P p = make_();
    if constexpr (requires { hooks_.hole(p); }) {
      refused(p, p.current(), hooks_.hole(p), iopt::access_rights::read, iopt::errc::bad_address);
    }
    if constexpr (requires { hooks_.read_only(p); }) {
      const user_range r = hooks_.read_only(p);
      refused(p, p.current(), r, rw, iopt::errc::bad_address);
      refused(p, p.current(), r, iopt::access_rights::write, iopt::errc::bad_address);
      for (const physical f : pin_all(p, p.current(), r, iopt::access_rights::read))
        p.unpin(run(f, page()), false);
    }
    if constexpr (requires { hooks_.vanished(p); }) {
      const user_range r = hooks_.memory(p, 1);
      refused(p, hooks_.vanished(p), r, iopt::access_rights::read, iopt::errc::bad_address);
    }
  }

  void accounts() {
    INFO("charge() and uncharge()");
    P p = make_();
    const owner w = p.current();
    for (const iopt::account_mode mode : {iopt::account_mode::none, iopt::account_mode::user,
                                          iopt::account_mode::mm, iopt::account_mode::custom}) {
      CAPTURE(iopt::name(mode));
      if (p.charge(w, mode, 3)) {
        p.uncharge(w, mode, 1);
        p.uncharge(w, mode, 2);
      }
      if constexpr (requires { hooks_.limit(p, mode, std::uint64_t{}); }) {
        if (mode == iopt::account_mode::none) continue;
        hooks_.limit(p, mode, 10);
        REQUIRE(p.charge(w, mode, 8).has_value());
        const iopt::result<void> more = p.charge(w, mode, 3);
        REQUIRE_FALSE(more.has_value());
        CHECK(more.error() == iopt::errc::not_enough_memory);
        // The refused charge counted nothing.
        REQUIRE(p.charge(w, mode, 2).has_value());
        CHECK_FALSE(p.charge(w, mode, 1).has_value());
        p.uncharge(w, mode, 10);
        REQUIRE(p.charge(w, mode, 10).has_value());
        p.uncharge(w, mode, 10);
      }
    }
    if constexpr (requires { hooks_.vanished(p); }) {
      const iopt::result<void> answer = p.charge(hooks_.vanished(p), iopt::account_mode::mm, 1);
      REQUIRE_FALSE(answer.has_value());
      CHECK(answer.error() == iopt::errc::invalid_argument);
    }
  }

  void files() {
    INFO("pin_file()");
    P p = make_();
    if constexpr (requires { hooks_.file(p, page()); }) {
      const auto f = hooks_.file(p, 5 * page());
      CHECK(f == f);
      const auto taken =
          all_of(5, [&](user_range r, iopt::run_list& out) { return p.pin_file(f, r, rw, out); });
      REQUIRE(taken.size() == 5);
      std::array<run, 4> storage;
      iopt::run_list out{storage};
      const user_range beyond = user_range::sized({5 * page()}, page());
      const iopt::result<void> answer = p.pin_file(f, beyond, rw, out);
      REQUIRE_FALSE(answer.has_value());
      CHECK(answer.error() == iopt::errc::invalid_argument);
      CHECK(out.empty());
      for (const physical frame : taken) p.unpin(run(frame, page()), true);
    } else {
      WARN("pin_file(): the hooks make no file");
    }
  }

  void device_memory() {
    INFO("resolve()");
    P p = make_();
    if constexpr (requires { hooks_.exporter(p, page()); }) {
      const auto e = hooks_.exporter(p, 5 * page());
      const auto resolve = [&](user_range r, iopt::run_list& out) { return p.resolve(e, r, out); };
      const auto taken = all_of(5, resolve, iopt::memory_type::mmio);
      REQUIRE(taken.size() == 5);
      std::array<run, 4> storage;
      iopt::run_list out{storage};
      const iopt::result<void> beyond = resolve(user_range::sized({5 * page()}, page()), out);
      REQUIRE_FALSE(beyond.has_value());
      CHECK(beyond.error() == iopt::errc::result_out_of_range);
      if constexpr (requires { hooks_.revoke(p, e, true); }) {
        hooks_.revoke(p, e, true);
        const iopt::result<void> gone = resolve(user_range::sized({0}, page()), out);
        REQUIRE_FALSE(gone.has_value());
        CHECK(gone.error() == iopt::errc::no_such_device);
        CHECK(out.empty());
        hooks_.revoke(p, e, false);
        CHECK(resolve(user_range::sized({0}, page()), out).has_value());
      }
    } else {
      WARN("resolve(): the hooks make no exporter");
    }
  }

  void copying() {
    INFO("read() and write()");
    P p = make_();
    const owner w = p.current();
    const user_range r = hooks_.memory(p, 3);
    // Across two page ends, at odd addresses.
    const iopt::user_address at = r.first + (page() - 3);
    std::vector<std::byte> sent(page() + 8);
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7 + 1);
    REQUIRE(p.write(w, at, sent).has_value());
    std::vector<std::byte> got(sent.size());
    REQUIRE(p.read(w, at, got).has_value());
    CHECK(got == sent);
    REQUIRE(p.read(w, at + 5, std::span(got).first(1)).has_value());
    CHECK(got[0] == sent[5]);
    if constexpr (requires { hooks_.hole(p); }) {
      const user_range hole = hooks_.hole(p);
      CHECK(p.read(w, hole.first, got) == refusal(iopt::errc::bad_address));
      CHECK(p.write(w, hole.first, got) == refusal(iopt::errc::bad_address));
    }
    if constexpr (requires { hooks_.read_only(p); }) {
      const user_range fixed = hooks_.read_only(p);
      CHECK(p.read(w, fixed.first, std::span(got).first(4)).has_value());
      CHECK(p.write(w, fixed.first, std::span(got).first(4)) == refusal(iopt::errc::bad_address));
    }
    if constexpr (requires { hooks_.vanished(p); }) {
      CHECK(p.read(hooks_.vanished(p), r.first, got) == refusal(iopt::errc::bad_address));
    }
  }

  // What goes through a frame and what goes through the owner is the same memory.
  void frame_copying() {
    INFO("read_frame() and write_frame()");
    P p = make_();
    const owner w = p.current();
    const user_range r = hooks_.memory(p, 2);
    const std::vector<physical> frames = pin_all(p, w, r, rw);
    const std::array<std::byte, 3> sent{std::byte{1}, std::byte{2}, std::byte{3}};
    std::array<std::byte, 3> got{};
    p.write_frame(frames[1] + 10, sent);
    p.read_frame(frames[1] + 10, got);
    CHECK(got == sent);
    if constexpr (iopt::copying_pinner<P>) {
      got = {};
      REQUIRE(p.read(w, r.first + (page() + 10), got).has_value());
      CHECK(got == sent);
      REQUIRE(p.write(w, r.first, sent).has_value());
      got = {};
      p.read_frame(frames[0], got);
      CHECK(got == sent);
    }
    for (const physical f : frames) p.unpin(run(f, page()), true);
  }

  // Every page is given back once, whatever type a run says, and as dirty as the call says.
  void many_runs() {
    INFO("unpin_runs()");
    P p = make_();
    const user_range r = hooks_.memory(p, 17);
    const std::vector<physical> once = pin_all(p, p.current(), r, rw);
    const user_range part = user_range::sized(r.first + 3 * page(), 5 * page());
    const std::vector<physical> twice = pin_all(p, p.current(), part, rw);
    std::vector<run> runs;
    for (const physical f : once)
      runs.emplace_back(
          f, page(),
          runs.size() % 3 == 1 ? iopt::memory_type::reserved : iopt::memory_type::cached);
    p.unpin_runs(std::span<const run>(runs).first(0), true);
    for (const physical f : once) has_pins(p, f, times(twice, f) + 1);
    p.unpin_runs(runs, false);
    for (const physical f : once) has_pins(p, f, times(twice, f));
    if constexpr (requires { hooks_.was_dirtied(p, once[0]); }) {
      for (const physical f : once) CHECK_FALSE(hooks_.was_dirtied(p, f));
    }
    runs.clear();
    for (const physical f : twice) runs.emplace_back(f, page());
    p.unpin_runs(runs, true);
    for (const physical f : twice) has_pins(p, f, 0);
    if constexpr (requires { hooks_.was_dirtied(p, once[0]); }) {
      for (const physical f : twice) CHECK(hooks_.was_dirtied(p, f));
    }
  }

  // What the checks are written with.

  std::uint64_t page() const { return hooks_.page_bytes(); }
  static std::uint64_t times(const std::vector<physical>& in, physical f) {
    return static_cast<std::uint64_t>(std::count(in.begin(), in.end(), f));
  }
  static iopt::result<void> refusal(iopt::errc code) { return iopt::fail(code); }

  // The frames of the first `count` pages that `take(r, out)` appends, call after call.
  template <class Take>
  std::vector<physical> all_of(std::uint64_t count, Take take,
                               iopt::memory_type type = iopt::memory_type::cached,
                               iopt::user_address first = {0}) {
    std::vector<physical> frames;
    std::array<run, 5> storage;
    while (frames.size() < count) {
      iopt::run_list out{storage};
      const user_range rest =
          user_range::sized(first + frames.size() * page(), (count - frames.size()) * page());
      const iopt::result<void> taken = take(rest, out);
      if (!taken) FAIL("refused: " << iopt::name(taken.error().code));
      if (out.empty() || out.bytes() > rest.length()) FAIL("not one page, or more than asked");
      for (const run& piece : out) {
        if (piece.length_bytes % page() != 0 || !piece.first.is_aligned(page()) ||
            piece.type() != type)
          FAIL("not whole pages, or another type");
        for (std::uint64_t i = 0; i < piece.length_bytes; i += page())
          frames.push_back(piece.first + i);
      }
    }
    return frames;
  }
  std::vector<physical> pin_all(P& p, const owner& w, user_range r, iopt::access_rights rights) {
    return all_of(
        r.length() / page(),
        [&](user_range rest, iopt::run_list& out) { return p.pin(w, rest, rights, out); },
        iopt::memory_type::cached, r.first);
  }
  void refused(P& p, const owner& w, user_range r, iopt::access_rights rights, iopt::errc code) {
    std::array<run, 3> storage;
    iopt::run_list out{storage};
    const run before(physical{page()}, page(), iopt::memory_type::reserved);
    REQUIRE(out.append(before));
    const iopt::result<void> answer = p.pin(w, r, rights, out);
    REQUIRE_FALSE(answer.has_value());
    CHECK(answer.error() == code);
    CHECK(out.size() == 1);
    CHECK(out.bytes() == page());
  }
  void has_pins(P& p, physical f, std::uint64_t expected) {
    if constexpr (requires { hooks_.pins(p, f); }) {
      const std::uint64_t seen = hooks_.pins(p, f);
      if (seen != expected) {
        CAPTURE(f.value);
        REQUIRE(seen == expected);
      }
    }
  }

  Make& make_;
  Hooks& hooks_;
};

/// Checks every clause of page_pinner, and of each refinement that P has, that shows from outside
/// or through the hooks.
template <iopt::page_pinner P, class Make, class Hooks>
void check_pinner(Make make, Hooks hooks) {
  pinner_suite<P, Make, Hooks>(make, hooks).run_all();
}

}  // namespace iopt_conformance
