// tests/containers/word_arrays.hpp - arrays of words as nodes have them, and words to fill them with.
#pragma once

#include <array>
#include <cstdint>
#include <random>

#include "iopt/base/address.hpp"

namespace iopt::test {

using random_bits = std::mt19937_64;

/// A word that lies near 0, near the middle, near all-ones or anywhere.
template <class Word = std::uint64_t>
Word draw(random_bits& random) {
  const Word small = static_cast<Word>(random() % 64);
  switch (random() % 4) {
    case 0: return small;
    case 1: return static_cast<Word>(top) - small;
    case 2: return (Word{1} << (8 * sizeof(Word) - 1)) + small - 32;
    default: return static_cast<Word>(random());
  }
}

template <class Word, unsigned N>
struct alignas(64) array_of {
  std::array<Word, N> word{};
};
using words = array_of<std::uint64_t, 32>;
using values = array_of<std::uint64_t, 48>;
using keys = array_of<std::uint32_t, 48>;

}  // namespace iopt::test
