// tests/uapi/vfio/spapr_calls_test.cpp - SPAPR container: enabling, registering, mapping; rule by rule.
//
// unverified: from the sheet, not from hardware.
#include "iopt/uapi/vfio/spapr_calls.hpp"

#include "tests/catch.hpp"
#include "tests/uapi/vfio/spapr_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
using namespace iopt::test::spapr;

namespace {

constexpr std::uint64_t g = gibibyte;
constexpr std::uint64_t window_pages = g / (4 * k);
constexpr std::uint64_t table_pages = 512;

}  // namespace

TEST_CASE("a container that is bound to a process serves no other") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  const mock::process other = m.pinner.create_process();
  // Reading the argument comes after binding.
  CHECK(ask(*c, abi::spapr_register_memory, 0) == "EFAULT");
  m.pinner.set_current(other);
  CHECK(ask(*c, abi::check_extension, v2) == "1");
  CHECK(ask(*c, abi::get_api_version) == "0");
  CHECK(ask(*c, abi::iommu_get_info, 0) == "EPERM");
  CHECK(ask(*c, abi::iommu_map_dma, 0) == "EPERM");
  CHECK(ask(*c, abi::iommu_enable) == "EPERM");  // before ENOTTY
  CHECK(ask(*c, abi::spapr_register_memory, 0) == "EPERM");
  CHECK(ask(*c, abi::spapr_tce_create, 0) == "EPERM");
  CHECK(ask(*c, abi::eeh_pe_op, 0) == "EPERM");
  CHECK(ask(*c, 12345) == "EPERM");
  m.pinner.set_current(m.me);
  CHECK(ask(*c, 12345) == "ENOTTY");
}

TEST_CASE("a call of the other version is ENOTTY") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto one = m.container(group, v1);
  for (const std::uint32_t request : {abi::spapr_register_memory, abi::spapr_unregister_memory,
                                      abi::spapr_tce_create, abi::spapr_tce_remove})
    CHECK(ask(*one, request, 0) == "ENOTTY");
  REQUIRE(one->leave(group));
  const auto two = m.container(group, v2);
  CHECK(ask(*two, abi::iommu_enable) == "ENOTTY");
  CHECK(ask(*two, abi::iommu_disable) == "ENOTTY");
}

// --- GET_INFO ---------------------------------------------------------------------------------------

TEST_CASE("GET_INFO tells the small window, and in v2 what windows can be made") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto two = m.container(group, v2);
  CHECK(ask(*two, abi::iommu_get_info, 0) == "EFAULT");
  abi::spapr_info i{};
  i.argsz = 15;
  CHECK(ask(*two, abi::iommu_get_info, i) == "EINVAL");
  i.argsz = 16;
  i.flags = 99;
  i.ddw.levels = 77;
  CHECK(ask(*two, abi::iommu_get_info, i) == "0");
  CHECK(i.window32_start == 0);
  CHECK(i.window32_size == g);
  CHECK(i.flags == abi::spapr_info_ddw);
  CHECK(i.ddw.levels == 77);  // not asked for
  i.argsz = 32;
  CHECK(ask(*two, abi::iommu_get_info, i) == "0");
  CHECK(i.argsz == 32);
  CHECK(i.ddw.page_sizes == ((1 << 12) | (1 << 16) | (1 << 24)));
  CHECK(i.ddw.max_windows == 2);
  CHECK(i.ddw.levels == 5);
  REQUIRE(two->leave(group));
  const auto one = m.container(group, v1);
  CHECK(ask(*one, abi::iommu_get_info, i) == "0");
  CHECK(i.flags == 0);
  CHECK(i.ddw.max_windows == 0);
}

// --- ENABLE, DISABLE --------------------------------------------------------------------------------

TEST_CASE("ENABLE charges the window, and is refused in this order") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v1);
  group.options().properties->window32_size = 0;
  m.limit(window_pages - 1);
  CHECK(ask(*c, abi::iommu_enable) == "EPERM");
  group.options().properties->window32_size = g;
  CHECK(ask(*c, abi::iommu_enable) == "ENOMEM");
  m.pinner.set_current(m.pinner.create_process());
  CHECK(ask(*c, abi::iommu_enable) == "EPERM");  // it was bound before it was charged
  m.pinner.set_current(m.me);
  m.limit(window_pages);
  CHECK(ask(*c, abi::iommu_enable) == "0");
  CHECK(ask(*c, abi::iommu_enable) == "EBUSY");
  CHECK(m.charged() == window_pages);
  CHECK(ask(*c, abi::iommu_disable) == "0");
  CHECK(m.charged() == 0);
  CHECK(ask(*c, abi::iommu_disable) == "0");
  // Who may lock at will is counted and not limited.
  m.limit(0);
  m.privileged = true;
  CHECK(ask(*c, abi::iommu_enable) == "0");
  CHECK(m.charged() == window_pages);
  m.privileged = false;
  REQUIRE(c->leave(group));
  CHECK(m.is_idle());
}

TEST_CASE("DISABLE leaves mappings, and lets no more of them be made or undone") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v1);
  CHECK(map(*c, arena, 0, 4 * k) == "EPERM");
  CHECK(unmap(*c, 0, 4 * k) == "EPERM");
  CHECK(ask(*c, abi::iommu_enable) == "0");
  CHECK(map(*c, arena, 0, 4 * k) == "0");
  CHECK(ask(*c, abi::iommu_disable) == "0");
  CHECK(group.shown(0)->bytes_mapped() == 4 * k);
  CHECK(m.pins(arena) == 1);
  CHECK(ask(*c, abi::iommu_map_dma, 0) == "EPERM");  // before the argument is read
  CHECK(ask(*c, abi::iommu_unmap_dma, 0) == "EPERM");
  REQUIRE(c->leave(group));
  CHECK(m.is_idle());
}

// --- REGISTER_MEMORY, UNREGISTER_MEMORY -------------------------------------------------------------

TEST_CASE("REGISTER_MEMORY is refused in this order") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  abi::spapr_memory a{23, 1, arena + 1, 0};
  CHECK(ask(*c, abi::spapr_register_memory, 0) == "EFAULT");
  CHECK(ask(*c, abi::spapr_register_memory, a) == "EINVAL");
  a.argsz = 24;
  CHECK(ask(*c, abi::spapr_register_memory, a) == "EINVAL");
  CHECK(enroll(*c, arena + 1, 4 * k) == "EINVAL");
  CHECK(enroll(*c, arena, 4 * k + 1) == "EINVAL");
  CHECK(enroll(*c, top - 0xfff, 4 * k) == "EINVAL");  // a wrap, to the byte
  CHECK(enroll(*c, top - 0xfff, 8 * k) == "EINVAL");
  CHECK(enroll(*c, arena, 0) == "ENOMEM");
  CHECK_FALSE(c->is_enabled());
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(c->is_enabled());
  CHECK(enroll(*c, arena, 64 * k) == "EBUSY");
  m.limit(32);
  CHECK(enroll(*c, arena, 128 * k) == "ENOMEM");
  m.pinner.set_hole(m.me, user_range::sized({arena + 96 * k}, 4 * k));
  CHECK(enroll(*c, arena + 60 * k, 64 * k) == "EFAULT");
  CHECK(enroll(*c, arena + 60 * k, 36 * k) == "EINVAL");
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(m.charged() == 16);
  m.pinner.set_read_only(m.me, user_range::sized({arena + mebibyte}, 4 * k));
  CHECK(enroll(*c, arena + mebibyte, 4 * k) == "EFAULT");  // always to write
}

TEST_CASE("containers of a process share a region that is exactly the same") {
  spapr_machine<> m;
  mock::tce_group one(m.platform);
  mock::tce_group two(m.platform);
  const auto a = m.container(one, v2);
  const auto b = m.container(two, v2);
  CHECK(enroll(*a, arena, 64 * k) == "0");
  CHECK(enroll(*b, arena, 64 * k) == "0");
  CHECK(m.charged() == 16);
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(enroll(*b, arena + 4 * k, 4 * k) == "EINVAL");
  CHECK(withdraw(*a, arena, 64 * k) == "0");
  CHECK(withdraw(*a, arena, 64 * k) == "ENOENT");
  CHECK(m.charged() == 16);
  // A mapping may use what any container of the process registered.
  CHECK(map(*a, arena, 0, 64 * k) == "0");
  CHECK(unmap(*a, 0, 64 * k) == "0");
  CHECK(withdraw(*b, arena, 64 * k) == "0");
  CHECK(map(*a, arena, 0, 64 * k) == "EINVAL");
  CHECK(m.pinner.pinned_pages() == 0);
}

TEST_CASE("UNREGISTER_MEMORY is refused in this order") {
  spapr_machine<> m;
  mock::tce_group one(m.platform);
  mock::tce_group two(m.platform);
  const auto a = m.container(one, v2);
  const auto b = m.container(two, v2);
  CHECK(ask(*a, abi::spapr_unregister_memory, 0) == "EPERM");  // not bound
  CHECK(enroll(*a, arena, 64 * k) == "0");
  CHECK(ask(*a, abi::spapr_unregister_memory, 0) == "EFAULT");
  abi::spapr_memory in{23, 1, arena + 1, 0};
  CHECK(ask(*a, abi::spapr_unregister_memory, in) == "EINVAL");
  in.argsz = 24;
  CHECK(ask(*a, abi::spapr_unregister_memory, in) == "EINVAL");
  CHECK(withdraw(*a, arena + 1, 64 * k) == "EINVAL");
  CHECK(withdraw(*a, arena, 64 * k - 1) == "EINVAL");
  CHECK(withdraw(*a, arena, 60 * k) == "ENOENT");
  CHECK(withdraw(*a, arena, 0) == "ENOENT");
  CHECK(enroll(*b, arena + mebibyte, 64 * k) == "0");
  CHECK(withdraw(*a, arena + mebibyte, 64 * k) == "ENOENT");  // it is another container's
  CHECK(withdraw(*a, arena, 64 * k) == "0");
  CHECK(a->is_enabled());  // once and for all
}

TEST_CASE(
    "a region that entries show is unregistered with success, and goes with the last of them") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 8 * k) == "0");
  CHECK(withdraw(*c, arena, 64 * k) == "0");  // [inferred]
  CHECK(withdraw(*c, arena, 64 * k) == "ENOENT");
  CHECK(m.charged() == 16 + table_pages);
  CHECK(map(*c, arena + 32 * k, 4 * k, 4 * k) == "0");  // it is still usable
  CHECK(unmap(*c, 0, 4 * k) == "0");
  CHECK(m.pinner.pinned_pages() == 16);
  CHECK(unmap(*c, 0, 8 * k) == "0");
  CHECK(m.pinner.pinned_pages() == 0);
  CHECK(m.charged() == table_pages);
  CHECK(map(*c, arena, 0, 8 * k) == "EINVAL");
}

// --- MAP_DMA ----------------------------------------------------------------------------------------

TEST_CASE("MAP_DMA is refused in this order") {
  for (const std::uint64_t version : {v1, v2}) {
    spapr_machine<> m;
    mock::tce_group group(m.platform);
    const auto c = m.container(group, version);
    CHECK(ask(*c, abi::iommu_map_dma, 0) == "EPERM");
    if (version == v1) {
      CHECK(ask(*c, abi::iommu_enable) == "0");
    } else {
      CHECK(enroll(*c, arena, 64 * k) == "0");
    }
    CHECK(ask(*c, abi::iommu_map_dma, 0) == "EFAULT");
    abi::dma_map a{31, 4, arena + 1, 8 * g, 0};
    CHECK(ask(*c, abi::iommu_map_dma, a) == "EINVAL");
    a.argsz = 32;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "EINVAL");  // a flag
    CHECK(m.platform.tables().empty());
    a.flags = 0;
    m.limit(m.charged() + table_pages - 1);
    CHECK(ask(*c, abi::iommu_map_dma, a) == "ENOMEM");  // the default window
    m.limit(m.charged() + table_pages);
    CHECK(ask(*c, abi::iommu_map_dma, a) == "ENXIO");
    CHECK(m.platform.tables().size() == 1);
    a.iova = 1;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "EINVAL");  // vaddr
    a.vaddr = arena;
    a.size = 4 * k + 1;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "EINVAL");
    a.size = 4 * k;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "EINVAL");  // no right
    a.flags = abi::map_read;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "1");  // [inferred] the IOVA, by an or of two answers
    a.size = 0;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "1");
    a.iova = 0;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "0");  // nothing
    CHECK(group.shown(0)->bytes_mapped() == 0);
    a.size = 4 * k;
    CHECK(ask(*c, abi::iommu_map_dma, a) == "0");
    CHECK(group.shown(0)->attributes_at({0})->rights == access_rights::read);
    CHECK(map(*c, arena, g - 4 * k, 8 * k) == "EINVAL");  // past the end
    CHECK(map(*c, arena, 0, top - 0xfff) == "EINVAL");
    CHECK(map(*c, top - 0xfff, 0, 8 * k) == (version == v1 ? "EFAULT" : "EINVAL"));
    CHECK(map(*c, arena + 60 * k, 0, 4 * k, abi::map_write) == "0");
    CHECK(group.shown(0)->attributes_at({0})->rights == access_rights::write);
    CHECK(group.shown(0)->translate({0}) == m.frame(arena + 60 * k));
  }
}

TEST_CASE("v1 pins a page an entry, to write, and charges nothing for it") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v1);
  CHECK(ask(*c, abi::iommu_enable) == "0");
  CHECK(map(*c, arena, 0, 16 * k) == "0");
  CHECK(map(*c, arena, 32 * k, 16 * k) == "0");  // no overlap test, no list
  CHECK(m.pins(arena) == 2);
  CHECK(m.charged() == window_pages + table_pages);
  m.pinner.set_read_only(m.me, user_range::sized({arena + 64 * k}, 4 * k));
  CHECK(map(*c, arena + 64 * k, 0, 4 * k, abi::map_read) == "EFAULT");
  CHECK(map(*c, arena + 8 * k, 0, 8 * k) == "0");  // silently replaced
  CHECK(m.pins(arena) == 1);
  CHECK(m.pins(arena + 8 * k) == 3);
  CHECK(unmap(*c, 0, 4 * k) == "0");
  CHECK(m.pins(arena + 8 * k) == 2);
}

TEST_CASE("an error clears what the call mapped, and what it replaced") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  CHECK(enroll(*c, arena, 64 * k) == "0");
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  CHECK(map(*c, arena + 48 * k, 8 * k, 32 * k) == "EINVAL");  // 16 KiB of it are registered
  CHECK(group.shown(0)->translate({4 * k}) == m.frame(arena + 4 * k));
  for (std::uint64_t at = 8 * k; at < 24 * k; at += 4 * k)
    CHECK_FALSE(group.shown(0)->translate({at}).has_value());
  CHECK(group.shown(0)->translate({24 * k}) == m.frame(arena + 24 * k));
}

TEST_CASE("an entry may be larger than the page behind it in no version") {
  spapr_machine<> m;
  const std::uint64_t big = 16 * mebibyte;
  m.pinner.set_huge(m.me, user_range::sized({arena}, big), big);
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v2);
  const std::uint64_t at = std::uint64_t{1} << 59;
  CHECK(create(*c, 24, 64 * big) == hex(at));
  CHECK(enroll(*c, arena, big) == "0");
  CHECK(enroll(*c, arena + big, big) == "0");  // of small pages
  CHECK(map(*c, arena, at, big) == "0");
  CHECK(group.shown(1)->translate({at + 12345}) == m.frame(arena + 12345));
  CHECK(map(*c, arena + big, at, big) == "EINVAL");
  CHECK(map(*c, arena, at + 4 * k, big) == "1");
  CHECK(map(*c, arena, at, 4 * k) == "EINVAL");
  CHECK(group.shown(1)->translate({at}) == m.frame(arena));
  CHECK(unmap(*c, at, big) == "0");
}

// --- UNMAP_DMA --------------------------------------------------------------------------------------

TEST_CASE("UNMAP_DMA is refused in this order") {
  spapr_machine<> m;
  mock::tce_group group(m.platform);
  const auto c = m.container(group, v1);
  CHECK(ask(*c, abi::iommu_unmap_dma, 0) == "EPERM");
  CHECK(ask(*c, abi::iommu_enable) == "0");
  CHECK(ask(*c, abi::iommu_unmap_dma, 0) == "EFAULT");
  abi::dma_unmap a{23, 1, 8 * g, 1};
  CHECK(ask(*c, abi::iommu_unmap_dma, a) == "EINVAL");
  a.argsz = 24;
  CHECK(ask(*c, abi::iommu_unmap_dma, a) == "EINVAL");
  CHECK(unmap(*c, 0, 4 * k, abi::unmap_all_flag) == "EINVAL");
  CHECK(m.platform.tables().empty());
  a.flags = 0;
  CHECK(ask(*c, abi::iommu_unmap_dma, a) == "ENXIO");
  CHECK(m.platform.tables().size() == 1);
  a.iova = 1;
  CHECK(ask(*c, abi::iommu_unmap_dma, a) == "EINVAL");
  CHECK(unmap(*c, 1, 4 * k) == "1");  // [inferred]
  CHECK(unmap(*c, g - 4 * k, 8 * k) == "1");
  CHECK(unmap(*c, 1, 0) == "1");
  CHECK(unmap(*c, 0, 0) == "0");
  CHECK(unmap(*c, 0, g) == "0");  // nothing is there
  CHECK(map(*c, arena, 0, 64 * k) == "0");
  a = {24, 0, 16 * k, 4 * k};
  CHECK(ask(*c, abi::iommu_unmap_dma, a) == "0");
  CHECK(a.size == 4 * k);
  CHECK(group.shown(0)->bytes_mapped() == 60 * k);
  CHECK(unmap(*c, 0, g) == "0");
  CHECK(m.pinner.pinned_pages() == 0);
}

// --- EEH_PE_OP --------------------------------------------------------------------------------------

TEST_CASE("EEH_PE_OP checks its argument for each group, and stops at the first answer") {
  spapr_machine<> m;
  mock::tce_group first(m.platform, {.handles_errors = true});
  mock::tce_group second(m.platform, {.handles_errors = true, .error_state = 2});
  mock::tce_group without(m.platform);
  const auto c = m.container(first, v2);
  CHECK(ask(*c, abi::eeh_pe_op, 0) == "EFAULT");
  abi::eeh_request a{11, 1, 10, 0, {}};
  CHECK(ask(*c, abi::eeh_pe_op, a) == "EINVAL");
  a.argsz = 12;
  CHECK(ask(*c, abi::eeh_pe_op, a) == "EINVAL");
  a.flags = 0;
  CHECK(ask(*c, abi::eeh_pe_op, a) == "EINVAL");
  a.operation = abi::eeh_inject_error;
  CHECK(ask(*c, abi::eeh_pe_op, a) == "EINVAL");
  CHECK(first.operations().empty());
  a = {40, 0, abi::eeh_inject_error, 0, {1, 2, 3, 4}};
  CHECK(ask(*c, abi::eeh_pe_op, a) == "0");
  REQUIRE(first.operations().size() == 1);
  CHECK(first.operations()[0].error_function == 2);
  CHECK(first.operations()[0].error_mask == 4);
  REQUIRE(c->join(second));
  a = {12, 0, abi::eeh_get_state, 0, {}};
  CHECK(ask(*c, abi::eeh_pe_op, a) == "2");  // the last that came is asked first
  CHECK(first.operations().size() == 1);
  a.operation = abi::eeh_reset_hot;
  CHECK(ask(*c, abi::eeh_pe_op, a) == "0");
  CHECK(first.operations().size() == 2);
  REQUIRE(c->join(without));
  CHECK(ask(*c, abi::eeh_pe_op, 0) == "ENODEV");
}
