// tests/examples/interpose/vectors.cpp - the golden vectors, asked of libc's ioctl().
//
//   vectors FOLDER     replays each file of the folder in a process of its own
//   vectors FILE.vec   replays one, and tells the lines that differ
//
// The memory is real: an arena of 64 MiB, as tests/vectors/README.md describes it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/examples/interpose/program.hpp"
#include "tests/uapi/device_script.hpp"

namespace {

using namespace interpose_test;
using iopt::test::device_script;

device_script::account interposed() { return {locked_kb(), pinned_kb()}; }

int replay(const std::filesystem::path& file) {
  const auto script = std::make_unique<device_script>(interposed);
  if (!script->sound()) return std::fputs("no arena\n", stderr), 2;
  std::ifstream in(file);
  std::size_t number = 0, wrong = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string op = line.substr(0, std::min(line.find(" => "), line.size()));
    const std::string have =
        op.empty() || op.starts_with('#') ? line : op + " => " + script->answer(op);
    if (have == line || ++wrong > 5) continue;
    std::fprintf(stderr, "%s:%zu\n  want %s\n  have %s\n", file.filename().c_str(), number,
                 line.c_str(), have.c_str());
  }
  return number != 0 && wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fputs("usage: vectors FOLDER | FILE.vec\n", stderr), 2;
  const std::filesystem::path path(arguments[1]);
  if (locked_kb() != 0) return std::fputs("run me on libiopt_interpose.so\n", stderr), 2;
  if (!std::filesystem::is_directory(path)) return replay(path);
  int files = 0, wrong = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename();
    if (!name.ends_with(".vec")) continue;
    ++files;
    const bool limited = name.find("memlock") != std::string::npos;
    std::vector<std::string> environment{limited ? "IOPT_CAP_IPC_LOCK=0" : "IOPT_CAP_IPC_LOCK=1",
                                         "GROUP=/dev/vfio/0", "GROUP2=/dev/vfio/1"};
    if (name.starts_with("limit")) environment.push_back("IOPT_DMA_ENTRY_LIMIT=20");
    if (ended(run_self(entry.path().c_str(), environment)) != 0) ++wrong;
  }
  std::printf("%d files, %d differ\n", files, wrong);
  return files > 0 && wrong == 0 ? 0 : 1;
}
