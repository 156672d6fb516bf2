#include "iopt/policy/iommu_domain.hpp"

#include <mutex>
#include <optional>
#include <span>

#include "iopt/backends/mock/mock.hpp"
#include "tests/catch.hpp"
#include "tests/policy/iommu_domain_conformance.hpp"

using namespace iopt;

namespace {

struct mock_hooks : iopt_conformance::imaginary_memory {
  mock::fault_injector* faults = nullptr;

  template <class D>
  attributes attributes_at(D& d, iova at) {
    if constexpr (requires { d.inner(); }) {
      return *d.inner().attributes_at(at);
    } else {
      return *d.attributes_at(at);
    }
  }
  template <class D>
  void refuse_next(D&) {
    faults->arm(0);
  }
  template <class D>
  bool device_writes(D& d, iova_range r) {
    if constexpr (requires { d.inner(); }) {
      return d.inner().device_writes(r);
    } else {
      return d.device_writes(r);
    }
  }
};

template <class D>
void check(mock::domain_options options) {
  mock::fault_injector faults;
  options.faults = &faults;
  mock_hooks hooks;
  hooks.faults = &faults;
  iopt_conformance::check_domain<D>([&] { return D(options); }, hooks);
}

mock::domain_options shape(int n) {
  mock::domain_options o;
  switch (n) {
    case 0: break;
    case 1: o = mock::domain_options::kernel_selftest(); break;
    case 2: o.page_sizes = {2 * kibibyte, mebibyte}; break;
    case 3:
      o.page_sizes = {64 * kibibyte, 512 * mebibyte};
      o.aperture = {{0}, {(std::uint64_t{1} << 39) - 1}};
      o.reserved = {{{{0}, {mebibyte - 1}}, reserved_region::kind::reserved},
                    {{{2 * mebibyte}, {3 * mebibyte - 1}}, reserved_region::kind::msi}};
      break;
    case 4:
      o.page_sizes = {4 * kibibyte, 64 * kibibyte, 2 * mebibyte};
      o.aperture = {{top - (std::uint64_t{1} << 30) + 1}, {top}};
      o.tracks_dirty = false;
      break;
    case 5: o.page_sizes = {512}; break;
    default: o.page_sizes = {16 * kibibyte, 32 * mebibyte, 64 * gibibyte};  // as arm64 has them
  }
  return o;
}

}  // namespace

TEST_CASE("the mock domain keeps the contract of iommu_domain", "[conformance]") {
  const int n = GENERATE(0, 1, 2, 3, 4, 5, 6);
  CAPTURE(n);
  check<mock::domain>(shape(n));
}

TEST_CASE("lesser domains keep it too", "[conformance]") {
  const int n = GENERATE(0, 1, 3, 6);
  CAPTURE(n);
  check<mock::plain<>>(shape(n));
  check<mock::without_split<>>(shape(n));
  check<mock::without<mock::ability::sync>>(shape(n));
  check<mock::without<mock::ability::unmap_runs | mock::ability::translate_range>>(shape(n));
  check<mock::without<mock::ability::map_runs | mock::ability::dirty>>(shape(n));
  check<mock::unreadable<>>(shape(n));
}

namespace {

// A domain that serialises by itself, and is told ahead.
class serialised {
 public:
  static constexpr bool is_concurrent = true;

  explicit serialised(mock::domain_options options) : inner_(options) {}

  result<void> map(iova_range r, physical p, attributes how) {
    const std::lock_guard hold(mutex_);
    return inner_.map(r, p, how);
  }
  std::uint64_t unmap(iova_range r) noexcept {
    const std::lock_guard hold(mutex_);
    return inner_.unmap(r);
  }
  std::optional<physical> translate(iova v) const {
    const std::lock_guard hold(mutex_);
    return inner_.translate(v);
  }
  page_size_set page_sizes() const { return inner_.page_sizes(); }
  iova_range aperture() const { return inner_.aperture(); }
  std::span<const reserved_region> reserved_regions() const { return inner_.reserved_regions(); }
  void sync() noexcept {
    const std::lock_guard hold(mutex_);
    inner_.sync();
  }
  void prefetch(iova_range) const noexcept {}

 private:
  mutable std::mutex mutex_;
  mock::domain inner_;
};
static_assert(concurrent_domain<serialised> && prefetching_domain<serialised> &&
              flushing_domain<serialised>);
static_assert(!concurrent_domain<mock::domain> && !prefetching_domain<mock::domain>);

}  // namespace

TEST_CASE("a domain that serialises by itself keeps it in two threads", "[conformance]") {
  const int n = GENERATE(0, 2, 3, 6);
  CAPTURE(n);
  iopt_conformance::check_domain<serialised>([&] { return serialised(shape(n)); });
}

// The checks must be able to fail: a domain for each clause that is not kept.
namespace {

struct forgets_the_last_byte : mock::plain<> {
  std::optional<physical> translate(iova v) const {
    if (v.value % 4096 == 4095) return std::nullopt;
    return mock::plain<>::translate(v);
  }
};
static_assert(iommu_domain<forgets_the_last_byte>);

}  // namespace

TEST_CASE("a domain that breaks the contract is told so", "[conformance][!shouldfail]") {
  iopt_conformance::check_domain<forgets_the_last_byte>([] { return forgets_the_last_byte(); });
}
