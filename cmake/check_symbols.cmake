# cmake/check_symbols.cmake - a script that checks what an object of a kernel's needs to be linked.
#
#   cmake -DNM=<nm> -DOBJECT=<object> -P cmake/check_symbols.cmake
#       Every undefined symbol is a function of backends/kernel/operations.h or one of the four that a
#       compiler takes for granted: no heap, no exception, nothing of a library. The object has no
#       virtual table and nothing that runs before it is called.
cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND ${NM} -P ${OBJECT} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE "\n" ";" lines "${listing}")
set(needed 0)
set(faults 0)
foreach(line IN LISTS lines)
  if(line MATCHES "^([^ ]+) [Uwv]( |$)")
    set(symbol ${CMAKE_MATCH_1})
    math(EXPR needed "${needed} + 1")
    if(NOT symbol MATCHES "^(iopt_kernel_[a-z_]+|memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_)$")
      message("needs ${symbol}")
      math(EXPR faults "${faults} + 1")
    endif()
  elseif(line MATCHES "^(_ZT[VI][^ ]*|_GLOBAL__sub_I[^ ]*) ")
    message("has ${CMAKE_MATCH_1}")
    math(EXPR faults "${faults} + 1")
  endif()
endforeach()
if(faults)
  message(FATAL_ERROR "symbols: ${faults} faults in ${OBJECT}")
endif()
message("symbols: ${needed} needed, no fault in ${OBJECT}")
