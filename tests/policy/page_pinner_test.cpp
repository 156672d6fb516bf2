#include "iopt/policy/page_pinner.hpp"

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"
#include "tests/policy/page_pinner_conformance.hpp"

using namespace iopt;

namespace {

struct mock_hooks {
  std::uint64_t bytes = 4096;

  std::uint64_t page_bytes() const { return bytes; }
  user_range memory(mock::pinner&, std::uint64_t pages) {
    return user_range::sized({0x7f12'0000'0000 - 3 * bytes}, pages * bytes);
  }
  user_range hole(mock::pinner& p) {
    const user_range r = user_range::sized({1 * gibibyte}, 2 * bytes);
    p.set_hole(p.current(), r);
    return r;
  }
  user_range read_only(mock::pinner& p) {
    const user_range r = user_range::sized({2 * gibibyte}, bytes);
    p.set_read_only(p.current(), r);
    return r;
  }
  std::uint64_t pins(mock::pinner& p, physical f) { return p.pins(f); }
  bool was_dirtied(mock::pinner& p, physical f) { return p.was_dirtied(f); }
  void limit(mock::pinner& p, account_mode mode, std::uint64_t pages) {
    p.set_limit(p.current(), mode, pages);
  }
  mock::process vanished(mock::pinner& p) {
    const mock::process w = p.create_process();
    p.kill(w);
    return w;
  }
  mock::file file(mock::pinner& p, std::uint64_t size) { return p.create_file(size); }
  mock::exporter exporter(mock::pinner& p, std::uint64_t size) { return p.create_exporter(size); }
  void revoke(mock::pinner& p, mock::exporter e, bool on) { p.set_revoked(e, on); }
};

// The least that hooks may be.
struct least_hooks {
  std::uint64_t page_bytes() const { return 4096; }
  user_range memory(mock::pinner&, std::uint64_t pages) {
    return user_range::sized({0}, pages * 4096);
  }
};

}  // namespace

TEST_CASE("the mock pinner keeps the contract of page_pinner", "[conformance]") {
  for (const std::uint64_t page_bytes : {4 * kibibyte, 16 * kibibyte, 64 * kibibyte}) {
    for (const std::uint64_t lie : {mock::contiguity::contiguous, mock::contiguity::blocks_2m,
                                    mock::contiguity::scattered, 128 * kibibyte}) {
      CAPTURE(page_bytes, lie);
      iopt_conformance::check_pinner<mock::pinner>(
          [&] { return mock::pinner({.page_bytes = page_bytes, .contiguity_bytes = lie}); },
          mock_hooks{page_bytes});
    }
  }
}

TEST_CASE("the checks do with the least hooks", "[conformance]") {
  iopt_conformance::check_pinner<mock::pinner>([] { return mock::pinner(); }, least_hooks{});
}

namespace {

// Takes many runs back in one call, and looks at no type.
struct takes_runs : mock::pinner {
  using mock::pinner::pinner;
  void unpin_runs(std::span<const run> runs, bool dirty) noexcept {
    for (const run& r : runs) unpin(run(r.first, r.length_bytes), dirty);
  }
};
static_assert(run_unpinning_pinner<takes_runs> && !run_unpinning_pinner<mock::pinner>);

// One that thinks that reserved memory was not pinned.
struct passes_over_reserved : mock::pinner {
  void unpin_runs(std::span<const run> runs, bool dirty) noexcept {
    for (const run& r : runs)
      if (r.type() == memory_type::cached) unpin(r, dirty);
  }
};

}  // namespace

TEST_CASE("a pinner that takes runs back keeps the contract", "[conformance]") {
  for (const std::uint64_t lie : {mock::contiguity::contiguous, mock::contiguity::scattered})
    iopt_conformance::check_pinner<takes_runs>(
        [&] { return takes_runs({.contiguity_bytes = lie}); }, mock_hooks{});
}

TEST_CASE("a pinner that asks a run for its type is told so", "[conformance][!shouldfail]") {
  iopt_conformance::check_pinner<passes_over_reserved>([] { return passes_over_reserved(); },
                                                       mock_hooks{});
}

namespace {

// The checks must be able to fail: a pinner that pins the first page twice.
struct pins_too_much : mock::pinner {
  result<void> pin(const owner& w, user_range r, iopt::access_rights a, run_list& out) {
    run storage[1];
    run_list aside{storage};
    const result<void> answer = mock::pinner::pin(w, r, a, aside);
    return answer ? mock::pinner::pin(w, r, a, out) : answer;
  }
};

}  // namespace

TEST_CASE("a pinner that breaks the contract is told so", "[conformance][!shouldfail]") {
  iopt_conformance::check_pinner<pins_too_much>([] { return pins_too_much(); }, mock_hooks{});
}
