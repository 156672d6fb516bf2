# examples/replay/tests.cmake - the tests of the program `replay`; its parts have theirs in
# tests/examples. Included by examples/CMakeLists.txt.
file(GLOB traces CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/traces/*.trace)
set(traces_folder ${CMAKE_CURRENT_SOURCE_DIR}/traces)

function(replay_test name)
  add_test(NAME replay.${name} COMMAND example_replay ${ARGN})
  # The guests' memory is real: gibibytes of it are not asked for by two tests at once.
  set_tests_properties(replay.${name} PROPERTIES TIMEOUT 600 RESOURCE_LOCK guest_memory)
endfunction()

foreach(trace IN LISTS traces)
  cmake_path(GET trace STEM LAST_ONLY name)
  replay_test(${name} --verify ${trace})
endforeach()
replay_test(guests --verify --guests 4 ${traces_folder}/qemu-q35-seabios-512m.trace)
replay_test(dma-guests --verify --guests 3 --domains 2 ${traces_folder}/linux-nvme-strict.trace)
replay_test(gibibyte-entries --verify --blocks 1G ${traces_folder}/qemu-q35-seabios-3g.trace)
set_tests_properties(replay.gibibyte-entries PROPERTIES PASS_REGULAR_EXPRESSION
                                                        "entries of 1 GiB +2 +3\n.*0 pins, 0 charged")
# What each profile makes of programs that unmap just what they mapped, and of one that does not.
foreach(profile type1_v1 iommufd iommufd_compat_v1 iommufd_compat_v2 virtio_iommu exact
                hole_punching)
  replay_test(profile-${profile} --verify --profile ${profile}
              ${traces_folder}/linux-e1000e-strict.trace)
endforeach()
replay_test(profile-exact-refuses --verify --profile exact ${traces_folder}/linux-nvme-strict.trace)
set_tests_properties(
  replay.profile-exact-refuses
  PROPERTIES PASS_REGULAR_EXPRESSION
             "linux-nvme-strict.trace:821: unmap .0xfffb0000, 0xfffbffff. by exact: ENOENT\n")

add_test(NAME replay.refusals
         COMMAND ${CMAKE_COMMAND} -DREPLAY=$<TARGET_FILE:example_replay>
                 -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/refusals -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/replay/check_refusals.cmake)
add_test(NAME replay.svg
         COMMAND ${CMAKE_COMMAND} -DREPLAY=$<TARGET_FILE:example_replay>
                 -DTRACE=${traces_folder}/qemu-q35-seabios-3g.trace
                 -DSVG=${CMAKE_CURRENT_BINARY_DIR}/replay.svg -P
                 ${CMAKE_CURRENT_SOURCE_DIR}/replay/check_svg.cmake)
set_tests_properties(replay.refusals replay.svg PROPERTIES TIMEOUT 600 RESOURCE_LOCK guest_memory)
