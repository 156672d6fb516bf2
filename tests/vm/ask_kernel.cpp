// tests/vm/ask_kernel.cpp - runs scripts of ioctls on the kernel's own devices.
//
//   ask_kernel FOLDER SCRIPT...
//
// Writes to FOLDER, under each script's own name, its lines with what the kernel answered: a file as
// those of tests/vectors. What stands behind ` => ` in a script is left out of account, so that it may be such
// a file. Every script has a process of its own; one whose name begins with `limit` may hold 20 mappings.
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "tests/uapi/device_script.hpp"

namespace {

bool limit_mappings(unsigned most) {
  std::ofstream out("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit");
  return static_cast<bool>(out << most << std::flush);
}

int ask(const std::string& from, const std::string& to) {
  std::ifstream in(from);
  std::ofstream out(to);
  const auto script = std::make_unique<iopt::test::device_script>();
  if (!in || !out || !script->sound())
    return std::fprintf(stderr, "%s: cannot be run\n", from.c_str()), 1;
  // Line by line, so that one that the kernel does not come back from is the one after the last.
  for (std::string line; std::getline(in, line);) {
    line.resize(std::min(line.find(" => "), line.size()));
    out << line << " => " << script->answer(line) << std::endl;
  }
  return out ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("ask_kernel FOLDER SCRIPT...\n", stderr), 2;
  const std::string folder = argv[1];
  for (int n = 2; n < argc; ++n) {
    const std::string from = argv[n];
    const std::string name = from.substr(from.rfind('/') + 1);
    if (!limit_mappings(name.starts_with("limit") ? 20 : 65535))
      return std::fputs("cannot set type1's dma_entry_limit\n", stderr), 1;
    const pid_t child = fork();
    if (child == 0) _exit(ask(from, folder + "/" + name));
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
      return std::fprintf(stderr, "%s: ended with %d\n", from.c_str(), status), 1;
  }
  return 0;
}
