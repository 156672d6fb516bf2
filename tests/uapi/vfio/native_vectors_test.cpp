// tests/uapi/vfio/native_vectors_test.cpp - the container answers as a real Linux 6.12.117 did.
//
// tests/vectors/native/*.vec are scripts of VFIO ioctls with the answers that the type1 driver gave.
#include <memory>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vectors.hpp"
#include "tests/uapi/vfio/native_script.hpp"

using namespace iopt;

namespace {

template <class Script>
void replay_all(mock::pinner_options memory = {}) {
  const std::size_t lines = test::replay_vectors(
      IOPT_TEST_VECTORS "/native",
      [&](const auto& kind) { return std::make_unique<Script>(kind, memory); });
  CHECK(lines >= 15000);
}

}  // namespace

TEST_CASE("every line of the native vectors is answered as the kernel did", "[vectors]") {
  replay_all<test::native_script<>>();
}

TEST_CASE("the answers do not depend on how contiguous the memory is", "[vectors]") {
  replay_all<test::native_script<>>({.contiguity_bytes = 4 * kibibyte});
}

TEST_CASE("the answers are the same with locks", "[vectors]") {
  replay_all<test::native_script<multi_threaded>>();
}
