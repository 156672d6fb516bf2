// examples/replay/checker.hpp - whether devices see what they should, after an event.
#pragma once

#include <cstdint>
#include <string>

#include "examples/replay/machine.hpp"

namespace replay {

/// checker: holds a machine against what its events have mapped.
///
/// Checked by after(e), of everything that is live and not only of what the event touched:
///   content   Every page translates, in every domain; at the frame it translates to, the tag of the
///             page is read through the second mapping of the memory, which is what a device sees.
///   nothing   A domain maps no byte more. A range just unmapped translates, page by page, to
///   else      nothing; a range just mapped translates alike page by page and as a whole.
///   pins      The frame of every page shown is pinned once; and as many frames are pinned as there
///             are distinct pages shown: the pins are the union of the live ranges.
///   verify()  of the table, and of the domains at the end.
/// An answer is a fault in words, or empty.
class checker {
 public:
  explicit checker(machine& m) : machine_(&m), view_(m.memory().machine().device_view()) {}

  /// Everything, and the touched range page by page.
  std::string after(const event& e, std::uint64_t base);
  /// Everything.
  std::string everything();

  std::uint64_t tags_read() const noexcept { return tags_read_; }
  std::uint64_t pins_read() const noexcept { return pins_read_; }
  std::uint64_t checks() const noexcept { return checks_; }

 private:
  std::string mapping_shows(const mapping& m, std::size_t domain);
  std::string touched(iopt::iova_range where, bool mapped);
  bool shows_tag(std::uint64_t frame, std::uint64_t page) const noexcept;

  machine* machine_;
  const std::byte* view_;
  std::uint64_t tags_read_ = 0, pins_read_ = 0, checks_ = 0;
};

}  // namespace replay
