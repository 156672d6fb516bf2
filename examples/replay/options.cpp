// examples/replay/options.cpp - the command line.
#include "examples/replay/options.hpp"

#include <charconv>
#include <string_view>

namespace replay {

namespace {

std::optional<std::size_t> number(std::string_view text, std::size_t most) {
  std::size_t value = 0;
  const auto [stop, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || stop != text.data() + text.size() || value == 0 || value > most)
    return std::nullopt;
  return value;
}

}  // namespace

options parse_options(int count, char** arguments) {
  options o;
  const auto wrong = [&](std::string why) {
    if (o.fault.empty()) o.fault = std::move(why);
  };
  bool only_files = false;
  for (int n = 1; n < count; ++n) {
    const std::string_view argument = arguments[n];
    if (only_files || !argument.starts_with('-') || argument == "-") {
      if (!o.trace.empty()) wrong("a second trace: '" + std::string(argument) + "'");
      o.trace = argument;
      continue;
    }
    // --name value or --name=value
    const std::size_t equals = argument.find('=');
    const std::string name(argument.substr(0, equals));
    const auto value = [&]() -> std::string {
      if (equals != argument.npos) return std::string(argument.substr(equals + 1));
      if (n + 1 < count) return arguments[++n];
      wrong(name + " needs a value");
      return {};
    };
    const auto counted = [&](std::size_t most) -> std::size_t {
      const std::string text = value();
      const auto parsed = number(text, most);
      if (!parsed)
        wrong(name + " needs a number from 1 to " + std::to_string(most) + ", not '" + text + "'");
      return parsed.value_or(1);
    };
    if (argument == "--") {
      only_files = true;
    } else if (argument == "--verify") {
      o.verify = true;
    } else if (argument == "--help" || argument == "-h") {
      o.help = true;
    } else if (name == "--guests") {
      o.guests = counted(4096);
    } else if (name == "--domains") {
      o.domains = counted(64);
    } else if (name == "--svg") {
      o.svg = value();
      if (o.svg.empty()) wrong("--svg needs a file");
    } else if (name == "--profile") {
      const std::string text = value();
      bool known = false;
      for (const iopt::unmap_profile profile : iopt::unmap_profiles) {
        if (iopt::name(profile) == text) o.profile = profile, known = true;
      }
      if (!known) wrong("no unmap profile is called '" + text + "'");
    } else if (name == "--blocks") {
      const std::string text = value();
      if (text == "2M") {
        o.block_bytes = 2 * iopt::mebibyte;
      } else if (text == "1G") {
        o.block_bytes = iopt::gibibyte;
      } else {
        wrong("--blocks is 2M or 1G, not '" + text + "'");
      }
    } else {
      wrong("no option is called '" + std::string(argument) + "'");
    }
  }
  if (o.trace.empty()) wrong("no trace is named");
  return o;
}

}  // namespace replay
