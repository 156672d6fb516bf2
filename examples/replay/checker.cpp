// examples/replay/checker.cpp - whether devices see what they should, after an event.
#include "examples/replay/checker.hpp"

#include <array>
#include <cstring>

namespace replay {

namespace {

std::string in_domain(std::size_t n) { return "domain " + std::to_string(n) + ": "; }

}  // namespace

bool checker::shows_tag(std::uint64_t frame, std::uint64_t page) const noexcept {
  std::uint64_t tag;
  std::memcpy(&tag, view_ + frame + tag_offset(page), sizeof tag);
  return tag == tag_of(page);
}

/// Every page of one mapping, as one domain translates it.
std::string checker::mapping_shows(const mapping& m, std::size_t n) {
  const iopt::mock::domain& domain = machine_->domain(n);
  const std::uint64_t machine_bytes = machine_->memory().machine().size_bytes();
  std::uint64_t page = machine_->memory().page_at(m.guest, m.source);
  std::array<iopt::run, 256> storage;
  for (iopt::iova next = m.where.first;;) {
    iopt::run_list runs(storage);
    const std::uint64_t told = domain.translate_range({next, m.where.last}, runs);
    if (told == 0) return in_domain(n) + hex(next.value) + " translates to nothing";
    for (const iopt::run r : runs) {
      const std::uint64_t first = r.first.value;
      if (first > machine_bytes || r.length_bytes > machine_bytes - first)
        return in_domain(n) + hex(next.value) + " translates to " + hex(first) +
               ", where the machine has no memory";
      const std::uint64_t end = first + r.length_bytes;
      for (std::uint64_t frame = first; frame != end; frame += page_bytes, ++page) {
        if (!shows_tag(frame, page))
          return in_domain(n) + hex(next.value + (frame - first)) + " translates to " + hex(frame) +
                 ", where a device finds another page";
      }
      tags_read_ += r.length_bytes / page_bytes;
      if (n == 0) {
        for (std::uint64_t frame = first; frame != end; frame += page_bytes) {
          const std::uint64_t pins = machine_->pinner().pins({frame});
          if (pins != 1)
            return "the frame " + hex(frame) + ", shown at " + hex(next.value + (frame - first)) +
                   ", is pinned " + std::to_string(pins) + " times";
        }
        pins_read_ += r.length_bytes / page_bytes;
      }
      if (m.where.last - next == r.length_bytes - 1) return {};
      next += r.length_bytes;
    }
  }
}

std::string checker::everything() {
  ++checks_;
  for (std::size_t n = 0; n != machine_->domain_count(); ++n) {
    for (const auto& [first, m] : machine_->live().all()) {
      if (std::string fault = mapping_shows(m, n); !fault.empty()) return fault;
    }
    if (machine_->domain(n).bytes_mapped() != machine_->live().bytes())
      return in_domain(n) + hex(machine_->domain(n).bytes_mapped()) +
             " bytes are mapped, where the trace has " + hex(machine_->live().bytes());
  }
  const std::uint64_t shown = machine_->shown_pages();
  if (machine_->pinner().pinned_pages() != shown || machine_->pinner().pinned_frames() != shown)
    return std::to_string(machine_->pinner().pinned_pages()) + " pins on " +
           std::to_string(machine_->pinner().pinned_frames()) + " frames, where " +
           std::to_string(shown) + " pages are shown";
  if (const std::string_view fault = machine_->table().verify(); !fault.empty())
    return "the table does not hold: " + std::string(fault);
  return {};
}

std::string checker::touched(iopt::iova_range where, bool mapped) {
  for (std::size_t n = 0; n != machine_->domain_count(); ++n) {
    const iopt::mock::domain& domain = machine_->domain(n);
    const mapping* m = mapped ? machine_->live().overlap(where) : nullptr;
    for (std::uint64_t offset = 0; offset <= where.length_minus_one(); offset += page_bytes) {
      const iopt::iova at = where.first + offset;
      const std::optional<iopt::physical> frame = domain.translate(at);
      if (!mapped && frame)
        return in_domain(n) + hex(at.value) + ", just unmapped, still translates to " +
               hex(frame->value);
      if (!mapped) continue;
      if (!frame) return in_domain(n) + hex(at.value) + ", just mapped, translates to nothing";
      const std::uint64_t page =
          machine_->memory().page_at(m->guest, m->source) + offset / page_bytes;
      if (!shows_tag(frame->value, page))
        return in_domain(n) + hex(at.value) + ", just mapped, translates to " + hex(frame->value) +
               ", where a device finds another page";
    }
  }
  return {};
}

std::string checker::after(const event& e, std::uint64_t base) {
  std::string fault =
      touched({e.where.first + base, e.where.last + base}, e.what == event::kind::map);
  return fault.empty() ? everything() : fault;
}

}  // namespace replay
