// A pinner of your own: seven members turn memory that you manage into frames.
//
// This one hands out a guest's memory from one flat reservation: user address x is frame x + base.
#include <cstdio>

#include "iopt/iopt.hpp"

class flat_pinner {
 public:
  struct owner {  // one process, so nothing to tell apart
    friend bool operator==(owner, owner) = default;
  };
  flat_pinner(std::uint64_t base, std::uint64_t bytes) : base_(base), bytes_(bytes) {}

  owner current() { return {}; }
  iopt::result<void> pin(const owner&, iopt::user_range where, iopt::access_rights,
                         iopt::run_list& out) {
    if (where.first.value >= bytes_) return iopt::fail(iopt::errc::bad_address);
    const std::uint64_t last = std::min(where.last.value, bytes_ - 1);
    const std::uint64_t bytes = last - where.first.value + 1;
    out.append({{base_ + where.first.value}, bytes});  // contiguous, so one run does
    pinned_ += bytes;
    return {};
  }
  void unpin(iopt::run r, bool) noexcept { pinned_ -= r.length_bytes; }
  bool reachable(const owner&) noexcept { return true; }
  iopt::result<void> charge(const owner&, iopt::account_mode, std::uint64_t pages) {
    if (charged_ + pages > 1024) return iopt::fail(iopt::errc::not_enough_memory);
    charged_ += pages;
    return {};
  }
  void uncharge(const owner&, iopt::account_mode, std::uint64_t pages) noexcept {
    charged_ -= pages;
  }

  std::uint64_t pinned_bytes() const { return pinned_; }

 private:
  std::uint64_t base_, bytes_, pinned_ = 0, charged_ = 0;
};
static_assert(iopt::page_pinner<flat_pinner>);

int main() {
  flat_pinner pinner(4 * iopt::gibibyte, 8 * iopt::mebibyte);
  iopt::mock::domain domain;
  iopt::io_pagetable<flat_pinner, iopt::mock::domain> table(pinner);
  if (!table.attach(domain)) return 1;

  const auto small = table.map({0x200000}, 2 * iopt::mebibyte, iopt::access_rights::read_write);
  if (!small || domain.translate(*small) != iopt::physical{4 * iopt::gibibyte + 0x200000}) return 1;
  const auto large = table.map({0}, 8 * iopt::mebibyte, iopt::access_rights::read_write);
  std::printf(
      "2 MiB at %#llx; 8 MiB are over the limit of 1024 pages: %s, and nothing leaked: %llu KiB "
      "pinned\n",
      static_cast<unsigned long long>(small->value), name(large.error().code).data(),
      static_cast<unsigned long long>(pinner.pinned_bytes() / 1024));
  const bool clean = !large && pinner.pinned_bytes() == 2 * iopt::mebibyte;
  return clean && table.unmap_all() && pinner.pinned_bytes() == 0 ? 0 : 1;
}
