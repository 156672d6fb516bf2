// iopt/containers/reader_sections.hpp - threads that read without a lock, and who waits for them.
//
// A reader brackets what it reads by enter() and leave(), and a writer that has taken something out
// of sight calls wait() before it destroys it: every section that was open then has been left. This
// is what Linux calls RCU.
//
//   slot.sequence   odd while the reader is inside; each enter() and each leave() adds one
//
// Why wait() misses nobody. enter() stores an odd number, passes the light side of a fence, and then
// reads; the writer takes out of sight, passes the heavy side, and then looks at the numbers. One of
// the two sees the other: a reader whose number the writer does not see yet does not see either what
// was taken out of sight. What the reader read inside happens before its next store to the slot,
// which is a release, enter() as well as leave(): whatever later number the writer acquires, it may
// destroy.
//
// Layer: containers. Includes: base, the standard library.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>

#include "iopt/base/assert.hpp"
#include "iopt/base/asymmetric_fence.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/memory_source.hpp"

namespace iopt {

/// reader_sections: the readers of something, and when all of them have moved on.
///
/// Model       A set of readers, each inside a section or not. wait() returns when every section that
///             was open when it was called has been left; of those entered meanwhile it may wait for
///             some too, but for one section of each reader at most.
///             What a thread stored before it called wait() is seen by all sections that wait() did
///             not wait for; what a reader read in a section happened before wait() returns.
/// Ownership   Owns a slot for each reader that was ever there at a time; they are used again, and
///             given back by the destructor. Requires: it outlives its readers.
/// Errors      attach(): not_enough_memory.
/// Cost        enter(), leave(): one store each to a line that no other thread writes; no loop, no
///             atomic read-modify-write; a fence in enter() where the system has no asymmetric one.
///             wait(): none inside: one fence, a look at every slot. Else until they have left.
/// Threads     Any call from any thread. One reader object: one thread at a time.
/// Tested by   tests/containers/reader_sections_test.cpp
template <memory_source Memory = heap_memory>
class reader_sections {
  static constexpr std::size_t apart_bytes = 128;  // two lines: some processors fetch them in pairs
  static constexpr unsigned slots_at_once = 7;

  struct alignas(apart_bytes) slot {
    std::atomic<std::uint64_t> sequence{0};
    std::atomic<bool> taken{false};
  };
  struct alignas(apart_bytes) chunk {
    chunk* next = nullptr;
    std::uint64_t marked[slots_at_once] = {};  // the sequences at the last mark()
    slot slots[slots_at_once];
  };

 public:
  /// reader: one thread's place among the readers.
  class reader {
   public:
    reader() noexcept = default;
    reader(reader&& other) noexcept { *this = std::move(other); }
    reader& operator=(reader&& other) noexcept {
      std::swap(all_, other.all_);
      std::swap(slot_, other.slot_);
      std::swap(sequence_, other.sequence_);
      std::swap(asymmetric_, other.asymmetric_);
      return *this;
    }
    ~reader() {
      if (slot_ == nullptr) return;
      IOPT_ASSERT(!inside());
      all_->attached_.fetch_sub(1, std::memory_order_release);
      slot_->taken.store(false, std::memory_order_release);
    }

    /// Requires: attached, and not inside.
    void enter() noexcept {
      IOPT_ASSERT(slot_ != nullptr && !inside());
      slot_->sequence.store(++sequence_, std::memory_order_release);
      asymmetric_fence::light(asymmetric_);
    }
    /// Requires: inside.
    void leave() noexcept {
      IOPT_ASSERT(inside());
      slot_->sequence.store(++sequence_, std::memory_order_release);
    }
    bool inside() const noexcept { return (sequence_ & 1) != 0; }

   private:
    friend class reader_sections;
    reader_sections* all_ = nullptr;
    slot* slot_ = nullptr;
    std::uint64_t sequence_ = 0;
    bool asymmetric_ = false;
  };

  explicit reader_sections(Memory memory = {}, fence_kind kind = fence_kind::asymmetric) noexcept
      : fence_(kind), memory_(std::move(memory)) {}
  reader_sections(const reader_sections&) = delete;
  reader_sections& operator=(const reader_sections&) = delete;
  ~reader_sections() {
    IOPT_ASSERT(readers() == 0);
    for (chunk* c = chunks_.load(std::memory_order_acquire); c != nullptr;)
      destroy_in(memory_, std::exchange(c, c->next));
  }

  /// A new reader, outside. Lock-free. Errors: not_enough_memory.
  result<reader> attach() noexcept {
    slot* const mine = free_slot();
    if (mine == nullptr) return fail(errc::not_enough_memory);
    reader r;
    r.all_ = this;
    r.slot_ = mine;
    r.sequence_ = mine->sequence.load(std::memory_order_relaxed);
    r.asymmetric_ = fence_.is_asymmetric();
    // Against the fence of a writer that finds nobody attached, and so asks for no heavy one.
    attached_.fetch_add(1, std::memory_order_relaxed);
    detail::full_fence();
    return r;
  }
  std::size_t readers() const noexcept { return attached_.load(std::memory_order_acquire); }
  bool is_asymmetric() const noexcept { return fence_.is_asymmetric(); }

  /// Waits until every section that is open now has been left. Requires: the caller is in none, and
  /// holds nothing that a reader waits for inside one.
  void wait() noexcept {
    if (nobody()) return;
    fence_.heavy();
    for (chunk* c = chunks_.load(std::memory_order_acquire); c != nullptr; c = c->next) {
      for (slot& s : c->slots) {
        const std::uint64_t before = s.sequence.load(std::memory_order_acquire);
        if ((before & 1) == 0) continue;
        for (unsigned tries = 0; s.sequence.load(std::memory_order_acquire) == before;)
          if (++tries > 64) std::this_thread::yield();
      }
    }
  }

  /// The same in two steps that do not wait: passed() is whether every section that was open at the
  /// last mark() has been left. Requires: one thread at a time calls these two.
  void mark() noexcept {
    if (!nobody()) fence_.heavy();
    for (chunk* c = chunks_.load(std::memory_order_acquire); c != nullptr; c = c->next)
      for (unsigned n = 0; n < slots_at_once; ++n)
        c->marked[n] = c->slots[n].sequence.load(std::memory_order_acquire);
  }
  bool passed() const noexcept {
    for (chunk* c = chunks_.load(std::memory_order_acquire); c != nullptr; c = c->next)
      for (unsigned n = 0; n < slots_at_once; ++n)
        if ((c->marked[n] & 1) != 0 &&
            c->slots[n].sequence.load(std::memory_order_acquire) == c->marked[n])
          return false;
    return true;
  }

 private:
  /// Whether there is no reader, so that nobody can be inside. The acquire takes what readers that
  /// have gone read before they went.
  bool nobody() const noexcept {
    detail::full_fence();
    return attached_.load(std::memory_order_acquire) == 0;
  }

  slot* free_slot() noexcept {
    const auto claim = [](chunk& c) -> slot* {
      for (slot& s : c.slots)
        if (!s.taken.load(std::memory_order_relaxed) &&
            !s.taken.exchange(true, std::memory_order_acquire))
          return &s;
      return nullptr;
    };
    for (chunk* c = chunks_.load(std::memory_order_acquire); c != nullptr; c = c->next)
      if (slot* const s = claim(*c)) return s;
    chunk* const fresh = create_in<chunk>(memory_);
    if (fresh == nullptr) return nullptr;
    fresh->slots[0].taken.store(true, std::memory_order_relaxed);
    fresh->next = chunks_.load(std::memory_order_relaxed);
    while (!chunks_.compare_exchange_weak(fresh->next, fresh, std::memory_order_release,
                                          std::memory_order_relaxed)) {
    }
    return &fresh->slots[0];
  }

  std::atomic<chunk*> chunks_{nullptr};  // only ever grows at the front
  std::atomic<std::size_t> attached_{0};
  asymmetric_fence fence_;
  [[no_unique_address]] Memory memory_;
};

}  // namespace iopt
