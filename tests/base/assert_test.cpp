// The text of a failed assertion goes where the program says.
namespace {
int failed = 0;
int line_of_failure = 0;
const char* text_of_failure = "";
void note(const char* text, int line) {
  ++failed;
  text_of_failure = text;
  line_of_failure = line;
}
}  // namespace
#define IOPT_ASSERTIONS 1
#define IOPT_ASSERT_FAIL(text, file, line) note(text, line)
#include "iopt/base/assert.hpp"

#include <string_view>

#include "tests/catch.hpp"

namespace {
constexpr int checked(int n) {
  IOPT_ASSERT(n > 0);
  return n;
}
static_assert(checked(1) == 1);  // usable in constant expressions
}  // namespace

TEST_CASE("a broken precondition is reported, a kept one is not") {
  IOPT_ASSERT(1 + 1 == 2);
  CHECK(failed == 0);
  const int here = __LINE__ + 1;
  IOPT_ASSERT(1 + 1 == 3);
  CHECK(failed == 1);
  CHECK(line_of_failure == here);
  CHECK(std::string_view(text_of_failure) == "1 + 1 == 3");
}
