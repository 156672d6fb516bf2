// iopt/iopt.hpp - the library: an I/O address space, and a mock to try it on.
//
// Includes base, containers, policy, core and the mock backend. Front ends (uapi/) and other
// backends are included by name.
#pragma once

#include "iopt/backends/mock/mock.hpp"         // IWYU pragma: export
#include "iopt/base/page_sizes.hpp"            // IWYU pragma: export
#include "iopt/containers/area_map.hpp"        // IWYU pragma: export
#include "iopt/containers/bitmap.hpp"          // IWYU pragma: export
#include "iopt/containers/coverage_spans.hpp"  // IWYU pragma: export
#include "iopt/containers/double_span.hpp"     // IWYU pragma: export
#include "iopt/containers/interval_tree.hpp"   // IWYU pragma: export
#include "iopt/containers/overlap_map.hpp"     // IWYU pragma: export
#include "iopt/containers/run_batch.hpp"       // IWYU pragma: export
#include "iopt/containers/sparse_frames.hpp"   // IWYU pragma: export
#include "iopt/core/access_object.hpp"         // IWYU pragma: export
#include "iopt/core/io_pagetable.hpp"          // IWYU pragma: export
#include "iopt/core/mapping_budget.hpp"        // IWYU pragma: export
#include "iopt/core/snapshot.hpp"              // IWYU pragma: export
#include "iopt/policy/archetypes.hpp"          // IWYU pragma: export
