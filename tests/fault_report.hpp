// tests/fault_report.hpp - which failure points each call passed in a sweep, and at which it failed.
//
//   fault_report report;
//   const auto answer = report.run("map", faults, n, [&] { return table.map(...); });
//   ...
//   CHECK(report.not_fired({point::pin, point::map}) == "");
//   report.print("what was swept");
//
// IOPT_REPORT=1 in the environment of a test prints what it swept.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

#include "iopt/backends/mock/fault_injector.hpp"

namespace iopt::test {

/// fault_report: for each call, by name, and each failure point, how often it was passed, and fired.
class fault_report {
 public:
  struct counts {
    std::uint64_t passed = 0;
    std::uint64_t fired = 0;
  };
  using row = std::array<counts, mock::fault_points>;

  /// Runs `what`, which is a call of that name, with the n-th failure point that it passes failing.
  template <class F>
  auto run(std::string_view call, mock::fault_injector& faults, std::uint64_t n, F what) {
    const row before = so_far(faults);
    faults.arm(n);
    auto answer = what();
    faults.disarm();
    const row after = so_far(faults);
    row& own = rows_[std::string(call)];
    for (row* to : {&own, &sum_}) {
      for (std::size_t p = 0; p < mock::fault_points; ++p) {
        (*to)[p].passed += after[p].passed - before[p].passed;
        (*to)[p].fired += after[p].fired - before[p].fired;
      }
    }
    return answer;
  }

  std::size_t calls() const { return rows_.size(); }
  bool knows(std::string_view call) const { return rows_.contains(std::string(call)); }
  /// Over all points, of one call.
  counts of(std::string_view call) const {
    counts all;
    const auto at = rows_.find(std::string(call));
    if (at == rows_.end()) return all;
    for (const counts& c : at->second) all.passed += c.passed, all.fired += c.fired;
    return all;
  }
  /// The points among these that no call failed at.
  std::string not_fired(std::initializer_list<mock::fault_point> points) const {
    std::string names;
    for (const mock::fault_point p : points)
      if (sum_[static_cast<std::size_t>(p)].fired == 0) names += std::string(name(p)) + " ";
    return names;
  }

  /// A line for each call: the points that it passed, and how often of how often they failed.
  void print(const char* title) const {
    if (std::getenv("IOPT_REPORT") == nullptr) return;
    std::printf("\n%s: failed/passed at each failure point\n", title);
    for (const auto& [call, points] : rows_) print_row(call.c_str(), points);
    print_row("all", sum_);
  }

 private:
  static row so_far(const mock::fault_injector& faults) {
    row r;
    for (std::size_t p = 0; p < mock::fault_points; ++p) {
      const auto point = static_cast<mock::fault_point>(p);
      r[p] = {faults.passed(point), faults.failed(point)};
    }
    return r;
  }
  static void print_row(const char* call, const row& points) {
    std::string text;
    for (std::size_t p = 0; p < mock::fault_points; ++p) {
      if (points[p].passed == 0) continue;
      text += text.empty() ? "" : ", ";
      text += std::string(name(static_cast<mock::fault_point>(p))) + " " +
              std::to_string(points[p].fired) + "/" + std::to_string(points[p].passed);
    }
    std::printf("  %-40s %s\n", call, text.empty() ? "-" : text.c_str());
  }

  std::map<std::string, row> rows_;
  row sum_{};
};

}  // namespace iopt::test
