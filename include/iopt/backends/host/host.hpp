// iopt/backends/host/host.hpp - the host backend: real memory of this process in a simulated
// machine.
//
// Not part of iopt.hpp: Linux only.
//
//   host::physical_memory   the machine's frames: a memfd, and the view that a device has of it
//   host::user_memory       memory of this process on shuffled frames
//   host::pinner            the page_pinner over both
//
// and, for any memory of this process, and callers that may err:
//
//   host::process_pinner        its frames are addresses
//   host::address_pinner        likewise, and it pins nothing: for domains that are a kernel's
//   host::shared_pinner         a page of a shared object or a file has one frame, whoever shows it
//   host::process_maps          what a process has mapped where
//   host::lockable_bytes        what a container may still lock
//   host::checked_caller        a bad pointer is refused
//   host::process_capabilities  what the process may do
//
// Layer: backends. Includes: backends/host.
#pragma once

#include "iopt/backends/host/address_counter.hpp"
#include "iopt/backends/host/address_pinner.hpp"
#include "iopt/backends/host/checked_caller.hpp"
#include "iopt/backends/host/device_file.hpp"
#include "iopt/backends/host/frame_counter.hpp"
#include "iopt/backends/host/lockable_memory.hpp"
#include "iopt/backends/host/physical_memory.hpp"
#include "iopt/backends/host/pinner.hpp"
#include "iopt/backends/host/probe.hpp"
#include "iopt/backends/host/process_accounts.hpp"
#include "iopt/backends/host/process_capabilities.hpp"
#include "iopt/backends/host/process_maps.hpp"
#include "iopt/backends/host/process_pinner.hpp"
#include "iopt/backends/host/shared_pinner.hpp"
#include "iopt/backends/host/user_memory.hpp"
