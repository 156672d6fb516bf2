// tests/backends/kernel/engine.cpp - the engine over a kernel's functions, as a kernel would build it.
//
// Nobody links it: check_symbols.cmake looks at what it would need. An explicit instantiation has
// every member but those that are templates themselves; these are called below.
#include "iopt/backends/kernel/operations.h"
#define IOPT_ASSERT_FAIL iopt_kernel_panic
#include "iopt/backends/kernel/kernel.hpp"
#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"

using iopt::kernel::domain;
using iopt::kernel::pinner;
using iopt::kernel::traits;

/// Areas found by user address too.
struct indexed_traits : traits {
  static constexpr bool reverse_index = true;
};

template class iopt::io_pagetable<pinner, domain, traits>;
template class iopt::access_object<pinner, domain, traits>;
template class iopt::io_pagetable<pinner, domain, indexed_traits>;
template class iopt::access_object<pinner, domain, indexed_traits>;

using table_type = iopt::io_pagetable<pinner, domain, indexed_traits>;
using access_type = iopt::access_object<pinner, domain, indexed_traits>;

/// A table that is made, used by every member template, and gone.
std::uint64_t use_all(const iopt_kernel_operations& operations, void* of_kernel, iopt::iova at,
                      iopt::user_range shown) {
  pinner pages(operations);
  domain shows(operations, of_kernel);
  table_type table(pages, iopt::kernel::memory(operations));
  access_type user(+[](void*, iopt::iova_range) {});
  std::uint64_t sum = 0;
  const auto add = [&](iopt::iova_range r) { sum += r.last.value; };

  const auto done = table.attach(shows);
  if (!done) return static_cast<std::uint64_t>(done.error().number());
  const iopt::iova_range range{at, at + shown.length_minus_one()};
  const auto nothing = [&]() -> iopt::result<std::optional<iopt::iova_range>> {
    return std::optional<iopt::iova_range>{};
  };
  if (user.attach(table) && table.allow_each(nothing) &&
      table.map(shown.first, shown.length(), iopt::access_rights::read, at) &&
      user.pin(range, iopt::access_rights::read, [&](iopt::run r) { sum += r.first.value; })) {
    user.unpin(range);
  }
  table.for_each_view(pages.current(), shown,
                      [&](iopt::iova_range r, iopt::user_address) { add(r); });
  table.for_each_area([&](const iopt::area_info&) { ++sum; });
  table.for_each_usable(add);
  table.for_each_domain([&](const domain& d) { sum += d.page_sizes().bitmap(); });
  if (!table.read_dirty(shows, range, iopt::dirty_read::keep, add)) ++sum;
  if (!table_type::change_owner_of([&](auto f) { f(table); }, pages.current())) ++sum;
  static_cast<void>(table.unmap_dirty(at, shown.length(), iopt::unmap_profile::iommufd, add));
  user.detach();
  static_cast<void>(table.detach(shows));
  return sum;
}
