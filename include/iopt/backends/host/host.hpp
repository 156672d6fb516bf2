// iopt/backends/host/host.hpp - the host backend: real memory of this process in a simulated
// machine.
//
// Not part of iopt.hpp: Linux only.
//
//   host::physical_memory   the machine's frames: a memfd, and the view that a device has of it
//   host::user_memory       memory of this process on shuffled frames
//   host::pinner            the page_pinner over both
//
// Layer: backends. Includes: backends/host.
#pragma once

#include "iopt/backends/host/frame_counter.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/pinner.hpp"
#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/user_memory.hpp"
