// tests/uapi/vfio/native_vectors_test.cpp - the container answers as a real Linux 6.12.117 did.
//
// tests/vectors/native/*.vec are scripts of VFIO ioctls with the answers that the type1 driver gave.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/vfio/native_script.hpp"

#ifndef IOPT_TEST_VECTORS  // set by CMake; this is for a build by hand, run in the root
#define IOPT_TEST_VECTORS "tests/vectors"
#endif

using namespace iopt;

namespace {

template <class Script>
void replay_all(mock::pinner_options memory = {}) {
  std::map<std::string, std::vector<std::filesystem::path>> kinds;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(IOPT_TEST_VECTORS) + "/native")) {
    const std::string name = entry.path().stem().string();
    kinds[name.substr(0, name.rfind('-'))].push_back(entry.path());
  }
  std::size_t all = 0;
  for (auto& [kind, files] : kinds) {
    std::sort(files.begin(), files.end());
    std::string differences;
    std::size_t wrong = 0;
    for (const auto& file : files) {
      const auto script = std::make_unique<Script>(kind, memory);
      std::ifstream in(file);
      std::size_t number = 0;
      for (std::string line; std::getline(in, line); ++all) {
        ++number;
        const std::size_t arrow = std::min(line.find(" => "), line.size());
        const std::string have =
            line.substr(0, arrow) + " => " + script->answer(line.substr(0, arrow));
        const std::string_view fault = script->verify();
        if (have == line && fault.empty()) continue;
        if (++wrong <= 5)
          differences += file.filename().string() + ":" + std::to_string(number) + "\n  want " +
                         line + "\n  have " + have + "\n" + std::string(fault);
        if (!fault.empty()) break;
      }
    }
    INFO(kind << ":\n" << differences);
    CHECK(wrong == 0);
  }
  CHECK(all >= 15000);
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
