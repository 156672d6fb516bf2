// tests/uapi/vfio/native_script.hpp - a script of VFIO ioctls, answered by a native container.
//
// The golden vectors of tests/vectors/native are such scripts, with what a real Linux 6.12 answered.
// Every line is passed to the container's and the groups' ioctl entry as bytes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/vfio/container.hpp"
#include "iopt/uapi/vfio/group_file.hpp"
#include "tests/uapi/script_line.hpp"
#include "tests/uapi/vfio/info_text.hpp"

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
    const mock::process me = pinner_.current();
    constexpr std::uint64_t m = mebibyte;
    pinner_.set_hole(me, user_range{{0}, {arena - 1}});
    pinner_.set_hole(me, user_range{{arena + 40 * m}, {arena + 56 * m - 1}});
    pinner_.set_hole(me, user_range{{arena + 64 * m}, {mock::memory_space::largest - 1}});
    pinner_.set_read_only(me, user_range{{arena + 32 * m}, {arena + 40 * m - 1}});
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
    const script_line line(text);
    const std::string said = operate(line);
    const mock::process me = pinner_.current();
    const auto kb = [](std::uint64_t pages) { return std::to_string(pages * 4); };
    return said + " lck=" + kb(pinner_.charged(me, account_mode::mm)) +
           " pin=" + kb(pinner_.pinned_vm(me));
  }

  std::string_view verify() const {
    if (container_)
      if (const std::string_view text = container_->verify(); !text.empty()) return text;
    return pinner_.verify();
  }

 private:
  static constexpr std::uint64_t arena = 0x200000000000;

  std::int64_t container_ioctl(std::uint32_t request, std::uint64_t argument) {
    if (!container_) return -static_cast<std::int64_t>(errc::bad_file_descriptor);
    return container_->ioctl(request, argument);
  }
  static std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

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
    if (op == "api_version") return told(container_ioctl(abi::get_api_version, 0));
    if (op == "check_ext") return told(container_ioctl(abi::check_extension, line.number(1)));
    if (op == "set_iommu") return status(container_ioctl(abi::set_iommu, line.number(1)));
    if (op == "info") return info(line);
    if (op == "map") {
      abi::dma_map m{line.number32(1), line.number32(2), arena + line.number(3), line.number(4),
                     line.number(5)};
      return status(container_ioctl(abi::iommu_map_dma, address(&m)));
    }
    if (op == "unmap") return unmap(line);
    if (op == "dirty") return dirty(line);
    if (op == "protect") return protect(line);
    if (op == "raw")
      return raw_text(line, [this](auto number, auto at) { return container_ioctl(number, at); });
    return "UNKNOWN " + std::string(op);
  }

  static std::string told(std::int64_t answer) {
    return status(answer) + " ret=" + std::to_string(answer < 0 ? -1 : answer);
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

  std::string info(const script_line& line) {
    std::vector<std::byte> buffer(8192);
    const std::uint32_t given = line.number32(1);
    std::memcpy(buffer.data(), &given, sizeof given);
    const std::int64_t answer = container_ioctl(vfio::abi::iommu_get_info, address(buffer.data()));
    return answer == 0 ? "0" + info_text(buffer, given) : status(answer);
  }

  std::string unmap(const script_line& line) {
    namespace abi = vfio::abi;
    struct {
      abi::dma_unmap u;
      abi::bitmap b;
    } m{{line.number32(1), line.number32(2), line.number(3), line.number(4)},
        {line.number(5), line.number(6), address(bits_.data())}};
    bits_.fill(0);
    const std::int64_t answer = container_ioctl(abi::iommu_unmap_dma, address(&m));
    std::string text = status(answer) + " size=" + hex(m.u.size);
    if (answer == 0 && (m.u.flags & abi::unmap_get_dirty_bitmap) != 0)
      text += bits_text(bits_.data(), line.number(6));
    return text;
  }

  std::string dirty(const script_line& line) {
    namespace abi = vfio::abi;
    struct {
      abi::dirty_bitmap d;
      abi::dirty_bitmap_get g;
    } m{{line.number32(1), line.number32(2)},
        {line.number(3), line.number(4), {line.number(5), line.number(6), address(bits_.data())}}};
    bits_.fill(0);
    const std::int64_t answer = container_ioctl(abi::iommu_dirty_pages, address(&m));
    std::string text = status(answer);
    const std::uint64_t bytes = line.number(6);
    if (answer == 0 && (m.d.flags & abi::dirty_get_bitmap) != 0 && bytes <= sizeof bits_)
      text += bits_text(bits_.data(), bytes);
    return text;
  }

  /// mprotect() of the arena, whose pages stay where they are.
  std::string protect(const script_line& line) {
    const user_range part = user_range::sized({arena + line.number(1)}, line.number(2));
    const std::uint64_t how = line.number(3);
    const mock::process me = pinner_.current();
    pinner_.set_hole(me, part, (how & 1) == 0);
    pinner_.set_read_only(me, part, (how & 2) == 0);
    return "0";
  }

  mock::pinner pinner_;
  trusted_caller copy_;
  vfio::container_options options_{};
  bool privileged_ = true;
  std::array<std::unique_ptr<mock::group>, 2> groups_;
  std::vector<std::unique_ptr<group_file_type>> files_;
  std::array<group_file_type*, 4> slots_{};
  std::shared_ptr<container_type> container_;
  std::array<std::uint64_t, 1 << 17> bits_{};
};

}  // namespace iopt::test
