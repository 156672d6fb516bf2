# cmake/check_sweep.cmake - a script that checks that the sweep of core leaves no call out.
#
#   cmake -DROOT=<source tree> -P cmake/check_sweep.cmake
#       The list of tests/core/failure_sweep_test.cpp names every public member of io_pagetable and
#       access_object that answers with a result or an unmap_report, and nothing else. That each of
#       the list is swept, the test says itself.
cmake_minimum_required(VERSION 3.25)

set(members "")
foreach(class IN ITEMS io_pagetable access_object)
  file(READ ${ROOT}/include/iopt/core/${class}.hpp text)
  string(REGEX REPLACE "\n private:.*" "" text "${text}")
  string(REPLACE "[[nodiscard]] " "" text "${text}")
  string(REGEX MATCHALL "\n  (static )?(result<[^\n(;]*>|unmap_report)[ \n]+[a-z_]+\\(" found "${text}")
  foreach(member IN LISTS found)
    string(REGEX REPLACE ".*[ \n]([a-z_]+)\\($" "${class}::\\1" member "${member}")
    list(APPEND members ${member})
  endforeach()
endforeach()
list(REMOVE_DUPLICATES members)

file(READ ${ROOT}/tests/core/failure_sweep_test.cpp text)
string(REGEX MATCHALL "{\"[a-z_]+::[a-z_]+\"" swept "${text}")
list(TRANSFORM swept REPLACE "[{\"]" "")

set(faults 0)
foreach(name IN LISTS members swept)
  if(NOT name IN_LIST swept)
    message("${name} may fail, and is not in the list of tests/core/failure_sweep_test.cpp")
  elseif(NOT name IN_LIST members)
    message("${name} is in the list of tests/core/failure_sweep_test.cpp, and no call that may fail")
  else()
    continue()
  endif()
  math(EXPR faults "${faults} + 1")
endforeach()
list(LENGTH members count)
if(faults OR NOT count)
  message(FATAL_ERROR "sweep: ${faults} faults in ${count} calls")
endif()
message("sweep: ${count} calls, no fault")
