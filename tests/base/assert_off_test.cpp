#define IOPT_ASSERTIONS 0
#include "iopt/base/assert.hpp"
#include "tests/catch.hpp"

// With assertions off the condition must still compile, and is not evaluated.
TEST_CASE("an assertion that is off evaluates nothing") {
  int evaluated = 0;
  IOPT_ASSERT(++evaluated > 1000);
  CHECK(evaluated == 0);
}
