#include "iopt/backends/mock/strictness.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/catch.hpp"

using iopt::mock::call_in_progress;
using iopt::mock::single_call;
using iopt::mock::strictness;

TEST_CASE("violations are counted on request") {
  strictness s("somebody");
  s.record_violations();
  s.violated("something is wrong", 16, 31);
  CHECK(s.violations() == 1);
  CHECK(s.last_violation() == "somebody: something is wrong [0x10, 0x1f]");
  s.forget_violations();
  CHECK(s.violations() == 0);
  CHECK(s.last_violation().empty());
}

TEST_CASE("a violation ends the program otherwise") {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    std::fclose(stderr);
    strictness("somebody").violated("something is wrong");
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("a call inside a call is a violation") {
  strictness s("somebody");
  s.record_violations();
  call_in_progress busy;
  {
    const single_call one(s, busy);
    CHECK(s.violations() == 0);
    const single_call two(s, busy);
    CHECK(s.violations() == 1);
  }
  CHECK_FALSE(busy.is_set());
  const single_call three(s, busy);
  CHECK(s.violations() == 1);
}
