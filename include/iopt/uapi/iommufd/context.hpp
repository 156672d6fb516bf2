// iopt/uapi/iommufd/context.hpp - what a descriptor of /dev/iommu is.
//
//   iopt::iommufd::context<Pinner, Domain> c(pinner);
//   c.ioctl(request, argument);                       // a program's IOMMU_*, as bytes
//   const auto device = c.bind(group);                // a driver's part: VFIO's, say
//   c.attach(*device, space);
//
// Members are defined by theme, in this folder: dispatch.hpp, lifetimes.hpp, space_calls.hpp,
// devices.hpp, accesses.hpp, pagetables.hpp, pagetable_calls.hpp, absent_calls.hpp.
//
// Layer: uapi. Includes: core, policy, uapi.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include "iopt/core/access_object.hpp"
#include "iopt/core/io_pagetable.hpp"
#include "iopt/policy/iommu_group.hpp"
#include "iopt/uapi/iommufd/abi.hpp"
#include "iopt/uapi/iommufd/object_table.hpp"
#include "iopt/uapi/iommufd/objects.hpp"
#include "iopt/uapi/profile.hpp"
#include "iopt/uapi/sized_argument.hpp"

namespace iopt::iommufd {

/// context_options: what an administrator sets, and how the descriptor was opened.
struct context_options {
  bool allow_unsafe_interrupts = false;       // devices that do not isolate their interrupts
  bool allow_noiommu = false;                 // whether devices without an IOMMU are known at all
  account_mode account = account_mode::user;  // mm, where it was opened as /dev/vfio/vfio
};

/// no_more_ioctls: what a front end passes that adds none. One that does passes the like of it: the
/// last number that the table of ioctls then has, and a call for each that the context does not
/// know, with an argument whose size has been read (uapi/sized_argument.hpp).
struct no_more_ioctls {
  static constexpr std::uint32_t last_number = 0;
  template <class Argument>
  uapi::answer operator()(const Argument&) const noexcept {
    return uapi::refusal(errc::inappropriate_io_control_operation);
  }
};

/// How a profile knows files: `Profile::files{}(fd)` is a result of the pinner's file.
template <class Profile, class Pinner>
concept finds_files =
    file_pinner<Pinner> && requires(typename Profile::files find, std::int32_t fd) {
      { find(fd) } -> std::same_as<result<typename Pinner::file>>;
    };

/// How a profile knows memory of devices: `Profile::dmabufs{}(fd, start, bytes)` is the exporter whose
/// memory the descriptor names, or nothing where it names a file. Its errors are the caller's:
/// invalid_argument past its end, no_such_device where it is taken away.
template <class Profile, class Pinner>
concept finds_dmabufs =
    device_memory_pinner<Pinner> &&
    requires(typename Profile::dmabufs find, std::int32_t fd, std::uint64_t number) {
      {
        find(fd, number, number)
      } -> std::same_as<result<std::optional<typename Pinner::exporter>>>;
    };

/// context: an iommufd: spaces, domains, devices and access objects, by number.
///
/// Model       A partial function from numbers to objects. A space is an io_pagetable. A hardware
///             page table is a domain of one space; an automatic one was made because a device was
///             attached to the space, and goes with the last. One space may be the compatible one,
///             which VFIO's ioctls mean.
/// Invariants  A domain is in the table of its space. What an object needs has it as a user.
/// Ownership   Owns the objects, but for foreign ones. Refers to the pinner and the groups, which
///             outlive it. Not movable.
/// Errors      ioctl(): an errno, negative, as the kernel: in the order of its checks. What is not
///             done (nested translation, faults, virtual IOMMUs) is answered as on a machine that
///             has none of it; IOAS_MAP_FILE by a profile that knows no files is ENOTTY.
/// Threads     Any call from any thread, where the traits have locks, but construction and
///             destruction; calls on one access object are one at a time.
/// Source      Linux 6.12 drivers/iommu/iommufd, as facts.
/// Tested by   tests/uapi/iommufd/
template <page_pinner Pinner, iommu_domain Domain,
          uapi::front_end_profile Profile = uapi::default_profile>
class context {
 public:
  using traits = typename Profile::traits;
  using memory_source_type = typename traits::memory;
  using table_type = io_pagetable<Pinner, Domain, traits>;
  using group_type = iommu_group<Domain>;
  using access_type = access_object<Pinner, Domain, traits>;
  using copy_type = typename Profile::copy;
  using caller_type = typename Profile::caller;
  using argument_type = uapi::sized_argument<copy_type>;
  static constexpr std::uint64_t page_bytes = traits::page_bytes;

  explicit context(Pinner& pinner, context_options options = {}, copy_type copy = {},
                   caller_type caller = {}, memory_source_type memory = {})
      : pinner_(pinner),
        options_(options),
        mode_(options.account),
        copy_(std::move(copy)),
        caller_(std::move(caller)),
        memory_(memory),
        objects_(memory) {}
  context(const context&) = delete;
  context& operator=(const context&) = delete;
  ~context();

  copy_type& copy() noexcept { return copy_; }
  caller_type& caller() noexcept { return caller_; }

  /// An ioctl on the descriptor: what it returns, or an errno, negative.
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument) {
    return ioctl(request, argument, no_more_ioctls{});
  }
  /// The same, in a table that has more ioctls; see no_more_ioctls.
  template <class More>
  uapi::answer ioctl(std::uint32_t request, std::uint64_t argument, More&& more);

  // --- Objects: uapi/iommufd/lifetimes.hpp ---

  /// IOMMU_IOAS_ALLOC. Errors: not_enough_memory.
  result<object_id> create_space();
  /// IOMMU_DESTROY. Errors: no_such_file_or_directory; device_or_resource_busy, something needs it.
  result<void> destroy(object_id id);
  /// Calls f(table), which returns a result, while the space cannot be destroyed.
  /// Errors: no_such_file_or_directory, no such space; those of f.
  template <class F>
  auto with_space(object_id id, F f) -> decltype(f(std::declval<table_type&>())) {
    const held<space_type> s(*this, find<space_type>(id, object_kind::space));
    if (!s) return fail(errc::no_such_file_or_directory);
    return f(s->table);
  }
  /// Calls f(each), where each(g) calls g(table) for every space, while none of them can be destroyed.
  template <class F>
  auto with_all_spaces(F f);
  /// An exporter takes memory away, in every space, or gives it back: see io_pagetable. Errors of
  /// restore(): its; all of it is revoked then.
  template <class Exporter>
  void revoke(const Exporter& exporter)
    requires device_memory_pinner<Pinner>;
  template <class Exporter>
  result<void> restore(const Exporter& exporter)
    requires device_memory_pinner<Pinner>;
  /// Calls f(table, domain) while the hardware page table cannot be destroyed. Errors: likewise.
  template <class F>
  auto with_hw_pagetable(object_id id, F f)
      -> decltype(f(std::declval<table_type&>(), std::declval<Domain&>())) {
    const held<pagetable_type> p(*this, find<pagetable_type>(id, object_kind::hw_pagetable));
    if (!p) return fail(errc::no_such_file_or_directory);
    return f(p->shows->table, *p->domain);
  }

  /// Gives a front end's object a number, under which nothing is found before publish().
  /// Errors: not_enough_memory.
  result<void> reserve(foreign_object& o) noexcept { return objects_.reserve(o); }
  void publish(foreign_object& o) noexcept { objects_.publish(o); }
  void abandon(foreign_object& o) noexcept { objects_.abandon(o); }
  /// Calls f(foreign_object&), which returns a result, while it cannot be destroyed.
  /// Errors: no_such_file_or_directory; those of f.
  template <class F>
  auto with_foreign(object_id id, F f) -> decltype(f(std::declval<foreign_object&>())) {
    const held<foreign_object> o(*this, find<foreign_object>(id, object_kind::foreign));
    if (!o) return fail(errc::no_such_file_or_directory);
    return f(*o);
  }

  // --- The compatible space: uapi/iommufd/lifetimes.hpp ---

  /// The first VFIO group joins: there is a compatible space then, an old one or a new one.
  /// Errors: not_enough_memory; invalid_argument, a group without an IOMMU is here.
  result<void> need_compatible_space();
  /// A VFIO group without an IOMMU joins. Errors: invalid_argument, there is a compatible space.
  result<void> need_no_iommu() noexcept {
    return objects_.locked([this](bool) -> result<void> {
      if (compatible_ != nullptr) return fail(errc::invalid_argument);
      noiommu_ = true;
      return {};
    });
  }
  /// Errors: no_such_device, there is none.
  result<object_id> compatible_space() noexcept {
    return objects_.locked([this](bool) -> result<object_id> {
      if (compatible_ == nullptr) return fail(errc::no_such_device);
      return compatible_->id();
    });
  }

  /// Calls f(calls): VFIO's calls (uapi/vfio/compat_calls.hpp) on the compatible space, while it cannot be
  /// destroyed, or on none.
  template <class F>
  auto with_compatible(F f);

  // --- Devices: uapi/iommufd/devices.hpp ---

  /// A driver claims a device of the group, and has its number until unbind().
  /// Errors: no_such_device, it has no IOMMU; invalid_argument, it is not coherent with the caches;
  /// not_enough_memory; operation_not_permitted, it does not isolate its interrupts.
  result<object_id> bind(group_type& group);
  /// Errors: no_such_file_or_directory; device_or_resource_busy, it is attached.
  result<void> unbind(object_id device) noexcept;

  /// The device translates through a space: through an automatic hardware page table that suits, or
  /// a new one; or through a given one. Returns the hardware page table.
  /// Errors: no_such_file_or_directory, no such device, or nothing has that number;
  /// invalid_argument, it is something else, or the device is attached, or its group to another, or
  /// the domain does not suit; address_in_use, mapped where the device may not translate; those of
  /// io_pagetable::attach(). On error nothing changed.
  result<object_id> attach(object_id device, object_id to);
  /// Errors: no_such_file_or_directory; invalid_argument, it is not attached.
  result<void> detach(object_id device) noexcept;
  /// All attached devices of the group go over to another space or hardware page table. Errors: as
  /// attach(); invalid_argument, the device is not attached. On error nothing changed.
  result<object_id> replace(object_id device, object_id to);

  /// IOMMU_HWPT_ALLOC: a domain for the device, filled with the space.
  /// Errors: no_such_file_or_directory, no such device; invalid_argument, no such space;
  /// operation_not_supported, dirty tracking; those of io_pagetable::attach().
  result<object_id> create_hw_pagetable(object_id device, object_id space, bool tracks_dirty) {
    abi::hwpt_alloc said{};
    said.flags = tracks_dirty ? abi::hwpt_dirty_tracking : 0U;
    return create_hw_pagetable(device, space, said, [](object_id) { return result<void>{}; });
  }

  // --- Access objects: uapi/iommufd/accesses.hpp ---

  /// An access object with a number, until destroy_access(); see core/access_object.hpp. Its pins
  /// are the caller's, but attach_access() and the like, not its own members, change where it is.
  /// Errors: not_enough_memory.
  result<object_id> create_access(typename access_type::unmap_callback on_unmap, void* context,
                                  bool pins_pages);
  /// Errors: no_such_file_or_directory; those of access_object::attach().
  result<void> attach_access(object_id access, object_id space);
  /// Errors: no_such_file_or_directory; those of access_object::replace().
  result<void> replace_access(object_id access, object_id space);
  result<void> detach_access(object_id access) noexcept;
  /// Detaches it first. Errors: no_such_file_or_directory.
  result<void> destroy_access(object_id access) noexcept;
  /// The object, until destroy_access(); nullptr where none has that number.
  access_type* access(object_id id) noexcept;

  /// How many objects there are.
  std::size_t size() const noexcept { return objects_.size(); }
  /// Checks the invariants; "" where they hold, else the one that does not. Requires: no other
  /// thread changes anything.
  std::string_view verify() const;

 private:
  using guard = iopt::detail::exclusive_lock<typename traits::mutex>;
  using space_type = detail::space<Pinner, Domain, traits>;
  using pagetable_type = detail::hw_pagetable<Pinner, Domain, traits>;
  using device_type = detail::device<Pinner, Domain, traits>;
  using bound_type = detail::bound_group<Pinner, Domain, traits>;
  using access_record = detail::access<Pinner, Domain, traits>;
  static constexpr bool newer = uapi::ioctls_of<Profile>() == kernel_level::linux_6_18;
  static constexpr std::uint32_t last_number =
      newer ? abi::last_number_6_18 : abi::last_number_6_12;

  /// An object that is in use for a scope, or nullptr. Let go while devices_lock_ is held, it must
  /// not be a hardware page table, which may end then.
  template <class T>
  class held {
   public:
    held(context& of, T* o) noexcept : context_(&of), object_(o) {}
    held(const held&) = delete;
    held& operator=(const held&) = delete;
    ~held() {
      if (object_ != nullptr) context_->put(*object_);
    }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    T* operator->() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }

   private:
    context* context_;
    T* object_;
  };

  template <class T>
  T* find(object_id id, object_kind kind) noexcept {
    return static_cast<T*>(objects_.find(id, kind));
  }
  void put(object& o) noexcept {
    if (objects_.put(o)) end(o);
  }
  /// The same, of an object that is not retired.
  void put_needed(object& o) noexcept {
    const bool retired = objects_.put(o);
    IOPT_ASSERT(!retired);
    static_cast<void>(retired);
  }
  void end(object& o) noexcept;

  template <class T, class... Arguments>
  result<T*> reserve_new(Arguments&&... arguments);
  template <class T>
  void give_back(T& o) noexcept;
  result<space_type*> reserve_space();
  void publish(space_type& s) noexcept {
    guard alone(spaces_lock_);
    objects_.publish(s);
  }

  // uapi/iommufd/space_calls.hpp
  template <class T>
  uapi::answer run(const argument_type& a, result<void> (context::*does)(const argument_type&, T&),
                   std::size_t least = sizeof(T)) {
    result<T> said = a.template read<T>(least);
    return uapi::answer_of(said ? (this->*does)(a, *said) : fail(said.error()));
  }
  result<void> destroy_call(const argument_type&, abi::destroy& said) { return destroy(said.id); }
  result<void> alloc_call(const argument_type& a, abi::ioas_alloc& said);
  result<void> ranges_call(const argument_type& a, abi::ioas_iova_ranges& said);
  result<void> allow_call(const argument_type& a, abi::ioas_allow_iovas& said);
  result<void> map_call(const argument_type& a, abi::ioas_map& said);
  result<typename table_type::memory> memory_behind(table_type& table,
                                                    const abi::ioas_map_file& said);
  result<void> map_file_call(const argument_type& a, abi::ioas_map_file& said);
  result<void> copy_call(const argument_type& a, abi::ioas_copy& said);
  result<void> change_process_call(const argument_type&, abi::ioas_change_process& said);
  result<void> unmap_call(const argument_type& a, abi::ioas_unmap& said);
  result<void> option_call(const argument_type& a, abi::option& said);
  result<void> rlimit_mode(abi::option& said);
  result<void> huge_pages(abi::option& said);
  result<void> vfio_ioas_call(const argument_type& a, abi::vfio_ioas& said);
  void unlimited(typename table_type::memory& what) noexcept {
    if (caller_.has(capability::lock_memory)) what.of.mode = account_mode::none;
  }

  // uapi/iommufd/pagetable_calls.hpp
  result<void> hwpt_alloc_call(const argument_type& a, abi::hwpt_alloc& said);
  result<void> hw_info_call(const argument_type& a, abi::hw_info& said);
  result<void> set_dirty_call(const argument_type& a, abi::hwpt_set_dirty_tracking& said);
  result<void> get_dirty_call(const argument_type& a, abi::hwpt_get_dirty_bitmap& said);

  // uapi/iommufd/absent_calls.hpp
  template <class T>
  result<void> absent_call(const argument_type&, T& said);
  result<void> viommu_call(const argument_type&, abi::viommu_alloc& said);
  result<void> invalidate_call(const argument_type& a, abi::hwpt_invalidate& said);

  // uapi/iommufd/devices.hpp; devices_lock_ is held
  result<void> reserve_regions(device_type& d, table_type& in);
  static bool suits(const pagetable_type& p, const bound_type& group) noexcept;
  result<void> attach_to(device_type& d, pagetable_type& p);
  result<object_id> attach_to_new(device_type& d, space_type& to);
  void detach_from(device_type& d, pagetable_type& p) noexcept;
  result<void> replace_by(device_type& d, pagetable_type& p);
  result<object_id> replace_by_new(device_type& d, space_type& to);
  template <class Old, class New>
  result<object_id> change(object_id device, object_id to, Old to_old, New to_new);
  void leave_group(bound_type& of) noexcept;

  // uapi/iommufd/pagetables.hpp; devices_lock_ is held
  template <class Make>
  result<pagetable_type*> reserve_pagetable(space_type& in, group_type& group, Make make);
  result<Domain*> create_domain(group_type& group, const abi::hwpt_alloc& said);
  result<object_id> settle(pagetable_type& p, result<void> done) noexcept;
  void let_go(pagetable_type& p) noexcept;
  void end_pagetable(pagetable_type& p) noexcept;
  template <class Told>
  result<object_id> create_hw_pagetable(object_id device, object_id to, const abi::hwpt_alloc& said,
                                        Told told);

  Pinner& pinner_;
  context_options options_;
  account_mode mode_;  // with compatible_ and noiommu_ under the lock of objects_
  object* compatible_ = nullptr;
  bool noiommu_ = false;
  [[no_unique_address]] copy_type copy_;
  [[no_unique_address]] caller_type caller_;
  [[no_unique_address]] memory_source_type memory_;
  typename traits::mutex
      spaces_lock_{};  // while it is held no space comes, nor is there another change of owner;
                       // before a lock of a table, and that of objects_
  typename traits::mutex
      devices_lock_{};  // over devices, groups and lists of hardware page tables;
                        // before a lock of a table, and that of objects_
  bound_type* groups_ = nullptr;
  object_table<traits> objects_;
};

}  // namespace iopt::iommufd

#include "iopt/uapi/iommufd/absent_calls.hpp"     // IWYU pragma: export
#include "iopt/uapi/iommufd/accesses.hpp"         // IWYU pragma: export
#include "iopt/uapi/iommufd/devices.hpp"          // IWYU pragma: export
#include "iopt/uapi/iommufd/dispatch.hpp"         // IWYU pragma: export
#include "iopt/uapi/iommufd/lifetimes.hpp"        // IWYU pragma: export
#include "iopt/uapi/iommufd/pagetable_calls.hpp"  // IWYU pragma: export
#include "iopt/uapi/iommufd/pagetables.hpp"       // IWYU pragma: export
#include "iopt/uapi/iommufd/space_calls.hpp"      // IWYU pragma: export
