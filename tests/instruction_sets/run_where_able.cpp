// tests/instruction_sets/run_where_able.cpp - runs a program if the processor has what it needs.
//
//   run_where_able x86-64-v4 PROGRAM      77 where it does not
//
// A program compiled for more than the processor has cannot say so itself: it may fail before main().
#include <unistd.h>

#include <cstdio>
#include <string_view>

namespace {

bool has(std::string_view set) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (set == "x86-64") return true;
  if (set == "x86-64-v2") return __builtin_cpu_supports("x86-64-v2") != 0;
  if (set == "x86-64-v3") return __builtin_cpu_supports("x86-64-v3") != 0;
  if (set == "x86-64-v4") return __builtin_cpu_supports("x86-64-v4") != 0;
#endif
  std::fprintf(stderr, "unknown here: %s\n", set.data());
  return false;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) return 2;
  if (!has(words[1])) {
    std::printf("not run: this processor has no %s\n", words[1]);
    return 77;
  }
  execv(words[2], words + 2);
  std::perror(words[2]);
  return 1;
}
