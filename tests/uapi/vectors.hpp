// tests/uapi/vectors.hpp - the golden vectors, and whether every line is answered as the kernel did.
//
// tests/vectors/README.md says what they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/catch.hpp"

#ifndef IOPT_TEST_VECTORS  // set by CMake; this is for a build by hand, run in the root
#define IOPT_TEST_VECTORS "tests/vectors"
#endif

namespace iopt::test {

/// The vectors of a folder by kind: the file's name up to its number.
inline std::map<std::string, std::vector<std::filesystem::path>> vectors(
    const std::string& folder) {
  std::map<std::string, std::vector<std::filesystem::path>> kinds;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".vec") continue;
    const std::string name = entry.path().stem().string();
    kinds[name.substr(0, name.rfind('-'))].push_back(entry.path());
  }
  for (auto& [kind, files] : kinds) std::sort(files.begin(), files.end());
  return kinds;
}

/// Has the script of each file, which make(kind) makes, answer every line, and checks the answers.
/// Returns how many lines there are. A file ends where its script is no longer sound.
template <class Make>
std::size_t replay_vectors(const std::string& folder, Make make) {
  std::size_t lines = 0;
  for (const auto& [kind, files] : vectors(folder)) {
    std::size_t wrong = 0;
    std::string differences;  // the first few
    for (const auto& file : files) {
      const auto script = make(kind);
      std::ifstream in(file);
      std::size_t number = 0;
      std::string_view fault;
      for (std::string line; fault.empty() && std::getline(in, line);) {
        ++number;
        const std::string asked = line.substr(0, line.find(" => "));
        const std::string have = asked + " => " + script->answer(asked);
        fault = script->verify();
        if (have == line && fault.empty()) continue;
        if (++wrong <= 5)
          differences += file.filename().string() + ":" + std::to_string(number) + "\n  want " +
                         line + "\n  have " + have + "\n" + std::string(fault);
      }
      lines += number;
    }
    INFO(kind << ":\n" << differences);
    CHECK(wrong == 0);
  }
  return lines;
}

}  // namespace iopt::test
