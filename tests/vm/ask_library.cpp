// tests/vm/ask_library.cpp - scripts of ioctls, answered by the library.
//
//   ask_library draw SEED LINES NATIVE IOMMUFD   scripts of every kind, of LINES lines in all: those for
//                                                VFIO's container to the one folder, for an iommufd to the other
//   ask_library answer FILE                      what is answered to a file of tests/vectors' form,
//                                                whose name says its kind; to the standard output
//
// Fails when what the library holds is not sound after a line.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include "tests/uapi/iommufd/context_script.hpp"
#include "tests/uapi/vfio/native_script.hpp"
#include "tests/vm/script_drawing.hpp"

namespace {

using namespace iopt::test;

constexpr std::size_t script_lines = 400;

/// Answers lines as the scripts of tests/vectors are, and says when all is not sound after one.
template <class Script>
struct listener {
  Script& script;
  std::ostream& out;
  bool sound = true;

  std::string operator()(const std::string& line) {
    const std::string answer = script.answer(line);
    out << line << " => " << answer << '\n';
    if (const std::string_view fault = script.verify(); sound && !fault.empty()) {
      std::cerr << "after `" << line << "`: " << fault << '\n';
      sound = false;
    }
    return answer;
  }
};

template <class Script>
bool draw(std::string_view kind, std::uint64_t seed, const std::string& folder, Script script) {
  std::ofstream out(folder + "/" + std::string(kind) + "-" + std::to_string(seed) + ".vec");
  listener<typename Script::element_type> answers{*script, out};
  script_drawing(kind, seed, std::ref(answers)).draw(script_lines);
  if (!answers.sound) std::cerr << "  in " << kind << "-" << seed << '\n';
  return out.flush() && answers.sound;
}

bool draw_all(std::uint64_t seed, std::size_t lines, const std::string& native,
              const std::string& iommufd) {
  bool sound = true;
  const std::size_t kinds = native_kinds.size() + iommufd_kinds.size();
  for (std::size_t n = 0; n * script_lines < lines; ++n) {
    const std::size_t kind = n % kinds;
    const std::uint64_t own = seed + n / kinds;
    if (kind < native_kinds.size()) {
      const std::string_view name = native_kinds[kind];
      sound &= draw(name, own, native, std::make_unique<native_script<>>(name));
    } else {
      const std::string_view name = iommufd_kinds[kind - native_kinds.size()];
      sound &= draw(name, own, iommufd, std::make_unique<context_script<>>());
    }
  }
  return sound;
}

template <class Script>
bool answer_all(std::istream& in, Script script) {
  listener<typename Script::element_type> answers{*script, std::cout};
  for (std::string line; std::getline(in, line);)
    answers(line.substr(0, std::min(line.find(" => "), line.size())));
  return answers.sound;
}

bool answer_file(const std::string& file) {
  std::ifstream in(file);
  std::string first;
  if (!std::getline(in, first)) return std::cerr << file << ": nothing to answer\n", false;
  in.seekg(0);
  const std::string_view kind = std::string_view(file).substr(file.rfind('/') + 1);
  if (first.starts_with("iommufd")) return answer_all(in, std::make_unique<context_script<>>());
  return answer_all(in, std::make_unique<native_script<>>(kind));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc < 2 ? "" : argv[1];
  if (command == "draw" && argc == 6)
    return draw_all(std::strtoull(argv[2], nullptr, 0), std::strtoull(argv[3], nullptr, 0), argv[4],
                    argv[5])
               ? 0
               : 1;
  if (command == "answer" && argc == 3) return answer_file(argv[2]) ? 0 : 1;
  std::cerr << "ask_library draw SEED LINES NATIVE IOMMUFD | answer FILE\n";
  return 2;
}
