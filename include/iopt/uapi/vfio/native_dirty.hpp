// iopt/uapi/vfio/native_dirty.hpp - native_container: which pages may have been written.
//
// type1 does not ask an IOMMU. Where a group reaches all memory and does not say what it writes,
// all of it is dirty; where every group pins what it reaches, what is pinned is, and what was pinned
// or written through vfio_dma_rw since the last read.
//
// Layer: uapi. Includes: uapi/vfio/native_container.hpp.
#pragma once

#include "iopt/uapi/vfio/native_container.hpp"

namespace iopt::vfio {

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<dirty_log*> native_container<Pinner, Domain, Profile>::new_log(iova_range where) {
  return dirty_log::create(where, log2_exact(granule()), memory_);
}
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::add_log(dirty_log* log) noexcept {
  logs_.insert(*log);
}
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::drop_log(dirty_log* log) noexcept {
  logs_.erase(*log);
  dirty_log::destroy(log, memory_);
}
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::drop_logs() noexcept {
  while (dirty_log* const log = logs_.first()) drop_log(log);
}

/// The logs of what stays of the mappings that the range cuts.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
auto native_container<Pinner, Domain, Profile>::prepare_log_cuts(iova_range range)
    -> result<log_cuts> {
  log_cuts cuts{};
  if (!tracking_) return cuts;
  dirty_log* const head = logs_.first_overlap({range.first, range.first});
  if (head != nullptr && head->range.first < range.first) {
    const result<dirty_log*> made = new_log({head->range.first, range.first - 1});
    if (!made) return fail(made.error());
    cuts.left = *made;
    cuts.left->take(*head);
  }
  dirty_log* const tail = logs_.first_overlap({range.last, range.last});
  if (tail != nullptr && tail->range.last > range.last) {
    const result<dirty_log*> made = new_log({range.last + 1, tail->range.last});
    if (!made) {
      abandon(cuts);
      return fail(made.error());
    }
    cuts.right = *made;
    cuts.right->take(*tail);
  }
  return cuts;
}
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::abandon(log_cuts cuts) noexcept {
  if (cuts.left != nullptr) dirty_log::destroy(cuts.left, memory_);
  if (cuts.right != nullptr) dirty_log::destroy(cuts.right, memory_);
}

/// After an unmap of the range: drops the logs of mappings that are gone.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::forget_logs(iova_range range,
                                                            log_cuts cuts) noexcept {
  for (dirty_log* log = logs_.first_overlap(range); log != nullptr;) {
    dirty_log* const next = logs_.next_overlap(*log, range);
    const auto there = table_->find(log->range.first);
    if (!there || there->where != log->range) drop_log(log);
    log = next;
  }
  if (cuts.left != nullptr) add_log(cuts.left);
  if (cuts.right != nullptr) add_log(cuts.right);
}

/// Adds to a log what is dirty and was not noted at once.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::collect(dirty_log& log) {
  if (untracked_groups_ == 0 || first_domain_ == nullptr) return;
  if (!in_hardware_) return log.set_all();
  for (domain_record* d = first_domain_; d != nullptr; d = d->next) {
    const result<void> told =
        table_->read_dirty(*d->domain, log.range, dirty_read::clear, [&](iova_range part) {
          if (const auto own = part.intersection(log.range)) log.set(*own);
        });
    if (!told) return log.set_all();
  }
}

/// What is pinned may be written at any time.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::note_pinned(dirty_log& log) {
  iova_range rest = log.range;
  while (const auto part = table_->first_pinned(rest)) {
    log.set(*part);
    if (part->last == rest.last) return;
    rest.first = part->last + 1;
  }
}

/// Switches the domains' own tracking; where one has none, none is asked.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::track_in_hardware(bool on) noexcept {
  bool all = on && options_.reads_dirty_bits;
  for (domain_record* d = first_domain_; all && d != nullptr; d = d->next)
    all = table_->set_dirty_tracking(*d->domain, true).has_value();
  if (!all) {
    for (domain_record* d = first_domain_; d != nullptr; d = d->next)
      static_cast<void>(table_->set_dirty_tracking(*d->domain, false));
  }
  in_hardware_ = all;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::track_dirty_pages(bool on) {
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return ok;
  if (is_v1()) return fail(errc::permission_denied);
  if (on == tracking_) return {};
  if (!on) {
    track_in_hardware(false);
    drop_logs();
    tracking_ = false;
    return {};
  }
  result<void> done{};
  table_->for_each_area([&](const area_info& a) {
    if (!done) return;
    const result<dirty_log*> log = new_log(a.where);
    if (log) {
      add_log(*log);
    } else {
      done = fail(log.error());
    }
  });
  if (!done) {
    drop_logs();
    return done;
  }
  for (dirty_log* log = logs_.first(); log != nullptr; log = logs_.next(*log)) note_pinned(*log);
  track_in_hardware(true);
  tracking_ = true;
  return {};
}

/// A group left. If it could write anywhere, it may have.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
void native_container<Pinner, Domain, Profile>::lose_untracked(const member& m) noexcept {
  if (m.pins_only) return;
  --untracked_groups_;
  for (dirty_log* log = logs_.first(); log != nullptr; log = logs_.next(*log)) log->set_all();
}

/// What type1 asks of a caller's bitmap for so many bytes of IOVA, before it looks at anything else.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::check_bitmap(
    std::uint64_t size_bytes, const abi::bitmap& bits) const {
  if (!copy_.contains({bits.data}, bits.size) || bits.page_size == 0)
    return fail(errc::invalid_argument);
  const std::uint64_t pages = size_bytes / lowest_bit(bits.page_size);
  if (pages == 0 || bits.size == 0 || bits.size > max_bitmap_bytes ||
      bits.size < bitmap_bytes(pages))
    return fail(errc::invalid_argument);
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::read_dirty_pages(iova first,
                                                                         std::uint64_t size_bytes,
                                                                         const abi::bitmap& bits) {
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return ok;
  if (is_v1()) return fail(errc::permission_denied);
  if constexpr (Profile::level == kernel_level::linux_6_18) {
    if (size_bytes == 0) return fail(errc::invalid_argument);
    if (size_bytes - 1 > top - first.value) return fail(wrap_error());
  } else {
    // The end is one past the last byte: a range that ends at 2^64 is refused.
    if (size_bytes > top - first.value) return fail(errc::invalid_argument);
  }
  if (const result<void> ok = check_bitmap(size_bytes, bits); !ok) return ok;
  const std::uint64_t unit = granule();
  if (bits.page_size != unit || size_bytes == 0 || ((first.value | size_bytes) & (unit - 1)) != 0)
    return fail(errc::invalid_argument);
  if (!tracking_) return fail(errc::invalid_argument);
  const iova_range range = iova_range::sized(first, size_bytes);
  if (const result<void> ok = check_bisected(range); !ok) return ok;
  for (dirty_log* log = logs_.first_overlap(range); log != nullptr;
       log = logs_.next_overlap(*log, range)) {
    collect(*log);
    if (const result<void> told = log->copy_out(copy_, {bits.data}, first); !told) return told;
    log->clear();
    note_pinned(*log);
  }
  return {};
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<std::uint64_t> native_container<Pinner, Domain, Profile>::unmap_dma_with_bitmap(
    iova first, std::uint64_t size_bytes, const abi::bitmap& bits) {
  guard held(lock_);
  if (const result<void> ok = needs_type1(); !ok) return fail(ok.error());
  if (const result<void> ok = check_bitmap(size_bytes, bits); !ok) return fail(ok.error());
  const result<iova_range> range = unmap_range(0, first, size_bytes);
  if (!range) return fail(range.error());
  if (!tracking_ || bits.page_size != granule()) return fail(errc::invalid_argument);
  if constexpr (Profile::punches_holes) {
    const result<log_cuts> cuts = prepare_log_cuts(*range);
    if (!cuts) return fail(cuts.error());
    abandon(*cuts);
  } else {
    if (const result<void> ok = check_bisected(*range); !ok) return fail(ok.error());
    if (is_blind_to(*range)) return 0;
  }
  if (const result<void> ok = let_go(*range, false); !ok) return fail(ok.error());
  // One mapping after the other, as type1 does it: what a bad bitmap stops short stays.
  std::uint64_t bytes = 0;
  for (dirty_log* log = logs_.first_overlap(*range); log != nullptr;) {
    const iova_range part = *log->range.intersection(*range);
    collect(*log);
    if (const result<void> told = tell(*log, part, {bits.data}, first); !told)
      return fail(told.error());
    const result<std::uint64_t> gone = take(part, false);
    if (!gone) return gone;
    bytes += *gone;
    log = part.last == range->last ? nullptr : logs_.first_overlap({part.last + 1, range->last});
  }
  return bytes;
}

/// Copies out what a log has of `part`, which is of its mapping.
template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<void> native_container<Pinner, Domain, Profile>::tell(dirty_log& log, iova_range part,
                                                             user_address bitmap, iova base) {
  if (part == log.range) return log.copy_out(copy_, bitmap, base);
  const result<dirty_log*> own = new_log(part);
  if (!own) return fail(own.error());
  (*own)->take(log);
  const result<void> told = (*own)->copy_out(copy_, bitmap, base);
  dirty_log::destroy(*own, memory_);
  return told;
}

template <page_pinner Pinner, iommu_domain Domain, container_profile Profile>
result<uapi::answer> native_container<Pinner, Domain, Profile>::dirty_ioctl(user_address argument) {
  {
    guard held(lock_);
    if (const result<void> ok = needs_type1(); !ok) return fail(ok.error());
    if (is_v1()) return fail(errc::permission_denied);
  }
  const result<abi::dirty_bitmap> request = uapi::read_argument<abi::dirty_bitmap>(copy_, argument);
  if (!request) return fail(request.error());
  const auto answer = [](const result<void>& done) -> result<uapi::answer> {
    if (!done) return fail(done.error());
    return 0;
  };
  if (request->flags == abi::dirty_start) return answer(track_dirty_pages(true));
  if (request->flags == abi::dirty_stop) return answer(track_dirty_pages(false));
  // Unknown flags, several, or none; and a request that is too short.
  if (request->flags != abi::dirty_get_bitmap ||
      request->argsz < sizeof(abi::dirty_bitmap) + sizeof(abi::dirty_bitmap_get))
    return fail(errc::invalid_argument);
  const result<abi::dirty_bitmap_get> get = uapi::read_bytes<abi::dirty_bitmap_get>(
      copy_, uapi::behind(argument, sizeof(abi::dirty_bitmap)));
  if (!get) return fail(get.error());
  return answer(read_dirty_pages({get->iova}, get->size, get->bits));
}

}  // namespace iopt::vfio
