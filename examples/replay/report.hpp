// examples/replay/report.hpp - the figures that the author of a VMM asks for.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "examples/replay/checker.hpp"
#include "examples/replay/machine.hpp"

namespace replay {

/// All figures of a replay. Requires: the machine is not closed yet.
std::string report(machine& m, const checker* checked, clock::duration checking);

/// "18.3 us".
std::string duration_text(clock::duration d);

}  // namespace replay
