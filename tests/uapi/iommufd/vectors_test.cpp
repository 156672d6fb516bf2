// tests/uapi/iommufd/vectors_test.cpp - a context answers as a real Linux 6.12.117 did.
//
// tests/vectors/*.vec are scripts of ioctls with the answers that iommufd gave. Every line is
// compared, with the memory locked and pinned after it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "iopt/core/multi_threaded.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_script.hpp"

#ifndef IOPT_TEST_VECTORS  // set by CMake; this is for a build by hand, run in the root
#define IOPT_TEST_VECTORS "tests/vectors"
#endif

using namespace iopt;

namespace {

/// The vectors by kind: the file's name up to its number.
std::map<std::string, std::vector<std::filesystem::path>> vectors() {
  std::map<std::string, std::vector<std::filesystem::path>> kinds;
  for (const auto& entry : std::filesystem::directory_iterator(IOPT_TEST_VECTORS)) {
    if (entry.path().extension() != ".vec") continue;
    const std::string name = entry.path().stem().string();
    kinds[name.substr(0, name.rfind('-'))].push_back(entry.path());
  }
  for (auto& [kind, files] : kinds) std::sort(files.begin(), files.end());
  return kinds;
}

struct tally {
  std::size_t lines = 0;
  std::size_t same = 0;
  std::string differences;  // the first few
};

template <class Script>
void replay(const std::filesystem::path& file, mock::pinner_options memory, tally& sum) {
  const auto script = std::make_unique<Script>(memory);
  std::ifstream in(file);
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    ++sum.lines;
    const std::size_t arrow = std::min(line.find(" => "), line.size());
    const std::string have = line.substr(0, arrow) + " => " + script->answer(line.substr(0, arrow));
    const std::string_view fault = script->verify();
    if (have == line && fault.empty()) {
      ++sum.same;
    } else if (sum.lines - sum.same <= 5) {
      sum.differences += file.filename().string() + ":" + std::to_string(number) + "\n  want " +
                         line + "\n  have " + have + "\n" + std::string(fault);
    }
    if (!fault.empty()) return;
  }
}

template <class Script>
void replay_all(mock::pinner_options memory = {}) {
  std::size_t lines = 0;
  for (const auto& [kind, files] : vectors()) {
    tally sum;
    for (const auto& file : files) replay<Script>(file, memory, sum);
    INFO(kind << ":\n" << sum.differences);
    CHECK(sum.same == sum.lines);
    lines += sum.lines;
  }
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
