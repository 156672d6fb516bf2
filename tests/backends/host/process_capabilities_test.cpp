// tests/backends/host/process_capabilities_test.cpp - what this process may do.
#include "iopt/backends/host/process_capabilities.hpp"

#include <fstream>
#include <string>

#include "tests/catch.hpp"

namespace {

using namespace iopt;
using host::process_capabilities;

TEST_CASE("process_capabilities: those in force, as /proc tells them") {
  std::ifstream status("/proc/thread-self/status");
  std::uint64_t in_force = 0;
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("CapEff:")) in_force = std::stoull(line.substr(7), nullptr, 16);
  const process_capabilities caller;
  CHECK(caller.has(capability::lock_memory) == ((in_force >> 14 & 1) != 0));
  CHECK(caller.has(capability::raw_io) == ((in_force >> 17 & 1) != 0));
  CHECK(caller.has(capability::resources) == ((in_force >> 24 & 1) != 0));
}

TEST_CASE("process_capabilities: what is said goes") {
  CHECK(process_capabilities{true}.has(capability::lock_memory));
  CHECK_FALSE(process_capabilities{false}.has(capability::lock_memory));
  CHECK(process_capabilities{false}.has(capability::raw_io) ==
        process_capabilities{}.has(capability::raw_io));
}

}  // namespace
