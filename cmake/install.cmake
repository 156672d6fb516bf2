# cmake/install.cmake - `cmake --install`, and find_package(iopt) afterwards.
include(CMakePackageConfigHelpers)

# A project that includes this one by FetchContent installs its own things; it asks for ours where
# it exports a target that needs them.
option(IOPT_INSTALL "Install iopt with the project" ${PROJECT_IS_TOP_LEVEL})
if(NOT IOPT_INSTALL)
  return()
endif()

set(iopt_package_folder share/cmake/iopt)
install(DIRECTORY include/iopt DESTINATION include FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h")
install(FILES LICENSE DESTINATION share/licenses/iopt)
install(TARGETS iopt EXPORT iopt)
install(EXPORT iopt NAMESPACE iopt:: FILE iopt-config.cmake DESTINATION ${iopt_package_folder})
# Before 1.0 a minor version may change what it likes.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/iopt-config-version.cmake
                                 COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/iopt-config-version.cmake
        DESTINATION ${iopt_package_folder})
