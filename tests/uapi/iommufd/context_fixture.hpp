// tests/uapi/iommufd/context_fixture.hpp - a context, and all that it can be refused by.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "iopt/backends/mock/group.hpp"
#include "iopt/backends/mock/mock.hpp"
#include "iopt/uapi/iommufd/context.hpp"
#include "tests/catch.hpp"
#include "tests/uapi/gated_copy.hpp"
#include "tests/uapi/script_line.hpp"

namespace iopt::test {

/// What the caller may do, changed at will.
struct capability_set {
  bool lock_memory = true;
  bool raw_io = true;
  bool resources = true;
};
struct set_caller {
  const capability_set* may;
  bool has(capability what) const noexcept {
    switch (what) {
      case capability::lock_memory: return may->lock_memory;
      case capability::raw_io: return may->raw_io;
      case capability::resources: return may->resources;
    }
    return false;
  }
};

template <class Traits>
struct refusing_traits : Traits {
  using memory = mock::failing_memory;
};

struct fixture_profile : uapi::default_profile {
  using traits = refusing_traits<single_threaded>;
  using copy = gated_copy;
  using caller = set_caller;
};

struct newer_profile : fixture_profile {
  static constexpr kernel_level level = kernel_level::linux_6_18;
};

/// context_fixture: a machine with a mock pinner, a context, and groups on request.
template <class Profile = fixture_profile>
struct context_fixture {
  using context_type = iommufd::context<mock::pinner, mock::domain, Profile>;
  using table_type = typename context_type::table_type;
  using id = iommufd::object_id;
  using request = iommufd::abi::request;
  static constexpr std::uint64_t page = 4096;

  mock::fault_injector faults;
  mock::memory_account account{&faults};
  mock::pinner pinner{{.faults = &faults}};
  gate memory;
  capability_set may;
  std::vector<std::unique_ptr<mock::group>> groups;
  std::unique_ptr<context_type> context;

  explicit context_fixture(iommufd::context_options options = {}) {
    context = std::make_unique<context_type>(pinner, options, gated_copy{&memory}, set_caller{&may},
                                             mock::failing_memory(account));
  }
  ~context_fixture() { close(); }

  /// Ends the context; nothing may be left.
  void close() {
    if (!context) return;
    CHECK(context->verify() == "");
    context.reset();
    CHECK(account.live_blocks() == 0);
    CHECK(pinner.pinned_pages() == 0);
    CHECK(pinner.verify() == "");
    for (const auto& g : groups) {
      CHECK(g->domains() == 0);
      CHECK(g->attached() == nullptr);
    }
  }

  static std::uint64_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

  template <class T>
  std::string call(request number, T& argument, std::uint32_t size = sizeof(T)) {
    argument.size = size;
    return raw(static_cast<std::uint32_t>(number), address(&argument));
  }
  std::string raw(std::uint32_t number, std::uint64_t argument) {
    const std::string answer = status(context->ioctl(number, argument));
    CHECK(context->verify() == "");
    return answer;
  }

  /// The number of a new space, or the errno's name.
  id space() {
    iommufd::abi::ioas_alloc c{};
    REQUIRE(call(request::ioas_alloc, c) == "0");
    return c.out_ioas_id;
  }
  std::string destroy(id which) {
    iommufd::abi::destroy c{0, which};
    return call(request::destroy, c);
  }
  std::string map(id where, std::uint64_t at, std::uint64_t pages = 1, std::uint64_t from = 0x10000,
                  std::uint32_t flags = 7) {
    iommufd::abi::ioas_map c{0, flags, where, 0, from, pages * page, at};
    return call(request::ioas_map, c);
  }
  std::string unmap(id where, std::uint64_t at, std::uint64_t pages = 1) {
    iommufd::abi::ioas_unmap c{0, where, at, pages * page};
    return call(request::ioas_unmap, c);
  }

  /// A group, behind the one IOMMU that there is unless told otherwise.
  mock::group& group(mock::group_options o = {}) {
    o.domains.faults = &faults;
    if (o.iommu == nullptr) o.iommu = this;
    groups.push_back(
        std::make_unique<mock::group>(o, [this](mock::domain& d) { pinner.watch(d); }));
    return *groups.back();
  }
  id device(mock::group_options o = {}) { return bound(group(std::move(o))); }
  id bound(mock::group& g) {
    const auto d = context->bind(g);
    REQUIRE(d);
    return *d;
  }
};

template <class T>
std::string said(const result<T>& r) {
  if (!r) return std::string(name(r.error().code));
  if constexpr (std::is_same_v<T, void>) {
    return "ok";
  } else {
    return std::to_string(*r);
  }
}

}  // namespace iopt::test
