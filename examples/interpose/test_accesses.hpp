// examples/interpose/test_accesses.hpp - the rest of the ioctl of the kernel's own iommufd tests: software
// that uses a space through descriptors of its own, and looks at memory as the test sees it.
#pragma once

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "descriptors.hpp"
#include "devices.hpp"
#include "iopt/backends/host/probe.hpp"
#include "libc.hpp"
#include "test_ioctl.hpp"

namespace interpose {

using iopt::test::test_command;

inline constexpr std::uint64_t most_access_bytes = 16 * iopt::mebibyte;

/// test_access: an access object and its pins, behind a descriptor; it goes with that. The context
/// lives as long.
///
/// Threads     Any call from any thread.
template <class Context>
class test_access final : public interposed_file {
 public:
  using access_type = typename Context::access_type;

  /// `of` is the file that has the context.
  test_access(file_pointer of, Context& context, bool pins)
      : of_(std::move(of)), context_(context), pins_pages_(pins) {}
  ~test_access() override {
    if (id_ != 0) static_cast<void>(context_.destroy_access(id_));
  }
  file_kind kind() const noexcept override { return file_kind::test_access; }
  bool is_shared() const noexcept override { return true; }
  iopt::uapi::answer ioctl(std::uint32_t, std::uint64_t) override {
    return iopt::uapi::refusal(iopt::errc::inappropriate_io_control_operation);
  }
  const Context& context() const noexcept { return context_; }

  iopt::result<void> attach(iopt::iommufd::object_id space) {
    const auto made = context_.create_access(&let_go, this, pins_pages_);
    if (!made) return fail(made.error());
    id_ = *made;
    space_ = space;
    return context_.attach_access(id_, space);
  }
  iopt::result<void> replace(iopt::iommufd::object_id space) {
    const std::lock_guard one(calls_);
    const auto done = context_.replace_access(id_, space);
    if (done) space_ = space;
    return done;
  }

  /// Pins, compares the pages with those at the address, and remembers the pin by a number.
  iopt::result<void> pin(const typename Context::argument_type& a, test_command& said) {
    using namespace iopt;
    auto& p = said.access_pages;
    if (!pins_pages_) return fail(errc::operation_not_supported);
    const std::lock_guard one(calls_);
    const iova first = place(p.flags, p.iova);
    const result<iova_range> range = iova_range::from_length(first, p.length);
    if (!range) return fail(range.error());
    // Held over the pin: an unmap that comes now waits, and then lets it go.
    const std::lock_guard held(pins_lock_);
    access_type& object = *context_.access(id_);
    std::vector<run> frames;
    const auto rights =
        (p.flags & test::access_write) != 0 ? access_rights::write : access_rights::read;
    if (const auto done = object.pin(*range, rights, [&](run r) { frames.push_back(r); }); !done)
      return done;
    const std::uint64_t first_page = p.address - first.value % host::page_bytes;
    result<void> done = p.address == 0 ? result<void>{} : same_pages(frames, first_page);
    if (done) {
      p.out_number = next_number_++;
      pins_.push_back({*range, p.out_number});
      done = a.respond(said);
      if (!done) pins_.pop_back();
    }
    if (!done) object.unpin(*range);
    return done;
  }
  iopt::result<void> unpin(std::uint32_t number) {
    const std::lock_guard held(pins_lock_);
    const auto at = std::ranges::find(pins_, number, &pinned::number);
    if (at == pins_.end()) return fail(iopt::errc::no_such_file_or_directory);
    context_.access(id_)->unpin(at->range);
    pins_.erase(at);
    return {};
  }

  iopt::result<void> copy(const typename Context::argument_type& a, const test_command& said) {
    using namespace iopt;
    const auto& rw = said.access_rw;
    std::vector<std::byte> bytes(rw.length);
    const bool writes = (rw.flags & test::access_write) != 0;
    if (writes && !a.copy().read({rw.address}, std::span(bytes))) return fail(errc::bad_address);
    const std::lock_guard one(calls_);
    access_type& object = *context_.access(id_);
    const iova at = place(rw.flags, rw.iova);
    if (writes) return object.write(at, bytes);
    if (const auto done = object.read(at, bytes); !done) return done;
    if (!a.copy().write({rw.address}, std::span(std::as_const(bytes))))
      return fail(errc::bad_address);
    return {};
  }

 private:
  struct pinned {
    iopt::iova_range range;
    std::uint32_t number;
  };

  static void let_go(void* self, iopt::iova_range gone) {
    auto& me = *static_cast<test_access*>(self);
    const std::lock_guard held(me.pins_lock_);
    std::erase_if(me.pins_, [&](const pinned& p) {
      if (!p.range.overlaps(gone)) return false;
      me.context_.access(me.id_)->unpin(p.range);
      return true;
    });
  }

  static iopt::result<void> same_pages(std::span<const iopt::run> frames, std::uint64_t address) {
    using namespace iopt;
    for (const run& r : frames) {
      for (std::uint64_t n = 0; n != r.length_bytes; n += host::page_bytes) {
        const auto frame = frame_at({address});
        if (!frame) return fail(frame.error());
        if (*frame != r.first + n) return fail(errc{EBADE});
        address += host::page_bytes;
      }
    }
    return {};
  }

  /// An IOVA, or its place in the n-th area.
  iopt::iova place(std::uint32_t flags, std::uint64_t said) {
    if ((flags & iopt::test::by_area) == 0) return {said};
    std::uint64_t left = said & 0xffffffff;
    iopt::iova found{0};
    static_cast<void>(context_.with_space(space_, [&](const auto& table) {
      table.for_each_area([&](const iopt::area_info& info) {
        if (left-- == 0) found = info.where.first + (said >> 32);
      });
      return iopt::result<void>{};
    }));
    return found;
  }

  file_pointer of_;
  Context& context_;
  iopt::iommufd::object_id id_ = 0;
  iopt::iommufd::object_id space_ = 0;
  bool pins_pages_;
  std::mutex calls_;      // one call at a time, but unpin()
  std::mutex pins_lock_;  // over what follows; after calls_
  std::vector<pinned> pins_;
  std::uint32_t next_number_ = 0;
};

/// test_calls: the whole of the ioctl.
template <class Context, class Domain>
class test_calls : public iopt::test::test_ioctl<Context, Domain> {
  using base = iopt::test::test_ioctl<Context, Domain>;
  using access = test_access<Context>;
  using access_pointer = std::shared_ptr<access>;

 public:
  using base::base;
  using typename base::argument_type;

  /// `of` is the file that is asked, which has the context.
  iopt::uapi::answer run(const argument_type& a, const file_pointer& of) {
    return base::with_command(a, [&](test_command& said) -> iopt::uapi::answer {
      if (said.op == iopt::test::test_operation::dmabuf_get) return dmabuf_call(said);
      return iopt::uapi::answer_of(answer(a, said, of));
    });
  }

 private:
  iopt::result<void> answer(const argument_type& a, test_command& said, const file_pointer& of) {
    using enum iopt::test::test_operation;
    switch (said.op) {
      case check_map: return check_map_call(said);
      case check_refs: return check_refs_call(said);
      case create_access: return create_access_call(a, said, of);
      case destroy_access_pages:
        return with_access(said.id,
                           [&](access& x) { return x.unpin(said.destroy_access_pages.number); });
      case access_pages:
        return check_then_use(said, said.access_pages.length, said.access_pages.flags,
                              iopt::test::access_write, [&](access& x) { return x.pin(a, said); });
      case access_rw:
        return check_then_use(said, said.access_rw.length, said.access_rw.flags,
                              iopt::test::access_write | iopt::test::access_slow_path,
                              [&](access& x) { return x.copy(a, said); });
      case set_memory_limit: return memory_limit_call(said);
      case access_replace:
        return with_access(said.id,
                           [&](access& x) { return x.replace(said.access_replace.space); });
      case dmabuf_revoke: return revoke_call(said);
      default: return base::answer(a, said);
    }
  }

  /// What the call returns is the descriptor.
  static iopt::uapi::answer dmabuf_call(const test_command& said) {
    const auto& d = said.dmabuf_get;
    if (d.length == 0 || d.length % iopt::host::page_bytes != 0)
      return iopt::uapi::refusal(iopt::errc::invalid_argument);
    return descriptors::of_process().install(std::make_shared<test_dmabuf>(d.length),
                                             static_cast<int>(d.open_flags), "iommufd_test_dmabuf");
  }
  /// Taken away, no space shows it; given back, what showed it does not show it again.
  iopt::result<void> revoke_call(const test_command& said) {
    const file_pointer file = descriptors::of_process().find(said.dmabuf_revoke.fd);
    if (file == nullptr || file->kind() != file_kind::test_dmabuf)
      return fail(iopt::errc::invalid_argument);
    const device_memory& memory = static_cast<const test_dmabuf&>(*file).memory();
    memory->set_revoked(said.dmabuf_revoke.revoked != 0);
    if (memory->is_revoked()) this->context().revoke(memory);
    return {};
  }

  /// The device sees, at every IOVA, the page that the caller sees.
  iopt::result<void> check_map_call(const test_command& said) {
    using namespace iopt;
    constexpr std::uint64_t io_page = 2 * kibibyte;
    const auto& c = said.check_map;
    if (((c.iova | c.length | c.address) & (io_page - 1)) != 0 || c.length > top - c.address)
      return fail(errc::invalid_argument);
    return this->context().with_hw_pagetable(said.id, [&](auto&, Domain& domain) -> result<void> {
      for (std::uint64_t n = 0; n != c.length; n += io_page) {
        const std::uint64_t in_page = (c.address + n) % host::page_bytes;
        const auto frame = frame_at({c.address + n - in_page});
        if (!frame) return fail(frame.error());
        if (!*frame || domain.translate({c.iova + n}) != **frame + in_page)
          return fail(errc::invalid_argument);
      }
      return {};
    });
  }

  /// Every page is pinned just so often.
  static iopt::result<void> check_refs_call(const test_command& said) {
    using namespace iopt;
    const auto& c = said.check_refs;
    if (((c.length | c.address) & (host::page_bytes - 1)) != 0 || c.length > top - c.address)
      return fail(errc::invalid_argument);
    for (std::uint64_t n = 0; n != c.length; n += host::page_bytes) {
      const auto frame = frame_at({c.address + n});
      if (!frame) return fail(frame.error());
      if ((*frame ? pinner().pins(**frame) : 0) != c.pins) return fail(errc::io_error);
    }
    return {};
  }

  iopt::result<void> create_access_call(const argument_type& a, test_command& said,
                                        const file_pointer& of) {
    using namespace iopt;
    auto& c = said.create_access;
    if ((c.flags & ~test::access_pins_pages) != 0) return fail(errc::operation_not_supported);
    auto file = std::make_shared<access>(of, this->context(), c.flags != 0);
    if (const auto done = file->attach(said.id); !done) return done;
    const int fd =
        descriptors::of_process().install(std::move(file), O_RDWR | O_CLOEXEC, "iommufd_test");
    if (fd < 0) return fail(errc::not_enough_memory);
    c.out_fd = static_cast<std::uint32_t>(fd);
    const result<void> told = a.respond(said);
    if (!told) {
      descriptors::of_process().closing(fd);
      libc::close(fd);
    }
    return told;
  }

  /// What is pinned at once at most, in bytes of a list of runs of twelve bytes, by every space.
  static iopt::result<void> memory_limit_call(const test_command& said) {
    constexpr std::uint32_t run_bytes = 12;
    if (said.memory_limit.bytes < run_bytes) return fail(iopt::errc::invalid_argument);
    pinner().set_pages_a_call(said.memory_limit.bytes / run_bytes);
    return {};
  }

  template <class Use>
  iopt::result<void> check_then_use(const test_command& said, std::uint64_t length,
                                    std::uint32_t flags, std::uint32_t known, Use use) {
    if (length > most_access_bytes) return fail(iopt::errc::not_enough_memory);
    if ((flags & ~(known | iopt::test::by_area)) != 0)
      return fail(iopt::errc::operation_not_supported);
    return with_access(said.id, use);
  }
  template <class Use>
  iopt::result<void> with_access(std::uint32_t fd, Use use) {
    const file_pointer file = descriptors::of_process().find(static_cast<int>(fd));
    if (file == nullptr || file->kind() != file_kind::test_access)
      return fail(iopt::errc::descriptor_in_bad_state);
    return use(static_cast<access&>(*file));
  }
};

}  // namespace interpose
