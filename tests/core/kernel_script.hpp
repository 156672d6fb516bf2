// tests/core/kernel_script.hpp - a script of iommufd ioctls, answered by io_pagetables.
//
// The golden vectors are scripts, one ioctl a line, with what a real Linux 6.12 answered. This is
// as much of a front end as they reach: objects with ids, and the checks that an ioctl makes before
// the engine is asked. Memory is named by its offset in an arena of 64 MiB:
//
//   [0, 32M) read-write   [32M, 40M) read-only   [40M, 48M) no access   [48M, 56M) nothing
//   [56M, 64M) read-write
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "iopt/backends/mock/mock.hpp"
#include "iopt/core/io_pagetable.hpp"

namespace iopt::test {

/// kernel_script: one /dev/iommu, opened by a process that may do everything.
///
/// Model   Objects by id, the lowest free one from 1 on: I/O address spaces, hardware page tables
///         (domains), devices, and the self-test's devices. Script objects name ids, for ever.
template <class Domain = mock::domain, table_traits Traits = single_threaded>
class kernel_script {
 public:
  using table_type = io_pagetable<mock::pinner, Domain, Traits>;

  explicit kernel_script(mock::pinner_options options = {}) : pinner_(options) {
    const mock::process me = pinner_.current();
    constexpr std::uint64_t m = mebibyte;
    pinner_.set_hole(me, user_range{{0}, {arena - 1}});
    pinner_.set_hole(me, user_range{{arena + 40 * m}, {arena + 56 * m - 1}});
    pinner_.set_hole(me, user_range{{arena + 64 * m}, {mock::memory_space::largest - 1}});
    pinner_.set_read_only(me, user_range{{arena + 32 * m}, {arena + 40 * m - 1}});
  }

  kernel_script(const kernel_script&) = delete;
  kernel_script& operator=(const kernel_script&) = delete;
  ~kernel_script() {
    for (auto& [key, o] : objects_)
      if (o.what == kind::domain) objects_.at(o.shows).table->detach(*o.domain);
  }

  /// What the kernel answers, as replay prints it.
  std::string answer(std::string_view line) {
    parse(line);
    std::string text = operate();
    const mock::process me = pinner_.current();
    const auto kb = [](std::uint64_t pages) { return std::to_string(pages * 4); };
    return text + " lck=" + kb(pinner_.charged(me, account_mode::mm)) +
           " pin=" + kb(pinner_.pinned_vm(me));
  }

  /// Empty when all is sound, else what is not.
  std::string_view verify() const {
    if (!fault_.empty()) return fault_;
    for (const auto& [key, o] : objects_) {
      if (o.table != nullptr)
        if (const std::string_view text = o.table->verify(); !text.empty()) return text;
    }
    if (pinner_.pinned_pages() != pinner_.pinned_vm(pinner_.current()))
      return "every pinned page is charged";
    return pinner_.verify();
  }

 private:
  static constexpr std::uint64_t arena = 0x200000000000;
  static constexpr errc einval = errc::invalid_argument;
  static constexpr errc enoent = errc::no_such_file_or_directory;
  static constexpr errc enodev = errc::no_such_device;
  static constexpr errc ebusy = errc::device_or_resource_busy;
  static constexpr errc eoverflow = errc::value_too_large;
  static constexpr errc eopnotsupp = errc::operation_not_supported;

  enum class kind { space, domain, device, test_device };
  struct object {
    kind what;
    std::unique_ptr<table_type> table{};  // of a space
    std::unique_ptr<Domain> domain{};     // of a domain
    std::uint32_t shows = 0;              // a domain's space; a test device's domain
    std::uint32_t device = 0;             // a test device's device
    unsigned users = 0;                   // who else needs it
  };
  using id = std::uint32_t;

  // Words and numbers.

  void parse(std::string_view line) {
    words_.clear();
    while (!line.empty()) {
      const std::size_t end = std::min(line.find(' '), line.size());
      if (end != 0) words_.emplace_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
  }
  std::uint64_t number(std::size_t n) const {
    return n < words_.size() ? std::strtoull(words_[n].c_str(), nullptr, 0) : 0;
  }
  std::uint32_t number32(std::size_t n) const { return static_cast<std::uint32_t>(number(n)); }
  static std::string hex(std::uint64_t v) {
    char text[24];
    std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(v));
    return text;
  }
  template <class T>
  static std::string status(const result<T>& r) {
    return r ? "0" : std::string(name(r.error().code));
  }

  std::string operate() {
    const std::string& op = words_[0];
    if (op == "iommufd" || op == "api_version") return op == "iommufd" ? "0" : "0 ret=0";
    if (op == "rlimit_memlock") return drop_privilege();
    if (op == "ioas_alloc") return ioas_alloc();
    if (op == "destroy") return status(destroy(script_id(1)));
    if (op == "vfio_ioas") return vfio_ioas();
    if (op == "ioas_map") return ioas_map();
    if (op == "ioas_copy") return ioas_copy();
    if (op == "ioas_unmap") return ioas_unmap();
    if (op == "ioas_ranges") return ioas_ranges();
    if (op == "ioas_allow") return status(ioas_allow());
    if (op == "option") return option();
    if (op == "mock_domain") return status(mock_domain());
    if (op == "check_ext") return check_extension();
    if (op == "set_iommu") return status(set_iommu());
    if (op == "info") return info();
    if (op == "map") return status(map_dma());
    if (op == "unmap") return unmap_dma();
    if (op == "dirty") return "ENOTTY";
    return "UNKNOWN " + op;
  }

  // Objects.

  id script_id(std::size_t n) const { return ids_[number(n) & 255]; }
  object* find(id which, kind what) {
    const auto at = objects_.find(which);
    return at == objects_.end() || at->second.what != what ? nullptr : &at->second;
  }
  table_type* space(id which) {
    object* const o = find(which, kind::space);
    return o == nullptr ? nullptr : o->table.get();
  }
  table_type* compatible_space() { return space(vfio_space_); }
  id add(object o) {
    id lowest = 1;
    while (objects_.contains(lowest)) ++lowest;
    objects_.emplace(lowest, std::move(o));
    return lowest;
  }

  std::string ioas_alloc() {
    if (number(2) != 0) return "EOPNOTSUPP";
    object o{kind::space};
    o.table = std::make_unique<table_type>(pinner_);
    o.table->set_account_mode(privileged_ ? account_mode::none : mode_);
    ids_[number(1) & 255] = add(std::move(o));
    return "0";
  }

  result<void> destroy(id which) {
    const auto at = objects_.find(which);
    if (at == objects_.end()) return fail(enoent);
    const object& o = at->second;
    if (o.users != 0 || o.what == kind::device) return fail(ebusy);
    if (o.what == kind::test_device) {
      objects_.erase(o.device);
      leave(o.shows);
    }
    if (which == vfio_space_) vfio_space_ = 0;
    objects_.erase(which);
    return {};
  }

  /// The self-test's device: itself, the device that iommufd sees, and a domain if none suits.
  result<void> mock_domain() {
    const id to = script_id(3);
    const id test_device = add({kind::test_device});
    const id device = add({kind::device});
    const result<id> domain = join(to);
    if (!domain) {
      objects_.erase(test_device);
      objects_.erase(device);
      return fail(domain.error());
    }
    objects_.at(test_device).shows = *domain;
    objects_.at(test_device).device = device;
    ids_[number(1) & 255] = test_device;
    ids_[number(2) & 255] = *domain;
    return {};
  }
  /// A device attaches to a space: to its domain if it has one, else to a new one; or to a domain.
  result<id> join(id to) {
    const auto at = objects_.find(to);
    if (at == objects_.end()) return fail(enoent);
    if (at->second.what == kind::device || at->second.what == kind::test_device)
      return fail(einval);
    if (at->second.what == kind::space) {
      id found = 0;
      for (auto& [key, o] : objects_)
        if (o.what == kind::domain && o.shows == to) found = key;
      if (found == 0) {
        object fresh{kind::domain};
        fresh.domain = std::make_unique<Domain>(mock::domain_options::kernel_selftest());
        fresh.shows = to;
        watch(*fresh.domain);
        if (const result<void> done = at->second.table->attach(*fresh.domain); !done)
          return fail(done.error());
        ++at->second.users;
        found = add(std::move(fresh));
      }
      to = found;
    }
    ++objects_.at(to).users;
    return to;
  }
  void leave(id domain) {
    object& o = objects_.at(domain);
    if (--o.users != 0) return;
    object& shown = objects_.at(o.shows);
    shown.table->detach(*o.domain);
    --shown.users;
    objects_.erase(domain);
  }
  void watch(mock::domain& d) { pinner_.watch(d); }
  template <class Restricted>
  void watch(Restricted& d) {
    pinner_.watch(d.inner());
  }

  std::string drop_privilege() {
    privileged_ = false;
    pinner_.set_limit(pinner_.current(), account_mode::user, number(1) / table_type::page_bytes);
    for (auto& [key, o] : objects_)
      if (o.table != nullptr) o.table->set_account_mode(mode_);
    return "0";
  }

  // iommufd.

  static access_rights rights_of(std::uint64_t flags, std::uint64_t read, std::uint64_t write) {
    return ((flags & read) != 0 ? access_rights::read : access_rights::none) |
           ((flags & write) != 0 ? access_rights::write : access_rights::none);
  }
  user_address memory_at(std::uint64_t offset) const { return {arena + offset}; }

  static result<void> check_flags(std::uint64_t flags) {
    if ((flags & ~std::uint64_t{7}) != 0) return fail(eopnotsupp);
    return {};
  }
  static result<void> check_access(std::uint64_t flags) {
    if ((flags & 6) == 0) return fail(einval);
    return {};
  }
  static std::optional<iova> fixed(std::uint64_t flags, std::uint64_t at) {
    return (flags & 1) != 0 ? std::optional(iova{at}) : std::nullopt;
  }

  std::string ioas_map() {
    const auto map = [&]() -> result<iova> {
      const std::uint64_t flags = number(2);
      if (const auto ok = check_flags(flags); !ok) return fail(ok.error());
      if (number(4) == top || number(5) == top) return fail(eoverflow);
      if (const auto ok = check_access(flags); !ok) return fail(ok.error());
      table_type* const t = space(script_id(1));
      if (t == nullptr) return fail(enoent);
      return t->map(memory_at(number(3)), number(5), rights_of(flags, 4, 2),
                    fixed(flags, number(4)));
    };
    const result<iova> at = map();
    return status(at) + (at ? " iova=" + hex(at->value) : "");
  }

  std::string ioas_copy() {
    const auto copy = [&]() -> result<iova> {
      const std::uint64_t flags = number(3);
      if (const auto ok = check_flags(flags); !ok) return fail(ok.error());
      if (number(4) == top || number(5) == top || number(6) == top) return fail(eoverflow);
      if (const auto ok = check_access(flags); !ok) return fail(ok.error());
      table_type* const from = space(script_id(2));
      if (from == nullptr) return fail(enoent);
      const result<iova_range> range = iova_range::from_length({number(5)}, number(6));
      if (!range) return fail(range.error());
      table_type* const to = space(script_id(1));
      if (to == nullptr) return fail(enoent);
      return to->copy(*from, *range, rights_of(flags, 4, 2), fixed(flags, number(4)));
    };
    const result<iova> at = copy();
    return status(at) + (at ? " iova=" + hex(at->value) : "");
  }

  std::string ioas_unmap() {
    const std::uint64_t first = number(2);
    std::uint64_t length = number(3);
    const auto unmap = [&]() -> result<void> {
      table_type* const t = space(script_id(1));
      if (t == nullptr) return fail(enoent);
      if (first == 0 && length == top) {
        const unmap_report all = t->unmap_all();
        length = all.bytes;
        return all.outcome;
      }
      if (first == top || length == top) return fail(eoverflow);
      const unmap_report expected = t->would_unmap({first}, length, unmap_profile::iommufd);
      const unmap_report some = t->unmap({first}, length, unmap_profile::iommufd);
      compare(expected, some);
      if (some) length = some.bytes;
      return some.outcome;
    };
    const result<void> done = unmap();
    return status(done) + " size=" + hex(length);
  }

  std::string ioas_ranges() {
    const std::uint64_t given = number32(2);
    std::vector<iova_range> ranges;
    result<void> done{};
    std::uint64_t count = given;
    std::uint64_t alignment = 0;
    if (table_type* const t = space(script_id(1)); t == nullptr) {
      done = fail(enoent);
      ranges.resize(given, iova_range{{0}, {0}});
    } else {
      t->for_each_usable([&](iova_range r) { ranges.push_back(r); });
      count = ranges.size();
      alignment = t->alignment();
      if (count > given) done = fail(errc::message_size);
    }
    std::string text = status(done) + " num=" + std::to_string(count) + " align=" + hex(alignment);
    for (std::size_t n = 0; n < given && n < ranges.size() && n < 256; ++n)
      text += " " + hex(ranges[n].first.value) + "-" + hex(ranges[n].last.value);
    return text;
  }

  result<void> ioas_allow() {
    table_type* const t = space(script_id(1));
    if (t == nullptr) return fail(enoent);
    std::vector<iova_range> ranges;
    for (std::size_t n = 2; n + 1 < words_.size(); n += 2) {
      if (number(n) >= number(n + 1)) return fail(einval);
      ranges.push_back({{number(n)}, {number(n + 1)}});
    }
    return t->allow(ranges);
  }

  std::string option() {
    constexpr std::uint64_t set = 0;
    constexpr std::uint64_t get = 1;
    const id which = script_id(1);
    const std::uint64_t op = number(3);
    const std::uint64_t value = number(4);
    const auto rlimit_mode = [&]() -> result<std::uint64_t> {
      if (which != 0) return fail(eopnotsupp);
      if (op == get) return mode_ == account_mode::mm ? 1 : 0;
      if (op != set) return fail(eopnotsupp);
      if (!privileged_) return fail(errc::operation_not_permitted);
      if (!objects_.empty()) return fail(ebusy);
      if (value > 1) return fail(einval);
      mode_ = value == 1 ? account_mode::mm : account_mode::user;
      return 0;
    };
    const auto huge_pages = [&]() -> result<std::uint64_t> {
      table_type* const t = space(which);
      if (t == nullptr) return fail(enoent);
      if (op == get) return t->large_pages() ? 1 : 0;
      if (op != set) return fail(eopnotsupp);
      if (value > 1) return fail(einval);
      if (value == 1) t->enable_large_pages();
      if (value == 0)
        if (const result<void> done = t->disable_large_pages(); !done) return fail(done.error());
      return 0;
    };
    const result<std::uint64_t> done = number(2) == 0   ? rlimit_mode()
                                       : number(2) == 1 ? huge_pages()
                                                        : result<std::uint64_t>(fail(eopnotsupp));
    return status(done) + (done && op == get ? " val=" + hex(*done) : "");
  }

  std::string vfio_ioas() {
    const id which = script_id(2);
    switch (number(1)) {
      case 0: {
        if (compatible_space() == nullptr) return "ENODEV";
        std::size_t n = 0;
        while (n < ids_.size() && ids_[n] != vfio_space_) ++n;
        return "0 obj=" + std::to_string(n);
      }
      case 1:
        if (space(which) == nullptr) return "ENOENT";
        vfio_space_ = which;
        return "0";
      case 2: vfio_space_ = 0; return "0";
      default: return "EOPNOTSUPP";
    }
  }

  // VFIO on an iommufd.

  std::string check_extension() {
    const auto answered = [](bool yes) { return std::string(yes ? "0 ret=1" : "0 ret=0"); };
    switch (number(1)) {
      case 1:
      case 3:
      case 8:
      case 9: return answered(true);
      case 4:
        if (compatible_space() == nullptr) return "ENODEV ret=-1";
        return answered(compatible_space()->enforce_cache_coherency());
      default: return answered(false);
    }
  }

  result<void> set_iommu() {
    if (number(1) != 1 && number(1) != 3) return fail(einval);
    table_type* const t = compatible_space();
    if (t == nullptr) return fail(enodev);
    return number(1) == 1 ? t->disable_large_pages() : result<void>{};
  }

  std::string info() {
    const std::uint64_t given = number32(1);
    if (given < 16) return "EINVAL";
    table_type* const t = compatible_space();
    if (t == nullptr) return "ENODEV";
    std::string ranges;
    std::uint64_t count = 0;
    t->for_each_usable([&](iova_range r) {
      ranges += " " + hex(r.first.value) + "-" + hex(r.last.value);
      ++count;
    });
    constexpr std::uint64_t page = table_type::page_bytes;
    std::uint64_t sizes = ~(page - 1);
    for (std::size_t n = 0; n < t->domain_count(); ++n) {
      std::uint64_t has = t->domain(n).page_sizes().bitmap();
      if ((has & (page - 1)) != 0) has = (has & ~(page - 1)) | page;
      sizes &= has;
    }
    sizes = std::max(sizes, t->alignment());
    const std::uint64_t need = 24 + 16 + 16 + 16 * count;
    const std::string text = "0 argsz=" + std::to_string(need) + " flags=0x3 pgsizes=" + hex(sizes);
    if (given < need) return text + " cap=0";
    return text + " cap=24 {id=3 v=1 avail=4294967295} {id=1 v=1" + ranges + "}";
  }

  result<void> map_dma() {
    if (number(1) < 32 || (number(2) & ~std::uint64_t{3}) != 0) return fail(einval);
    table_type* const t = compatible_space();
    if (t == nullptr) return fail(enodev);
    const auto mapped =
        t->map(memory_at(number(3)), number(5), rights_of(number(2), 1, 2), iova{number(4)});
    if (!mapped) return fail(mapped.error());
    return {};
  }

  std::string unmap_dma() {
    constexpr std::uint64_t all = 2;
    const std::uint64_t flags = number(2);
    const std::uint64_t first = number(3);
    std::uint64_t length = number(4);
    const auto unmap = [&]() -> result<void> {
      if (number(1) < 24 || (flags & ~all) != 0) return fail(einval);
      table_type* const t = compatible_space();
      if (t == nullptr) return fail(enodev);
      unmap_report done;
      if (flags == all) {
        if (first != 0 || length != 0) return fail(einval);
        done = t->unmap_all();
      } else {
        const unmap_profile profile =
            t->large_pages() ? unmap_profile::iommufd_compat_v2 : unmap_profile::iommufd_compat_v1;
        // The kernel cuts before it sees that a request is none.
        if (!t->large_pages() && !iova_range::from_length({first}, length)) {
          for (const std::uint64_t last : {first + length - 1, first - 1})
            if (const result<void> cut = t->cut({last}, cut_rule::as_iommufd); !cut) return cut;
        }
        const unmap_report expected = t->would_unmap({first}, length, profile);
        done = t->unmap({first}, length, profile);
        compare(expected, done);
        // A cut that is refused is answered before the size is written back.
        if (!done && done.outcome.error() == einval && length != 0) return done.outcome;
      }
      length = done.bytes;
      return done.outcome;
    };
    const result<void> done = unmap();
    return status(done) + " size=" + hex(length);
  }

  void compare(const unmap_report& dry, const unmap_report& real) {
    if (dry.bytes != real.bytes || dry.areas != real.areas ||
        status(dry.outcome) != status(real.outcome))
      fault_ = "a dry run says what then happens";
  }

  mock::pinner pinner_;
  std::map<id, object> objects_;
  std::array<id, 256> ids_{};
  id vfio_space_ = 0;
  account_mode mode_ = account_mode::user;
  bool privileged_ = true;
  std::vector<std::string> words_;
  std::string_view fault_;
};

}  // namespace iopt::test
