// examples/replay/machine.cpp - how an event of a trace becomes calls of the library.
#include "examples/replay/machine.hpp"

#include <algorithm>

namespace replay {

namespace {

std::string told(iopt::error e) {
  std::string text(iopt::name(e.code));
  switch (e.place) {
    case iopt::error_place::unspecified: break;
    case iopt::error_place::request_byte: text += ", at its byte " + hex(e.at); break;
    case iopt::error_place::area: text += ", for the area at " + hex(e.at); break;
    case iopt::error_place::domain: text += ", from domain " + std::to_string(e.domain); break;
    case iopt::error_place::element: text += ", for element " + std::to_string(e.at); break;
  }
  return text;
}

}  // namespace

machine::machine(guest_memory& memory, const machine_options& options)
    : memory_(&memory),
      options_(options),
      pinner_(memory.machine()),
      table_(pinner_),
      times_shown_(memory.pages(), 0) {
  for (std::size_t n = 0; n != options.domains; ++n) {
    iopt::mock::domain_options kind;
    kind.page_sizes = {entry_sizes[0], entry_sizes[1], entry_sizes[2]};
    if (options.reserve_interrupts)
      kind.reserved = {{interrupt_window, iopt::reserved_region::kind::msi}};
    domains_.push_back(std::make_unique<iopt::mock::domain>(std::move(kind)));
    const iopt::result<void> attached = table_.attach(*domains_.back());
    IOPT_ASSERT(attached.has_value());
    static_cast<void>(attached);
  }
}

machine::~machine() { static_cast<void>(close()); }

std::string machine::replay(const event& e, std::size_t guest, std::uint64_t base) {
  const iopt::iova_range where{e.where.first + base, e.where.last + base};
  if (e.what == event::kind::map) {
    if (const iopt::result<void> done = map(where, guest, e.source); !done)
      return "map " + hex(where) + ": " + told(done.error());
    live_.add({where, e.source, guest, e.line, events_});
    count(live_.all().at(where.first.value), true);
  } else {
    const clock::duration busy_before = pinner_.busy();
    const clock::time_point start = clock::now();
    const iopt::unmap_report report = unmap(where);
    stats_.unmap_times.push_back(clock::now() - start);
    stats_.unmap_own_times.push_back(stats_.unmap_times.back() - (pinner_.busy() - busy_before));
    const std::string what =
        "unmap " + hex(where) + " by " + std::string(iopt::name(options_.profile));
    if (!report) return what + ": " + told(report.outcome.error());
    const std::uint64_t meant = live_.remove(where, [&](const mapping& m) { count(m, false); });
    if (report.bytes != meant)
      return what + " took " + hex(report.bytes) + " bytes, where the trace means " + hex(meant);
  }
  ++events_;
  take_stock();
  return {};
}

iopt::unmap_report machine::unmap(iopt::iova_range where) {
  const auto same = live_.all().find(where.first.value);
  const bool one_event = same != live_.all().end() && same->second.where == where;
  if (options_.profile != iopt::unmap_profile::exact || !one_event)
    return table_.unmap(where.first, where.length(), options_.profile);
  // Where part of the memory was shown already, one event made several areas; `exact` is asked for
  // each of them.
  iopt::unmap_report sum;
  for (iopt::iova next = where.first;;) {
    const std::optional<iopt::area_info> area = table_.find(next);
    if (!area) return sum;
    const iopt::unmap_report one =
        table_.unmap(area->where.first, area->where.length(), iopt::unmap_profile::exact);
    sum.bytes += one.bytes;
    sum.areas += one.areas;
    sum.outcome = one.outcome;
    if (!one || area->where.last >= where.last) return sum;
    next = area->where.last + 1;
  }
}

iopt::result<void> machine::map(iopt::iova_range where, std::size_t guest, std::uint64_t source) {
  const std::uint64_t pinned_before = pinner_.pages_ever_pinned();
  const iopt::user_address from = memory_->user_at(guest, source);
  const clock::duration busy_before = pinner_.busy();
  const clock::time_point start = clock::now();
  const iopt::result<void> done = show(where, from);
  stats_.map_times.push_back(clock::now() - start);
  stats_.map_own_times.push_back(stats_.map_times.back() - (pinner_.busy() - busy_before));
  if (!done) return done;
  const std::uint64_t pages = where.length() / page_bytes;
  const std::uint64_t pinned = pinner_.pages_ever_pinned() - pinned_before;
  stats_.reused_pages += pages - std::min(pages, pinned);
  stats_.second_domain_pages += pages * (domains_.size() - 1);
  return {};
}

/// Shows user memory at a range of IOVAs, all of it or nothing: by copy() where the table shows it
/// elsewhere, by map() where it does not.
iopt::result<void> machine::show(iopt::iova_range where, iopt::user_address from) {
  constexpr iopt::access_rights rights = iopt::access_rights::read_write;
  const iopt::user_range wanted{from, from + where.length_minus_one()};
  views_.clear();
  table_.for_each_view(pinner_.current(), wanted,
                       [&](iopt::iova_range at, iopt::user_address shown) {
                         views_.push_back({{shown, shown + at.length_minus_one()}, at.first});
                       });
  std::sort(views_.begin(), views_.end(),
            [](const view& a, const view& b) { return a.shown.first < b.shown.first; });

  iopt::user_address next = from;
  for (std::size_t n = 0;;) {
    // The view that goes on the longest from here, if there is one.
    const view* best = nullptr;
    for (; n != views_.size() && views_[n].shown.first <= next; ++n) {
      if (views_[n].shown.last >= next &&
          (best == nullptr || views_[n].shown.last > best->shown.last))
        best = &views_[n];
    }
    const iopt::user_address last =
        best != nullptr ? best->shown.last
                        : (n == views_.size() ? wanted.last : views_[n].shown.first - 1);
    const iopt::iova at = where.first + (next - from);
    const std::uint64_t bytes = last - next + 1;
    const iopt::result<iopt::iova> done =
        best != nullptr
            ? table_.copy(table_,
                          iopt::iova_range::sized(best->at + (next - best->shown.first), bytes),
                          rights, at)
            : table_.map(next, bytes, rights, at);
    if (!done) {
      if (next != from)
        static_cast<void>(table_.unmap(where.first, next - from, iopt::unmap_profile::iommufd));
      return iopt::fail(done.error());
    }
    if (last == wanted.last) return {};
    next = last + 1;
  }
}

/// Keeps account of pages that a mapping begins, or ceases, to show.
void machine::count(const mapping& m, bool mapped) {
  const std::uint64_t first = memory_->page_at(m.guest, m.source);
  const std::uint64_t end = first + m.where.length() / page_bytes;
  std::uint64_t changed = 0;
  for (std::uint64_t page = first; page != end; ++page) {
    changed += mapped ? times_shown_[page]++ == 0 : --times_shown_[page] == 0;
  }
  shown_pages_.is(mapped ? shown_pages_.now + changed : shown_pages_.now - changed);
  if (!mapped) lifetimes_.push_back({m.where, m.source, m.event, events_});
}

void machine::take_stock() {
  stats_.mappings.is(live_.size());
  stats_.areas.is(table_.area_count());
  stats_.bytes.is(live_.bytes());
  stats_.pages.is(shown_pages_.now);
  stats_.pages_shown_again.is(live_.bytes() / page_bytes - shown_pages_.now);
  for (std::size_t n = 0; n != 3; ++n) stats_.entries[n].is(domains_[0]->entries(entry_sizes[n]));
}

std::string machine::plug_in_again() {
  iopt::mock::domain& late = *domains_.back();
  if (!table_.detach(late)) return "a domain came back short when it was detached";
  if (late.bytes_mapped() != 0) return "a domain that was detached is not empty";
  const std::uint64_t pins_before = pinner_.pages_ever_pinned();
  const std::uint64_t calls_before = late.calls().writes();
  const clock::time_point start = clock::now();
  const iopt::result<void> attached = table_.attach(late);
  stats_.plug_in_time = clock::now() - start;
  if (!attached) return "attaching a domain again: " + told(attached.error());
  stats_.plug_in_pages = live_.bytes() / page_bytes;
  stats_.plug_in_pins = pinner_.pages_ever_pinned() - pins_before;
  stats_.plug_in_calls = late.calls().writes() - calls_before;
  return {};
}

std::string machine::close() {
  live_.remove(iopt::iova_range::whole(), [&](const mapping& m) { count(m, false); });
  std::string fault;
  const auto found = [&](const std::string& what) {
    if (fault.empty()) fault = what;
  };
  const iopt::unmap_report report = table_.unmap_all();
  if (!report) found("unmapping everything: " + told(report.outcome.error()));
  if (table_.area_count() != 0)
    found("after everything was unmapped " + std::to_string(table_.area_count()) +
          " areas are left");
  for (const auto& domain : domains_) {
    if (domain->bytes_mapped() != 0)
      found("after everything was unmapped a domain maps " + hex(domain->bytes_mapped()) +
            " bytes");
  }
  while (table_.domain_count() != 0)
    if (!table_.detach(table_.domain(table_.domain_count() - 1))) found("a domain came back short");
  if (pinner_.pinned_pages() != 0)
    found("leaked pins: " + std::to_string(pinner_.pinned_pages()) + " pages are still pinned");
  if (pinner_.charged() != 0)
    found("leaked charge: " + std::to_string(pinner_.charged()) + " pages are still charged");
  return fault;
}

}  // namespace replay
