// iopt/backends/kernel/kernel.hpp - the kernel backend: both policies and the traits over a table of
// a kernel's functions.
//
// Not part of iopt.hpp. The least that a kernel's C++ file says:
//
//   template class iopt::io_pagetable<iopt::kernel::pinner, iopt::kernel::domain,
//                                     iopt::kernel::traits>;
//
// built with -fno-exceptions and -fno-rtti. A table is made with its memory:
// table(pinner, iopt::kernel::memory(operations)).
//
// Layer: backends. Includes: backends/kernel.
#pragma once

#include "iopt/backends/kernel/domain.hpp"
#include "iopt/backends/kernel/operations.h"
#include "iopt/backends/kernel/pinner.hpp"
#include "iopt/backends/kernel/traits.hpp"
