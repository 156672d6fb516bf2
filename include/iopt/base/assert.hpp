// iopt/base/assert.hpp - broken preconditions stop the program; errors never do.
//
// An assertion guards a precondition that the caller must keep. It is checked when IOPT_ASSERTIONS
// is 1 (the default without NDEBUG) and costs nothing otherwise. A kernel shim defines
// IOPT_ASSERT_FAIL(text, file, line) to report in its own way.
//
// Layer: base. Includes: the standard library.
#pragma once

#ifndef IOPT_ASSERTIONS
#ifdef NDEBUG
#define IOPT_ASSERTIONS 0
#else
#define IOPT_ASSERTIONS 1
#endif
#endif

#ifndef IOPT_ASSERT_FAIL
#include <cstdio>
#include <cstdlib>
#define IOPT_ASSERT_FAIL(text, file, line) \
  (std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, text), std::abort())
#endif

#if IOPT_ASSERTIONS
#define IOPT_ASSERT(condition) \
  (static_cast<bool>(condition) ? void(0) : IOPT_ASSERT_FAIL(#condition, __FILE__, __LINE__))
#else
#define IOPT_ASSERT(condition) void(sizeof(static_cast<bool>(condition)))
#endif
