// tests/uapi/vfio/group_file_test.cpp - the ioctls of /dev/vfio/GROUP.
#include "iopt/uapi/vfio/group_file.hpp"

#include <array>
#include <cstring>
#include <memory>

#include "tests/catch.hpp"
#include "tests/uapi/vfio/container_world.hpp"

using namespace iopt;
using namespace iopt::test;
namespace abi = vfio::abi;

namespace {

using container_type = vfio::container<mock::pinner, mock::domain>;
using handle = std::shared_ptr<container_type>;

struct fixture {
  mock::pinner pinner;
  mock::group group{container_world<>::usual()};
  handle container = std::make_shared<container_type>(pinner);
  vfio::group_file<handle> file{group};
  std::array<std::byte, 4096> bytes{};
  narrow_copy copy{&bytes};

  std::string call(std::uint32_t request, std::uint64_t argument = narrow_copy::base) {
    return text(file.ioctl(request, argument, copy, [this](int descriptor, handle& out) {
      if (descriptor < 0) return vfio::descriptor_kind::none;
      if (descriptor != 3) return vfio::descriptor_kind::other;
      out = container;
      return vfio::descriptor_kind::container;
    }));
  }
  template <class T>
  void put(const T& what) {
    std::memcpy(bytes.data(), &what, sizeof what);
  }
  std::uint32_t flags() const {
    abi::group_status s{};
    std::memcpy(&s, bytes.data(), sizeof s);
    return s.flags;
  }
};

}  // namespace

TEST_CASE("a group is opened once at a time", "[group_file]") {
  fixture f;
  CHECK(text(f.file.open()) == "0");
  CHECK(text(f.file.open()) == "EBUSY");
  f.file.close();
  CHECK(text(f.file.open()) == "0");
}

TEST_CASE("a group tells its status", "[group_file]") {
  fixture f;
  f.put(abi::group_status{7, 0});
  CHECK(f.call(abi::group_get_status) == "EINVAL");
  CHECK(f.call(abi::group_get_status, 0) == "EFAULT");
  f.put(abi::group_status{8, 0});
  REQUIRE(f.call(abi::group_get_status) == "0");
  CHECK(f.flags() == abi::group_viable);
  REQUIRE(f.file.set_container(f.container));
  f.put(abi::group_status{8, 0});
  REQUIRE(f.call(abi::group_get_status) == "0");
  CHECK(f.flags() == (abi::group_viable | abi::group_container_set));
  f.copy.writable_bytes = 4;
  CHECK(f.call(abi::group_get_status) == "EFAULT");
}

TEST_CASE("a group joins a container that a descriptor names, and leaves it", "[group_file]") {
  fixture f;
  CHECK(f.call(abi::group_unset_container) == "EINVAL");
  CHECK(f.call(abi::group_set_container, 0) == "EFAULT");
  f.put(std::int32_t{-1});
  CHECK(f.call(abi::group_set_container) == "EBADF");
  f.put(std::int32_t{4});
  CHECK(f.call(abi::group_set_container) == "EBADFD");
  f.put(std::int32_t{3});
  CHECK(f.call(abi::group_set_container) == "0");
  CHECK(f.call(abi::group_set_container) == "EINVAL");
  f.put(std::int32_t{4});
  CHECK(f.call(abi::group_set_container) == "EINVAL");  // in one already, whatever that is
  f.put(std::int32_t{-1});
  CHECK(f.call(abi::group_set_container) == "EBADF");  // but it must be a descriptor
  REQUIRE(f.container->set_iommu(abi::type1v2_iommu));
  CHECK(f.call(abi::group_unset_container) == "0");
  CHECK(f.group.attached() == nullptr);
}

TEST_CASE("a container lives while a group is in it", "[group_file]") {
  fixture f;
  REQUIRE(f.file.set_container(f.container));
  std::weak_ptr<container_type> watched = f.container;
  f.container.reset();
  CHECK_FALSE(watched.expired());
  f.file.close();
  CHECK(watched.expired());
}

TEST_CASE("no device is known by any name", "[group_file]") {
  fixture f;
  CHECK(f.call(abi::group_get_device_fd, 0) == "EFAULT");
  std::strcpy(reinterpret_cast<char*>(f.bytes.data()), "0000:00:02.0");
  CHECK(f.call(abi::group_get_device_fd) == "ENODEV");
  f.bytes.fill(std::byte{'x'});
  CHECK(f.call(abi::group_get_device_fd) == "EINVAL");                         // a name of a page
  CHECK(f.call(abi::group_get_device_fd, narrow_copy::base + 1) == "EFAULT");  // it runs out
  CHECK(f.call(abi::request(99)) == "ENOTTY");
}
