# cmake/developer.cmake - warnings and sanitizers for our own tests, examples and benches.
set(CMAKE_CXX_EXTENSIONS OFF)
add_library(iopt_developer INTERFACE)
target_link_libraries(iopt_developer INTERFACE iopt::iopt)
target_compile_options(
  iopt_developer
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wshadow
            -Wconversion
            $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
if(IOPT_WERROR AND NOT IOPT_SANITIZE)
  target_compile_options(iopt_developer INTERFACE -Werror)
endif()
if(IOPT_SANITIZE)
  # The instrumented code makes GCC warn of what is not there; the plain builds do the warning.
  target_compile_options(iopt_developer INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  target_compile_options(iopt_developer INTERFACE -fsanitize=${IOPT_SANITIZE}
                                                  -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(iopt_developer INTERFACE -fsanitize=${IOPT_SANITIZE})
endif()
find_package(Threads REQUIRED)
target_link_libraries(iopt_developer INTERFACE Threads::Threads)
