# examples/interpose/library.cmake - libiopt_interpose.so, for LD_PRELOAD, and its tests. Included by
# examples/CMakeLists.txt.
file(GLOB interpose_files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/interpose/*.cpp)
add_library(iopt_interpose SHARED ${interpose_files})
target_link_libraries(iopt_interpose PRIVATE iopt_developer ${CMAKE_DL_LIBS})
set_target_properties(iopt_interpose PROPERTIES CXX_VISIBILITY_PRESET hidden
                                                VISIBILITY_INLINES_HIDDEN ON)
# Fortified headers define open() themselves.
target_compile_options(iopt_interpose PRIVATE -U_FORTIFY_SOURCE)
# A program sees of it what exports.map names, and gets no C++ runtime from it.
set(exports ${CMAKE_CURRENT_SOURCE_DIR}/interpose/exports.map)
target_link_options(iopt_interpose PRIVATE LINKER:--version-script=${exports} LINKER:-z,defs)
set_target_properties(iopt_interpose PROPERTIES LINK_DEPENDS ${exports})
if(IOPT_SANITIZE)
  target_link_options(iopt_interpose PRIVATE LINKER:-z,undefs)
else()
  target_link_options(iopt_interpose PRIVATE -static-libstdc++ -static-libgcc)
endif()

# Ordinary programs, run on it. With a sanitizer its runtime must come first, so that there they are
# linked with the library in place of loading it before them: it stands before libc all the same.
if(IOPT_BUILD_TESTS)
  set(interpose_tests ${PROJECT_SOURCE_DIR}/tests/examples/interpose)
  foreach(program accesses client vectors)
    add_executable(interpose_${program} ${interpose_tests}/${program}.cpp)
    target_link_libraries(interpose_${program} PRIVATE iopt_developer ${CMAKE_DL_LIBS})
    target_include_directories(interpose_${program} PRIVATE ${PROJECT_SOURCE_DIR})
    add_dependencies(interpose_${program} iopt_interpose)
    if(IOPT_SANITIZE)
      target_link_libraries(interpose_${program} PRIVATE -Wl,--no-as-needed iopt_interpose)
    endif()
  endforeach()

  function(interpose_test name program argument)
    add_test(NAME interpose.${name} COMMAND interpose_${program} ${argument})
    set_tests_properties(interpose.${name} PROPERTIES TIMEOUT 300)
    if(NOT IOPT_SANITIZE)
      set_tests_properties(interpose.${name} PROPERTIES
                           ENVIRONMENT LD_PRELOAD=$<TARGET_FILE:iopt_interpose>)
    endif()
  endfunction()
  foreach(case flow refusals order-of-closing descriptors forks threads all-else environment faults)
    interpose_test(${case} client ${case})
  endforeach()
  foreach(case pins copies files device-memory families groups status threads)
    interpose_test(accesses.${case} accesses ${case})
  endforeach()
  # The arena lies where ThreadSanitizer allows no memory.
  if(NOT IOPT_SANITIZE MATCHES "thread")
    interpose_test(vectors.vfio vectors ${PROJECT_SOURCE_DIR}/tests/vectors/native)
    interpose_test(vectors.iommufd vectors ${PROJECT_SOURCE_DIR}/tests/vectors)
  endif()
endif()
