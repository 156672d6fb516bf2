// tests/fuzz/input.hpp - bytes of a fuzzer, told as choices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace iopt::test {

/// fuzz_input: reads an input from the front; past its end everything is 0.
class fuzz_input {
 public:
  explicit fuzz_input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  template <class T = std::uint8_t>
  T take() {
    T value{};
    const std::size_t n = bytes_.size() < sizeof value ? bytes_.size() : sizeof value;
    if (n != 0) std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }
  std::uint64_t below(std::uint64_t n) { return take<std::uint16_t>() % n; }

  /// A number as ioctls get them: mostly pages and ends of ranges, now and then any.
  std::uint64_t number() {
    constexpr std::uint64_t odd[] = {0,
                                     1,
                                     0xfff,
                                     0x1000,
                                     0x1001,
                                     0x800,
                                     0x200000,
                                     0xfee00000,
                                     0xfeeff000,
                                     0x7ffffff000,
                                     0x8000000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xffffffffffff0000,
                                     0xfffffffffffff000,
                                     0xfffffffffffffffe,
                                     0xffffffffffffffff};
    const std::uint8_t how = take();
    if (how < 160) return std::uint64_t{how & 63U} * 0x1000;
    if (how < 240) return odd[how % (sizeof odd / sizeof *odd)];
    return take<std::uint64_t>();
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace iopt::test
