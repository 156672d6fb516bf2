// iopt/policy/page_pinner.hpp - the first policy: who turns user memory into frames.
//
// A page_pinner is what get_user_pages and the memory accounting are to the kernel. The engine asks
// it for frames once for each page that anybody needs, and gives each frame back once.
//
// The least pinner has an owner type and six calls. Refinements add origins (files, device memory) and the
// copying that an access object's read and write need; the engine offers what the pinner can do.
//
// Layer: policy. Includes: base, policy/account.hpp, the standard library.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "iopt/base/access.hpp"
#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"
#include "iopt/base/run.hpp"
#include "iopt/policy/account.hpp"

namespace iopt {

/// A page_pinner pins memory of processes and counts it.
///
/// Meaning. Let pins(f) be the number of times that frame f is pinned, at first 0 for every f.
///   P::owner             whose memory: a process, a guest. Copied into what the engine keeps;
///                        equal owners name the same address space.
///   p.current()          the owner that a map call without one means; it is reachable.
///   p.pin(w, r, a, out)  Requires: r is whole pages of Traits::page_bytes, not empty; `out` is not
///                        full. Pins pages of w from r.first upwards and appends their frames, in
///                        order, as runs of whole pages of type `cached`; pins(f) += 1 for each. Memory
///                        that the kernel keeps apart is appended as `reserved`: it is not pinned,
///                        not counted and never given to unpin(). May stop early, because `out` is
///                        full or for any reason of its own, but not before the first page. `a` has
///                        write where the memory must be writable. A page has one frame while it is
///                        pinned, and no two pages of one owner need have different ones.
///                        Errors: bad_address where the first page cannot be had; any errno. On
///                        error nothing is pinned by this call and `out` is unchanged.
///   p.unpin(r, dirty)    pins(f) -= 1 for each page of the run r. `dirty` says that a device may
///                        have written. Requires: r is whole pages that pin() appended; runs may be
///                        given back in other pieces than they came in. Does not fail.
///   p.reachable(w)       whether the memory of w still exists (its process lives).
///   p.charge(w, m, n)    counts n more pinned pages against the account that w has in mode m; in
///                        modes `none` and `type1_unlimited` too, where it does not refuse.
///                        Errors: not_enough_memory over the limit; invalid_argument where the
///                        account is gone. On error nothing is counted.
///   p.uncharge(w, m, n)  takes back n counted pages; does not fail.
/// Cost      The engine calls pin() at most once a run and once a full batch: a pinner that returns
///           1 GiB as one run is called once for 1 GiB.
/// Threads   With multi-threaded traits calls come from several threads at once.
/// Tested by tests/policy/page_pinner_conformance.hpp
template <class P>
concept page_pinner =
    std::copyable<typename P::owner> && std::equality_comparable<typename P::owner> &&
    requires(P& p, const typename P::owner& who, user_range where, access_rights rights,
             run_list& out, run r, bool dirty, account_mode mode, std::uint64_t pages) {
      { p.current() } -> std::convertible_to<typename P::owner>;
      { p.pin(who, where, rights, out) } -> std::same_as<result<void>>;
      { p.unpin(r, dirty) } noexcept -> std::same_as<void>;
      { p.reachable(who) } noexcept -> std::same_as<bool>;
      { p.charge(who, mode, pages) } -> std::same_as<result<void>>;
      { p.uncharge(who, mode, pages) } noexcept -> std::same_as<void>;
    };

/// A pinner that also pins pages of files (memfd, hugetlbfs) by offset.
///
///   P::file                    a file, held open by each copy; equal values are the same file.
///   p.pin_file(f, r, a, out)   as pin(), with r in bytes of the file.
///                              Errors: invalid_argument where the first page is past the end of the
///                              file, or cannot be pinned.
template <class P>
concept file_pinner = page_pinner<P> && std::copyable<typename P::file> &&
                      std::equality_comparable<typename P::file> &&
                      requires(P& p, const typename P::file& file, user_range where,
                               access_rights rights, run_list& out) {
                        { p.pin_file(file, where, rights, out) } -> std::same_as<result<void>>;
                      };

/// A pinner that also resolves memory of devices, which its exporter can take away and give back
/// (peer-to-peer: a BAR). Such memory is never pinned and never accounted.
///
///   P::exporter                 who owns the device memory; equal values are the same exporter.
///   p.resolve(e, r, out)        appends where bytes r of e's memory are, as runs of type mmio, as
///                               pin() would, without pinning.
///                               Errors: no_such_device while revoked; result_out_of_range.
/// The exporter's owner calls io_pagetable::revoke() before the memory goes and restore() after it
/// is back, on each table that shows it. resolve() refuses, or nobody maps, from before revoke() on:
/// what is mapped after it would be missed.
template <class P>
concept device_memory_pinner =
    page_pinner<P> && std::copyable<typename P::exporter> &&
    std::equality_comparable<typename P::exporter> &&
    requires(P& p, const typename P::exporter& exporter, user_range where, run_list& out) {
      { p.resolve(exporter, where, out) } -> std::same_as<result<void>>;
    };

/// Device memory, by its exporter and the offset in it, in bytes.
template <class Exporter>
struct device_view {
  Exporter exporter;
  std::uint64_t offset;
};

/// A pinner that also knows where a process maps device memory: there VFIO's callers name it by
/// address, as a BAR that a VMM has mapped.
///
///   p.device_memory_at(w, r)   what of which exporter the addresses r of w show, if all of r shows
///                              the one; else nothing, and r is pinned as memory of w, which then
///                              answers bad_address where it is a device's.
template <class P>
concept device_showing_pinner =
    device_memory_pinner<P> && requires(P& p, const typename P::owner& who, user_range where) {
      {
        p.device_memory_at(who, where)
      } -> std::same_as<std::optional<device_view<typename P::exporter>>>;
    };

/// A pinner that also copies to and from the memory of an owner, as the owner sees it.
///
///   p.read(w, at, to)     copies to.size() bytes from w's memory at `at`.
///   p.write(w, at, from)  copies into w's memory.
///                         Errors: bad_address; bytes before the failing one may have been copied.
template <class P>
concept copying_pinner =
    page_pinner<P> && requires(P& p, const typename P::owner& who, user_address at,
                               std::span<std::byte> to, std::span<const std::byte> from) {
      { p.read(who, at, to) } -> std::same_as<result<void>>;
      { p.write(who, at, from) } -> std::same_as<result<void>>;
    };

/// A pinner that also copies to and from frames that are pinned: what remains of memory whose owner
/// is gone, and the only way into a file's pages.
template <class P>
concept frame_copying_pinner =
    page_pinner<P> &&
    requires(P& p, physical at, std::span<std::byte> to, std::span<const std::byte> from) {
      { p.read_frame(at, to) } noexcept -> std::same_as<void>;
      { p.write_frame(at, from) } noexcept -> std::same_as<void>;
    };

/// A pinner that takes many runs back in one call.
///
///   p.unpin_runs(runs, dirty)   as unpin() of each; their type says nothing.
template <class P>
concept run_unpinning_pinner =
    page_pinner<P> && requires(P& p, std::span<const run> runs, bool dirty) {
      { p.unpin_runs(runs, dirty) } noexcept -> std::same_as<void>;
    };

}  // namespace iopt
