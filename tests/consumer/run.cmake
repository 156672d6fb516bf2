# tests/consumer/run.cmake - installs iopt (or points at its sources), builds the consumer, runs it.
#
# WAY is find_package or fetch_content; ROOT, BUILD and WORK are folders; GENERATOR and COMPILER
# are those of the build that runs this.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE answer)
  if(NOT answer EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "failed (${answer}): ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})

# The README's first whole program, if it shows one.
set(program ${ROOT}/tests/consumer/main.cpp)
if(EXISTS ${ROOT}/README.md)
  file(READ ${ROOT}/README.md rest)
  while(TRUE)
    string(FIND "${rest}" "```cpp\n" start)
    if(start EQUAL -1)
      break()
    endif()
    math(EXPR start "${start} + 7")
    string(SUBSTRING "${rest}" ${start} -1 rest)
    string(FIND "${rest}" "```" end)
    string(SUBSTRING "${rest}" 0 ${end} block)
    if(block MATCHES "int main\\(")
      set(program ${WORK}/readme.cpp)
      file(WRITE ${program} "${block}")
      break()
    endif()
    math(EXPR end "${end} + 3")
    string(SUBSTRING "${rest}" ${end} -1 rest)
  endwhile()
endif()
message("consumer: ${program}")

set(options -DWAY=${WAY} -DPROGRAM=${program} -DCMAKE_CXX_COMPILER=${COMPILER}
            -DCMAKE_BUILD_TYPE=Debug)
if(WAY STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
  list(APPEND options -DCMAKE_PREFIX_PATH=${WORK}/prefix)
else()
  list(APPEND options -DIOPT_ROOT=${ROOT})
endif()
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${ROOT}/tests/consumer -B ${WORK}/build ${options})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/consumer)
