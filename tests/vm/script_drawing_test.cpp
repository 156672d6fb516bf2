// tests/vm/script_drawing_test.cpp - scripts drawn at random are repeatable, go deep, and leave the library sound.
#include "tests/vm/script_drawing.hpp"

#include <memory>
#include <string>
#include <string_view>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_script.hpp"
#include "tests/uapi/vfio/native_script.hpp"

using namespace iopt;

namespace {

struct drawn {
  std::string text;
  std::size_t lines = 0;
  std::size_t worked = 0;
  std::string fault;
};

template <class Script>
drawn draw(std::string_view kind, std::uint64_t seed, Script script) {
  drawn d;
  test::script_drawing(kind, seed, [&](const std::string& line) {
    const std::string answer = script->answer(line);
    d.text += line + " => " + answer + "\n";
    ++d.lines;
    d.worked += answer.starts_with("0") ? 1 : 0;
    if (d.fault.empty() && answer.starts_with("UNKNOWN")) d.fault = answer;
    if (d.fault.empty()) d.fault = script->verify();
    return answer;
  }).draw(400);
  return d;
}

drawn draw(std::string_view kind, std::uint64_t seed) {
  for (const std::string_view native : test::native_kinds)
    if (kind == native) return draw(kind, seed, std::make_unique<test::native_script<>>(kind));
  return draw(kind, seed, std::make_unique<test::context_script<>>());
}

template <class Kinds>
void check(const Kinds& kinds) {
  for (const std::string_view kind : kinds)
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      CAPTURE(kind, seed);
      const drawn d = draw(kind, seed);
      CHECK(d.fault == "");
      CHECK(d.lines >= 400);
      CHECK(d.worked >= 20);
    }
}

}  // namespace

TEST_CASE("scripts of every kind leave a container sound, and go somewhere", "[drawing]") {
  check(test::native_kinds);
}

TEST_CASE("scripts of every kind leave an iommufd sound, and go somewhere", "[drawing]") {
  check(test::iommufd_kinds);
}

TEST_CASE("a seed is a script", "[drawing]") {
  CHECK(draw("ioas1_edges", 7).text == draw("ioas1_edges", 7).text);
  CHECK(draw("ioas1_edges", 7).text != draw("ioas1_edges", 8).text);
}
