// tests/uapi/vfio/native_script.hpp - a script of VFIO ioctls, answered by a native container.
//
// The golden vectors of tests/vectors/native are such scripts, with what a real Linux 6.12 answered.
// Every line is passed to the container's and the groups' ioctl entry as bytes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/vfio/container.hpp"
#include "iopt/uapi/vfio/group_file.hpp"
#include "tests/uapi/script_calls.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/script_memory.hpp"

namespace iopt::test {

template <class Traits>
struct script_profile : vfio::type1_profile {
  using traits = Traits;
  using caller = script_caller;
};

/// native_script: a machine with one container and two groups behind one IOMMU, as the vectors were
/// recorded on.
template <class Traits = single_threaded>
class native_script {
 public:
  using container_type = vfio::container<mock::pinner, mock::domain, script_profile<Traits>>;
  using group_file_type = vfio::group_file<std::shared_ptr<container_type>>;

  native_script(std::string_view kind, mock::pinner_options memory = {}) : pinner_(memory) {
    lay_out_arena(pinner_);
    if (kind.starts_with("limit")) options_.dma_entry_limit = 20;
    privileged_ = kind.find("memlock") == std::string_view::npos;
    for (auto& g : groups_) {
      mock::group_options o;
      o.domains.page_sizes = {4 * kibibyte, 2 * mebibyte, gibibyte};
      o.domains.aperture = {{0}, {0x7fffffffff}};
      o.domains.enforces_coherency = false;
      o.reserved = {{{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::msi}};
      o.iommu = this;
      g = std::make_unique<mock::group>(o, [this](mock::domain& d) { pinner_.watch(d); });
      files_.push_back(std::make_unique<group_file_type>(*g));
    }
  }
  ~native_script() {
    for (auto& f : files_) f->close();
  }

  /// What the kernel answers, as replay prints it.
  std::string answer(std::string_view text) {
    const std::string said = operate(script_line(text));
    return said + accounts_text(pinner_);
  }

  std::string_view verify() const {
    if (container_)
      if (const std::string_view text = container_->verify(); !text.empty()) return text;
    return pinner_.verify();
  }

 private:
  std::int64_t container_ioctl(std::uint32_t request, std::uint64_t argument) {
    if (!container_) return -static_cast<std::int64_t>(errc::bad_file_descriptor);
    return container_->ioctl(request, argument);
  }

  std::string operate(const script_line& line) {
    const std::string_view op = line.word(0);
    namespace abi = vfio::abi;
    if (op == "container") {
      container_ = std::make_shared<container_type>(pinner_, options_, trusted_caller{},
                                                    script_caller{&privileged_});
      return "0";
    }
    if (op == "group") return open_group(line);
    if (op == "set_container" || op == "unset_container") {
      const std::size_t slot = line.number(1) & 3;
      if (slots_[slot] == nullptr) return "EBADF";
      std::int32_t descriptor = 3;
      return status(slots_[slot]->ioctl(
          op == "set_container" ? abi::group_set_container : abi::group_unset_container,
          address(&descriptor), copy_, [this](int, std::shared_ptr<container_type>& out) {
            out = container_;
            return vfio::descriptor_kind::container;
          }));
    }
    if (op == "rlimit_memlock") {
      pinner_.set_limit(pinner_.current(), account_mode::mm, line.number(1) / 4096);
      return "0";
    }
    if (op == "protect") return protect_arena(pinner_, line);
    if (auto said = vfio_.answer(line, [this](std::uint32_t number, std::uint64_t at) {
          return container_ioctl(number, at);
        }))
      return *said;
    return "UNKNOWN " + std::string(op);
  }

  std::string open_group(const script_line& line) {
    group_file_type& file = *files_[line.word(1) == "GROUP2" ? 1 : 0];
    const std::size_t slot = line.number(2) & 3;
    const result<void> opened = file.open();
    slots_[slot] = opened ? &file : nullptr;
    if (!opened) return std::string(name(opened.error().code));
    vfio::abi::group_status s{sizeof s, 0};
    file.ioctl(vfio::abi::group_get_status, address(&s), copy_,
               [](int, auto&) { return vfio::descriptor_kind::none; });
    return "0 status=" + hex(s.flags);
  }

  mock::pinner pinner_;
  trusted_caller copy_;
  vfio::container_options options_{};
  bool privileged_ = true;
  std::array<std::unique_ptr<mock::group>, 2> groups_;
  std::vector<std::unique_ptr<group_file_type>> files_;
  std::array<group_file_type*, 4> slots_{};
  std::shared_ptr<container_type> container_;
  vfio_calls vfio_;
};

}  // namespace iopt::test
