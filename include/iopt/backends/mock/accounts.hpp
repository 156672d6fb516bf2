// iopt/backends/mock/accounts.hpp - who may have how many pages pinned.
//
// Layer: backends/mock. Includes: policy/account.hpp, the standard library.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "iopt/policy/account.hpp"

namespace iopt::mock {

/// accounts: the counters of every process, user and tenant.
///
/// Model       Mode none: one counter a process, without a limit at first, as all are. Mode user:
///             one a user. Modes mm and both of type1: one a process, the kernel's locked_vm; of
///             these, type1_unlimited does not look at its limit. Mode custom: one for all. And for
///             each process the sum of what was charged in its name but in type1's modes, the
///             kernel's pinned_vm.
/// Invariants  The sums of all processes together are total().
/// Errors      charge() answers false over the limit, uncharge() where there is not so much.
/// Threads     Thread-compatible.
/// Tested by   tests/backends/mock/pinner_test.cpp
class accounts {
 public:
  struct account {
    std::uint64_t pages = 0;
    std::uint64_t limit_pages = ~std::uint64_t{0};
  };

  void add_process() { processes_.emplace_back(); }
  void set_user(std::uint32_t process, std::uint32_t user) { processes_.at(process).user = user; }

  account& of(std::uint32_t process, account_mode mode) {
    switch (mode) {
      case account_mode::user: return users_[processes_.at(process).user];
      case account_mode::mm:
      case account_mode::type1:
      case account_mode::type1_unlimited: return processes_.at(process).mm;
      case account_mode::custom: return custom_;
      case account_mode::none: break;
    }
    return processes_.at(process).unlimited;
  }
  std::uint64_t pinned_vm(std::uint32_t process) const { return processes_.at(process).pinned; }
  std::uint64_t total() const noexcept { return total_; }

  bool charge(std::uint32_t process, account_mode mode, std::uint64_t pages) {
    account& a = of(process, mode);
    const bool limited = mode != account_mode::type1_unlimited;
    if (limited && (pages > a.limit_pages || a.pages > a.limit_pages - pages)) return false;
    entry& p = processes_.at(process);
    a.pages += pages;
    (charges_while_pinning(mode) ? p.type1 : p.pinned) += pages;
    total_ += pages;
    return true;
  }
  bool uncharge(std::uint32_t process, account_mode mode, std::uint64_t pages) {
    account& a = of(process, mode);
    entry& p = processes_.at(process);
    std::uint64_t& counted = charges_while_pinning(mode) ? p.type1 : p.pinned;
    if (pages > a.pages || pages > counted) return false;
    a.pages -= pages;
    counted -= pages;
    total_ -= pages;
    return true;
  }

  std::string_view verify() const {
    std::uint64_t sum = 0;
    for (const entry& p : processes_) sum += p.pinned + p.type1;
    return sum == total_ ? "" : "charges of all processes";
  }

 private:
  struct entry {
    std::uint32_t user = 0;
    std::uint64_t pinned = 0;  // pages; charged in the modes of iommufd
    std::uint64_t type1 = 0;   // pages; charged in the modes of type1
    account unlimited;
    account mm;
  };
  std::vector<entry> processes_;
  std::map<std::uint32_t, account> users_;
  account custom_;
  std::uint64_t total_ = 0;
};

}  // namespace iopt::mock
