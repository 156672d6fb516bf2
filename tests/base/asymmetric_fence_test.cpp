// tests/base/asymmetric_fence_test.cpp - two threads that store and then load: one sees the other.
#include "iopt/base/asymmetric_fence.hpp"

#include <atomic>
#include <thread>

#include "tests/catch.hpp"

namespace {

using iopt::asymmetric_fence;
using iopt::fence_kind;

TEST_CASE("of two threads that store and load around a fence, one sees the other's store") {
  for (const fence_kind kind : {fence_kind::symmetric, fence_kind::asymmetric}) {
    const asymmetric_fence fence(kind);
    std::atomic<int> a{0}, b{0}, ready{0}, done{0};
    int seen_by_light = 0, seen_by_heavy = 0, missed = 0;
    constexpr int rounds = 3000;
    std::thread light([&] {
      for (int n = 1; n <= rounds; ++n) {
        while (ready.load(std::memory_order_acquire) != n) {
        }
        a.store(n, std::memory_order_relaxed);
        fence.light();
        seen_by_light = b.load(std::memory_order_relaxed);
        done.store(n, std::memory_order_release);
      }
    });
    for (int n = 1; n <= rounds; ++n) {
      ready.store(n, std::memory_order_release);
      b.store(n, std::memory_order_relaxed);
      fence.heavy();
      seen_by_heavy = a.load(std::memory_order_relaxed);
      while (done.load(std::memory_order_acquire) != n) {
      }
      missed += seen_by_heavy != n && seen_by_light != n ? 1 : 0;
    }
    light.join();
    CHECK(missed == 0);
  }
}

TEST_CASE("a symmetric fence is symmetric, and an asymmetric one where the system can") {
  CHECK_FALSE(asymmetric_fence(fence_kind::symmetric).is_asymmetric());
  const asymmetric_fence first, second;
  CHECK(first.is_asymmetric() == second.is_asymmetric());
}

}  // namespace
