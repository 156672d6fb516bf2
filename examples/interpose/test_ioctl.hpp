// examples/interpose/test_ioctl.hpp - the one ioctl of the kernel's own tests that the vectors need,
// added to a context's table from outside: it is no part of the library.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::test {

/// What IOMMU_TEST_CMD passes, as far as MOCK_DOMAIN (operation 2) and REPLACE (10) have it.
struct test_command {
  std::uint32_t size;
  std::uint32_t op;
  std::uint32_t id;
  std::uint32_t pad;
  std::uint32_t words[12];  // 2: out the test's device, the hardware page table, the device; 10: it
  std::uint32_t last;
  std::uint32_t pad2;
};
static_assert(sizeof(test_command) == 72);
inline constexpr std::uint32_t test_number = 0xa0;

/// test_ioctl: devices that can be made by an ioctl, and go when their number is destroyed.
template <class Context, class Domain>
class test_ioctl {
 public:
  static constexpr std::uint32_t last_number = test_number;
  using group_type = mock::basic_group<Domain>;
  using seen = typename group_type::seen;

  test_ioctl(Context& context, seen made) : context_(context), made_(std::move(made)) {}

  uapi::answer operator()(const typename Context::argument_type& a) {
    if (iommufd::abi::number_of(a.request()) != test_number)
      return uapi::refusal(errc::inappropriate_io_control_operation);
    auto said = a.template read<test_command>(68);
    if (!said) return uapi::refusal(said.error().code);
    switch (said->op) {
      case 2: return uapi::answer_of(make(a, *said));
      case 10: return uapi::answer_of(replace(a, *said));
      default: return uapi::refusal(errc::operation_not_supported);
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

  result<void> make(const typename Context::argument_type& a, test_command& said) {
    auto object = std::make_unique<test_device>(*this);
    if (const auto done = context_.reserve(*object); !done) return done;
    mock::group_options o{.domains = mock::domain_options::kernel_selftest()};
    o.iommu = this;
    // Its group stays: a domain that it made may be in use for longer than the device.
    groups_.push_back(std::make_unique<group_type>(o, made_));
    const auto device = context_.bind(*groups_.back());
    result<void> done = device ? result<void>{} : fail(device.error());
    if (device) {
      object->device = *device;
      const auto at = context_.attach(*device, said.id);
      done = at ? result<void>{} : fail(at.error());
      if (done) {
        said.words[0] = object->id();
        said.words[1] = *at;
        said.words[2] = *device;
        done = a.respond(said);
        if (!done) static_cast<void>(context_.detach(*device));
      }
      if (!done) static_cast<void>(context_.unbind(*device));
    }
    if (!done) {
      context_.abandon(*object);
      return done;
    }
    context_.publish(*object.release());
    return {};
  }

  result<void> replace(const typename Context::argument_type& a, test_command& said) {
    return context_.with_foreign(said.id, [&](iommufd::foreign_object& o) -> result<void> {
      const auto at = context_.replace(static_cast<test_device&>(o).device, said.words[0]);
      if (!at) return fail(at.error());
      said.words[0] = *at;
      return a.respond(said);
    });
  }

  Context& context_;
  seen made_;
  std::vector<std::unique_ptr<group_type>> groups_;
};

}  // namespace iopt::test
