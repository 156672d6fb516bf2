// iopt/uapi/iommufd/space_calls.hpp - context: the ioctls on spaces, options, the compatible space.
//
// Layer: uapi. Includes: uapi/iommufd/context.hpp.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <optional>
#include <utility>

#include "iopt/uapi/iommufd/context.hpp"

namespace iopt::iommufd {

namespace detail {

constexpr result<void> check_reserved(std::uint32_t reserved) noexcept {
  if (reserved != 0) return fail(errc::operation_not_supported);
  return {};
}

/// What a map or a copy may ask for. 2^64 - 1 is out of bounds for any of its numbers, also for an
/// IOVA that is not looked at.
constexpr result<void> check_map(std::uint32_t flags,
                                 std::initializer_list<std::uint64_t> numbers) {
  constexpr std::uint32_t rights = abi::map_readable | abi::map_writeable;
  if ((flags & ~(rights | abi::map_fixed_iova)) != 0) return fail(errc::operation_not_supported);
  for (const std::uint64_t n : numbers)
    if (n == top) return fail(errc::value_too_large);
  if ((flags & rights) == 0) return fail(errc::invalid_argument);
  return {};
}
constexpr access_rights rights_of(std::uint32_t flags) noexcept {
  return ((flags & abi::map_readable) != 0 ? access_rights::read : access_rights::none) |
         ((flags & abi::map_writeable) != 0 ? access_rights::write : access_rights::none);
}
constexpr std::optional<iova> place_of(std::uint32_t flags, std::uint64_t at) noexcept {
  if ((flags & abi::map_fixed_iova) == 0) return std::nullopt;
  return iova{at};
}

}  // namespace detail

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::alloc_call(const argument_type& a,
                                                          abi::ioas_alloc& said) {
  if (said.flags != 0) return fail(errc::operation_not_supported);
  const result<space_type*> s = reserve_space();
  if (!s) return fail(s.error());
  said.out_ioas_id = (*s)->id();
  const result<void> told = a.respond(said);
  if (told) {
    publish(**s);
  } else {
    give_back(**s);
  }
  return told;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::ranges_call(const argument_type& a,
                                                           abi::ioas_iova_ranges& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  const std::uint32_t room = said.num_iovas;
  return with_space(said.ioas_id, [&](const table_type& table) -> result<void> {
    result<void> done{};
    std::uint32_t count = 0;
    said.out_iova_alignment = table.alignment();
    table.for_each_usable([&](iova_range r) {
      const abi::iova_range told{r.first.value, r.last.value};
      if (done && count < room)
        done = uapi::write_bytes(
            copy_, uapi::behind({said.allowed_iovas}, std::uint64_t{count} * sizeof told), told);
      ++count;
    });
    said.num_iovas = count;
    if (done) done = a.respond(said);
    if (done && count > room) done = fail(errc::message_size);
    return done;
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::allow_call(const argument_type&,
                                                          abi::ioas_allow_iovas& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  return with_space(said.ioas_id, [&](table_type& table) {
    std::uint64_t n = 0;
    return table.allow_each([&]() -> result<std::optional<iova_range>> {
      if (n == said.num_iovas) return std::nullopt;
      const result<abi::iova_range> range = uapi::read_bytes<abi::iova_range>(
          copy_, uapi::behind({said.allowed_iovas}, n++ * sizeof(abi::iova_range)));
      if (!range) return fail(range.error());
      if (range->start >= range->last) return fail(errc::invalid_argument);
      return iova_range{{range->start}, {range->last}};
    });
  });
}

/// A mapping stays where its caller cannot be told of it; so with a copy.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::map_call(const argument_type& a,
                                                        abi::ioas_map& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  if (const result<void> ok = detail::check_map(said.flags, {said.iova, said.length}); !ok)
    return ok;
  return with_space(said.ioas_id, [&](table_type& table) -> result<void> {
    typename table_type::memory what = table.user_memory({said.user_va});
    unlimited(what);
    const result<iova> at = table.map(what, said.length, detail::rights_of(said.flags),
                                      detail::place_of(said.flags, said.iova));
    if (!at) return fail(at.error());
    said.iova = at->value;
    return a.respond(said);
  });
}

/// What a descriptor names: memory of a device, or a file.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
auto context<Pinner, Domain, Profile>::memory_behind(table_type& table,
                                                     const abi::ioas_map_file& said)
    -> result<typename table_type::memory> {
  if constexpr (finds_dmabufs<Profile, Pinner>) {
    const auto exporter = typename Profile::dmabufs{}(said.fd, said.start, said.length);
    if (!exporter) return fail(exporter.error());
    if (*exporter) return table.device_memory(**exporter, said.start);
  }
  const auto file = typename Profile::files{}(said.fd);
  if (!file) return fail(file.error());
  typename table_type::memory what = table.file_memory(*file, said.start);
  unlimited(what);
  return what;
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::map_file_call(const argument_type& a,
                                                             abi::ioas_map_file& said) {
  if (const result<void> ok = detail::check_map(said.flags, {said.iova, said.length}); !ok)
    return ok;
  return with_space(said.ioas_id, [&](table_type& table) -> result<void> {
    const auto bytes = iova_range::from_length({said.start}, said.length);  // the same checks
    if (!bytes) return fail(bytes.error());
    const auto what = memory_behind(table, said);
    if (!what) return fail(what.error());
    const result<iova> at = table.map(*what, said.length, detail::rights_of(said.flags),
                                      detail::place_of(said.flags, said.iova));
    if (!at) return fail(at.error());
    said.iova = at->value;
    return a.respond(said);
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::copy_call(const argument_type& a,
                                                         abi::ioas_copy& said) {
  if (const result<void> ok =
          detail::check_map(said.flags, {said.length, said.src_iova, said.dst_iova});
      !ok)
    return ok;
  return with_space(said.src_ioas_id, [&](table_type& from) -> result<void> {
    const result<iova_range> range = iova_range::from_length({said.src_iova}, said.length);
    if (!range) return fail(range.error());
    return with_space(said.dst_ioas_id, [&](table_type& to) -> result<void> {
      const result<iova> at = to.copy(from, *range, detail::rights_of(said.flags),
                                      detail::place_of(said.flags, said.dst_iova));
      if (!at) return fail(at.error());
      said.dst_iova = at->value;
      return a.respond(said);
    });
  });
}

/// All spaces go over to the caller, whoever can find them. None ends meanwhile: it is in use, and
/// its DESTROY is refused.
template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::change_process_call(const argument_type&,
                                                                   abi::ioas_change_process& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  return with_all_spaces(
      [this](auto each) { return table_type::change_owner_of(each, pinner_.current()); });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::unmap_call(const argument_type& a,
                                                          abi::ioas_unmap& said) {
  return with_space(said.ioas_id, [&](table_type& table) -> result<void> {
    unmap_report gone;
    if (said.iova == 0 && said.length == top) {
      gone = table.unmap_all();
    } else {
      if (said.iova == top || said.length == top) return fail(errc::value_too_large);
      gone = table.unmap(
          {said.iova}, said.length,
          Profile::punches_holes ? unmap_profile::hole_punching : unmap_profile::iommufd,
          Profile::level);
      if (gone && gone.areas == 0) return fail(errc::no_such_file_or_directory);
    }
    if (!gone) return gone.outcome;
    said.length = gone.bytes;
    return a.respond(said);
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::option_call(const argument_type& a,
                                                           abi::option& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  result<void> done = fail(errc::operation_not_supported);
  if (said.option_id == abi::option_rlimit_mode) done = rlimit_mode(said);
  if (said.option_id == abi::option_huge_pages) done = huge_pages(said);
  if (!done) return done;
  return uapi::write_bytes(copy_, uapi::behind(a.address(), offsetof(abi::option, val64)),
                           said.val64);
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::rlimit_mode(abi::option& said) {
  if (said.object_id != 0) return fail(errc::operation_not_supported);
  if (said.op == abi::option_get) {
    said.val64 = objects_.locked([this](bool) { return mode_ == account_mode::mm ? 1U : 0U; });
    return {};
  }
  if (said.op != abi::option_set) return fail(errc::operation_not_supported);
  if (!caller_.has(capability::resources)) return fail(errc::operation_not_permitted);
  return objects_.locked([&](bool nothing) -> result<void> {
    if (!nothing) return fail(errc::device_or_resource_busy);
    if (said.val64 > 1) return fail(errc::invalid_argument);
    mode_ = said.val64 == 1 ? account_mode::mm : account_mode::user;
    return {};
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::huge_pages(abi::option& said) {
  return with_space(said.object_id, [&](table_type& table) -> result<void> {
    if (said.op == abi::option_get) {
      said.val64 = table.large_pages() ? 1 : 0;
      return {};
    }
    if (said.op != abi::option_set) return fail(errc::operation_not_supported);
    if (said.val64 > 1) return fail(errc::invalid_argument);
    if (said.val64 == 0) return table.disable_large_pages();
    table.enable_large_pages();
    return {};
  });
}

template <page_pinner Pinner, iommu_domain Domain, uapi::front_end_profile Profile>
result<void> context<Pinner, Domain, Profile>::vfio_ioas_call(const argument_type& a,
                                                              abi::vfio_ioas& said) {
  if (const result<void> ok = detail::check_reserved(said.reserved); !ok) return ok;
  switch (said.op) {
    case abi::vfio_ioas_get: {
      const result<object_id> id = compatible_space();
      if (!id) return fail(id.error());
      said.ioas_id = *id;
      return a.respond(said);
    }
    case abi::vfio_ioas_set: {
      const held<space_type> s(*this, find<space_type>(said.ioas_id, object_kind::space));
      if (!s) return fail(errc::no_such_file_or_directory);
      objects_.locked([&](bool) { compatible_ = &*s; });
      return {};
    }
    case abi::vfio_ioas_clear: objects_.locked([this](bool) { compatible_ = nullptr; }); return {};
    default: return fail(errc::operation_not_supported);
  }
}

}  // namespace iopt::iommufd
