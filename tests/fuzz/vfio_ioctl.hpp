// tests/fuzz/vfio_ioctl.hpp - a machine of containers whose ioctls a fuzzer calls, with any bytes at
// any address.
//
// What must hold: no crash, no undefined behaviour, no lost memory; every container sound after each
// step; nothing pinned and nothing charged at the end; no page given back that a device still sees
// (the mock stops the program there).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/vfio/container.hpp"
#include "tests/fuzz/input.hpp"

namespace iopt::test {

/// The caller's memory: some bytes that can be read, fewer that can be written, and nothing else.
struct fuzz_copy {
  static constexpr std::uint64_t base = 0x10000;
  std::array<std::byte, 16384>* bytes;

  bool read(user_address at, std::span<std::byte> to) noexcept {
    if (!fits(at, to.size(), bytes->size())) return false;
    std::memcpy(to.data(), bytes->data() + (at.value - base), to.size());
    return true;
  }
  bool write(user_address at, std::span<const std::byte> from) noexcept {
    if (!fits(at, from.size(), bytes->size() - 4096)) return false;
    std::memcpy(bytes->data() + (at.value - base), from.data(), from.size());
    return true;
  }
  bool contains(user_address at, std::uint64_t size) const noexcept {
    constexpr std::uint64_t end = (std::uint64_t{1} << 47) - 4096;
    return size <= end && at.value <= end - size;
  }

 private:
  static bool fits(user_address at, std::uint64_t size, std::uint64_t end) noexcept {
    return at.value >= base && at.value - base <= end && size <= end - (at.value - base);
  }
};

struct fuzz_caller {
  const bool* may;
  bool has(capability) const noexcept { return *may; }
};

template <class Base>
struct fuzz_profile : Base {
  using copy = fuzz_copy;
  using caller = fuzz_caller;
};
/// Descriptors: of a file, of a peer's memory, or of nothing.
struct fuzz_files {
  result<mock::file> operator()(std::int32_t fd) const {
    if (fd % 3 != 0) return fail(errc::bad_file_descriptor);
    return known;
  }
  static inline mock::file known{};
};
struct fuzz_dmabufs {
  result<std::optional<mock::exporter>> operator()(std::int32_t fd, std::uint64_t,
                                                   std::uint64_t) const {
    if (fd % 3 != 1) return std::nullopt;
    return known;
  }
  static inline mock::exporter known{};
};
/// With every ioctl that there is.
struct fuzz_compat : vfio::iommufd_profile {
  static constexpr kernel_level ioctls = kernel_level::linux_6_18;
  using files = fuzz_files;
  using dmabufs = fuzz_dmabufs;
};
struct fuzz_punching : vfio::hole_punching_profile {
  static constexpr kernel_level level = kernel_level::linux_6_18;
};

/// vfio_machine: containers of every kind over one memory, and groups that go from one to another.
class vfio_machine {
 public:
  static void run(std::span<const std::uint8_t> bytes) {
    fuzz_input input(bytes);
    const std::uint64_t contiguity = std::uint64_t{4096} << input.below(11);
    vfio_machine(input, contiguity).run();
  }

 private:
  template <class Base>
  using container = vfio::container<mock::pinner, mock::domain, fuzz_profile<Base>>;
  struct user final : vfio::memory_user {
    vfio_machine* machine = nullptr;
    bool lets_go = true;
    void dma_unmap(iova_range gone) noexcept override {
      if (lets_go) machine->native_.unpin_pages(gone.first, gone.length_minus_one() / 4096 + 1);
      if (lets_go) machine->punching_.unpin_pages(gone.first, gone.length_minus_one() / 4096 + 1);
    }
  };

  vfio_machine(fuzz_input& input, std::uint64_t contiguity)
      : input_(input),
        pinner_({.contiguity_bytes = contiguity}),
        native_(pinner_, options_, {&bytes_}, {&may_}),
        punching_(pinner_, {.dma_entry_limit = 9, .reads_dirty_bits = true}, {&bytes_}, {&may_}),
        compat_(pinner_, options_, {&bytes_}, {&may_}) {
    const mock::process me = pinner_.current();
    pinner_.set_limit(me, account_mode::mm, 200);
    pinner_.set_hole(me, {{0x100000}, {mock::memory_space::largest - 1}});
    pinner_.set_read_only(me, {{0x40000}, {0x4ffff}});
    pinner_.set_hole(me, {{0x50000}, {0x5ffff}});
    bar_ = fuzz_dmabufs::known = pinner_.create_exporter(16 * 4096);
    fuzz_files::known = pinner_.create_file(32 * 4096);
    pinner_.map_device(me, {{0x60000}, {0x6ffff}}, bar_, 0);
    static const int iommus[2] = {};
    for (int n = 0; n < 4; ++n) {
      mock::group_options o;
      o.domains.aperture = {{0}, {n == 3 ? top : 0x7fffffffff}};
      if (n == 2) o.domains.page_sizes = {2048, 4096, 2 * mebibyte};
      o.domains.tracks_dirty = n != 1;
      o.domains.enforces_coherency = n == 1;
      o.nests = n == 1;
      if (n == 0) o.described = {1, 16, &described};
      if (n != 3) o.reserved = {{{{0xfee00000}, {0xfeefffff}}, reserved_region::kind::msi}};
      o.iommu = &iommus[n / 2];
      groups_.push_back(
          std::make_unique<mock::group>(o, [this](mock::domain& d) { pinner_.watch(d); }));
    }
    users_[0].machine = users_[1].machine = this;
  }
  ~vfio_machine() {
    for (user& u : users_) {
      native_.unregister_user(u);
      punching_.unregister_user(u);
    }
    static_cast<void>(compat_.context().destroy_access(access_));
    for (std::uint64_t n = 0; n != groups_.size(); ++n) unbind(n);
    for (auto& g : groups_) {
      static_cast<void>(compat_.close(*g));
      static_cast<void>(compat_.leave(*g));
      static_cast<void>(native_.leave(*g));
      static_cast<void>(punching_.leave(*g));
    }
    static_cast<void>(native_.leave(software_));
    static_cast<void>(punching_.leave(software_));
    for (iommufd::object_id id = 1; compat_.context().size() != 0; ++id) {
      demand(id < 5000, "an object stays");
      static_cast<void>(compat_.context().destroy(id % 64));
    }
    demand(pinner_.is_idle(), "something stays pinned or charged");
  }

  static void demand(bool holds, std::string_view what) {
    if (holds) return;
    std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
    std::abort();
  }

  void run() {
    for (int step = 0; !input_.empty() && step < 400; ++step) {
      operate();
      for (const std::string_view text : {native_.verify(), punching_.verify(), compat_.verify()})
        demand(text.empty(), text);
    }
  }

  void operate() {
    switch (input_.below(16)) {
      case 0: return change_groups(native_);
      case 1: return change_groups(punching_);
      case 2: return open_or_close();
      case 3: return change_memory();
      case 4: return pin(native_);
      case 5: return pin(punching_);
      case 6: return peers();
      case 7: return iommufd();
      default: break;
    }
    const std::uint64_t argument = write_argument();
    switch (input_.below(3)) {
      case 0: call(native_, argument); break;
      case 1: call(punching_, argument); break;
      default: call(compat_, argument);
    }
  }

  std::uint32_t request() {
    const std::uint64_t n = input_.below(48);
    if (n == 47) return input_.take<std::uint32_t>();
    constexpr std::uint32_t usual[] = {12, 13, 14, 17, 13, 14, 13, 14, 2, 1};
    return vfio::abi::request(n < 40 ? usual[n % 10] : static_cast<std::uint32_t>(n - 40));
  }
  /// Any structure, whole or not, somewhere; or an address that is none.
  std::uint64_t write_argument() {
    const std::uint64_t where = input_.below(16);
    if (where == 15) return input_.number();
    constexpr std::uint64_t places[] = {0, 0,     0,     0,     0,     0,     0,    8,
                                        1, 12270, 12288, 12300, 16360, 16376, 16384};
    const std::uint64_t at = places[where];
    std::array<std::uint64_t, 8> words{};
    words[0] = size_and_flags();
    for (std::size_t n = 1; n < words.size(); ++n) words[n] = input_.number();
    // A bitmap's address is mostly one that there is.
    for (std::size_t n : {std::size_t{5}, std::size_t{6}})
      if (input_.take() < 200)
        words[n] = n == 5 ? words[n] : fuzz_copy::base + 4096 + words[n] % 4096;
    const std::size_t fit =
        at >= bytes_.size() ? 0 : std::min<std::size_t>(bytes_.size() - at, sizeof words);
    if (fit != 0) std::memcpy(bytes_.data() + at, words.data(), fit);
    return fuzz_copy::base + at;
  }
  std::uint64_t size_and_flags() {
    constexpr std::uint32_t sizes[] = {32, 24, 48, 8, 4096, 16, 0, 0xffffffff};
    const std::uint64_t how = input_.below(24);
    const std::uint32_t size = how < 16   ? sizes[how % 4]
                               : how < 20 ? sizes[how % 8]
                                          : input_.take<std::uint32_t>();
    const std::uint32_t flags =
        input_.take() < 240 ? input_.take() & 7U : input_.take<std::uint32_t>();
    return size | std::uint64_t{flags} << 32;
  }
  template <class C>
  void call(C& c, std::uint64_t argument) {
    const std::uint32_t what = request();
    if (what == vfio::abi::set_iommu || what == vfio::abi::check_extension)
      argument = input_.below(12);
    static_cast<void>(c.ioctl(what, argument));
  }

  template <class C>
  void change_groups(C& c) {
    const std::uint64_t which = input_.below(5);
    iommu_group<mock::domain>* const g =
        which == 4 ? static_cast<iommu_group<mock::domain>*>(&software_) : groups_[which].get();
    if (input_.take() % 2 == 0) {
      // A group is in one container at a time, which a group's file sees to.
      if (which != 4 && groups_[which]->attached() != nullptr) return;
      if (which != 4 && joined_[which]) return;
      if (c.join(*g) && which != 4) joined_[which] = true;
    } else if (c.leave(*g) && which != 4) {
      joined_[which] = false;
    }
    if (input_.take() < 200) static_cast<void>(c.set_iommu(1 + 2 * (input_.take() % 2U)));
  }
  void open_or_close() {
    const std::uint64_t which = input_.below(4);
    mock::group& g = *groups_[which];
    switch (input_.below(4)) {
      case 0:
        if (!joined_[which] && compat_.join(g)) joined_[which] = true;
        break;
      case 1: static_cast<void>(compat_.open(g)); break;
      case 2: static_cast<void>(compat_.close(g)); break;
      default:
        if (compat_.leave(g)) joined_[which] = false;
    }
  }
  void change_memory() {
    const mock::process me = pinner_.current();
    const user_range part = user_range::sized({input_.below(0x50) * 4096}, 4096);
    if (input_.take() % 2 == 0) {
      pinner_.set_hole(me, part, input_.take() % 2 == 0);
    } else {
      may_ = input_.take() % 2 == 0;
    }
  }
  template <class C>
  void pin(C& c) {
    user& u = users_[input_.below(2)];
    std::array<physical, 600> frames{};
    std::array<std::byte, 9000> bytes{};
    const iova at{input_.number()};
    const std::uint64_t count = input_.below(600);
    const access_rights want = static_cast<access_rights>(input_.take() & 3);
    switch (input_.below(8)) {
      case 0: static_cast<void>(c.register_user(u)); break;
      case 1: c.unregister_user(u); break;
      case 2: c.unpin_pages(at, count); break;
      case 3: static_cast<void>(c.dma_read(at, std::span(bytes).first(count * 15))); break;
      case 4: static_cast<void>(c.dma_write(at, std::span(bytes).first(count * 15))); break;
      case 5: u.lets_go = !u.lets_go; break;
      default:
        static_cast<void>(c.pin_pages(groups_[input_.below(4)].get(), at, count % 8, want, frames));
    }
  }
  static result<mock::domain_options> described(mock::domain_options o,
                                                std::span<const std::byte> said) {
    if (said.empty() || said[0] != std::byte{0}) return fail(errc::invalid_argument);
    o.page_sizes = {4096};
    return o;
  }
  /// A driver's part of an iommufd, and its ioctls.
  void iommufd() {
    auto& c = compat_.context();
    const auto id = [&] { return static_cast<iommufd::object_id>(input_.below(12)); };
    const std::uint64_t which = input_.below(4);
    switch (input_.below(16)) {
      case 0:
        if (devices_[which] != 0 || joined_[which]) break;
        if (const auto made = c.bind(*groups_[which])) {
          devices_[which] = *made;
          joined_[which] = true;
        }
        break;
      case 1: static_cast<void>(c.attach(devices_[which], id())); break;
      case 2: static_cast<void>(c.replace(devices_[which], id())); break;
      case 3: static_cast<void>(c.detach(devices_[which])); break;
      case 4: unbind(which); break;
      case 5: static_cast<void>(c.create_space()); break;
      case 6:
        static_cast<void>(c.create_hw_pagetable(devices_[which], id(), which % 2 == 0));
        break;
      case 7:
        if (access_ == 0)
          access_ = c.create_access([](void*, iova_range) {}, this, true).value_or(0);
        static_cast<void>(c.attach_access(access_, id()));
        break;
      case 8: static_cast<void>(c.replace_access(access_, id())); break;
      case 9:
        static_cast<void>(c.destroy_access(access_));
        access_ = 0;
        break;
      default: {
        const std::uint64_t argument = write_iommufd_argument();
        static_cast<void>(
            c.ioctl(iommufd::abi::request_of(0x80 + static_cast<std::uint32_t>(input_.below(0x16))),
                    argument));
      }
    }
  }
  void unbind(std::uint64_t which) {
    auto& c = compat_.context();
    if (devices_[which] == 0) return;
    static_cast<void>(c.detach(devices_[which]));
    static_cast<void>(c.unbind(devices_[which]));
    devices_[which] = 0;
    joined_[which] = false;
  }
  /// A size that some struct has, then numbers of objects, flags, and numbers as ioctls get them.
  std::uint64_t write_iommufd_argument() {
    constexpr std::uint32_t sizes[] = {8, 12, 16, 24, 32, 40, 48, 56};
    const std::uint64_t at = input_.below(20) == 0 ? input_.below(16500) : 0;
    std::array<std::uint32_t, 16> words{};
    for (std::size_t n = 1; n != words.size(); ++n) {
      switch (input_.below(4)) {
        case 0: words[n] = static_cast<std::uint32_t>(input_.below(12)); break;
        case 1: words[n] = static_cast<std::uint32_t>(input_.number()); break;
        case 2:
          words[n] = fuzz_copy::base + 8192 + static_cast<std::uint32_t>(input_.below(64));
          break;
        default: break;
      }
    }
    words[0] = sizes[input_.below(8)];
    if (at < bytes_.size())
      std::memcpy(bytes_.data() + at, words.data(),
                  std::min<std::size_t>(bytes_.size() - at, sizeof words));
    return fuzz_copy::base + at;
  }

  void peers() {
    if (!revoked_) {
      compat_.context().revoke(bar_);
      native_.revoke(bar_);
      punching_.revoke(bar_);
      pinner_.set_revoked(bar_, revoked_ = true);
    } else {
      pinner_.set_revoked(bar_, revoked_ = false);
      static_cast<void>(compat_.context().restore(bar_));
      static_cast<void>(native_.restore(bar_));
      static_cast<void>(punching_.restore(bar_));
    }
  }

  fuzz_input& input_;
  std::array<std::byte, 16384> bytes_{};
  bool may_ = true;
  vfio::container_options options_{.dma_entry_limit = 12, .allow_noiommu = true};
  mock::pinner pinner_;
  mock::exporter bar_{};
  bool revoked_ = false;
  std::vector<std::unique_ptr<mock::group>> groups_;
  std::array<bool, 4> joined_{};
  std::array<iommufd::object_id, 4> devices_{};
  iommufd::object_id access_ = 0;
  emulated_group<mock::domain> software_;
  std::array<user, 2> users_;
  container<vfio::type1_profile> native_;
  container<fuzz_punching> punching_;
  container<fuzz_compat> compat_;
};

}  // namespace iopt::test
