// iopt/backends/mock/mock.hpp - the mock backend: for the library's tests, and for yours.
//
//   fault_injector       fails the n-th call that may fail; failing_memory refuses allocations
//   domain               a strict I/O page table with every refinement
//   restricted_domain    the same with abilities taken away: plain, without, unreadable
//   pinner               processes, files and devices in name only, every pin and charge counted
//
// Layer: backends/mock. Includes: backends/mock, policy, base.
#pragma once

#include "iopt/backends/mock/accounts.hpp"
#include "iopt/backends/mock/contents.hpp"
#include "iopt/backends/mock/count_table.hpp"
#include "iopt/backends/mock/domain.hpp"
#include "iopt/backends/mock/domain_options.hpp"
#include "iopt/backends/mock/earlier_rights.hpp"
#include "iopt/backends/mock/fault_injector.hpp"
#include "iopt/backends/mock/frame_contents.hpp"
#include "iopt/backends/mock/frame_watch.hpp"
#include "iopt/backends/mock/memory_space.hpp"
#include "iopt/backends/mock/page_table.hpp"
#include "iopt/backends/mock/pinner.hpp"
#include "iopt/backends/mock/pinner_options.hpp"
#include "iopt/backends/mock/restricted_domain.hpp"
#include "iopt/backends/mock/strictness.hpp"
#include "iopt/backends/mock/table_geometry.hpp"
#include "iopt/backends/mock/table_node.hpp"
