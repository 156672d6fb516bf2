# cmake/check_layers.cmake - a script that checks how the headers are arranged.
#
#   cmake -DROOT=<source tree> -DCHECK=layers -P cmake/check_layers.cmake
#       Every #include "..." of a header names a layer that its own layer may include, no header
#       needs a package, and each has #pragma once. Headers that grow long are named in a warning.
#   cmake -DROOT=<source tree> -DCHECK=tests -P cmake/check_layers.cmake
#       Every header has its test: tests/<path>_test.cpp, or the file that its "Tested by" names;
#       one that only includes others needs none.
#       Every file named so exists.
cmake_minimum_required(VERSION 3.25)

# layer         may include
set(may_base base)
set(may_containers base containers)
set(may_policy base policy)
set(may_core base containers policy core)
set(may_backends base containers policy abi) # and its own folder
set(may_abi base)
set(may_uapi base containers policy core uapi abi)
# A backend may stand on others.
set(may_backends/vfio_type1 backends/granular backends/host)
set(may_backends/iommufd backends/granular backends/host)
set(may_backends/real backends/granular backends/host backends/vfio_type1 backends/iommufd)
set(layers base containers policy core backends uapi)
# iopt.hpp is the whole without front ends and real backends.
set(may_whole base containers policy core backends/mock)
set(longest_lines 450)
# What C files include too.
set(c_headers backends/kernel/operations.h)

set(faults 0)
macro(fault text)
  message("${text}")
  math(EXPR faults "${faults} + 1")
endmacro()

# The layer of a path below include/iopt: base, ..., backends/<folder>, or whole. The layouts of ioctls
# (uapi/<folder>/abi.hpp) are a layer of their own: who asks a kernel needs them as who answers does.
function(layer_of path result)
  if(path MATCHES "^(backends/[^/]+)/")
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  elseif(path MATCHES "^uapi/[^/]+/abi\\.hpp$")
    set(${result} abi PARENT_SCOPE)
  elseif(path MATCHES "^([^/]+)/")
    set(${result} ${CMAKE_MATCH_1} PARENT_SCOPE)
  else()
    set(${result} whole PARENT_SCOPE)
  endif()
endfunction()

file(GLOB_RECURSE headers RELATIVE ${ROOT}/include/iopt ${ROOT}/include/iopt/*)
if(NOT headers)
  message(FATAL_ERROR "no headers below ${ROOT}/include/iopt")
endif()

foreach(header IN LISTS headers)
  set(file ${ROOT}/include/iopt/${header})
  layer_of(${header} layer)
  string(REGEX REPLACE "/.*" "" top_layer ${layer})

  if(CHECK STREQUAL "layers")
    if(NOT header MATCHES "\\.hpp$" AND NOT header IN_LIST c_headers)
      fault("${header}: is not a .hpp")
      continue()
    endif()
    if(NOT top_layer STREQUAL "whole" AND NOT top_layer STREQUAL "abi" AND NOT top_layer IN_LIST layers)
      fault("${header}: ${top_layer} is not a layer (${layers})")
      continue()
    endif()

    file(READ ${file} text)
    string(REGEX MATCHALL "\n" ends "${text}")
    list(LENGTH ends lines)
    if(lines GREATER longest_lines)
      message("warning: ${header} has ${lines} lines; a header should stay under 400")
    endif()
    if(NOT text MATCHES "(^|\n)#pragma once")
      fault("${header}: has no #pragma once")
    endif()

    file(STRINGS ${file} includes REGEX "^[ \t]*#[ \t]*include")
    foreach(line IN LISTS includes)
      if(line MATCHES "\"iopt/([^\"]+)\"")
        set(target ${CMAKE_MATCH_1})
        layer_of(${target} target_layer)
        if(target_layer STREQUAL layer OR target_layer IN_LIST may_${top_layer} OR
           target_layer IN_LIST may_${layer})
          continue()
        endif()
        fault("${header}: includes iopt/${target}; ${layer} may not include ${target_layer}")
      elseif(line MATCHES "\"([^\"]+)\"")
        fault("${header}: includes \"${CMAKE_MATCH_1}\", which is not below iopt/")
      elseif(line MATCHES "<((absl|boost|catch2|benchmark|llvm|gtest|fmt)/[^>]+)>")
        set(target ${CMAKE_MATCH_1})
        # A header may use a package where it is there, if it can do without.
        if(NOT text MATCHES "__has_include *\\(<${CMAKE_MATCH_2}/")
          fault("${header}: includes <${target}>, but the library needs no package")
        endif()
      endif()
    endforeach()

  elseif(CHECK STREQUAL "tests")
    # A header that only includes others has nothing to test.
    file(STRINGS ${file} code REGEX "^[ \t]*[^ \t/#]")
    if(NOT code)
      continue()
    endif()
    string(REGEX REPLACE "\\.hpp$" "_test.cpp" test ${header})
    set(tested FALSE)
    if(EXISTS ${ROOT}/tests/${test})
      set(tested TRUE)
    endif()
    file(STRINGS ${file} tested_by REGEX "Tested by")
    foreach(line IN LISTS tested_by)
      string(REGEX MATCHALL "tests/[A-Za-z0-9_/]+\\.[a-z]+" named "${line}")
      foreach(name IN LISTS named)
        if(EXISTS ${ROOT}/${name})
          set(tested TRUE)
        else()
          fault("${header}: is \"Tested by\" ${name}, which does not exist")
        endif()
      endforeach()
    endforeach()
    if(NOT tested)
      fault("${header}: no test: tests/${test}")
    endif()
  else()
    message(FATAL_ERROR "CHECK is layers or tests")
  endif()
endforeach()

list(LENGTH headers count)
if(faults)
  message(FATAL_ERROR "${CHECK}: ${faults} faults in ${count} headers")
endif()
message("${CHECK}: ${count} headers, no fault")
