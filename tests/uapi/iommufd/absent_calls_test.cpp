// tests/uapi/iommufd/absent_calls_test.cpp - the ioctls on objects of which there are none.
#include "iopt/uapi/iommufd/absent_calls.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "tests/catch.hpp"
#include "tests/uapi/iommufd/context_fixture.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = iopt::iommufd::abi;
using abi::request;

namespace {

constexpr std::uint64_t max = ~std::uint64_t{0};
using older = context_fixture<>;
using newer = context_fixture<newer_profile>;

/// One of each kind of object: a space, its hardware page table, and the device that uses it.
template <class Fixture>
struct machine : Fixture {
  typename Fixture::id space = Fixture::space();
  typename Fixture::id device = Fixture::device();
  typename Fixture::id pagetable = Fixture::context->attach(device, space).value();
};

struct row {
  request number;
  std::uint32_t least;
  std::uint32_t whole;
  const char* answer;  // to nothing but zeroes
};

template <class Fixture>
void check_sizes(const row& r) {
  CAPTURE(static_cast<std::uint32_t>(r.number));
  const auto answer = [&](std::uint32_t size, std::size_t dirty = 0) {
    Fixture f;
    alignas(8) std::array<unsigned char, 128> bytes{};
    std::memcpy(bytes.data(), &size, sizeof size);
    if (dirty != 0) bytes[dirty] = 1;
    return f.raw(static_cast<std::uint32_t>(r.number), Fixture::address(bytes.data()));
  };
  CHECK(answer(0) == "EINVAL");
  CHECK(answer(r.least - 1) == "EINVAL");
  CHECK(answer(r.least) == r.answer);
  CHECK(answer(r.whole) == r.answer);
  CHECK(answer(r.whole + 1) == r.answer);
  CHECK(answer(r.whole + 1, r.whole) == "E2BIG");
  CHECK(answer(r.whole + 20, r.whole + 19) == "E2BIG");
}

}  // namespace

TEST_CASE("ioctls on what there is none of have their sizes", "[absent]") {
  const row both[] = {{request::hwpt_invalidate, 32, 32, "ENOENT"},
                      {request::fault_queue_alloc, 16, 16, "EOPNOTSUPP"}};
  const row later[] = {{request::viommu_alloc, 24, 40, "EOPNOTSUPP"},
                       {request::vdevice_alloc, 24, 24, "ENOENT"},
                       {request::ioas_change_process, 8, 8, "0"},
                       {request::veventq_alloc, 28, 32, "EOPNOTSUPP"},
                       {request::hw_queue_alloc, 40, 40, "EOPNOTSUPP"}};
  for (const row& r : both) check_sizes<older>(r), check_sizes<newer>(r);
  for (const row& r : later) {
    check_sizes<newer>(r);
    older f;
    CHECK(f.raw(static_cast<std::uint32_t>(r.number), 0) == "ENOTTY");
  }
}

TEMPLATE_TEST_CASE("nothing is invalidated, and the caller is told so", "[absent]", older, newer) {
  machine<TestType> f;
  const auto invalidate = [&](abi::hwpt_invalidate c) {
    const std::string answer = f.call(request::hwpt_invalidate, c);
    return answer + " " + std::to_string(c.entry_num);
  };
  // Each line is wrong in all that comes after.
  CHECK(invalidate({0, 9, 0, 7, 0, 3, 1}) == "EOPNOTSUPP 0");
  CHECK(invalidate({0, 9, 0, 7, 16, 3, 0}) == "EINVAL 0");
  CHECK(invalidate({0, 9, 0x1000, 7, 0, 3, 0}) == "EINVAL 0");
  CHECK(invalidate({0, 9, 0x1000, 7, 4097, 3, 0}) == "EINVAL 0");
  CHECK(invalidate({0, 9, 0x1000, 7, 16, (1U << 19) + 1, 0}) == "EINVAL 0");
  CHECK(invalidate({0, 9, 0x1000, 7, 4096, 1U << 19, 0}) == "ENOENT 0");
  CHECK(invalidate({0, 9, 0, 7, 0, 0, 0}) == "ENOENT 0");  // asks whether the type is known
  // A page table that is not nested, and what is no page table.
  const char* const wrong_kind = std::is_same_v<TestType, newer> ? "EINVAL 0" : "ENOENT 0";
  for (const iommufd::object_id id : {f.pagetable, f.space, f.device})
    CHECK(invalidate({0, id, 0x1000, 0, 16, 3, 0}) == wrong_kind);

  abi::hwpt_invalidate c{0, 9, 0, 0, 16, 3, 1};
  f.memory.unwritable = gate::bytes_of(c);
  CHECK(f.call(request::hwpt_invalidate, c) == "EFAULT");
  f.memory.unwritable.reset();
  // No object is in use any more.
  CHECK(said(f.context->detach(f.device)) == "ok");
  CHECK(f.destroy(f.space) == "0");
}

TEMPLATE_TEST_CASE("there are no queues of faults", "[absent]", older, newer) {
  TestType f;
  abi::fault_alloc c{0, 1, 7, 7};
  CHECK(f.call(request::fault_queue_alloc, c) == "EOPNOTSUPP");
  c.flags = 0;
  CHECK(f.call(request::fault_queue_alloc, c) == "EOPNOTSUPP");
  CHECK(c.out_fault_id == 7);
  CHECK(f.context->size() == 0);
}

TEST_CASE("there are no virtual IOMMUs, nor what belongs to one", "[absent]") {
  machine<newer> f;
  const auto viommu = [&](abi::viommu_alloc c) { return f.call(request::viommu_alloc, c); };
  CHECK(viommu({0, 1, 1, 9, 9, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(viommu({0, 0, 0, 9, 9, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(viommu({0, 0, 1, 9, 9, 0, 0, 0, 0}) == "ENOENT");
  CHECK(viommu({0, 0, 1, f.pagetable, f.pagetable, 0, 0, 0, 0}) == "ENOENT");
  CHECK(viommu({0, 0, 1, f.device, 9, 0, 8, 1, 0}) == "EOPNOTSUPP");  // before the page table
  const auto vdevice = [&](abi::vdevice_alloc c) { return f.call(request::vdevice_alloc, c); };
  CHECK(vdevice({0, 9, 9, 0, max}) == "ENOENT");
  CHECK(vdevice({0, f.pagetable, f.device, 0, 1}) == "ENOENT");
  const auto events = [&](abi::veventq_alloc c) { return f.call(request::veventq_alloc, c); };
  CHECK(events({0, 1, 9, 1, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(events({0, 0, 9, 1, 0, 0, 0, 1}) == "EOPNOTSUPP");
  CHECK(events({0, 0, 9, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(events({0, 0, 9, 1, 0, 0, 0, 0}) == "EINVAL");
  CHECK(events({0, 0, f.device, 1, 1, 0, 0, 0}) == "ENOENT");
  const auto queue = [&](abi::hw_queue_alloc c) { return f.call(request::hw_queue_alloc, c); };
  CHECK(queue({0, 1, 9, 1, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(queue({0, 0, 9, 0, 0, 0, 0, 0}) == "EOPNOTSUPP");
  CHECK(queue({0, 0, 9, 1, 0, 0, max, 0}) == "EINVAL");
  CHECK(queue({0, 0, 9, 1, 0, 0, max, 2}) == "EOVERFLOW");
  CHECK(queue({0, 0, f.device, 1, 0, 0, max, 1}) == "ENOENT");
  CHECK(f.context->size() == 3);
}
