# cmake/selftests.cmake - the target `selftests`: Linux's own iommufd self-tests under the interposer.
set(IOPT_KERNEL_SOURCE /usr/src/linux-source-6.12.tar.xz
    CACHE PATH "Linux's source, a tarball or a tree, whose self-tests the target selftests runs")
if(IOPT_SANITIZE)
  # A sanitizer's runtime must come first, and these programs are not linked with it.
  add_custom_target(selftests COMMAND ${CMAKE_COMMAND} -E false
                    COMMENT "error: the self-tests run without IOPT_SANITIZE only")
else()
  add_custom_target(selftests
                    COMMAND ${PROJECT_SOURCE_DIR}/tests/selftests/run
                            ${PROJECT_BINARY_DIR}/linux_selftests $<TARGET_FILE:iopt_interpose>
                            ${CMAKE_CXX_COMPILER} ${IOPT_KERNEL_SOURCE}
                    DEPENDS iopt_interpose
                    COMMENT "Linux's iommufd self-tests under libiopt_interpose.so"
                    USES_TERMINAL VERBATIM)
endif()
