// examples/interpose/test_ioctl.hpp - the ioctl of the kernel's own iommufd tests, as far as any context
// can answer it: devices that an ioctl makes. It is added to the context's table from outside, and
// no part of the library.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "test_command.hpp"

namespace iopt::test {

/// test_ioctl: devices that can be made by an ioctl, and go when their number is destroyed.
///
/// Ownership   Outlives the context, whose groups it keeps.
/// Threads     Any call from any thread.
template <class Context, class Domain>
class test_ioctl {
 public:
  static constexpr std::uint32_t last_number = test_number;
  using argument_type = typename Context::argument_type;
  using group_type = mock::basic_group<Domain>;
  using seen = typename group_type::seen;

  test_ioctl(Context& context, seen made, mock::fault_injector* faults = nullptr)
      : context_(context), made_(std::move(made)), faults_(faults) {}

  uapi::answer operator()(const argument_type& a) {
    return with_command(a, [&](test_command& said) { return uapi::answer_of(answer(a, said)); });
  }

 protected:
  Context& context() noexcept { return context_; }

  template <class F>
  static uapi::answer with_command(const argument_type& a, F f) {
    if (iommufd::abi::number_of(a.request()) != test_number)
      return uapi::refusal(errc::inappropriate_io_control_operation);
    result<test_command> said = a.template read<test_command>(test_command_least);
    return said ? f(*said) : uapi::refusal(said.error().code);
  }

  result<void> answer(const argument_type& a, test_command& said) {
    switch (said.op) {
      case test_operation::add_reserved: return add_reserved(said);
      case test_operation::mock_domain: return make(a, said, 0);
      case test_operation::mock_domain_flags: return make(a, said, said.mock_domain.flags);
      case test_operation::mock_domain_replace: return replace(a, said);
      case test_operation::dirty: return dirty(a, said);
      case test_operation::check_device_cache: return check_device_cache(said);
      default: return fail(errc::operation_not_supported);
    }
  }

 private:
  class test_device final : public iommufd::foreign_object {
   public:
    explicit test_device(test_ioctl& of) : of_(of) {}
    void destroyed() noexcept override {
      static_cast<void>(of_.context_.detach(device));
      static_cast<void>(of_.context_.unbind(device));
      delete this;
    }
    iommufd::object_id device = 0;

   private:
    test_ioctl& of_;
  };

  result<void> add_reserved(const test_command& said) {
    const auto range = iova_range::from_length({said.add_reserved.start}, said.add_reserved.length);
    if (!range) return fail(range.error());
    return context_.with_space(said.id, [&](auto& table) { return table.reserve(*range); });
  }

  /// A device of a group of its own. The group stays: a domain that it made may be in use for longer
  /// than the device.
  static constexpr page_size_set huge_page_sizes{2 * kibibyte, mebibyte};
  static result<mock::domain_options> described(mock::domain_options o,
                                                std::span<const std::byte> said) {
    domain_description d{};
    if (said.size() < sizeof d.iotlb) return fail(errc::invalid_argument);
    std::memcpy(&d, said.data(), said.size());
    if (d.has_huge_pages > 1) return fail(errc::operation_not_supported);
    if (d.has_huge_pages == 1) o.page_sizes = huge_page_sizes;
    return o;
  }
  group_type& add_group(std::uint32_t flags) {
    static constexpr std::array<std::uint32_t, 2> registers{0, 0xdeadbeef};
    mock::group_options o{.domains = mock::domain_options::kernel_selftest()};
    o.domains.faults = faults_;
    if ((flags & device_huge_iova) != 0) o.domains.page_sizes = huge_page_sizes;
    o.domains.tracks_dirty = (flags & device_no_dirty) == 0;
    o.nests = true;
    o.described = {domain_description_type, sizeof(domain_description), &described};
    o.iommu = this;
    o.hardware = {.type = 0xfeedbeef, .bytes = std::as_bytes(std::span(registers))};
    if ((flags & device_pasid) != 0) o.hardware.pasid_bits = 20;
    const std::lock_guard held(lock_);
    groups_.push_back(std::make_unique<group_type>(std::move(o), made_));
    return *groups_.back();
  }

  result<void> make(const argument_type& a, test_command& said, std::uint32_t flags) {
    auto object = std::make_unique<test_device>(*this);
    if (const auto done = context_.reserve(*object); !done) return done;
    result<void> done = bind_and_attach(a, said, flags, *object);
    if (!done) {
      context_.abandon(*object);
      return done;
    }
    context_.publish(*object.release());
    return {};
  }
  result<void> bind_and_attach(const argument_type& a, test_command& said, std::uint32_t flags,
                               test_device& object) {
    if ((flags & ~(device_no_dirty | device_huge_iova | device_pasid)) != 0)
      return fail(errc::invalid_argument);
    const auto device = context_.bind(add_group(flags));
    if (!device) return fail(device.error());
    object.device = *device;
    const auto at = context_.attach(*device, said.id);
    result<void> done = at ? result<void>{} : fail(at.error());
    if (done) {
      said.mock_domain.out_test_device = object.id();
      said.mock_domain.out_hw_pagetable = *at;
      said.mock_domain.out_device = *device;
      done = a.respond(said);
      if (!done) static_cast<void>(context_.detach(*device));
    }
    if (!done) static_cast<void>(context_.unbind(*device));
    return done;
  }

  /// A virtual IOMMU would change what a device keeps of it; there is none.
  static result<void> check_device_cache(const test_command& said) {
    constexpr std::uint32_t words = 4, untouched = 0xbaddad;
    if (said.device_cache.number >= words || said.device_cache.value != untouched)
      return fail(errc::invalid_argument);
    return {};
  }

  result<void> replace(const argument_type& a, test_command& said) {
    return context_.with_foreign(said.id, [&](iommufd::foreign_object& o) -> result<void> {
      const auto at = context_.replace(static_cast<test_device&>(o).device, said.replace.to);
      if (!at) return fail(at.error());
      said.replace.to = *at;
      return a.respond(said);
    });
  }

  /// What a device would write: a bit a page.
  result<void> dirty(const argument_type& a, test_command& said) {
    auto& d = said.dirty;
    constexpr std::uint64_t most_bits = 128 * mebibyte;
    if (d.page_size == 0 || d.length == 0 || d.iova % d.page_size != 0 ||
        d.length % d.page_size != 0 || d.address == 0)
      return fail(errc::invalid_argument);
    const std::uint64_t bits = d.length / d.page_size;
    if (bits > most_bits) return fail(errc::value_too_large);
    return context_.with_hw_pagetable(said.id, [&](auto&, Domain& through) -> result<void> {
      mock::domain& domain = mock_of(through);
      if (!domain.is_tracking()) return fail(errc::invalid_argument);
      std::vector<std::byte> bitmap((bits + 7) / 8);
      if (!a.copy().read({d.address}, std::span(bitmap))) return fail(errc::bad_address);
      d.out_count = 0;
      for (std::uint64_t n = 0; n != bits; ++n) {
        const iova at{d.iova + n * d.page_size};
        if ((bitmap[n / 8] >> (n % 8) & std::byte{1}) == std::byte{0} || !domain.translate(at))
          continue;
        domain.mark_dirty(iova_range::sized(at, d.page_size));
        ++d.out_count;
      }
      return a.respond(said);
    });
  }
  static mock::domain& mock_of(Domain& d) noexcept {
    if constexpr (requires { d.inner(); }) {
      return d.inner();
    } else {
      return d;
    }
  }

  Context& context_;
  seen made_;
  mock::fault_injector* faults_;
  std::mutex lock_;  // over what follows
  std::vector<std::unique_ptr<group_type>> groups_;
};

}  // namespace iopt::test
