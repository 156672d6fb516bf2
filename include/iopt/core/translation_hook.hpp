// iopt/core/translation_hook.hpp - how an io_pagetable keeps a translation_index up to date.
//
// Traits::readers is what a table waits for before it unpins. Where it is a translation_keeper too,
// the table tells it of every area of user memory; otherwise nothing of this costs anything.
//
//   an area takes its IOVA        prepare()    the only step, with cut(), that may fail
//   it is filled, and published   show()
//   it is to go                   hide()       before any domain is unmapped
//   readers were waited for       erase()      together with the area
//   it is to be cut               cut()        whether or not the area then is: nobody can tell
//   it shows other memory         assign()     no reader finds a gap
//
// Memory of files and devices has no address in this process, and is not told.
//
// Tested by tests/core/translation_hook_test.cpp.
//
// Layer: core. Includes: base, core/origin.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstdint>

#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/core/origin.hpp"

namespace iopt {

/// A translation_keeper is told where user memory is mapped.
///
/// Meaning   As translation_index, which is the model: prepare(), cut() may fail, and change nothing
///           then; the others take away or point elsewhere, all entries of a range.
/// Threads   Changes are serialised by the table.
/// Tested by tests/core/translation_hook_test.cpp
template <class R>
concept translation_keeper =
    requires(R& r, R& other, iova_range where, iova last, user_address at) {
      { r.prepare(where, at) } noexcept -> std::same_as<result<void>>;
      { r.cut(last) } noexcept -> std::same_as<result<void>>;
      { r.show(where) } noexcept;
      { r.hide(where) } noexcept;
      { r.erase(where) } noexcept;
      { r.assign(where, at) } noexcept;
      { r.take_over(other) } noexcept;
    };

namespace detail {

/// A table's readers: made with the table's memory where they take one, and told of areas where they
/// are a translation_keeper.
template <class Readers, class Memory>
struct table_readers : Readers {
  static constexpr bool kept = translation_keeper<Readers>;

  explicit table_readers(const Memory&) noexcept {}
  explicit table_readers(const Memory& memory) noexcept
    requires std::constructible_from<Readers, Memory>
      : Readers(memory) {}

  template <class Area>
  static bool is_told(const Area& a) noexcept {
    return a.source->from->is.kind == origin_kind::user;
  }
  template <class Area>
  static user_address address_of(const Area& a) noexcept {
    return {a.source->start + a.start_byte};
  }

  result<void> area_comes(iova_range where, user_address at, bool told) noexcept {
    if constexpr (kept)
      if (told) return this->prepare(where, at);
    return {};
  }
  void area_is_there(iova_range where) noexcept {
    if constexpr (kept) this->show(where);
  }
  void area_is_to_go(iova_range where) noexcept {
    if constexpr (kept) this->hide(where);
  }
  void area_goes(iova_range where) noexcept {
    if constexpr (kept) this->erase(where);
  }
  result<void> area_is_cut(iova last) noexcept {
    if constexpr (kept) return this->cut(last);
    return {};
  }

  /// An area is to show other memory, at `at`: a place for one that was not told and now is. It is
  /// taken back by area_goes(). Errors: not_enough_memory; nothing has changed then.
  result<void> area_becomes_told(iova_range where, user_address at, bool told_before,
                                 bool told_now) noexcept {
    if constexpr (kept)
      if (told_now && !told_before) return this->prepare(where, at);
    return {};
  }
  /// It shows it, after which readers are waited for; and then, if it is not told, area_goes().
  void area_shows(iova_range where, user_address at, bool told_now, bool present) noexcept {
    if constexpr (kept) {
      if (!told_now) return this->hide(where);
      this->assign(where, at);
      if (present) this->show(where);
    }
  }

  void move_from(table_readers& other) noexcept {
    if constexpr (kept) this->take_over(other);
  }
};

}  // namespace detail

}  // namespace iopt
