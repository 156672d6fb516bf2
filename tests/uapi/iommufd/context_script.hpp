// tests/uapi/iommufd/context_script.hpp - a script of ioctls on /dev/iommu, answered by a context.
//
// The golden vectors of tests/vectors are such scripts, with what a real Linux 6.12 answered. Every
// line is passed to the context's ioctl entry as bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "examples/interpose/test_ioctl.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "tests/uapi/script_calls.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/script_memory.hpp"

namespace iopt::test {

/// context_script: one /dev/iommu, in a machine as the vectors were recorded on.
template <class Domain = mock::domain, table_traits Traits = single_threaded>
class context_script {
 public:
  struct profile : uapi::default_profile {
    using traits = Traits;
    using caller = script_caller;
  };
  using context_type = iommufd::context<mock::pinner, Domain, profile>;
  using table_type = typename context_type::table_type;

  explicit context_script(mock::pinner_options options = {})
      : pinner_(options),
        more_(context_, [this](Domain& d) { watch(d); }),
        context_(pinner_, {.allow_noiommu = true}, {}, {&privileged_}) {
    lay_out_arena(pinner_);
  }

  /// What the kernel answers, as replay prints it.
  std::string answer(std::string_view text) {
    const std::string said = operate(script_line(text));
    return said + accounts_text(pinner_);
  }

  /// Empty when all is sound, else what is not.
  std::string_view verify() const {
    if (!fault_.empty()) return fault_;
    if (const std::string_view text = context_.verify(); !text.empty()) return text;
    if (pinner_.pinned_pages() != pinner_.pinned_vm(pinner_.current()))
      return "every pinned page is charged";
    return pinner_.verify();
  }

 private:
  void watch(mock::domain& d) { pinner_.watch(d); }
  template <class Restricted>
  void watch(Restricted& d) {
    pinner_.watch(d.inner());
  }

  std::int64_t ioctl(std::uint32_t number, std::uint64_t argument) {
    return context_.ioctl(number, argument, more_);
  }

  std::string operate(const script_line& line) {
    const std::string_view op = line.word(0);
    if (op == "iommufd") return "0";
    if (op == "rlimit_memlock") {
      privileged_ = false;
      for (const account_mode mode : {account_mode::user, account_mode::mm})
        pinner_.set_limit(pinner_.current(), mode, line.number(1) / table_type::page_bytes);
      return "0";
    }
    if (op == "protect") return protect_arena(pinner_, line);
    if (op == "raw")
      return raw_text(line,
                      [this](std::uint32_t number, std::uint64_t at) { return ioctl(number, at); });
    if (auto said = vfio_.answer(line, [this](std::uint32_t number, std::uint64_t at) {
          return number == vfio::abi::iommu_unmap_dma ? unmap(at) : ioctl(number, at);
        }))
      return *said;
    if (auto said = objects_.answer(line, [this](std::uint32_t number, std::uint64_t at) {
          return number == static_cast<std::uint32_t>(iommufd::abi::request::ioas_unmap)
                     ? ioas_unmap(at)
                     : ioctl(number, at);
        }))
      return *said;
    return "UNKNOWN " + std::string(op);
  }

  /// The two unmaps, of which the engine says before what they will do.
  std::int64_t unmap(std::uint64_t argument) {
    const auto& m = *reinterpret_cast<const vfio::abi::dma_unmap*>(argument);
    const auto expected = dry_run(context_.compatible_space().value_or(0), m.iova, m.size, false);
    const std::int64_t answer = ioctl(vfio::abi::iommu_unmap_dma, argument);
    if (m.argsz >= sizeof m && m.flags == 0) compare(expected, answer, m.size);
    return answer;
  }
  std::int64_t ioas_unmap(std::uint64_t argument) {
    const auto& c = *reinterpret_cast<const iommufd::abi::ioas_unmap*>(argument);
    const auto expected = dry_run(c.ioas_id, c.iova, c.length, true);
    const bool all = c.iova == top || c.length == top;
    const auto number = static_cast<std::uint32_t>(iommufd::abi::request::ioas_unmap);
    const std::int64_t answer = ioctl(number, argument);
    if (!all) compare(expected, answer, c.length);
    return answer;
  }

  /// What the engine says that an unmap would do.
  std::optional<unmap_report> dry_run(std::uint32_t space, std::uint64_t first, std::uint64_t bytes,
                                      bool native) {
    std::optional<unmap_report> report;
    static_cast<void>(context_.with_space(space, [&](table_type& t) {
      report = t.would_unmap({first}, bytes,
                             native            ? unmap_profile::iommufd
                             : t.large_pages() ? unmap_profile::iommufd_compat_v2
                                               : unmap_profile::iommufd_compat_v1);
      return result<void>{};
    }));
    return report;
  }
  /// A dry run of nothing at all knows nothing of the cuts that the kernel makes before it looks.
  void compare(const std::optional<unmap_report>& dry, std::int64_t answer, std::uint64_t bytes) {
    if (!dry) return;
    const bool same =
        uapi::answer_of(dry->outcome) == answer && (answer != 0 || dry->bytes == bytes);
    const bool nothing = dry->outcome == result<void>(fail(errc::invalid_argument)) ||
                         dry->outcome == result<void>(fail(errc::value_too_large));
    if (!same && !nothing) fault_ = "a dry run says what then happens";
  }

  mock::pinner pinner_;
  vfio_calls vfio_;
  iommufd_calls objects_;
  bool privileged_ = true;
  std::string_view fault_;
  test_ioctl<context_type, Domain> more_;
  context_type context_;
};

}  // namespace iopt::test
