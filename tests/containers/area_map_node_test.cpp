// tests/containers/area_map_node_test.cpp - the functions inside one node against plain loops.
#include "iopt/containers/area_map_node.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace {

using iopt::top;
using iopt::detail::area_map_node;
using random_bits = std::mt19937_64;

}  // namespace

TEST_CASE("entries go in, come out and are shared as in a vector", "[area_map_node]") {
  struct entry {
    std::uint64_t first, last, value;
    bool operator==(const entry&) const = default;
  };
  random_bits random(4);
  const auto entries = [](const area_map_node& n) {
    std::vector<entry> all;
    for (unsigned e = 0; e < n.count; ++e)
      all.push_back({n.plain.first[e], n.plain.last[e], n.plain.value[e]});
    for (unsigned e = n.count; e < 32; ++e)
      if (n.plain.last[e] != top) all.push_back({0, 0, 0});  // an unused word must be all-ones
    return all;
  };
  area_map_node left{}, right{};
  std::fill(std::begin(left.plain.last), std::end(left.plain.last), top);
  std::fill(std::begin(right.plain.last), std::end(right.plain.last), top);
  std::vector<entry> model_left, model_right;
  for (int step = 0; step < 40000; ++step) {
    area_map_node& n = random() % 2 ? left : right;
    std::vector<entry>& model = &n == &left ? model_left : model_right;
    const entry e{random(), random(), random()};
    if (random() % 8 == 0) {
      const unsigned total = left.count + right.count;
      const unsigned low = total > 32 ? total - 32 : 0;
      const auto keep = static_cast<unsigned>(low + random() % (std::min(total, 32u) - low + 1));
      iopt::detail::share_entries(left, right, keep);
      model_left.insert(model_left.end(), model_right.begin(), model_right.end());
      model_right.assign(model_left.begin() + keep, model_left.end());
      model_left.resize(keep);
    } else if (random() % 2 && n.count < 32) {
      const auto at = static_cast<unsigned>(random() % (n.count + 1));
      iopt::detail::insert_entry(n, at, e.first, e.last, e.value);
      model.insert(model.begin() + at, e);
    } else if (n.count != 0) {
      const auto at = static_cast<unsigned>(random() % n.count);
      iopt::detail::remove_entry(n, at);
      model.erase(model.begin() + at);
    }
    if (entries(left) != model_left || entries(right) != model_right) FAIL("step " << step);
  }
}
