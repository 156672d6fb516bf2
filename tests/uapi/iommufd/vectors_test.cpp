// tests/uapi/iommufd/vectors_test.cpp - a context answers as a real Linux 6.12.117 did.
//
// tests/vectors/*.vec are scripts of ioctls with the answers that iommufd gave. Every line is
// compared, with the memory locked and pinned after it.
#include <memory>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_script.hpp"
#include "tests/uapi/vectors.hpp"

using namespace iopt;

namespace {

template <class Script>
void replay_all(mock::pinner_options memory = {}) {
  const std::size_t lines = test::replay_vectors(
      IOPT_TEST_VECTORS, [&](const auto&) { return std::make_unique<Script>(memory); });
  CHECK(lines >= 20000);
}

}  // namespace

TEST_CASE("every line of the vectors is answered as the kernel did", "[vectors]") {
  replay_all<test::context_script<>>();
}

TEST_CASE("the answers do not depend on how contiguous the memory is", "[vectors]") {
  replay_all<test::context_script<>>({.contiguity_bytes = 4 * kibibyte});
}

TEST_CASE("the answers do not depend on the abilities of the domain", "[vectors]") {
  replay_all<test::context_script<mock::plain<>>>();
  replay_all<test::context_script<mock::unreadable<>>>({.contiguity_bytes = 8 * kibibyte});
}

TEST_CASE("the answers are the same with locks", "[vectors]") {
  replay_all<test::context_script<mock::domain, multi_threaded>>();
}
