// iopt/uapi/iommufd/object_table.hpp - the objects behind a descriptor of /dev/iommu, by number.
//
// An object has a number, and users: the table itself, objects that need it, and ioctls that are at
// work on it. Only what nobody but the table uses can be destroyed.
//
// Layer: uapi. Includes: base, core/traits.hpp, the standard library.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "iopt/base/assert.hpp"
#include "iopt/base/error.hpp"
#include "iopt/core/traits.hpp"

namespace iopt::iommufd {

/// The number of an object, from 1; 0 is none.
using object_id = std::uint32_t;

enum class object_kind : std::uint8_t {
  space,         // an I/O address space
  hw_pagetable,  // a domain
  device,
  access,   // an access object
  foreign,  // of a front end
};

template <table_traits Traits>
class object_table;

/// object: what every object begins with.
///
/// Ownership   Whoever created it; the table refers to it.
class object {
 public:
  explicit object(object_kind kind) noexcept : kind_(kind) {}
  object(const object&) = delete;
  object& operator=(const object&) = delete;

  object_kind kind() const noexcept { return kind_; }
  /// 0 before reserve().
  object_id id() const noexcept { return id_; }

 private:
  template <table_traits Traits>
  friend class object_table;

  // Of a reserved number, until its object is there; of an object that goes with its last user.
  enum class stage : std::uint8_t { reserved, present, retired };

  object_kind kind_;
  stage stage_ = stage::reserved;
  object_id id_ = 0;
  std::uint32_t users_ = 1;
};

/// object_table: objects by number.
///
/// Model       A partial function from numbers to objects, each reserved, present or retired, with a
///             count of users from 1. Only present objects are found.
/// Invariants  A number is taken exactly when it has an object; below the first word that may have
///             a free number all are taken. See verify().
/// Ownership   Owns its memory, and no object.
/// Errors      reserve(): not_enough_memory. remove(): no_such_file_or_directory,
///             device_or_resource_busy.
/// Cost        find, put, remove O(1); reserve O(n / 64), in words looked at. Only reserve allocates.
/// Threads     Any call from any thread, where the traits have locks.
/// Source      Linux 6.12 drivers/iommu/iommufd/main.c, as facts.
/// Tested by   tests/uapi/iommufd/object_table_test.cpp
template <table_traits Traits>
class object_table {
 public:
  using memory_source_type = typename Traits::memory;

  explicit object_table(memory_source_type memory = {}) noexcept : memory_(memory) {}
  object_table(const object_table&) = delete;
  object_table& operator=(const object_table&) = delete;
  ~object_table() {
    IOPT_ASSERT(count_ == 0);
    release(slots_, used_, words_);
  }

  /// Gives the object the lowest free number, by which it is not found yet.
  result<void> reserve(object& o) noexcept {
    guard held(lock_);
    std::size_t word = first_free_word_;
    while (word < words_ && used_[word] == all) ++word;
    if (word == words_ && !grow()) return fail(errc::not_enough_memory);
    first_free_word_ = word;
    const auto bit = static_cast<unsigned>(std::countr_one(used_[word]));
    const std::size_t slot = 64 * word + bit;
    used_[word] |= std::uint64_t{1} << bit;
    slots_[slot] = &o;
    o.id_ = static_cast<object_id>(slot + 1);
    ++count_;
    return {};
  }
  /// From here on it is found.
  void publish(object& o) noexcept {
    guard held(lock_);
    IOPT_ASSERT(o.stage_ == object::stage::reserved);
    o.stage_ = object::stage::present;
  }
  /// Undoes reserve(). Requires: not published.
  void abandon(object& o) noexcept {
    guard held(lock_);
    IOPT_ASSERT(o.stage_ == object::stage::reserved && o.users_ == 1);
    erase(o);
  }

  /// The object of that number, used by the caller until put(); or nullptr.
  object* find(object_id id) noexcept {
    guard held(lock_);
    object* const o = at(id);
    if (o != nullptr) ++o->users_;
    return o;
  }
  /// The same, if it is of that kind.
  object* find(object_id id, object_kind kind) noexcept {
    guard held(lock_);
    object* const o = at(id);
    if (o == nullptr || o->kind_ != kind) return nullptr;
    ++o->users_;
    return o;
  }
  /// The object that choose() names while nothing comes or goes, likewise.
  template <class Choose>
  object* find_chosen(Choose choose) noexcept {
    guard held(lock_);
    object* const o = choose();
    if (o != nullptr) ++o->users_;
    return o;
  }
  /// Each object of that kind that is present, in the order of numbers, likewise: calls f(object)
  /// while nothing comes or goes.
  template <class F>
  void find_each(object_kind kind, F f) {
    guard held(lock_);
    for (std::size_t slot = 0; slot < 64 * words_; ++slot) {
      object* const o = at(static_cast<object_id>(slot + 1));
      if (o == nullptr || o->kind_ != kind) continue;
      ++o->users_;
      f(*o);
    }
  }
  /// One user more of an object that the caller uses.
  void hold(object& o) noexcept {
    guard held(lock_);
    ++o.users_;
  }
  /// One user less. True: it was retired, and is out of the table: the caller's to destroy.
  [[nodiscard]] bool put(object& o) noexcept {
    guard held(lock_);
    IOPT_ASSERT(o.users_ > 1);
    --o.users_;
    if (o.stage_ != object::stage::retired || o.users_ != 1) return false;
    erase(o);
    return true;
  }

  /// Takes an object out that nobody else uses, and calls removed(object) while nothing else comes
  /// or goes; then it is the caller's to destroy.
  template <class Removed>
  result<object*> remove(object_id id, Removed removed) noexcept {
    guard held(lock_);
    object* const o = at(id);
    if (o == nullptr) return fail(errc::no_such_file_or_directory);
    if (o->users_ != 1) return fail(errc::device_or_resource_busy);
    erase(*o);
    removed(*o);
    return o;
  }
  /// The caller, who is so many of its users, needs an object no more. True: it is out of the table,
  /// and the caller's to destroy. False: others use it; it is not found any more, and goes with the
  /// last of them. Requires: present.
  [[nodiscard]] bool retire(object& o, std::uint32_t users = 0) noexcept {
    guard held(lock_);
    IOPT_ASSERT(at(o.id_) == &o && o.users_ > users);
    o.stage_ = object::stage::retired;
    o.users_ -= users;
    if (o.users_ != 1) return false;
    erase(o);
    return true;
  }

  /// Calls f() while nothing comes or goes. f(true): there is no object, not even a reserved number.
  template <class F>
  auto locked(F f) const noexcept {
    guard held(lock_);
    return f(count_ == 0);
  }
  /// The first object of a kind, in the order of numbers, or nullptr. It is not held.
  object* first(object_kind kind) const noexcept {
    guard held(lock_);
    for (std::size_t slot = 0; slot < 64 * words_; ++slot)
      if (slots_[slot] != nullptr && slots_[slot]->kind_ == kind) return slots_[slot];
    return nullptr;
  }
  /// Calls f(object) for each in the order of numbers, while nothing comes or goes.
  template <class F>
  void for_each(F f) const {
    guard held(lock_);
    for (std::size_t slot = 0; slot < 64 * words_; ++slot)
      if (slots_[slot] != nullptr) f(*slots_[slot]);
  }
  std::size_t size() const noexcept {
    guard held(lock_);
    return count_;
  }
  /// How many use it, the table included.
  std::uint32_t users(const object& o) const noexcept {
    guard held(lock_);
    return o.users_;
  }

  /// Checks the invariants; "" where they hold, else the one that does not.
  std::string_view verify() const {
    guard held(lock_);
    std::size_t count = 0;
    for (std::size_t slot = 0; slot < 64 * words_; ++slot) {
      const bool taken = (used_[slot / 64] >> (slot % 64) & 1) != 0;
      if (taken != (slots_[slot] != nullptr)) return "a number is taken when it has an object";
      if (!taken && slot / 64 < first_free_word_) return "below the first free word all are taken";
      if (!taken) continue;
      ++count;
      if (slots_[slot]->id_ != slot + 1) return "an object knows its number";
      if (slots_[slot]->users_ == 0) return "the table is a user";
    }
    if (count != count_) return "the count is that of the objects";
    return "";
  }

 private:
  using guard = detail::exclusive_lock<typename Traits::mutex>;
  static constexpr std::uint64_t all = ~std::uint64_t{0};

  object* at(object_id id) const noexcept {
    if (id == 0 || id > 64 * words_) return nullptr;
    object* const o = slots_[id - 1];
    return o == nullptr || o->stage_ != object::stage::present ? nullptr : o;
  }
  void erase(object& o) noexcept {
    const std::size_t slot = o.id_ - 1;
    slots_[slot] = nullptr;
    used_[slot / 64] &= ~(std::uint64_t{1} << (slot % 64));
    first_free_word_ = std::min(first_free_word_, slot / 64);
    --count_;
  }
  /// Room for twice as many.
  bool grow() noexcept {
    const std::size_t words = words_ == 0 ? 1 : 2 * words_;
    if (words > std::size_t{1} << 24) return false;  // numbers are below 2^31
    auto* const slots =
        static_cast<object**>(memory_.allocate(64 * words * sizeof(object*), alignof(object*)));
    auto* const used = static_cast<std::uint64_t*>(
        memory_.allocate(words * sizeof(std::uint64_t), alignof(std::uint64_t)));
    if (slots == nullptr || used == nullptr) {
      release(slots, used, words);
      return false;
    }
    std::copy_n(slots_, 64 * words_, slots);
    std::fill(slots + 64 * words_, slots + 64 * words, nullptr);
    std::copy_n(used_, words_, used);
    std::fill(used + words_, used + words, 0);
    release(slots_, used_, words_);
    slots_ = slots;
    used_ = used;
    words_ = words;
    return true;
  }
  void release(object** slots, std::uint64_t* used, std::size_t words) noexcept {
    if (slots != nullptr) memory_.deallocate(slots, 64 * words * sizeof(object*), alignof(object*));
    if (used != nullptr)
      memory_.deallocate(used, words * sizeof(std::uint64_t), alignof(std::uint64_t));
  }

  [[no_unique_address]] memory_source_type memory_;
  mutable typename Traits::mutex lock_{};
  object** slots_ = nullptr;
  std::uint64_t* used_ = nullptr;
  std::size_t words_ = 0;
  std::size_t first_free_word_ = 0;
  std::size_t count_ = 0;
};

}  // namespace iopt::iommufd
