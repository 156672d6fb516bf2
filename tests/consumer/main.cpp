// tests/consumer/main.cpp - a user's program, for as long as the README shows none.
#include "iopt/base/range.hpp"

int main() {
  const auto range = iopt::iova_range::from_length({iopt::top - 4095}, 4096);
  return range && range->last == iopt::iova{iopt::top} ? 0 : 1;
}
