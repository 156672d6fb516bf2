// tests/core/unmap_profile_test.cpp - what each unmap profile removes, and what it answers.
//
// A = [0, 4) and B = [8, 12), in pages. A row is a request; for each profile it has the answer and
// what is left, a letter a page. Each case is first asked of would_unmap(), which must say the same
// and change nothing; afterwards exactly what is left is translated, and pinned.
#include "iopt/core/unmap_profile.hpp"

#include <array>
#include <string>
#include <string_view>
#include <tuple>

#include "tests/catch.hpp"
#include "tests/core/engine_fixture.hpp"

using namespace iopt;
using namespace iopt::test;

namespace {

using with_locks = kind<full_domain, locked_traits>;

constexpr std::uint64_t pages_in_all = 16;
constexpr std::string_view all_there = "AAAA....BBBB....";

struct answer {
  std::string_view error;  // "ok", or an errno
  std::string_view left = all_there;
};
struct row {
  std::string_view request;
  std::uint64_t first;
  std::uint64_t pages;
  std::array<answer, unmap_profiles.size()> answers;  // in the order of unmap_profiles
};

constexpr answer stays{"ok"};
constexpr answer no_entry{"ENOENT"};
constexpr answer invalid{"EINVAL"};
constexpr answer out_of_range{"ERANGE"};
constexpr answer without_a{"ok", "........BBBB...."};
constexpr answer nothing_left{"ok", "................"};

// clang-format off
const row rows[] = {
  //                                 type1_v1                            type1_v2      iommufd
  //                                 compat_v1                           compat_v2     virtio        exact     hole_punching
  {"exactly A", 0, 4,               {without_a,                          without_a,    without_a,
                                     without_a,                          without_a,    without_a,    without_a, without_a}},
  {"nothing there", 4, 4,           {stays,                              stays,        no_entry,
                                     stays,                              stays,        stays,        no_entry, stays}},
  {"behind everything", 12, 4,      {stays,                              stays,        no_entry,
                                     stays,                              stays,        stays,        no_entry, stays}},
  {"head of A", 0, 2,               {without_a,                          invalid,      no_entry,
                                     answer{"ok", "..AA....BBBB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "..AA....BBBB...."}}},
  {"middle of A", 1, 2,             {stays,                              invalid,      no_entry,
                                     answer{"ok", "A..A....BBBB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "A..A....BBBB...."}}},
  {"tail of A", 2, 2,               {stays,                              invalid,      no_entry,
                                     answer{"ok", "AA......BBBB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "AA......BBBB...."}}},
  {"tail of A and more", 2, 4,      {stays,                              invalid,      no_entry,
                                     answer{"ok", "AA......BBBB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "AA......BBBB...."}}},
  {"more than A", 0, 6,             {without_a,                          without_a,    without_a,
                                     without_a,                          without_a,    without_a,    no_entry, without_a}},
  {"more than B, on both sides", 6, 8, {answer{"ok", "AAAA............"}, answer{"ok", "AAAA............"},
                                     answer{"ok", "AAAA............"},   answer{"ok", "AAAA............"},
                                     answer{"ok", "AAAA............"},   answer{"ok", "AAAA............"}, no_entry,
                                     answer{"ok", "AAAA............"}}},
  {"A to B", 0, 12,                 {nothing_left,                       nothing_left, nothing_left,
                                     nothing_left,                       nothing_left, nothing_left, no_entry, nothing_left}},
  {"A, and head of B", 0, 10,       {nothing_left,                       invalid,      answer{"ENOENT", without_a.left},
                                     answer{"ok", "..........BB...."},   answer{"ENOENT", without_a.left},
                                     out_of_range, no_entry,             answer{"ok", "..........BB...."}}},
  {"starts inside A and covers B", 2, 10, {stays,                        invalid,      no_entry,
                                     answer{"ok", "AA.............."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "AA.............."}}},
  {"first of two areas bisected, and the second", 3, 6, {stays,          invalid,      no_entry,
                                     answer{"ok", "AAA......BBB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "AAA......BBB...."}}},
  {"gap and head of B", 6, 4,       {answer{"ok", "AAAA............"},   invalid,      no_entry,
                                     answer{"ok", "AAAA......BB...."},   no_entry,     out_of_range, no_entry,
                                     answer{"ok", "AAAA......BB...."}}},
  {"length 0", 0, 0,                {invalid, invalid, invalid, invalid, invalid, invalid, invalid, invalid}},
};
// clang-format on

/// A and B, in domains or without; profiles of type1 v1 on iommufd need large pages off.
template <class Kind>
struct two_areas {
  using table_type = typename world<Kind>::table_type;
  world<Kind> w;

  two_areas(unmap_profile profile, unsigned domains) {
    if (profile == unmap_profile::iommufd_compat_v1) must(w.table().disable_large_pages());
    for (unsigned n = 0; n < domains; ++n) w.attach_domain();
    must(w.table().map(w.at(0), 4 * w.page, access_rights::read_write, w.io(0)));
    must(w.table().map(w.at(8), 4 * w.page, access_rights::read, w.io(8)));
  }

  /// A letter for each page that an area shows.
  std::string left() {
    std::string text;
    for (std::uint64_t n = 0; n < pages_in_all; ++n)
      text += !w.table().find(w.io(n)) ? '.' : n < 8 ? 'A' : 'B';
    return text;
  }
  /// Whether domains translate, and pins hold, exactly the pages that are left; "" where so.
  std::string wrong_pages(std::string_view expected) {
    for (std::uint64_t n = 0; n < pages_in_all; ++n) {
      const bool there = expected[n] != '.';
      const physical frame = w.pinner.frame_of(w.owner(), w.at(n));
      for (std::size_t d = 0; d < w.domains.size(); ++d) {
        const auto shown = w.mock_of(d).translate(w.io(n));
        if (shown != (there ? std::optional(frame) : std::nullopt))
          return "page " + std::to_string(n) + " in domain " + std::to_string(d);
      }
      if (w.pinner.pins(frame) != (there && !w.domains.empty() ? 1u : 0u))
        return "pins of page " + std::to_string(n);
    }
    return std::string(w.verify());
  }
};

std::uint64_t pages_gone(std::string_view left) {
  std::uint64_t gone = 0;
  for (std::size_t n = 0; n < left.size(); ++n) gone += left[n] != all_there[n];
  return gone;
}

/// One request under one profile: the dry run, the real one, and what is there afterwards.
template <class Kind>
void check(unmap_profile profile, kernel_level level, unsigned domains, iova first,
           std::uint64_t length_bytes, answer expected) {
  two_areas<Kind> test(profile, domains);
  auto& w = test.w;
  auto& table = w.table();
  const test::snapshot before = w.look();
  const unmap_report dry = table.would_unmap(first, length_bytes, profile, level);
  CHECK(difference(before, w.look()) == "");

  const unmap_report real = table.unmap(first, length_bytes, profile, level);
  CHECK(text(real.outcome) == expected.error);
  CHECK(real.bytes == pages_gone(expected.left) * w.page);
  CHECK(test.left() == expected.left);
  CHECK(test.wrong_pages(expected.left) == "");
  CHECK(text(dry.outcome) == text(real.outcome));
  CHECK(dry.bytes == real.bytes);
  CHECK(dry.areas == real.areas);
  CHECK(w.close() == "");
}

}  // namespace

TEMPLATE_TEST_CASE("each unmap profile removes and answers what its interface does",
                   "[unmap_profile]", kind<full_domain>, kind<plain_domain>,
                   kind<test::unreadable_domain>, with_locks) {
  for (const row& r : rows) {
    for (std::size_t p = 0; p < unmap_profiles.size(); ++p) {
      const unmap_profile profile = unmap_profiles[p];
      for (unsigned domains = 0; domains < 3; ++domains) {
        // Only a domain that splits lets a hole be punched in what it holds.
        if (profile == unmap_profile::hole_punching && domains != 0 && !world<TestType>::can_split)
          continue;
        CAPTURE(r.request, name(profile), domains);
        check<TestType>(profile, kernel_level::linux_6_12, domains, world<TestType>::io(r.first),
                        r.pages * world<TestType>::page, r.answers[p]);
      }
    }
  }
}

TEST_CASE("a hole is not punched where a domain cannot split", "[unmap_profile]") {
  using k = kind<no_split_domain>;
  check<k>(unmap_profile::hole_punching, kernel_level::linux_6_12, 1, {0}, 2 * world<k>::page,
           invalid);
  check<k>(unmap_profile::hole_punching, kernel_level::linux_6_12, 1, {0}, 4 * world<k>::page,
           without_a);
  check<k>(unmap_profile::hole_punching, kernel_level::linux_6_12, 0, {0}, 2 * world<k>::page,
           {"ok", "..AA....BBBB...."});
}

TEST_CASE("large pages make iommufd's v1 answer as its v2", "[unmap_profile]") {
  two_areas<kind<full_domain>> test(unmap_profile::iommufd_compat_v2, 1);
  const unmap_report done = test.w.table().unmap({0}, 2 * 4096, unmap_profile::iommufd_compat_v1);
  CHECK(text(done.outcome) == "ENOENT");
  CHECK(test.left() == all_there);
}

TEST_CASE("a request past 2^64 is refused by each profile in its own way", "[unmap_profile]") {
  using k = kind<full_domain>;
  constexpr std::string_view at_6_12[] = {"EINVAL",    "EINVAL", "EOVERFLOW", "EOVERFLOW",
                                          "EOVERFLOW", "ERANGE", "ENOENT",    "EOVERFLOW"};
  for (const kernel_level level :
       {kernel_level::linux_6_12_0, kernel_level::linux_6_12, kernel_level::linux_6_18}) {
    for (std::size_t p = 0; p < unmap_profiles.size(); ++p) {
      const bool type1 = p < 2;
      const answer expected{level == kernel_level::linux_6_18 && type1 ? "EOVERFLOW" : at_6_12[p]};
      CAPTURE(name(unmap_profiles[p]), static_cast<int>(level));
      check<k>(unmap_profiles[p], level, 1, {4096}, top, expected);
      check<k>(unmap_profiles[p], level, 1, {top}, 2, expected);
    }
  }
}

TEST_CASE("before 6.12.117 iommufd's VFIO layer answers ENOENT for an empty range",
          "[unmap_profile]") {
  using k = kind<full_domain>;
  for (const kernel_level level :
       {kernel_level::linux_6_12_0, kernel_level::linux_6_12, kernel_level::linux_6_18}) {
    for (const unmap_profile profile :
         {unmap_profile::iommufd_compat_v1, unmap_profile::iommufd_compat_v2}) {
      CAPTURE(name(profile), static_cast<int>(level));
      check<k>(profile, level, 1, world<k>::io(4), 4096,
               level == kernel_level::linux_6_12_0 ? no_entry : stays);
    }
    for (const unmap_profile profile : {unmap_profile::type1_v1, unmap_profile::type1_v2,
                                        unmap_profile::virtio_iommu, unmap_profile::hole_punching})
      check<k>(profile, level, 1, world<k>::io(4), 4096, stays);
  }
}

TEST_CASE("unmapping all of an empty table succeeds and counts 0", "[unmap_profile]") {
  usual w;
  const unmap_report none = w.table().unmap_all();
  CHECK(text(none.outcome) == "ok");
  CHECK(none.bytes == 0);
  CHECK(none.areas == 0);
}

TEST_CASE("iommufd's v1 never cuts behind the first byte of an area", "[unmap_profile]") {
  // Found by a golden vector: ENOENT, where a cut off the alignment would answer EINVAL.
  usual w;
  auto& table = w.table();
  must(table.disable_large_pages());
  must(table.map(w.at(0), 4 * w.page, access_rights::read, w.io(1)));
  constexpr unmap_profile v1 = unmap_profile::iommufd_compat_v1;
  for (const auto& [first, length, error] : {std::tuple{w.page, std::uint64_t{1}, "ENOENT"},
                                             std::tuple{w.page, std::uint64_t{2}, "EINVAL"},
                                             std::tuple{w.page + 1, 4 * w.page - 1, "ENOENT"},
                                             std::tuple{w.page + 2, 4 * w.page - 2, "EINVAL"}}) {
    CAPTURE(first, length);
    CHECK(text(table.would_unmap({first}, length, v1).outcome) == error);
    CHECK(text(table.unmap({first}, length, v1).outcome) == error);
  }
  CHECK(table.area_count() == 1);
}

TEST_CASE("hole_punching cuts at any byte while no domain holds the area", "[unmap_profile]") {
  usual w;
  auto& table = w.table();
  must(table.map(w.at(0), 3, access_rights::read, iova{8}));
  CHECK(text(table.unmap({8}, 1, unmap_profile::hole_punching).outcome) == "ok");
  CHECK(text(table.unmap({10}, 1, unmap_profile::hole_punching).outcome) == "ok");
  REQUIRE(table.find(iova{9}));
  CHECK(table.find(iova{9})->where == iova_range{{9}, {9}});
  CHECK(table.find(iova{9})->from == w.at(0) + 1);
}

TEST_CASE("every profile has a name, and no two the same", "[unmap_profile]") {
  for (const unmap_profile a : unmap_profiles)
    for (const unmap_profile b : unmap_profiles) CHECK((name(a) == name(b)) == (a == b));
}
