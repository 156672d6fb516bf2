// iopt/core/unmap_profile.hpp - what unmapping a range means, by name.
//
// Nobody agrees on UNMAP: what one interface removes another refuses, and a third removes more than
// it was asked for. A profile says which rules hold, and each rule is a value here, so that a real
// unmap and its dry run cannot differ. With A = [0, 4) and B = [8, 12):
//
//   request            v1       v2       iommufd    compat_v1  compat_v2  virtio   exact    hole
//   exactly A          A        A        A          A          A          A        A        A
//   nothing there      0        0        ENOENT     0          0          0        ENOENT   0
//   head of A          all A    EINVAL   ENOENT     cut        ENOENT     ERANGE   ENOENT   cut
//   middle, tail of A  0        EINVAL   ENOENT     cut        ENOENT     ERANGE   ENOENT   cut
//   more than A        A        A        A          A          A          A        ENOENT   A
//   A to B             A, B     A, B     A, B       A, B       A, B       A, B     ENOENT   A, B
//   A, and head of B   A, B     EINVAL   A, ENOENT  A, cut     A, ENOENT  ERANGE   ENOENT   A, cut
//   tail of A, and B   0        EINVAL   ENOENT     cut, B     ENOENT     ERANGE   ENOENT   cut, B
//   length 0           EINVAL   EINVAL   EINVAL     EINVAL     EINVAL     EINVAL   EINVAL   EINVAL
//   past 2^64          EINVAL*  EINVAL*  EOVERFLOW  EOVERFLOW  EOVERFLOW  ERANGE   ENOENT   EOVERFLOW
//
//   "0": succeeds and removes nothing. "A, ENOENT": A is gone when the error comes. "cut": exactly
//   the range goes, and the area is cut. * EOVERFLOW from Linux 6.18 on.
//
// Layer: core. Includes: base, the standard library.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "iopt/base/address.hpp"
#include "iopt/base/error.hpp"
#include "iopt/base/range.hpp"

namespace iopt {

/// unmap_profile: whose rules an unmap follows. Source: the interfaces named.
enum class unmap_profile : std::uint8_t {
  type1_v1,           // VFIO_TYPE1_IOMMU of a VFIO container
  type1_v2,           // VFIO_TYPE1v2_IOMMU of a VFIO container
  iommufd,            // IOMMU_IOAS_UNMAP
  iommufd_compat_v1,  // VFIO_IOMMU_UNMAP_DMA on an iommufd set to type1 v1
  iommufd_compat_v2,  // the same, set to type1 v2
  virtio_iommu,       // VIRTIO_IOMMU_T_UNMAP
  exact,              // vfio-user: what was mapped, as it was mapped
  hole_punching,      // exactly the range, whatever it cuts
};
inline constexpr std::array unmap_profiles{unmap_profile::type1_v1,
                                           unmap_profile::type1_v2,
                                           unmap_profile::iommufd,
                                           unmap_profile::iommufd_compat_v1,
                                           unmap_profile::iommufd_compat_v2,
                                           unmap_profile::virtio_iommu,
                                           unmap_profile::exact,
                                           unmap_profile::hole_punching};

/// kernel_level: which Linux a profile follows where kernels differ.
enum class kernel_level : std::uint8_t {
  linux_6_12_0,  // before "Make vfio_compats unmap succeed if the range is already empty"
  linux_6_12,    // 6.12.117, a late stable release
  linux_6_18,    // wraps answer EOVERFLOW in VFIO type1 too
};

constexpr std::string_view name(unmap_profile profile) noexcept {
  switch (profile) {
    case unmap_profile::type1_v1: return "type1_v1";
    case unmap_profile::type1_v2: return "type1_v2";
    case unmap_profile::iommufd: return "iommufd";
    case unmap_profile::iommufd_compat_v1: return "iommufd_compat_v1";
    case unmap_profile::iommufd_compat_v2: return "iommufd_compat_v2";
    case unmap_profile::virtio_iommu: return "virtio_iommu";
    case unmap_profile::exact: return "exact";
    case unmap_profile::hole_punching: return "hole_punching";
  }
  return "?";
}

/// What a profile does where the request cuts through an area.
enum class bisect_rule : std::uint8_t {
  take_or_stop,    // an area that starts inside goes whole; one that started before ends the walk
  refuse_first,    // nothing goes, and an error is answered
  refuse_there,    // an error is answered on getting there: what came before is gone
  cut_as_iommufd,  // cut as iommufd does: not while large pages are on, or pages are pinned
  cut,             // cut, also inside large entries where the domain can split them
};

/// unmap_rules: a profile, spelt out.
struct unmap_rules {
  bisect_rule bisect;
  errc bisect_error;
  errc wrap_error;
  bool empty_is_error = false;   // ENOENT where nothing is there
  bool must_match_area = false;  // the range must be one area, to the byte

  constexpr bool cuts() const noexcept {
    return bisect == bisect_rule::cut || bisect == bisect_rule::cut_as_iommufd;
  }
};

constexpr unmap_rules rules_of(unmap_profile profile, kernel_level level) noexcept {
  const errc type1_wrap =
      level == kernel_level::linux_6_18 ? errc::value_too_large : errc::invalid_argument;
  const bool compat_empty_is_error = level == kernel_level::linux_6_12_0;
  constexpr errc missing = errc::no_such_file_or_directory;
  switch (profile) {
    case unmap_profile::type1_v1:
      return {bisect_rule::take_or_stop, errc::invalid_argument, type1_wrap};
    case unmap_profile::type1_v2:
      return {bisect_rule::refuse_first, errc::invalid_argument, type1_wrap};
    case unmap_profile::iommufd:
      return {bisect_rule::refuse_there, missing, errc::value_too_large, true};
    case unmap_profile::iommufd_compat_v1:
      return {bisect_rule::cut_as_iommufd, missing, errc::value_too_large, compat_empty_is_error};
    case unmap_profile::iommufd_compat_v2:
      return {bisect_rule::refuse_there, missing, errc::value_too_large, compat_empty_is_error};
    case unmap_profile::virtio_iommu:
      return {bisect_rule::refuse_first, errc::result_out_of_range, errc::result_out_of_range};
    case unmap_profile::exact: return {bisect_rule::refuse_first, missing, missing, true, true};
    case unmap_profile::hole_punching: break;
  }
  return {bisect_rule::cut, errc::invalid_argument, errc::value_too_large};
}

/// The range that a request names under a profile.
/// Errors: invalid_argument for length 0; the profile's wrap error past 2^64 - 1.
constexpr result<iova_range> unmap_request(const unmap_rules& rules, iova first,
                                           std::uint64_t length) noexcept {
  return iova_range::from_length(first, length, rules.wrap_error);
}

/// unmap_report: what an unmap removed, or a dry run would, and how it ended. Bytes and areas count
/// also where the operation then failed: some profiles remove before they refuse.
struct [[nodiscard]] unmap_report {
  std::uint64_t bytes = 0;  // modulo 2^64: the whole space, filled, counts 0
  std::uint64_t areas = 0;
  result<void> outcome{};

  explicit operator bool() const noexcept { return outcome.has_value(); }
};

}  // namespace iopt
